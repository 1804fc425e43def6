"""One preprocessing and one prediction path, which give the same numbers for the same images."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from streetvision_core.inference.predict import memory_format, predict_logits
from streetvision_core.models.preprocessing import eval_transform
from tests.training.toy import draw

CFG = {"input_size": [3, 32, 32], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "crop_pct": 1.0}


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model("test_resnet", num_classes=2).eval()


def pictures(number, size=(70, 50)):
    return [Image.open(BytesIO(draw(i, i % 2))).convert("RGB").resize(size) for i in range(number)]


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_preprocessing_gives_the_very_numbers_of_timms_transform(crop_mode, interpolation):
    cfg = {**CFG, "crop_mode": crop_mode, "interpolation": interpolation}
    oracle = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=cfg), is_training=False
    )
    ours = eval_transform(cfg)
    for image in pictures(3):
        pixels = ours.pixels(image)
        assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, 32, 32))
        assert torch.equal(ours.normalise(pixels[None])[0], oracle(image))


def test_the_logits_of_an_image_do_not_depend_on_how_many_follow(model):
    transform = eval_transform(CFG)
    whole = predict_logits(model, pictures(11), transform, batch_size=4)
    assert whole.dtype == np.float32
    for number in (1, 4, 6):
        assert np.array_equal(
            predict_logits(model, pictures(number), transform, batch_size=4), whole[:number]
        )


def test_logits_are_those_of_the_plain_model(model):
    transform = eval_transform(CFG)
    batch = torch.stack([transform.normalise(transform.pixels(image)[None])[0] for image in pictures(5)])
    with torch.inference_mode():
        expected = model(batch).numpy()
    np.testing.assert_allclose(predict_logits(model, pictures(5), transform), expected, atol=1e-5)


def test_no_images_give_no_logits(model):
    assert predict_logits(model, [], eval_transform(CFG)).shape == (0, 2)


def test_fastvit_stays_contiguous_because_channels_last_corrupts_its_heap():
    fastvit = timm.create_model("fastvit_t8", num_classes=2)
    assert memory_format(fastvit) is torch.contiguous_format
    assert memory_format(torch.nn.Sequential(fastvit)) is torch.contiguous_format
    mobile = timm.create_model("mobilenetv3_small_050", num_classes=2)
    assert memory_format(mobile) is torch.channels_last


@pytest.mark.parametrize("package", ["models", "models.fold", "training", "training.config", "training.fit"])
def test_importing_needs_no_heavy_library(package):
    heavy = ("torch", "torchvision", "timm", "lightning", "sklearn", "scipy", "matplotlib", "pyarrow", "PIL")
    code = (
        f"import sys, streetvision_core.{package}; print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
