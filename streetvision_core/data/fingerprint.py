"""What is measured of one picture: content digest, size, orientation and perceptual hashes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import imagehash
from PIL import Image, ImageOps

from streetvision_core.data.pictures import decode_with_orientation

_HASH_SIZE = (32, 32)  # what imagehash.phash reduces a picture to


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


def fingerprint(data: bytes) -> Fingerprint:
    """Measure a picture; raises UnusablePictureError.

    The hashes are 64-bit pHashes (imagehash.phash, 16 hex digits) of the picture and of its mirror image.
    """
    image, orientation = decode_with_orientation(data)
    # Mirroring commutes with the reduction to 32 x 32: reducing first is the same hash at half the cost.
    small = image.convert("L").resize(_HASH_SIZE, Image.Resampling.LANCZOS)
    return Fingerprint(
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        width=image.width,
        height=image.height,
        orientation=orientation,
        phash=str(imagehash.phash(small)),
        phash_mirrored=str(imagehash.phash(ImageOps.mirror(small))),
    )
