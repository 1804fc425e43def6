"""The hashes are those of imagehash, whatever the image."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from streetvision_core.data.fingerprint import fingerprint, perceptual_hashes

from .making import encode, scene


def oracle(grey: Image.Image, size: int) -> tuple[str, str]:
    """Both hashes as imagehash computes them, the second of the reduced image mirrored."""
    small = grey.resize((4 * size, 4 * size), Image.Resampling.LANCZOS)
    return str(imagehash.phash(small, size)), str(imagehash.phash(ImageOps.mirror(small), size))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(2, 70),
    st.integers(2, 70),
    st.sampled_from([1, 4, 40, 255]),
    st.sampled_from([8, 16]),
)
def test_hashes_are_those_of_imagehash(seed, width, height, contrast, size):
    """Coarse and fine, flat and rich, larger and smaller than what an image is reduced to."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, contrast + 1, (height, width), dtype=np.uint8)
    grey = Image.fromarray(pixels).resize((width * 3, height * 3), Image.Resampling.BICUBIC)
    assert perceptual_hashes(grey, size) == oracle(grey, size)


@pytest.mark.parametrize("size", [8, 16])
@pytest.mark.parametrize("level", [0, 7, 128, 255])
def test_an_image_of_one_grey_has_the_hash_that_imagehash_gives_it(level, size):
    grey = Image.new("L", (100, 60), level)
    assert perceptual_hashes(grey, size) == oracle(grey, size)


def test_an_image_is_measured_as_its_parts_are():
    image = scene(3, size=(160, 120))
    measured = fingerprint(encode(image, "PNG"))
    grey = image.convert("L")
    assert (measured.phash, measured.phash_mirrored) == oracle(grey, 8)
    assert (measured.phash256, measured.phash256_mirrored) == oracle(grey, 16)
    assert (len(measured.phash), len(measured.phash256)) == (16, 64)
    assert abs(measured.brightness - np.asarray(grey).mean()) <= 1
