"""Operations change pixels as computed by hand, and draw what does not change."""

import math

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from streetvision_core.data.conditions.operations import OPERATIONS, Drawn, blur, crop_box
from streetvision_core.data.conditions.shipped import NATIX_CROPS_2025


def plain(*colour, size=(8, 8)):
    return Image.new("RGB", size, colour)


def noisy(size=(31, 23)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def operated(name, image, strength, seed=0):
    return np.asarray(OPERATIONS[name](image, strength, Drawn(seed)))


def test_what_is_drawn_is_what_numpy_promises():
    drawn = Drawn(1)
    raw = np.random.PCG64(1).random_raw(3)
    assert [drawn.share() for _ in range(2)] == [int(raw[0] >> 11) / 2**53, int(raw[1] >> 11) / 2**53]
    octets = np.random.PCG64(2).random_raw(1).astype("<u8").view(np.uint8).astype(int)
    sigma = math.sqrt(4 * (256**2 - 1) / 12)
    # Two numbers of four bytes each: byte 0, 2, 4, 6 and byte 1, 3, 5, 7.
    expected = [(octets[0::2].sum() - 510) / sigma, (octets[1::2].sum() - 510) / sigma]
    assert Drawn(2).normal(2) == pytest.approx(expected, abs=1e-6)


def test_drawn_noise_has_mean_0_and_deviation_1():
    values = Drawn(5).normal(100_000)
    assert abs(values.mean()) < 0.01
    assert values.std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("name", "strength", "colour", "expected"),
    [
        ("gain", 0.85, (200, 100, 7), (170, 85, 5)),  # 5.95 is cut
        ("gain", 0.725, (200, 100, 255), (145, 72, 184)),  # 72.5 and 184.875 are cut
        ("gain", 2.0, (200, 100, 7), (255, 200, 14)),
        # Grey of it: 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2, rounded to 124.
        ("chroma", 0.4, (200, 100, 50), (154, 114, 94)),
        ("chroma", 0.3, (200, 100, 50), (147, 117, 102)),
        ("chroma", 1.0, (200, 100, 50), (200, 100, 50)),
    ],
)
def test_colours_are_those_computed_by_hand(name, strength, colour, expected):
    assert operated(name, plain(*colour), strength)[0, 0] == pytest.approx(
        expected, abs=1 if name == "chroma" else 0
    )


def test_resampling_to_a_half_is_the_mean_of_two_by_two_enlarged():
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[:2, :2] = [[[100], [60]], [[20], [20]]]  # the mean is 50
    result = operated("resample", Image.fromarray(pixels), 2)
    assert result[0, 0].tolist() == [50, 50, 50]
    # Between the centres of the small pixels, a quarter of the way to the black one.
    assert result[0, 1] == pytest.approx([37.5] * 3, abs=1)


def test_resampling_to_a_third_takes_single_pixels_not_the_mean():
    stripes = np.zeros((9, 9, 3), dtype=np.uint8)
    stripes[:, 1::3] = 240  # the middle one of three, which a mean would make 80
    assert (operated("resample", Image.fromarray(stripes), 3) == 240).all()


def test_blur_is_the_gaussian_of_torchvision():
    image = noisy()
    ours = np.asarray(blur(image, 9 / 6, Drawn(0))).astype(int)
    tensor = functional.pil_to_tensor(image)
    theirs = functional.gaussian_blur(tensor, [9, 9], [9 / 6, 9 / 6]).permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs).max() <= 1
    assert operated("blur", image, 0).tolist() == np.asarray(image).tolist()


def test_motion_is_a_mean_along_one_axis():
    pixels = np.zeros((20, 20, 3), dtype=np.uint8)
    pixels[10, 10] = 250
    smeared = {
        tuple(map(tuple, np.argwhere(operated("motion", Image.fromarray(pixels), 0.2, seed)[..., 0])))
        for seed in range(9)
    }
    # 0.2 of 20 pixels, half of it to each side: five pixels of 50.
    assert smeared == {tuple((10, x) for x in range(8, 13)), tuple((y, 10) for y in range(8, 13))}
    assert operated("motion", Image.fromarray(pixels), 0.2).max() == 50


