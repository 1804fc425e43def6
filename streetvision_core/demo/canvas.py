"""A canvas that is seen through a camera: metres in, anti-aliased pixels out.

World coordinates are metres: x to the right of the road's centre line, y above the ground, z along
the road. A pinhole camera with a roll projects them; the road's bend is a sideways shift with the
square of the distance. Nothing is kept: what is drawn later covers what was drawn earlier, so the
caller draws from far to near. Drawing happens at twice the size and is averaged down at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streetvision_core.demo.dice import Colour
    from streetvision_core.demo.light import Light

OVERSAMPLING = 2
NEAREST_METRES = 1.0

Point = tuple[float, float]
Place = tuple[float, float, float]


class Paint(TypedDict, total=False):
    """The way a surface takes light: a factor, whether it throws headlights back, whether it shines."""

    light: float
    reflective: bool
    shines: bool


@dataclass(frozen=True, slots=True)
class Camera:
    """The viewpoint of an image; horizon and vanishing point in shares of the image's sides."""

    focal: float
    horizon: float
    vanishing: float
    roll: float
    x: float
    height: float
    forward: float
    bend: float


@dataclass(frozen=True, slots=True)
class Halo:
    """A light that spills over its surroundings: position and radius in canvas pixels."""

    centre: Point
    radius: float
    colour: Colour


