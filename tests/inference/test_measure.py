"""Measurements of an image for a gate, against brute force; the logits beside them stay the same."""

import math

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from streetvision_core.errors import ConfigError
from streetvision_core.inference.predict import measure_pixels, predict_pixels
from streetvision_core.models.preprocessing import eval_transform
from tests.inference.test_predict import CFG, pictures

TRANSFORM = eval_transform(CFG)
EXTRAS = ("features", "disagreement", "sharpness", "brightness")


def build(architecture):
    size = {"img_size": 32} if architecture == "test_vit" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(architecture, num_classes=2, **size).eval()
        nn.init.normal_(model.get_classifier().weight, std=0.5)
    return model


@pytest.fixture(scope="module", params=["test_resnet", "test_vit", "mobilenetv3_small_050"])
def model(request):
    return build(request.param)


@pytest.fixture(scope="module")
def pixels():
    return [TRANSFORM.pixels(image) for image in pictures(11)]


def gather(model, pixels, **settings):
    batches = list(measure_pixels(model, pixels, TRANSFORM, batch_size=4, extras=EXTRAS, **settings))
    extras = {name: np.concatenate([batch.extras[name] for batch in batches]) for name in batches[0].extras}
    return np.concatenate([batch.logits for batch in batches]), extras


def test_logits_are_those_of_the_prediction_bit_for_bit_with_and_without_extras(model, pixels):
    predicted = predict_pixels(model, pixels, TRANSFORM, batch_size=4)
    plain = list(measure_pixels(model, pixels, TRANSFORM, batch_size=4))
    assert [len(batch.logits) for batch in plain] == [4, 4, 3]
    assert all(batch.extras == {} for batch in plain)
    assert np.array_equal(np.concatenate([batch.logits for batch in plain]), predicted)
    logits, extras = gather(model, pixels)
    assert logits.dtype == np.float32
    assert np.array_equal(logits, predicted)
    assert tuple(extras) == EXTRAS
    assert [extras[name].dtype for name in EXTRAS] == [np.float32, np.float64, np.float64, np.float64]


def test_features_are_what_the_head_turns_into_the_logits(model, pixels):
    inputs = TRANSFORM.normalise(torch.stack(pixels))
    logits, extras = gather(model, pixels)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(inputs), pre_logits=True).numpy()
        again = model.get_classifier()(torch.from_numpy(extras["features"])).numpy()
    assert extras["features"].shape == (11, model.get_classifier().in_features)
    np.testing.assert_allclose(extras["features"], expected, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(again, logits, atol=1e-5)


def test_disagreement_is_how_far_the_margin_moves_when_the_image_is_mirrored(model, pixels):
    _, extras = gather(model, pixels)
    mirrored = [torch.from_numpy(np.asarray(image).copy()[:, :, ::-1].copy()) for image in pixels]
    both = [predict_pixels(model, some, TRANSFORM, batch_size=4).astype(float) for some in (pixels, mirrored)]
    margins = [logits[:, 1] - logits[:, 0] for logits in both]
    assert np.array_equal(extras["disagreement"], np.abs(margins[0] - margins[1]))
    assert (extras["disagreement"] > 0).all()


def test_an_image_that_is_its_own_mirror_image_disagrees_with_nothing():
    half = torch.randint(0, 256, (3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    symmetric = torch.cat([half, half.flip(-1)], dim=-1)
    _, extras = gather(build("test_resnet"), [symmetric])
    assert extras["disagreement"][0] == 0


def grey_of(pixels):
    red, green, blue = np.asarray(pixels).astype(float)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_sharpness_and_brightness_are_those_of_a_plain_loop(pixels):
    _, extras = gather(build("test_resnet"), pixels)
    for position, image in enumerate(pixels):
        grey = grey_of(image)
        responses = [
            grey[y - 1, x] + grey[y + 1, x] + grey[y, x - 1] + grey[y, x + 1] - 4 * grey[y, x]
            for y in range(1, 31)
            for x in range(1, 31)
        ]
        assert extras["sharpness"][position] == pytest.approx(math.log1p(np.var(responses)), rel=1e-12)
        assert extras["brightness"][position] == pytest.approx(grey.mean() / 255, rel=1e-12)


def test_an_image_of_one_colour_has_no_sharpness_and_its_own_brightness():
    white, black = (torch.full((3, 32, 32), value, dtype=torch.uint8) for value in (255, 0))
    _, extras = gather(build("test_resnet"), [white, black])
    assert extras["sharpness"].tolist() == [0, 0]
    assert extras["brightness"].tolist() == [1, 0]


def test_blur_lowers_the_sharpness_of_every_image():
    sharp = pictures(6, size=(32, 32))
    blurred = [image.resize((8, 8), Image.Resampling.BOX).resize((32, 32)) for image in sharp]
    model = build("test_resnet")
    measured = [
        gather(model, [TRANSFORM.pixels(image) for image in some])[1]["sharpness"]
        for some in (sharp, blurred)
    ]
    assert (measured[1] < measured[0]).all()


def test_what_is_measured_of_an_image_does_not_depend_on_how_many_follow(model, pixels):
    _, whole = gather(model, pixels)
    _, part = gather(model, pixels[:6])
    for name in EXTRAS:
        assert np.array_equal(part[name], whole[name][:6])


def test_only_what_is_asked_for_is_measured_and_features_take_no_second_pass(pixels, monkeypatch):
    model, passes = build("test_resnet"), []
    original = model.forward
    monkeypatch.setattr(model, "forward", lambda batch: passes.append(len(batch)) or original(batch))
    (measured,) = measure_pixels(model, pixels, TRANSFORM, extras=("features",))
    assert (set(measured.extras), len(passes)) == ({"features"}, 1)


def test_no_images_give_no_batches(model):
    assert list(measure_pixels(model, [], TRANSFORM, extras=EXTRAS)) == []


def test_images_are_taken_a_batch_at_a_time_and_no_mode_or_hook_is_left_behind(pixels):
    model, taken = build("test_resnet"), []

    def watched():
        for image in pixels:
            taken.append(image)
            yield image

    batches = measure_pixels(model, watched(), TRANSFORM, batch_size=4, extras=EXTRAS)
    next(batches)
    assert len(taken) == 4
    assert not torch.is_inference_mode_enabled()
    assert not model.get_classifier()._forward_pre_hooks


class TwoHeads(nn.Module):
    """As distilled models, which have two classifiers."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])

    def get_classifier(self):
        return tuple(self.heads)

    def forward(self, inputs):
        return sum(head(inputs.mean((2, 3))) for head in self.heads)


class PoolsAfterwards(nn.Module):
    """A head that is applied to a map before it is averaged."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 2, 1)

    def get_classifier(self):
        return self.head

    def forward(self, inputs):
        return self.head(inputs).mean((2, 3))


@pytest.mark.parametrize("kind", [TwoHeads, PoolsAfterwards])
def test_a_model_without_one_vector_of_features_is_refused_but_predicts(kind, pixels):
    model = kind()
    with pytest.raises(ConfigError, match="features"):
        list(measure_pixels(model, pixels, TRANSFORM, extras=EXTRAS))
    (alone,) = measure_pixels(model, pixels, TRANSFORM)
    assert alone.logits.shape == (11, 2)
