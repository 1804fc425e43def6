"""The measurements of one image: content digest, size, orientation, format and perceptual hashes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import imagehash
from PIL import Image, ImageOps, ImageStat

from streetvision_core.data.pictures import decode_details
from streetvision_core.data.reasons import MAX_PIXELS

_SMALL, _LARGE = (32, 32), (64, 64)  # what imagehash.phash reduces an image to for 64 and for 256 bits


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

    The hashes are pHashes (imagehash.phash) of the image and of its mirror image: 64 bits in 16 hex digits,
    256 bits in 64. The brightness is the mean grey, 0 to 255.
    """
    decoded = decode_details(data, max_pixels=max_pixels)
    # Mirroring commutes with the reduction: reducing first is the same hash at half the cost.
    grey = decoded.image.convert("L")
    small, large = (grey.resize(size, Image.Resampling.LANCZOS) for size in (_SMALL, _LARGE))
    return Fingerprint(
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        width=decoded.size[0],
        height=decoded.size[1],
        orientation=decoded.orientation,
        phash=str(imagehash.phash(small)),
        phash_mirrored=str(imagehash.phash(ImageOps.mirror(small))),
        format=decoded.format,
        brightness=round(ImageStat.Stat(small).mean[0]),
        phash256=str(imagehash.phash(large, hash_size=16)),
        phash256_mirrored=str(imagehash.phash(ImageOps.mirror(large), hash_size=16)),
    )
