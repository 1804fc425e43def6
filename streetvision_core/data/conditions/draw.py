"""The one place where an image is drawn under conditions: for training, selection, calibration and reports.

What is drawn is a function of the image's digest, the level, the number of the draw and the seed. So it is
the same for every model, whatever order, process or thread draws it, and comparisons of models are paired.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from PIL import Image

from streetvision_core.data.conditions.operations import OPERATIONS, Drawn, crop_box, jpeg

if TYPE_CHECKING:
    from streetvision_core.data.conditions.profile import Operation, Profile

CROP = "crop"


def level_of(profile: Profile, sha256: str, *, draw: int = 0, seed: int = 0) -> str:
    """Return the name of the level that an image meets at a draw: each as often as its weight says."""
    place = _drawn("level", sha256, draw, seed).share() * math.fsum(level.weight for level in profile.levels)
    met = [level for level in profile.levels if level.weight]
    for level in met:
        if place < level.weight:
            return level.name
        place -= level.weight
    return met[-1].name


def draw_image(
    image: Image.Image, profile: Profile, sha256: str, *, level: str = "", draw: int = 0, seed: int = 0
) -> Image.Image:
    """Return an RGB image as it arrives under conditions; under `as_is` the very image.

    Args:
        image: Upright RGB.
        profile: The conditions.
        sha256: SHA-256 (hex) of the image's bytes.
        level: The name of a level; empty for the one that this image meets at this draw.
        draw: Which draw of this image.
        seed: Of everything that is drawn.
    """
    if profile.is_as_is:
        return image
    met = profile.level(level or level_of(profile, sha256, draw=draw, seed=seed))
    drawn = _drawn(met.name, sha256, draw, seed)
    if all(operation.name != CROP for operation in met.operations):
        image = _shrunk(image, profile.size)
    for operation in met.operations:
        image = _operate(image, operation, drawn, size=profile.size)
    return jpeg(image, profile.quality, drawn) if profile.quality else image


def _drawn(purpose: str, sha256: str, draw: int, seed: int) -> Drawn:
    named = hashlib.sha256(f"{seed}/{sha256}/{purpose}/{draw}".encode()).digest()
    return Drawn(int.from_bytes(named[:16], "big"))


def _operate(image: Image.Image, operation: Operation, drawn: Drawn, *, size: int) -> Image.Image:
    strengths = operation.strengths
    if operation.name == CROP:
        box = crop_box(*image.size, (strengths[0], strengths[1]), drawn)
        return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    strength = drawn.between(*strengths) if operation.is_range else drawn.choose(strengths)
    return OPERATIONS[operation.name](image, strength, drawn)


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    shorter = min(image.size)
    if shorter <= side:
        return image
    width, height = (max(1, round(length * side / shorter)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
