"""What training does to images: each recipe draws from its look's seed alone and keeps its promises."""

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


@pytest.mark.parametrize("augmentation", ["crop", "trivial", "validator", "none"])
def test_a_look_has_the_models_size_and_follows_from_its_seed(augmentation):
    first, again = (looks(12, augmentation=augmentation) for _ in range(2))
    assert {(one.dtype, tuple(one.shape)) for one in first} == {(torch.uint8, (3, 32, 48))}
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    different = len({one.numpy().tobytes() for one in first})
    assert different == 1 if augmentation == "none" else different > 6


@pytest.mark.parametrize("augmentation", ["crop", "trivial", "validator", "none"])
def test_the_global_generators_are_left_alone(augmentation):
    class Pictures:
        names = ("one", "two")

        def load(self, positions):
            return [picture() for _ in positions]

    augment = make_augmentation(recipe(augmentation=augmentation).augmentation, transform=TRANSFORM)
    dataset = AugmentedImages(Pictures(), [0, 1], augment=augment, seed=0)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002 - the global one
    dataset[[(0, 0), (3, 1)]]
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002 - as above
    assert torch.equal(torch.get_rng_state(), states[2])


def test_none_is_the_preprocessing_of_validation():
    assert torch.equal(looks(1, augmentation="none")[0], TRANSFORM.pixels(picture()))


@pytest.mark.parametrize(("augmentation", "side"), [("none", 40), ("validator", 72), ("crop", 46)])
def test_no_crop_of_a_shrunk_image_is_enlarged(augmentation, side):
    """Validation resizes to 32 / 0.8 before it crops; the smallest random crops keep 0.2 and 0.5."""
    changes = {"augmentation": augmentation, "scale_min": 0.5}
    assert decoded_side(recipe(**changes), transform=SQUARE) == side


def test_the_validators_levels_come_with_equal_chance(monkeypatch):
    met = []
    monkeypatch.setattr(
        "streetvision_core.training.augmentation.validator_level",
        lambda level, transform: lambda _: met.append(level) or torch.zeros(3, *transform.size),
    )
    plain = TRANSFORM.pixels(picture())
    levels = [torch.equal(one, plain) for one in looks(4000, augmentation="validator")]
    counts = [sum(levels), *(met.count(level) for level in (1, 2, 3))]
    assert sum(counts) == 4000
    # Of 4000 draws 1000 are expected of each; 27 is a standard deviation.
    assert all(abs(count - 1000) < 4 * 27 for count in counts), counts


def half(dark, size=64):
    """An image whose one half is dark: "left", "right", "top" or "bottom"."""
    array = np.full((size, size, 3), 220, dtype=np.uint8)
    rows = slice(None) if dark in {"left", "right"} else slice(0, size // 2)
    columns = slice(0, size // 2) if dark in {"left", "right"} else slice(None)
    array[rows, columns] = 20
    turned = Image.fromarray(array)
    return turned.rotate(180) if dark in {"right", "bottom"} else turned


@pytest.mark.parametrize(("of", "axis"), [("top", 1), ("left", 2)])
def test_the_validators_images_are_mirrored_both_ways_and_crop_deep(of, axis):
    """Level 0 alone never is: three quarters of the rest lie on their head half the time."""
    found = looks(200, transform=SQUARE, of=half(of), augmentation="validator")
    first, second = (torch.stack(found).float().narrow(axis + 1, start, 16) for start in (0, 16))
    halves = first.mean((1, 2, 3)) - second.mean((1, 2, 3))
    mirrored = sum(bool(difference > 60) for difference in halves)
    assert 200 * 3 / 8 - 35 < mirrored < 200 * 3 / 8 + 15
    # A crop of little more than a fifth may see one half alone.
    assert any(abs(difference) < 30 for difference in halves)


def test_stronger_levels_change_an_image_more():
    from streetvision_core.training.augmentation import validator_level

    grey = Image.new("RGB", (64, 64), (120, 90, 60))
    with isolated_random():
        spreads = []
        for level in (1, 2, 3):
            augment, found = validator_level(level, SQUARE), []
            for seed in range(40):
                seed_transforms(seed)
                inner = augment(grey.copy())[:, 12:20, 12:20].float()  # a rotation leaves corners black
                found.append((inner.std().item(), inner.mean((1, 2))))
            colours = torch.stack([colour for _, colour in found])
            spreads.append((float(colours.std(0).mean()), float(np.mean([std for std, _ in found]))))
    colour, noise = zip(*spreads, strict=True)
    assert colour[0] == pytest.approx(0, abs=1e-6)
    assert 0 < colour[1] < colour[2]
    assert noise[0] == pytest.approx(noise[1], abs=3)
    assert noise[2] > noise[1] + 1


def test_without_colours_and_mirror_images_a_whole_crop_is_the_image(monkeypatch):
    monkeypatch.setattr(augmentation, "RATIO", 1.0)
    monkeypatch.setattr(augmentation, "COLOR_JITTER", 1e-9)
    square = picture((64, 64))
    expected = np.asarray(square.resize((32, 32), Image.Resampling.BICUBIC))
    for often, wanted in ((0.0, expected), (1.0, expected[:, ::-1])):
        monkeypatch.setattr(augmentation, "HFLIP", often)
        (look,) = looks(1, transform=SQUARE, of=square, augmentation="crop", scale_min=1.0)
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
