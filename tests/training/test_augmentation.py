"""The augmentation of images: each recipe draws from its look's seed alone and keeps its promises."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from streetvision_core.models.preprocessing import eval_transform
from streetvision_core.training import augmentation
from streetvision_core.training.augmentation import make_augmentation
from streetvision_core.training.data import AugmentedImages, decoded_side
from streetvision_core.training.module import make_mixing
from streetvision_core.training.seeds import isolated_random, seed_transforms
from tests.training.toy import recipe

CFG = {"input_size": [3, 32, 48], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.8}
TRANSFORM = eval_transform(CFG)
SQUARE = eval_transform({**CFG, "input_size": [3, 32, 32]})


def picture(size=(90, 70)):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def looks(count, *, transform=TRANSFORM, of=None, **changes):
    """Looks at one image under the seeds 0, 1, ..."""
    augment, of = make_augmentation(recipe(**changes).augmentation, transform=transform), of or picture()
    with isolated_random():
        return [(seed_transforms(seed), augment(of.copy()))[1] for seed in range(count)]


@pytest.mark.parametrize("augmentation", ["crop", "trivial", "none"])
def test_a_look_has_the_models_size_and_follows_from_its_seed(augmentation):
    first, again = (looks(12, augmentation=augmentation) for _ in range(2))
    assert {(image.dtype, tuple(image.shape)) for image in first} == {(torch.uint8, (3, 32, 48))}
    assert all(torch.equal(image, other) for image, other in zip(first, again, strict=True))
    different = len({image.numpy().tobytes() for image in first})
    assert different == 1 if augmentation == "none" else different > 6


@pytest.mark.parametrize("augmentation", ["crop", "trivial", "none"])
def test_the_global_generators_are_left_alone(augmentation):
    class Pictures:
        names = ("one", "two")

        def load(self, positions):
            return [picture() for _ in positions]

        def see(self, position, image, *, draw):  # noqa: ARG002 - a signature
            return image

    augment = make_augmentation(recipe(augmentation=augmentation).augmentation, transform=TRANSFORM)
    dataset = AugmentedImages(Pictures(), [0, 1], augment=augment, seed=0)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002 - the global one
    dataset[[(0, 0), (3, 1)]]
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002 - as above
    assert torch.equal(torch.get_rng_state(), states[2])


def test_none_is_the_preprocessing_of_validation():
    assert torch.equal(looks(1, augmentation="none")[0], TRANSFORM.pixels(picture()))


@pytest.mark.parametrize(("augmentation", "side"), [("none", 40), ("crop", 39)])
def test_no_crop_of_a_shrunk_image_is_enlarged(augmentation, side):
    """Validation resizes to 32 / 0.8 before it crops; the smallest random crop keeps 0.7."""
    assert decoded_side(recipe(augmentation=augmentation), transform=SQUARE) == side


def test_without_colours_and_mirror_images_a_whole_crop_is_the_image(monkeypatch):
    monkeypatch.setattr(augmentation, "RATIO", 1.0)
    monkeypatch.setattr(augmentation, "SCALE_MIN", 1.0)
    monkeypatch.setattr(augmentation, "COLOR_JITTER", 1e-9)
    square = picture((64, 64))
    expected = np.asarray(square.resize((32, 32), Image.Resampling.BICUBIC))
    for often, wanted in ((0.0, expected), (1.0, expected[:, ::-1])):
        monkeypatch.setattr(augmentation, "HFLIP", often)
        (look,) = looks(1, transform=SQUARE, of=square, augmentation="crop")
        assert np.array_equal(look.permute(1, 2, 0).numpy(), wanted)


def test_pixels_and_labels_are_mixed_with_the_same_share():
    """Image i is all of value i, so that the share of its neighbour can be read off its pixels."""
    count = 4
    inputs = torch.arange(float(count)).view(-1, 1, 1, 1).expand(-1, 3, 20, 30).contiguous()
    targets = torch.eye(count)
    mixing = make_mixing(recipe(mixup=1.0))
    shares = set()
    with isolated_random():
        for seed in range(20):
            torch.manual_seed(seed)
            mixed, labels = mixing(inputs, targets)
            for i in range(count):
                own = labels[i, i].item()
                assert labels[i, i - 1] == pytest.approx(1 - own, abs=1e-6)
                torch.testing.assert_close(mixed[i], inputs[i] * own + inputs[i - 1] * (1 - own))
                shares.add(own)
    assert len(shares) > 10


def test_nothing_is_mixed_unless_it_is_asked_for():
    assert make_mixing(recipe()) is None
