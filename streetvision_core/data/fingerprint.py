"""The measurements of one image: content digest, size, orientation, format and perceptual hashes.

A pHash tells which of an image's slowest waves are above their median, as `imagehash.phash` defines it: the
grey image is reduced to a square, and of its cosine transform the corner of the slowest waves counts. All
four hashes are made here from one grey image, bit for bit those of imagehash.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageStat

from streetvision_core.data.decoding.decode import decode_details
from streetvision_core.data.decoding.reasons import MAX_PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OVERSAMPLED = 4  # pixels a side for each frequency that counts: 32 for 64 bits, 64 for 256


@dataclass(frozen=True)
class Fingerprint:
    """The measurements of one picture; sizes in pixels are those of the upright picture."""

    sha256: str
    size_bytes: int
    width: int
    height: int
    orientation: int
    phash: str
    phash_mirrored: str
    format: str
    brightness: int
    phash256: str
    phash256_mirrored: str


def fingerprint(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Fingerprint:
    """Measure an image of at most `max_pixels`; raises UnusablePictureError.

    The hashes are pHashes of the image and of its mirror image: 64 bits in 16 hex digits, 256 bits in 64. The
    brightness is the mean grey, 0 to 255.
    """
    decoded = decode_details(data, max_pixels=max_pixels)
    grey = decoded.image.convert("L")
    phash, phash_mirrored = perceptual_hashes(grey, 8)
    phash256, phash256_mirrored = perceptual_hashes(grey, 16)
    return Fingerprint(
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        width=decoded.size[0],
        height=decoded.size[1],
        orientation=decoded.orientation,
        phash=phash,
        phash_mirrored=phash_mirrored,
        format=decoded.format,
        brightness=round(ImageStat.Stat(grey).mean[0]),
        phash256=phash256,
        phash256_mirrored=phash256_mirrored,
    )


def perceptual_hashes(grey: Image.Image, size: int) -> tuple[str, str]:
    """Return the pHashes of `size` x `size` bits, in hex, of a grey image and of its mirror image."""
    side = _OVERSAMPLED * size
    pixels = np.asarray(grey.resize((side, side), Image.Resampling.LANCZOS), np.float64)
    # Mirroring only turns the sign of every second wave, but where waves are 0 the rounding of SciPy decides.
    return _hex(_waves(pixels)[:size, :size]), _hex(_waves(pixels[:, ::-1])[:size, :size])


def _waves(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.fft import dct

    waves: NDArray[np.float64] = dct(dct(pixels, axis=0), axis=1)
    return waves


def _hex(waves: NDArray[np.float64]) -> str:
    return np.packbits(waves > np.median(waves)).tobytes().hex()
