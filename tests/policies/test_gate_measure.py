"""The gate of a real checkpoint: measured only where there are errors enough, from the roles it may read."""

import numpy as np
import pytest

from streetvision_core.inference.logits import predict_role
from streetvision_core.io import StagedFile, write_checkpoint_atomic
from streetvision_core.models.classifier import build_classifier, hub_config
from streetvision_core.policies.config import GateConfig
from streetvision_core.policies.gate_measure import gate_problems, train_gate
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
    said = predict_role(unknown, names, index=toy.index, pictures=toy.reader)
    # Labels that the margin says next to nothing about.
    flipped = np.random.default_rng(0).permutation(said.labels)
    said = type(said)(said.ids, said.logits, flipped, said.groups)
    return Checkpoint(weights=staged, config=hub_config(backbone), epochs=(), val_select=said)


def train(checkpoint, toy, config):
    toy.reader.reads.clear()
    gate = train_gate(
        checkpoint, index=toy.index, splits=toy.splits, pictures=toy.reader, config=config,
        checkpoint_version=VERSION,
    )  # fmt: skip
    return gate, set(toy.reader.reads)


def test_with_errors_enough_the_pictures_of_train_and_val_select_are_measured_and_no_others(checkpoint, toy):
    gate, read = train(checkpoint, toy, GateConfig())
    assert gate.policy.errors >= 30
    assert gate.policy.compared is not None or "needed to compare" in gate.policy.reason
    assert read == {*toy.splits.roles["train"], *toy.splits.roles["val_select"]}


def test_with_too_few_errors_no_picture_is_read(checkpoint, toy):
    gate, read = train(checkpoint, toy, GateConfig(min_errors=90))
    assert (gate.policy.confidence_by, read) == ("margin", set())
    assert "at least 90 needed" in gate.policy.reason


def test_it_comes_out_the_same_when_it_is_measured_again(checkpoint, toy):
    gate, _ = train(checkpoint, toy, GateConfig())
    where = {"index": toy.index, "splits": toy.splits, "pictures": toy.reader}
    assert gate_problems(gate, checkpoint, **where) == []
    changed = type(gate)(gate.policy.model_copy(update={"bound": gate.policy.bound + 0.5}))
    assert any("bound" in problem for problem in gate_problems(changed, checkpoint, **where))
