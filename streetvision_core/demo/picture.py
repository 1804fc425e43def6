"""One frame of a scene, from the far end of the street to the lens.

Order: sky, skyline, ground, then everything that stands on it from far to near, then what happens
in the air (haloes, a wet road's reflection, rain) and in the camera (softness, exposure, vignette,
grain). The result is encoded as a JPEG.
"""

from __future__ import annotations

import io
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from streetvision_core.demo import draw_furniture, draw_street_life, draw_works
from streetvision_core.demo.canvas import OVERSAMPLING, Camera, Canvas
from streetvision_core.demo.draw_street import draw_ground, draw_house, draw_ridge, draw_sky
from streetvision_core.demo.scene import House, Scene, Thing

if TYPE_CHECKING:
    from collections.abc import Callable

    from streetvision_core.demo.dice import Dice

JPEG_QUALITY = 90
_HALO_SHRINK = 4

DRAWERS: dict[str, Callable[[Canvas, Thing], None]] = {
    name.removeprefix("draw_"): drawer
    for module in (draw_works, draw_street_life, draw_furniture)
    for name, drawer in vars(module).items()
    if name.startswith("draw_")
}


def draw_frame(scene: Scene, dice: Dice, *, camera: Camera, frame: int, size: tuple[int, int]) -> bytes:
    """Draw a scene through a camera at a frame of its sequence; returns the bytes of a JPEG."""
    canvas = Canvas(size, camera=camera, light=scene.light)
    draw_sky(canvas, scene)
    draw_ridge(canvas, scene)
    draw_ground(canvas, scene.road)
    _draw_objects(canvas, scene, frame)
    picture = canvas.image.reduce(OVERSAMPLING)
    picture = _add_air(picture, canvas, dice)
    picture = _add_lens(picture, dice)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _draw_objects(canvas: Canvas, scene: Scene, frame: int) -> None:
    # A house is sorted by its far end: things in front of any part of it are drawn later.
    members: list[tuple[float, House | Thing]] = [(house.far, house) for house in scene.houses]
    members += [(thing.z + thing.drift * frame, thing) for thing in scene.things]
    for z, member in sorted(members, key=lambda entry: -entry[0]):
        if isinstance(member, House):
            draw_house(canvas, member)
        elif z > canvas.camera.forward + 2.2:
            DRAWERS[member.kind](canvas, replace(member, z=z))


def _add_air(picture: Image.Image, canvas: Canvas, dice: Dice) -> Image.Image:
    light = canvas.light
    if light.weather == "rain":
        picture = _reflect(picture, canvas.camera.horizon)
    if canvas.halos and (light.lamps_on or light.weather != "clear"):
        picture = _shine(picture, canvas)
    if light.weather == "rain":
        _draw_rain(picture, dice, grey=210 if light.time_of_day == "day" else 150)
    return picture


def _reflect(picture: Image.Image, horizon: float) -> Image.Image:
    """A wet road mirrors what stands above it, more strongly towards the horizon."""
    width, height = picture.size
    line = int(horizon * height)
    below = picture.crop((0, line, width, height))
    above = picture.crop((0, max(0, 2 * line - height), width, line))
    mirrored = above.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    mirror = mirrored.resize(below.size).filter(ImageFilter.BoxBlur(2))
    picture.paste(Image.blend(below, mirror, 0.25), (0, line))
    return picture


def _shine(picture: Image.Image, canvas: Canvas) -> Image.Image:
    """Screen all haloes over the image; wider and fainter in rain and fog."""
    shrink = OVERSAMPLING * _HALO_SHRINK
    width, height = picture.size
    layer = Image.new("RGB", (width // _HALO_SHRINK + 1, height // _HALO_SHRINK + 1))
    pen = ImageDraw.Draw(layer)
    spread = 1.0 if canvas.light.weather == "clear" else 1.5
    strength = 0.5 if canvas.light.time_of_day == "night" else 0.28
    for halo in canvas.halos:
        x, y = halo.centre[0] / shrink, halo.centre[1] / shrink
        radius = max(0.5, spread * halo.radius / shrink)
        red, green, blue = (int(level * strength) for level in halo.colour)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), (red, green, blue))
    layer = layer.filter(ImageFilter.BoxBlur(1)).filter(ImageFilter.BoxBlur(1))
    return ImageChops.screen(picture, layer.resize(picture.size, Image.Resampling.BICUBIC))


def _draw_rain(picture: Image.Image, dice: Dice, *, grey: int) -> None:
    pen = ImageDraw.Draw(picture, "RGBA")
    lean = dice.between(-3, 3)
    width, height = picture.size
    for _ in range(dice.whole(50, 110)):
        x, y, length = dice.between(0, width), dice.between(0, height), dice.between(4, 11)
        pen.line((x, y, x + lean, y + length), (grey, grey, grey + 10, 70))


@lru_cache(maxsize=4)
def _vignette(size: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    width, height = size
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    return (1 - np.float32(0.1) * (rows**2 + columns**2))[:, :, None]


def _add_lens(picture: Image.Image, dice: Dice) -> Image.Image:
    """Softness, exposure, vignette and sensor noise of a small camera."""
    if dice.chance(0.3):
        picture = picture.filter(ImageFilter.GaussianBlur(dice.between(0.3, 0.7)))
    width, height = picture.size
    exposed = np.asarray(picture, dtype=np.float32) * (
        _vignette(picture.size) * np.float32(dice.between(0.92, 1.1))
    )
    exposed += (dice.grain(height, width) * np.float32(dice.between(0.006, 0.026)))[:, :, None]
    return Image.fromarray(np.clip(exposed, 0, 255, out=exposed).astype(np.uint8))
