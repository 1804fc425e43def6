"""Many views take the path of one: the same network on each view, and then pooled."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from streetvision_core.errors import ConfigError
from streetvision_core.inference.predict import forward_views, measure_pixels, predict_logits, predict_pixels
from streetvision_core.models import build_classifier, hub_config, load_classifier
from streetvision_core.models.pooling import pool_features, pool_logits
from streetvision_core.models.preprocessing import eval_transform, hub_transform
from streetvision_core.models.views import Views
from tests.inference.test_measure import EXTRAS, TwoHeads, build
from tests.inference.test_predict import CFG, pictures
from tests.training.toy import make_backbone

WIDTH = 96  # of test_resnet
ATTENTION = tuple(np.random.default_rng(0).normal(size=WIDTH + 1).astype(np.float32).tolist())


def grid_of(pooling, **settings):
    top = {"top_k": {"top_k": 2}, "attention": {"attention": ATTENTION}}.get(pooling, {})
    return Views(**{"grid": 2, "overlap": 0.15, "pooling": pooling, **top, **settings})


@pytest.fixture(scope="module", params=["mean", "top_k", "max", "attention"])
def transform(request):
    return eval_transform(CFG, views=grid_of(request.param))


@pytest.fixture(scope="module")
def model():
    built = build("test_resnet")
    assert built.get_classifier().in_features == WIDTH
    return built


@pytest.fixture(scope="module")
def shown():
    return pictures(11)


def test_each_view_is_the_preprocessing_of_its_own_part_of_the_image(transform, shown):
    pixels = transform.pixels(shown[0])
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (5, 3, 32, 32))
    assert pixels.numel() == transform.pixel_bytes
    whole = eval_transform(CFG)
    assert torch.equal(pixels[0], whole.pixels(shown[0]))
    assert torch.equal(transform.whole.pixels(shown[0]), pixels[0])
    content = np.asarray(shown[0])
    for view, (left, top, right, bottom) in zip(pixels[1:], transform.views.boxes(70, 50), strict=True):
        part = Image.fromarray(content[top:bottom, left:right])
        assert torch.equal(view, whole.pixels(part))


@pytest.mark.parametrize("batch_size", [4, 7])
def test_many_views_batched_are_the_views_one_by_one_pooled(model, transform, shown, batch_size):
    batched = predict_logits(model, shown, transform, batch_size=batch_size)
    assert (batched.dtype, batched.shape) == (np.float32, (11, 2))
    for image, logits in zip(shown, batched, strict=True):
        inputs = transform.normalise(transform.pixels(image))
        with torch.inference_mode():
            each = [model(view[None])[0] for view in inputs]
            features = [
                model.forward_head(model.forward_features(v[None]), pre_logits=True)[0] for v in inputs
            ]
            alone = pool_logits(torch.stack(each)[None], torch.stack(features)[None], views=transform.views)
        np.testing.assert_allclose(logits, alone[0], atol=2e-5)


def test_views_pass_the_network_as_images_do_bit_for_bit(model, shown):
    """A batch of four images of five views is five full batches of views, in their order."""
    transform = eval_transform(CFG, views=grid_of("mean"))
    pixels = torch.stack([transform.pixels(image) for image in shown[:8]])
    views = predict_pixels(model, pixels.flatten(0, 1), transform.whole, batch_size=4)
    expected = torch.from_numpy(views).reshape(8, 5, 2).mean(dim=1).numpy()
    assert np.array_equal(predict_pixels(model, pixels, transform, batch_size=4), expected)


def test_no_more_views_than_a_batch_pass_at_a_time_and_each_pass_is_full(model, transform, shown):
    passed = []
    hook = model.register_forward_pre_hook(lambda _, inputs: passed.append(len(inputs[0])))
    predict_logits(model, shown, transform, batch_size=4)
    hook.remove()
    assert passed == [4] * (5 + 5 + 4)  # 4, 4 and 3 images of 5 views


def test_the_logits_of_an_image_do_not_depend_on_how_many_follow(model, transform, shown):
    whole = predict_logits(model, shown, transform, batch_size=4)
    for number in (1, 4, 6):
        assert np.array_equal(predict_logits(model, shown[:number], transform, batch_size=4), whole[:number])


def test_no_images_give_no_logits(model, transform):
    assert predict_logits(model, [], transform).shape == (0, 2)


def test_extras_are_measured_from_the_same_pass_and_the_whole_image(model, transform, shown):
    pixels = [transform.pixels(image) for image in shown]
    (batch,) = measure_pixels(model, pixels, transform, extras=EXTRAS)
    assert np.array_equal(batch.logits, predict_pixels(model, pixels, transform))
    (plain,) = measure_pixels(model, pixels, transform)
    assert np.array_equal(batch.logits, plain.logits)
    (whole,) = measure_pixels(model, [views[0] for views in pixels], transform.whole, extras=EXTRAS)
    for name in ("sharpness", "brightness"):
        assert np.array_equal(batch.extras[name], whole.extras[name])
    mirrored = predict_pixels(model, [views.flip(-1) for views in pixels], transform).astype(float)
    margins = [logits[:, 1] - logits[:, 0] for logits in (batch.logits.astype(float), mirrored)]
    assert np.array_equal(batch.extras["disagreement"], np.abs(margins[0] - margins[1]))


def test_the_features_of_an_image_are_those_of_its_views_pooled(model, transform, shown):
    pixels = [transform.pixels(image) for image in shown]
    batches = list(measure_pixels(model, pixels, transform, batch_size=4, extras=EXTRAS))
    views = [view for image in pixels for view in image]
    each = list(measure_pixels(model, views, transform.whole, batch_size=4, extras=EXTRAS))
    features = torch.from_numpy(np.concatenate([batch.extras["features"] for batch in each])).reshape(
        11, 5, -1
    )
    expected = pool_features(features, views=transform.views)
    measured = np.concatenate([batch.extras["features"] for batch in batches])
    assert measured.dtype == np.float32
    np.testing.assert_allclose(measured, expected, atol=1e-5)


def test_views_before_pooling_are_there_for_a_probe(model, transform, shown):
    pixels = torch.stack([transform.pixels(image) for image in shown[:3]])
    with torch.inference_mode():
        logits, features = forward_views(model, pixels, transform, batch_size=4, features=True)
        assert (logits.shape, features.shape) == ((3, 5, 2), (3, 5, WIDTH))
        np.testing.assert_allclose(model.get_classifier()(features), logits, atol=1e-5)


def test_a_model_without_one_vector_of_features_pools_by_margin_but_not_by_attention(shown):
    model = TwoHeads()
    assert predict_logits(model, shown, eval_transform(CFG, views=grid_of("max"))).shape == (11, 2)
    with pytest.raises(ConfigError, match="features"):
        predict_logits(model, shown, eval_transform(CFG, views=grid_of("attention")))


def test_the_hubs_config_carries_the_views_and_is_unchanged_without(tmp_path):
    backbone = make_backbone(tmp_path, input_size=32)
    plain, views = hub_config(backbone), grid_of("attention")
    assert "views" not in plain
    carrying = hub_config(backbone, views=views)
    assert {key: value for key, value in carrying.items() if key != "views"} == plain
    assert hub_transform(carrying).views == views
    assert hub_transform(plain).views is None
    state = build_classifier(backbone).state_dict()
    assert isinstance(load_classifier(carrying, state), nn.Module)
    narrow = hub_config(backbone, views=grid_of("attention", attention=(1.0, 0.0)))
    with pytest.raises(ConfigError, match="attention over the 96 features"):
        load_classifier(narrow, state)


class Loudest(nn.Module):
    """Says roadwork by how orange the most orange point of an image is."""

    def forward(self, inputs):
        margins = (inputs[:, 0] - inputs[:, 2]).amax((1, 2)) - 0.5
        return torch.stack([-margins / 2, margins / 2], dim=1)


@pytest.mark.parametrize("corner", [(0, 0), (1277, 0), (0, 717), (1277, 717), (420, 250)])
def test_works_too_small_for_the_whole_image_are_seen_by_a_crop(corner):
    frame = Image.new("RGB", (1280, 720), (90, 90, 90))
    frame.paste((255, 110, 0), (*corner, corner[0] + 3, corner[1] + 3))
    cfg = {"input_size": [3, 224, 224], "mean": [0, 0, 0], "std": [1, 1, 1], "crop_pct": 1.0}
    transform = eval_transform({**cfg, "crop_mode": "squash"}, views=grid_of("max", grid=3))
    whole, views = (
        predict_logits(Loudest(), [frame], seen_by, batch_size=2) for seen_by in (transform.whole, transform)
    )
    assert whole[0, 1] < whole[0, 0]
    assert views[0, 1] > views[0, 0]
