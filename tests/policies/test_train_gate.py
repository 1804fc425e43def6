"""The gate of a real checkpoint: measured only where there are errors enough, from the roles it may read."""

from dataclasses import replace

import numpy as np
import pytest

from streetvision_core.inference.logits import predict_role
from streetvision_core.io import StagedFile, write_checkpoint_atomic
from streetvision_core.models.classifier import build_classifier, hub_config
from streetvision_core.policies.config import RecordedGate
from streetvision_core.policies.gate_fit import train_gate, verify_gate
from streetvision_core.training.checkpoint import Checkpoint
from tests.training.toy import make_toy

VERSION = "c" * 64


@pytest.fixture(scope="module")
def toy():
    return make_toy(train=24, others=90)


@pytest.fixture(scope="module")
def checkpoint(toy, backbone, tmp_path_factory):
    """A classifier whose head is a random one: about half of its answers are wrong."""
    import torch

    model = build_classifier(backbone)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.get_classifier().weight)
    path = tmp_path_factory.mktemp("checkpoint") / "model_best.safetensors"
    staged = StagedFile.at(path, write_checkpoint_atomic(path, model))
    unknown = Checkpoint(weights=staged, config=hub_config(backbone), epochs=(), val_select=None)
    names = toy.splits.roles["val_select"]
    predictions = predict_role(unknown, names, index=toy.index, images=toy.reader)
    # Labels that the margin says next to nothing about.
    flipped = np.random.default_rng(0).permutation(predictions.labels)
    predictions = type(predictions)(predictions.ids, predictions.logits, flipped, predictions.groups)
    return Checkpoint(weights=staged, config=hub_config(backbone), epochs=(), val_select=predictions)


def train(checkpoint, toy, config, **where):
    toy.reader.reads.clear()
    gate = train_gate(
        checkpoint, index=toy.index, splits=toy.splits, images=toy.reader, config=config,
        checkpoint_version=VERSION, **where,
    )  # fmt: skip
    return gate, set(toy.reader.reads)


def test_with_errors_enough_the_images_of_train_and_val_select_are_measured_and_no_others(checkpoint, toy):
    gate, read = train(checkpoint, toy, RecordedGate())
    assert gate.policy.errors >= 30
    assert gate.policy.compared is not None or "needed to compare" in gate.policy.reason
    assert read == {*toy.splits.roles["train"], *toy.splits.roles["val_select"]}


def test_with_too_few_errors_no_image_is_read(checkpoint, toy):
    gate, read = train(checkpoint, toy, RecordedGate(min_errors=90))
    assert (gate.policy.confidence_by, read) == ("margin", set())
    assert "at least 90 needed" in gate.policy.reason


def test_where_the_features_are_cached_no_image_is_read_and_the_gate_is_the_same(checkpoint, toy, tmp_path):
    whole, _ = train(checkpoint, toy, RecordedGate())
    for role in ("train", "val_select"):
        names = toy.splits.roles[role]
        predict_role(checkpoint, names, index=toy.index, images=toy.reader, cache=tmp_path)
    assert train(checkpoint, toy, RecordedGate(), cache=tmp_path) == (whole, set())


def test_it_comes_out_the_same_from_recorded_numbers_and_no_network_runs(checkpoint, toy, monkeypatch):
    gate, _ = train(checkpoint, toy, RecordedGate())
    toy.reader.reads.clear()
    monkeypatch.setattr(Checkpoint, "load_model", None)
    assert verify_gate(gate, checkpoint.val_select) == []
    changed = replace(gate, policy=gate.policy.model_copy(update={"bound": gate.policy.bound + 0.5}))
    assert any("bound" in problem for problem in verify_gate(changed, checkpoint.val_select))
    assert toy.reader.reads == []