class Canvas:
    """One image under construction."""

    def __init__(self, size: tuple[int, int], *, camera: Camera, light: Light) -> None:
        width, height = size[0] * OVERSAMPLING, size[1] * OVERSAMPLING
        self.size = (width, height)
        self.camera = camera
        self.light = light
        self.halos: list[Halo] = []
        self.image = Image.new("RGB", self.size)
        self.pen = ImageDraw.Draw(self.image)
        # project runs a thousand times an image, so everything it reads is a plain attribute.
        self._focal = camera.focal * width
        self._forward, self._x = camera.forward, camera.x
        self._height, self._bend = camera.height, camera.bend
        self._middle_across, self._middle_down = width / 2, height / 2
        self._shift_across = camera.vanishing * width - width / 2
        self._shift_down = camera.horizon * height - height / 2
        self._cosine, self._sine = math.cos(camera.roll), math.sin(camera.roll)

    def distance(self, z: float) -> float:
        """Metres from the camera to the plane at z, never nearer than the near plane."""
        return max(NEAREST_METRES, z - self.camera.forward)

    def project(self, place: Place) -> Point:
        """The canvas pixel at which a place in the world is seen."""
        x, y, z = place
        far = max(NEAREST_METRES, z - self._forward)
        scale = self._focal / far
        across = (x - self._x + self._bend * far * far) * scale + self._shift_across
        down = (self._height - y) * scale + self._shift_down
        return (
            self._middle_across + across * self._cosine - down * self._sine,
            self._middle_down + across * self._sine + down * self._cosine,
        )

    def face(
        self, corners: Sequence[Place], colour: Colour, *, light: float = 1.0, shines: bool = False
    ) -> None:
        """Fill a flat shape as a whole: lit halfway to its opposite corner, or shining at its first one."""
        if shines:
            fill = self.light.shine(colour, self.distance(corners[0][2]))
        else:
            far = self.distance((corners[0][2] + corners[len(corners) // 2][2]) / 2)
            fill = self.light.shade(colour, far, light=light)
        self.pen.polygon([self.project(corner) for corner in corners], fill)

    def floor(self, across: Point, along: Point, colour: Colour, *, light: float = 1.0) -> None:
        """Fill a rectangle that lies on the ground."""
        (left, right), (near, far) = across, along
        self.face(((left, 0, near), (right, 0, near), (right, 0, far), (left, 0, far)), colour, light=light)

    def front(
        self, across: Point, up: Point, z: float, colour: Colour, *, light: float = 1.0, shines: bool = False
    ) -> None:
        """Fill an upright rectangle that faces the camera."""
        (left, right), (low, high) = across, up
        corners = ((left, low, z), (right, low, z), (right, high, z), (left, high, z))
        self.face(corners, colour, light=light, shines=shines)

    def flank(
        self, x: float, up: Point, along: Point, colour: Colour, *, light: float = 1.0, shines: bool = False
    ) -> None:
        """Fill an upright rectangle that runs along the road."""
        (low, high), (near, far) = up, along
        corners = ((x, low, near), (x, high, near), (x, high, far), (x, low, far))
        self.face(corners, colour, light=light, shines=shines)

    def box(self, across: Point, up: Point, along: Point, colour: Colour) -> None:
        """Draw the faces of a box that the camera sees, the flank and the top in their own light."""
        flank = self.visible_flank(across)
        if flank is not None:
            self.flank(flank, up, along, colour, light=0.78)
        if up[1] < self.camera.height:
            (left, right), top, (near, far) = across, up[1], along
            corners = ((left, top, near), (right, top, near), (right, top, far), (left, top, far))
            self.face(corners, colour, light=1.08)
        self.front(across, up, along[0], colour)

    def visible_flank(self, across: Point) -> float | None:
        """The x of the flank that is turned to the camera, None where it looks straight at the front."""
        left, right = across
        if left > self.camera.x:
            return left
        return right if right < self.camera.x else None

    def glow(self, place: Place, metres: float, colour: Colour) -> None:
        """Let a light spill over its surroundings once the image is complete."""
        far = self.distance(place[2])
        radius = min(self.size[0] / 9, self._focal * metres / far)
        self.halos.append(Halo(self.project(place), radius, self.light.shine(colour, far)))

    def stand(self, x: float, z: float, *, scale: float = 1.0, mirrored: bool = False) -> Stand:
        """A flat figure that stands on the ground and faces the camera."""
        return Stand(self, x, z, scale=scale, mirrored=mirrored)


class Stand:
    """Local drawing coordinates of a flat figure: metres to the right of and above its foot."""

    def __init__(self, canvas: Canvas, x: float, z: float, *, scale: float, mirrored: bool) -> None:
        foot = canvas.project((x, 0, z))
        top = canvas.project((x, 1, z))
        self.canvas = canvas
        self.place = (x, z)
        self.far = canvas.distance(z)
        self.scale = scale
        self._flip = -1.0 if mirrored else 1.0
        self._foot = foot
        self._up = ((top[0] - foot[0]) * scale, (top[1] - foot[1]) * scale)
        self.pixels = math.hypot(*self._up)

    def at(self, right: float, up: float) -> Point:
        """The canvas pixel of a local point."""
        right *= self._flip
        return (
            self._foot[0] - self._up[1] * right + self._up[0] * up,
            self._foot[1] + self._up[0] * right + self._up[1] * up,
        )

    def _fill(
        self, colour: Colour, *, light: float = 1.0, reflective: bool = False, shines: bool = False
    ) -> Colour:
        if shines:
            return self.canvas.light.shine(colour, self.far)
        return self.canvas.light.shade(colour, self.far, light=light, reflective=reflective)

    def shape(self, points: Iterable[Point], colour: Colour, **paint: Unpack[Paint]) -> None:
        """Fill a polygon of local points."""
        self.canvas.pen.polygon([self.at(*point) for point in points], self._fill(colour, **paint))

    def rectangle(self, across: Point, up: Point, colour: Colour, **paint: Unpack[Paint]) -> None:
        """Fill a local rectangle."""
        (left, right), (low, high) = across, up
        self.shape(((left, low), (right, low), (right, high), (left, high)), colour, **paint)

    def disc(
        self, centre: Point, radius: float, colour: Colour, *, squeeze: float = 1.0, **paint: Unpack[Paint]
    ) -> None:
        """Fill an ellipse; squeeze is its height over its width."""
        across, down = self.at(*centre)
        wide = radius * self.pixels
        high = wide * squeeze
        box = (across - wide, down - high, across + wide, down + high)
        self.canvas.pen.ellipse(box, self._fill(colour, **paint))

    def stroke(self, start: Point, end: Point, width: float, colour: Colour, *, light: float = 1.0) -> None:
        """Draw a straight bar, width in metres, at least one canvas pixel."""
        pixels = max(1, round(width * self.pixels))
        self.canvas.pen.line((self.at(*start), self.at(*end)), self._fill(colour, light=light), pixels)

    def shadow(self, width: float, depth: float = 0.35) -> None:
        """Darken the ground at the figure's foot."""
        (x, z), half = self.place, width * self.scale / 2
        grey = self.canvas.light.shade((84, 84, 88), self.far, light=self.canvas.light.shadow)
        left = self.canvas.project((x - half, 0, z - depth / 2))
        right = self.canvas.project((x + half, 0, z + depth / 2))
        box = (min(left[0], right[0]), min(left[1], right[1]), max(left[0], right[0]), max(left[1], right[1]))
        self.canvas.pen.ellipse(box, grey)

    def glow(self, right: float, up: float, metres: float, colour: Colour) -> None:
        """Let a light at a local point spill over its surroundings."""
        pixels = min(self.canvas.size[0] / 9, metres * self.pixels)
        shine = self.canvas.light.shine(colour, self.far)
        self.canvas.halos.append(Halo(self.at(right, up), pixels, shine))
