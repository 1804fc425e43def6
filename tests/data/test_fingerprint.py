"""The hashes keep copies together and strangers apart, and are the same on every machine."""

from __future__ import annotations

from functools import cache

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from streetvision_core.data.decoding.decode import decode
from streetvision_core.data.fingerprint import Fingerprint, fingerprint, slow_waves

from .inputs import shared_data
from .making import encode, scene

COPIES = {
    "quality 60": lambda image: encode(image, quality=60),
    "quality 30": lambda image: encode(image, quality=30),
    "half size": lambda image: encode(image.resize((image.width // 2, image.height // 2)), quality=90),
    "mirrored": lambda image: encode(ImageOps.mirror(image), quality=90),
    "brighter": lambda image: encode(ImageEnhance.Brightness(image).enhance(1.3), quality=90),
    "cropped": lambda image: encode(ImageOps.crop(image, round(0.015 * min(image.size))), quality=90),
}
# The least share of copies that near-duplicates keep (8 and 40 bits), and that carry the label on (4 and 16).
KEPT = {
    "quality 60": (1, 0.99), "quality 30": (1, 0.96), "half size": (1, 0.99), "mirrored": (1, 0.99),
    "brighter": (0.95, 0), "cropped": (0.95, 0),
}  # fmt: skip


@cache
def streets() -> tuple[tuple[Image.Image, Fingerprint], ...]:
    """Every sixth street photograph, decoded and measured."""
    files = sorted(shared_data("streets").rglob("*.jpg"))[::6]
    return tuple((decode(data), fingerprint(data)) for data in (path.read_bytes() for path in files))


def bits(first: str, second: str) -> int:
    return (int(first, 16) ^ int(second, 16)).bit_count()


def near(first: Fingerprint, second: Fingerprint, most: int, most256: int) -> bool:
    plain = (bits(first.phash, second.phash), bits(first.phash256, second.phash256))
    mirrored = (bits(first.phash_mirrored, second.phash), bits(first.phash256_mirrored, second.phash256))
    return any(few <= most and many <= most256 for few, many in (plain, mirrored))


@pytest.mark.parametrize("copy", COPIES)
def test_true_copies_of_photographs_are_kept(copy):
    pairs = [(measured, fingerprint(COPIES[copy](image))) for image, measured in streets()]
    kept, carried = KEPT[copy]
    assert np.mean([near(*pair, 8, 40) for pair in pairs]) >= kept
    assert np.mean([near(*pair, 4, 16) for pair in pairs]) >= carried


def test_no_stranger_is_confirmed():
    measured = [fingerprint(path.read_bytes()) for path in sorted(shared_data("streets").rglob("*.jpg"))]
    words = np.array([[hashes.phash256, hashes.phash256_mirrored] for hashes in measured])
    tables = [
        np.array([np.frombuffer(bytes.fromhex(word), np.uint64) for word in column]) for column in words.T
    ]
    for table in tables:
        apart = np.bitwise_count(table[:, None] ^ tables[0]).sum(axis=2)
        assert apart[~np.eye(len(apart), dtype=bool)].min() > 60


def test_hashes_lie_near_those_of_imagehash():
    """Nearer than any two photographs: it is the same measure, by another way of making images small."""
    for image, measured in streets():
        grey = image.convert("L")
        assert bits(measured.phash, str(imagehash.phash(grey))) <= 8
        assert bits(measured.phash256, str(imagehash.phash(grey, 16))) <= 40


def waves_in_whole_numbers(pixels: np.ndarray) -> list[list[int]]:
    """The waves of pixels without their mean, added up in Python."""
    mean = round(float(pixels.mean()))
    rows, columns = (
        [
            [round(2048 * np.cos(np.pi * wave * (2 * x + 1) / (2 * side))) for x in range(side)]
            for wave in range(16)
        ]
        for side in pixels.shape
    )
    lines = [
        [sum(a * (int(b) - mean) for a, b in zip(column, line, strict=True)) for column in columns]
        for line in pixels
    ]
    return [[sum(a * line[x] for a, line in zip(row, lines, strict=True)) for x in range(16)] for row in rows]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 100), st.integers(1, 100), st.sampled_from([0, 1, 4, 255]))
def test_waves_are_exact_whole_numbers(seed, width, height, contrast):
    """No order of summing them up, on whatever processor, can turn a bit."""
    pixels = np.random.default_rng(seed).integers(0, contrast + 1, (height, width), dtype=np.uint8)
    waves, mean = slow_waves(Image.fromarray(pixels), (width, height))
    expected = waves_in_whole_numbers(pixels)
    assert waves.ravel()[1:].tolist() == [value for row in expected for value in row][1:]
    assert mean == round(float(pixels.mean()))
    assert np.abs(waves.ravel()[1:]).max() < 2**50


@pytest.mark.parametrize("size", [(1, 1), (100, 60), (640, 480), (4001, 70)])
@pytest.mark.parametrize("level", [0, 7, 128, 255])
def test_an_image_of_one_grey_has_one_hash_whatever_its_size(level, size):
    flat = fingerprint(encode(Image.new("L", size, level), "PNG"))
    assert (flat.phash, flat.phash_mirrored) == ("8" + 15 * "0",) * 2
    assert (flat.phash256, flat.phash256_mirrored) == ("8" + 63 * "0",) * 2
    assert flat.brightness == level


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_that_is_stored_turned_has_the_hashes_of_the_upright_one(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = scene(5, size=(192, 128))
    turned = encode(image, "PNG", exif=exif)
    upright = encode(decode(turned), "PNG")
    expected, measured = (vars(fingerprint(data)) for data in (upright, turned))
    assert measured["orientation"] == orientation
    changed = {name for name in measured if measured[name] != expected[name]}
    assert changed <= {"sha256", "size_bytes", "orientation"}


def test_the_mirrored_hashes_are_those_of_the_mirror_image():
    image = scene(6, size=(192, 128))
    plain, mirrored = (fingerprint(encode(turned, "PNG")) for turned in (image, ImageOps.mirror(image)))
    assert (plain.phash, plain.phash256) == (mirrored.phash_mirrored, mirrored.phash256_mirrored)
    assert (plain.phash_mirrored, plain.phash256_mirrored) == (mirrored.phash, mirrored.phash256)


@pytest.mark.parametrize("size", [(130, 70), (191, 321), (601, 403)])
def test_sides_that_no_block_fits_into_change_little(size):
    """The last block of a row is cut off: it counts where it lies, and as much as it covers."""
    coarse = Image.fromarray(np.random.default_rng(7).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    even = fingerprint(encode(coarse.resize((256, 256), Image.Resampling.BICUBIC), "PNG"))
    image = coarse.resize(size, Image.Resampling.BICUBIC)
    for kind, options in (("PNG", {}), ("JPEG", {"quality": 90})):
        odd, mirrored = (
            fingerprint(encode(turned, kind, **options)) for turned in (image, ImageOps.mirror(image))
        )
        assert near(odd, even, 4, 16)
        assert near(odd, mirrored, 4, 16)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_size_and_brightness_are_those_of_the_whole_upright_image(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = scene(3, size=(801, 603))
    measured = fingerprint(encode(image, kind, exif=exif))
    assert (measured.width, measured.height) == (603, 801)
    assert abs(measured.brightness - np.asarray(image.convert("L")).mean()) <= 1
    assert (len(measured.phash), len(measured.phash256)) == (16, 64)
