"""Ways to compute the same training: in parts, in processes, with and without the cache of features."""

import numpy as np
import pytest
import torch

from streetvision_core.errors import TrainingError
from streetvision_core.models.weights import read_state
from tests.training.toy import fit, make_backbone, make_toy

# A network without batch statistics: those of a part are not those of the batch.
VIT = {"architecture": "test_vit", "input_size": 32}
# Adam divides a gradient by its own size, so where it is zero but for rounding the step is noise of up to the
# learning rate. The bias of the keys, which no output depends on, is such a place.
TOLERANCE = 2e-4
RECIPE = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "label_smoothing": 0.1, "ema_decay": 0.5}


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("vit"), **VIT)


@pytest.fixture(scope="module")
def single(vit, tmp_path_factory):
    """One process, whole batches; classes are weighed, three quarters of the pictures are of one."""
    return fit(vit, unbalanced(), tmp_path_factory.mktemp("single"), **RECIPE)


def unbalanced():
    toy = make_toy(train=17, others=8)
    for picture in toy.index.pictures:
        if picture.name in {"train/001.png", "train/003.png", "train/005.png", "train/007.png"}:
            picture.label = 0
    return toy


def assert_same_training(found, expected):
    wanted = read_state(expected.weights)
    for name, given in read_state(found.weights).items():
        tensor = given
        if name.endswith("attn.qkv.bias"):
            tensor, wanted[name] = (one.reshape(3, -1)[[0, 2]] for one in (given, wanted[name]))
        torch.testing.assert_close(
            tensor, wanted[name], rtol=0, atol=TOLERANCE, msg=lambda m, n=name: f"{n}: {m}"
        )
    for one, other in zip(found.epochs, expected.epochs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-4)
        assert one.val_loss == pytest.approx(other.val_loss, abs=1e-4)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_a_batch_in_parts_is_the_whole_batch(vit, single, accumulate, tmp_path):
    assert_same_training(fit(vit, unbalanced(), tmp_path, accumulate=accumulate, **RECIPE), single)


def test_two_processes_train_what_one_does(vit, single, tmp_path):
    """Each takes half of every batch; both validate, and the first one writes."""
    seen = []
    both = fit(vit, unbalanced(), tmp_path, devices=2, on_epoch=seen.append, **RECIPE)
    assert_same_training(both, single)
    assert [one.epoch for one in seen] == [1, 2]
    assert not torch.distributed.is_initialized()


def test_an_error_in_another_process_is_told_in_its_words(vit, tmp_path):
    toy = unbalanced()
    order = np.random.default_rng
    assert order is not None
    toy.reader.damaged.update(toy.splits.roles["train"])
    with pytest.raises((TrainingError, ValueError), match="Restore it"):
        fit(vit, toy, tmp_path, devices=2, **RECIPE)


def test_parts_that_do_not_divide_a_batch_are_refused(vit, tmp_path):
    with pytest.raises(ValueError, match="3 parts on 1 devices"):
        fit(vit, unbalanced(), tmp_path, accumulate=3, **RECIPE)