def test_fog_is_whole_at_the_horizon_and_thinner_below():
    result = operated("fog", plain(0, 0, 0, size=(4, 101)), 1.4)[:, 0, 0]
    seen = math.exp(-1.4), math.exp(-1.4 * 0.15)
    assert (result[0], result[45]) == (round(205 * (1 - seen[0])),) * 2
    assert result[100] == round(205 * (1 - seen[1]))


def test_noise_has_its_strength_in_luma_and_a_little_less_in_chroma():
    pixels = operated("noise", plain(128, 128, 128, size=(200, 200)), 8).astype(float)
    luma = pixels @ [0.299, 0.587, 0.114]
    blue = (pixels[..., 2] - luma) / 1.772
    assert luma.std() == pytest.approx(8, rel=0.03)
    assert blue.std() == pytest.approx(8 * 219 / 224, rel=0.03)


def test_rain_and_dirt_leave_most_of_the_image_and_differ_by_draw():
    for name, strength in (("rain", 3), ("dirt", 10)):
        image = plain(120, 120, 120, size=(96, 64))
        first, second = (operated(name, image, strength, seed) for seed in (1, 2))
        assert 0.01 < (first != 120).any(axis=2).mean() < 0.75
        assert not np.array_equal(first, second)
        assert np.array_equal(first, operated(name, image, strength, 1))


def test_rotation_takes_the_nearest_pixel_and_leaves_corners_black():
    image = plain(255, 255, 255, size=(21, 21))
    ours = operated("rotate", image, 20)
    theirs = np.asarray(functional.rotate(image, 20, interpolation=v2.InterpolationMode.NEAREST))
    assert np.array_equal(ours, theirs)
    assert set(np.unique(ours)) == {0, 255}


def test_a_jpeg_comes_back_in_its_size():
    assert operated("jpeg", noisy(), 10).shape == (23, 31, 3)


def test_crops_are_squares_of_the_drawn_share_of_the_area():
    boxes = [crop_box(400, 200, (0.2, 1), Drawn(seed)) for seed in range(300)]
    sides = [right - left for left, _, right, _ in boxes]
    assert all(lower - upper == right - left for left, upper, right, lower in boxes)
    assert all(
        left >= 0 and upper >= 0 and right <= 400 and lower <= 200 for left, upper, right, lower in boxes
    )
    # sqrt(0.2 * 400 * 200) = 126.5; no square is larger than the image is high.
    assert (min(sides), max(sides)) == pytest.approx((127, 200), abs=2)
    assert crop_box(400, 200, (1, 1), Drawn(0)) == (100, 0, 300, 200)
    assert crop_box(200, 200, (1, 1), Drawn(0)) == (0, 0, 200, 200)


def test_the_constants_of_the_subnet_are_those_of_its_code():
    assert (NATIX_CROPS_2025.size, NATIX_CROPS_2025.quality) == (224, 75)
    assert {level.weight for level in NATIX_CROPS_2025.levels} == {1}
    operations = {
        level.name: [(operation.name, list(operation.strengths)) for operation in level.operations]
        for level in NATIX_CROPS_2025.levels
    }
    cropped = [("rotate", [-20, 20]), ("crop", [0.2, 1])]
    assert operations["level0"] == [("crop", [1, 1])]
    assert operations["level1"] == cropped
    assert operations["level2"] == [*cropped, ("chroma", [1, 0.4]), ("gain", [1, 0.85]), ("resample", [1, 2])]
    # sqrt(0.001) * 65025 / 219 = 9.389; sqrt(0.002) * 65025 / 219 = 13.279; kernels of 7 and 9 pixels.
    *mild, noise, blurred = operations["level3"]
    assert mild == [
        *cropped, ("chroma", [1, 0.4, 0.3]), ("gain", [1, 0.85, 0.725]), ("resample", [1, 2, 3]),
    ]  # fmt: skip
    assert noise == ("noise", pytest.approx([0, 9.389, 13.279], abs=0.001))
    assert blurred == ("blur", pytest.approx([0, 1.1667, 1.5], abs=0.0001))
