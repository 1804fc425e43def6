"""The measurements of one image: content digest, size, orientation, format and perceptual hashes.

A pHash tells which of an image's slowest waves (its cosine transform) are above their median, 8 x 8 of them
in 64 bits and 16 x 16 in 256. All four hashes come from one product of matrices, waves times grey pixels
times waves; mirroring turns the sign of every second column of it, and nothing else.

The hashes are the same on every machine, whatever its linear algebra does. Pixels and waves are whole
numbers, and so are the products, of at most 46 bits: double precision adds them up exactly in any order. The
mean grey is taken off before, so that of a flat image all waves but the first are 0, and ties with the median
are bits that are not set.

They are as good as those of imagehash, of which they are no copy; docs/benchmarks.md has the figures. An
index keeps the hashes that it was made with: `images` computes all of them again when this code changes, so
that two kinds never meet.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.data.decoding.decode import decode_grey
from streetvision_core.data.decoding.reasons import MAX_PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

_WAVES = 16
_LEAST_SIDE = 4 * _WAVES  # pixels that the fastest wave needs
_STEPS = 2048  # of whole numbers in the height of a wave
_MIRROR = np.where(np.arange(_WAVES) % 2, -1.0, 1.0)


@dataclass(frozen=True)
class Fingerprint:
    """The measurements of one image; sizes in pixels are those of the upright image."""

    sha256: str
    size_bytes: int
    width: int
    height: int
    orientation: int
    format: str
    brightness: int
    phash: str
    phash_mirrored: str
    phash256: str
    phash256_mirrored: str


def fingerprint(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Fingerprint:
    """Measure an image of at most `max_pixels`; raises UnusableImageError.

    The hashes are pHashes of the image and of its mirror image: 64 bits in 16 hex digits, 256 bits in 64. The
    brightness is the mean grey, 0 to 255.
    """
    decoded = decode_grey(data, max_pixels=max_pixels, at_least=_LEAST_SIDE)
    width, height = decoded.size
    stored = (width, height) if decoded.orientation < 5 else (height, width)
    waves, mean = slow_waves(decoded.image, stored)
    hashes = perceptual_hashes(_turned(waves, decoded.orientation))
    sha256 = hashlib.sha256(data).hexdigest()
    return Fingerprint(sha256, len(data), width, height, decoded.orientation, decoded.format, mean, *hashes)


def slow_waves(grey: Image.Image, size: tuple[int, int]) -> tuple[NDArray[np.float64], int]:
    """Return the slowest waves of a grey image, without its mean, and the mean grey.

    Args:
        grey: The image (L), perhaps at a scale.
        size: Width and height of the whole, which `grey` covers.

    Returns:
        Whole numbers as float64 [16, 16], rows by vertical frequency, and the mean, 0 to 255. The first, what
        rounding leaves of the mean, is infinite: above any median.
    """
    blocks = [max(1, side // _LEAST_SIDE) for side in grey.size]
    pixels = np.asarray(grey.reduce((blocks[0], blocks[1])), np.float64)
    mean = round(float(pixels.sum()) / pixels.size)
    # What one pixel here was in the whole: the last one of a row may be cut off.
    across, down = (
        block * -(-whole // side) for block, whole, side in zip(blocks, size, grey.size, strict=True)
    )
    waves = _cosines(size[1], down) @ (pixels - mean) @ _cosines(size[0], across).T
    waves[0, 0] = np.inf
    return waves, mean


def perceptual_hashes(waves: NDArray[np.float64]) -> tuple[str, str, str, str]:
    """Return 64 bits of an image and of its mirror image, then 256 bits of both, in hex."""
    both = np.stack([waves, waves * _MIRROR])
    half = _WAVES // 2
    return *_hex(both[:, :half, :half]), *_hex(both)


@lru_cache(maxsize=1024)
def _cosines(side: int, block: int) -> NDArray[np.float64]:
    """Return the waves along a side cut into blocks, the last perhaps shorter: whole numbers [16, blocks]."""
    edges = np.minimum(np.arange(-(-side // block) + 1) * block, side)
    middles, shares = (edges[1:] + edges[:-1]) / (2 * side), np.diff(edges) / block
    waves: NDArray[np.float64] = np.cos(np.pi * np.arange(_WAVES)[:, None] * middles)
    return np.rint(_STEPS * waves * shares)


def _turned(waves: NDArray[np.float64], orientation: int) -> NDArray[np.float64]:
    """Return the waves of the upright image: those of a mirror image differ in the signs alone."""
    if orientation >= 5:
        waves = waves.T
    if orientation in (2, 3, 6, 7):
        waves = waves * _MIRROR
    return waves * _MIRROR[:, None] if orientation in (3, 4, 7, 8) else waves


def _hex(waves: NDArray[np.float64]) -> tuple[str, str]:
    """Return the bits of two images [2, N, N]: set where a wave is above the median of its image."""
    rows = waves.reshape(2, -1)
    middle = rows.shape[1] // 2
    ordered = np.sort(rows, axis=1)
    medians = ordered[:, middle - 1] + ordered[:, middle]  # twice the median: still a whole number
    words = np.packbits(2 * rows > medians[:, None], axis=1)
    return words[0].tobytes().hex(), words[1].tobytes().hex()
