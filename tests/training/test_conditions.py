"""Training and selection under the conditions of use: one set of parameters, drawn anew for every look."""

import numpy as np
import pytest
from PIL import Image

from streetvision_core.data.conditions import ConditionsConfig
from streetvision_core.data.decoding.decode import decode
from streetvision_core.inference.predict import predict_logits
from streetvision_core.models.preprocessing import hub_transform
from streetvision_core.training import predict_role
from streetvision_core.training.data import AugmentedImages, DecodedImages, decoded_side
from tests.training.toy import fit, make_backbone, make_toy, recipe

DARK = ConditionsConfig(
    profile={
        "kind": "own",
        "size": 32,
        "levels": [{"name": "dark", "operations": [{"gain": [0.2, 0.4]}]}, {"name": "plain", "weight": 0.5}],
    },
).conditions()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def toy():
    return make_toy(conditions=DARK)


def seen(toy, name):
    """Return the image under its level and draw 0, computed here from its digest."""
    sha256 = next(image.sha256 for image in toy.index.pictures if image.name == name)
    return DARK.see(decode(toy.reader.pictures[name]), sha256)


@pytest.mark.parametrize("method", ["finetune", "probe"])
def test_selection_and_calibration_see_what_arrives_in_use(toy, backbone, tmp_path, method):
    checkpoint = fit(backbone, toy, tmp_path / "out", method=method)
    transform = hub_transform(checkpoint.config)
    model = checkpoint.load_model()
    given = {"index": toy.index, "images": toy.reader}
    calib = toy.splits.roles["val_calib"]
    for role, logits in (
        ("val_select", checkpoint.val_select),
        ("val_calib", predict_role(checkpoint, calib, **given)),
        ("val_calib", predict_role(checkpoint, calib, **given, cache=tmp_path / "cache")),
    ):
        names = toy.splits.roles[role]
        expected = predict_logits(model, [seen(toy, name) for name in names], transform)
        plain = predict_logits(model, [decode(toy.reader.pictures[name]) for name in names], transform)
        assert logits.logits == pytest.approx(expected, abs=1e-4)
        assert np.abs(logits.logits - plain).max() > 1e-3


@pytest.mark.parametrize("method", ["finetune", "probe"])
def test_as_is_changes_no_bit_and_conditions_change_what_is_trained(toy, backbone, tmp_path, method):
    plain = fit(backbone, make_toy(), tmp_path / "plain", method=method)
    as_is = fit(
        backbone, make_toy(conditions=ConditionsConfig().conditions()), tmp_path / "as_is", method=method
    )
    under = fit(backbone, toy, tmp_path / "under", method=method)
    again = fit(backbone, toy, tmp_path / "again", method=method)
    assert as_is.to_artifact().digest == plain.to_artifact().digest
    assert under.weights.sha256 != plain.weights.sha256
    assert again.weights.sha256 == under.weights.sha256


def test_every_look_draws_anew_and_the_same_look_the_same(toy):
    names = toy.splits.roles["train"]
    pictures = DecodedImages(toy.reader, names, side=32, cache_bytes=1_000_000)
    dataset = AugmentedImages(pictures, [0] * len(names), augment=as_pixels, seed=0)
    looks = [dataset[[(epoch, 3)]].inputs.numpy() for epoch in range(12)]
    assert 1 < len({look.tobytes() for look in looks}) <= 3  # two strengths of dark, and plain
    assert np.array_equal(dataset[[(4, 3)]].inputs.numpy(), looks[4])


def as_pixels(image):
    import torch

    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def test_images_are_kept_as_large_as_the_conditions_need(backbone):
    transform = hub_transform({"pretrained_cfg": backbone.pretrained_cfg})
    natix = ConditionsConfig(profile={"kind": "natix_crops_2025"}).conditions()
    assert decoded_side(recipe(), transform=transform, conditions=DARK) == 32
    # 224 / sqrt(0.2) = 500.9
    assert decoded_side(recipe(), transform=transform, conditions=natix) == 501
    as_is = ConditionsConfig().conditions()
    assert decoded_side(recipe(), transform=transform, conditions=as_is) == decoded_side(
        recipe(), transform=transform
    )


def test_a_training_under_other_conditions_is_not_continued(toy, backbone, tmp_path):
    reports = []
    fit(backbone, make_toy(), tmp_path / "one", resume=tmp_path / "resume", on_epoch=reports.append)
    fit(backbone, toy, tmp_path / "two", resume=tmp_path / "resume", on_epoch=reports.append)
    assert [report.epoch for report in reports] == [1, 2, 1, 2]


def test_a_shrunk_image_and_the_whole_one_are_nearly_the_same_under_conditions():
    """Within the stated tolerance: training shrinks an image before drawing, all others draw on the whole."""
    random = np.random.default_rng(0)
    street = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((1200, 900))
    camera = ConditionsConfig(profile={"kind": "camera"}).conditions()
    shrunk = street.resize((341, 256), Image.Resampling.BICUBIC, reducing_gap=2.0)
    for level in camera.reported.names:
        whole, kept = (
            np.asarray(camera.see_at(level, image, "ab" * 32)).astype(float) for image in (street, shrunk)
        )
        assert np.abs(whole - kept).mean() < 2  # grey levels
