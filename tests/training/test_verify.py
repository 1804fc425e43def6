"""The faults that the checks of checkpoint and logits must see."""

import dataclasses

import numpy as np
import pytest
import torch

from streetvision_core.inference.logits import Logits
from streetvision_core.io import StagedFile, write_checkpoint_atomic
from streetvision_core.training.checkpoint import checkpoint_problems, logits_problems

NAMES = ("a", "b", "c", "d")


def logits(*, margins=(-1.0, -1.0, 1.0, 1.0), names=NAMES):
    margins = np.asarray(margins, np.float32)
    return Logits(names, np.stack([-margins, margins], axis=1), np.array([0, 0, 1, 1]), names)


@pytest.fixture
def checkpoint(tmp_path):
    from streetvision_core.models import BackboneConfig, prepare_backbone
    from streetvision_core.models.classifier import build_classifier, hub_config
    from streetvision_core.training.checkpoint import Checkpoint

    backbone = prepare_backbone(BackboneConfig(architecture="test_resnet", input_size=32), directory=tmp_path)
    path = tmp_path / "model_best.safetensors"
    staged = StagedFile.at(path, write_checkpoint_atomic(path, build_classifier(backbone)))
    return Checkpoint(weights=staged, config=hub_config(backbone), epochs=(), val_select=logits())


def test_a_good_checkpoint_has_no_problems(checkpoint):
    assert checkpoint_problems(checkpoint, names=NAMES) == []


def test_weights_that_are_not_finite_are_named(checkpoint):
    state = checkpoint.load_model().state_dict()
    state["fc.weight"] = torch.full_like(state["fc.weight"], torch.nan)
    path = checkpoint.weights.path
    broken = dataclasses.replace(
        checkpoint, weights=StagedFile.at(path, write_checkpoint_atomic(path, state))
    )
    assert checkpoint_problems(broken, names=NAMES) == ["the weights fc.weight are not finite"]


@pytest.mark.parametrize("margins", [(1.0, 1.0, 1.0, 1.0), (-1.0, -1.0, -1.0, -1.0), (1.0, -1.0, -1.0, 1.0)])
def test_a_model_that_is_no_better_than_the_majority_class_is_refused(checkpoint, margins):
    judged = dataclasses.replace(checkpoint, val_select=logits(margins=margins))
    [problem] = checkpoint_problems(judged, names=NAMES)
    assert "no better than the majority class: MCC 0.000" in problem
    assert "2 None and 2 Roadwork images of 4 groups" in problem
    assert "add images of it" in problem


def test_weights_that_were_changed_on_the_disk_do_not_load(checkpoint):
    content = bytearray(checkpoint.weights.path.read_bytes())
    content[-1] ^= 1
    checkpoint.weights.path.write_bytes(content)
    [problem] = checkpoint_problems(checkpoint, names=NAMES)
    assert "model_best.safetensors" in problem


def test_logits_of_other_images_than_the_role_are_told_apart():
    assert logits_problems(logits(), role="val_calib", names=("d", "c", "b", "a")) == []
    assert logits_problems(logits(), role="val_calib", names=("a", "b", "c", "e")) == [
        "1 images of val_calib have no logits, e for instance",
        "1 images have logits but are not of val_calib, d for instance",
    ]
