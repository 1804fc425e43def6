"""Images of train that turn out unreadable: told of once, left out up to a limit, and never forgotten."""

import pytest
import torch

from streetvision_core.errors import DataError, IntegrityError
from streetvision_core.training.data import Unreadable
from tests.training.interrupt import fit_until
from tests.training.test_equivalence import RECIPE, VIT, assert_same_training
from tests.training.toy import fit, make_backbone, make_toy

LOST = ("train/003.png", "train/008.png")
PROBE = {"method": "probe", "epochs": 3, "probe_batch_size": 4, "probe_learning_rates": [1e-2, 3e-2]}


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("vit"), **VIT)


def damaged_toy(*names, **counts):
    toy = make_toy(**counts)
    toy.reader.damaged.update(names)
    return toy


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("cache_mb", [0, 100])
def test_what_is_left_out_is_told_of_once_and_counted(num_workers, cache_mb, backbone, tmp_path, notices):
    changes = {"epochs": 3, "max_unreadable": 2, "num_workers": num_workers, "cache_mb": cache_mb}
    found = fit(backbone, damaged_toy(*LOST), tmp_path, **changes)
    assert len(notices) == len(LOST)
    assert [f"{i} of 2 allowed" in notice for i, notice in enumerate(notices, 1)] == [True, True]
    assert {name for name in LOST for notice in notices if name in notice} == set(LOST)
    assert found.metrics["unreadable"] == 2
    assert not found.is_whole


@pytest.mark.parametrize("num_workers", [0, 2])
def test_one_more_than_allowed_ends_the_training_readably(num_workers, backbone, tmp_path):
    with pytest.raises(DataError, match=r"at most 1 unreadable .*found 2.*train/00.\.png.*max_unreadable"):
        fit(backbone, damaged_toy(*LOST), tmp_path, max_unreadable=1, num_workers=num_workers)


def test_where_none_may_be_missing_the_images_own_error_ends_it(backbone, tmp_path):
    with pytest.raises(IntegrityError, match=r"the image train/00.\.png"):
        fit(backbone, damaged_toy(*LOST), tmp_path)


def test_a_whole_training_says_nothing_of_it(backbone, tmp_path):
    found = fit(backbone, make_toy(), tmp_path, max_unreadable=2, epochs=1)
    assert "unreadable" not in found.metrics
    assert found.is_whole


@pytest.mark.parametrize(
    "changes", [{"accumulate": 8}, {"accumulate": 4, "devices": 2}], ids=["parts", "both"]
)
def test_parts_of_which_nothing_is_left_are_what_the_whole_batch_lacks(vit, changes, tmp_path, notices):
    """Parts of one image each, here or dealt to two processes: the same loss, the same steps."""
    lost = ("train/002.png", "train/005.png", "train/011.png")
    options = {**RECIPE, "max_unreadable": 3}
    single = fit(vit, damaged_toy(*lost, train=16, others=8), tmp_path / "single", **options)
    notices.clear()
    parts = fit(
        vit,
        damaged_toy(*lost, train=16, others=8),
        tmp_path / "parts",
        **options,
        **changes,
    )
    assert_same_training(parts, single)
    assert parts.metrics["unreadable"] == single.metrics["unreadable"] == len(notices) == 3


@pytest.mark.parametrize("views", [0, 2])
def test_a_probe_leaves_out_images_together_with_their_labels(views, vit, tmp_path, notices):
    """It is the probe of a task that never had them, bit for bit."""
    without = make_toy()
    names = without.splits.roles["train"]
    without.splits.roles["train"] = tuple(name for name in names if name not in LOST)
    options = {**PROBE, "probe_views": views}
    expected = fit(vit, without, tmp_path / "without", **options)
    found = fit(vit, damaged_toy(*LOST), tmp_path / "found", max_unreadable=2, **options)
    assert found.to_artifact().digest == expected.to_artifact().digest
    assert (found.metrics["unreadable"], expected.is_whole) == (2, True)
    assert len(notices) == 2
    with pytest.raises(DataError, match="at most 1 unreadable"):
        fit(vit, damaged_toy(*LOST), tmp_path / "more", max_unreadable=1, **options)


def test_an_unreadable_image_of_validation_ends_a_probe(vit, tmp_path):
    with pytest.raises(IntegrityError, match="val_select/000"):
        fit(vit, damaged_toy("val_select/000.png"), tmp_path, max_unreadable=9, **PROBE)


def test_both_stages_of_lp_ft_count_an_image_once(vit, tmp_path, notices):
    changes = {"method": "lp_ft", "probe_epochs": 2, "max_unreadable": 2}
    found = fit(vit, damaged_toy(*LOST), tmp_path, **changes)
    assert found.metrics["unreadable"] == len(notices) == 2


@pytest.mark.parametrize("changes", [{}, PROBE], ids=["finetune", "probe"])
@pytest.mark.parametrize("until", [2, 3], ids=["going on", "finished"])
def test_what_an_earlier_run_left_out_stays_counted(until, changes, vit, tmp_path):
    """Also where the images are there again."""
    options = {**changes, "epochs": 3, "max_unreadable": 2, "resume": tmp_path / "resume"}
    fit_until(until, vit, damaged_toy(*LOST), tmp_path / "first", **options)
    found = fit(vit, make_toy(), tmp_path / "again", **options)
    assert found.metrics["unreadable"] == 2


def test_an_image_counts_once_whoever_meets_it(notices):
    error = IntegrityError("a", "b", "c", "d")
    unreadable = Unreadable(2, known=["old"])
    unreadable.meet([("old", error), ("new", error), ("new", error)])
    assert unreadable.take_untold() == [("new", error)]
    assert unreadable.take_untold() == []
    assert len(notices) == 1
    with pytest.raises(DataError):
        unreadable.meet([("another", error)])


def test_an_empty_batch_has_a_gradient_of_zero(vit):
    from streetvision_core.models import build_classifier
    from streetvision_core.training.data import Batch
    from streetvision_core.training.module import ClassifierModule
    from tests.training.toy import recipe

    module = ClassifierModule(
        build_classifier(vit), transform=None, validation_batch_size=4, class_weights=[1, 1],
        steps_per_epoch=1, config=recipe(),
    )  # fmt: skip
    nothing = torch.empty((0, 3, 0, 0), dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
    module.batch_losses(Batch(*nothing, (("one", None),))).sum().backward()
    assert all((one.grad == 0).all() for one in module.model.parameters())
