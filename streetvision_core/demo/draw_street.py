"""The street itself: sky, skyline, ground, carriageway, houses.

The ground is drawn in slices that grow with the distance, each lit at its own distance, so that
haze and headlights fade along it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from streetvision_core.demo.canvas import OVERSAMPLING, Canvas

if TYPE_CHECKING:
    from streetvision_core.demo.dice import Colour
    from streetvision_core.demo.light import Light
    from streetvision_core.demo.scene import House, Road, Scene

_SLICES = tuple(1.02 * 1.27**step for step in range(25))
_EVERYTHING = 600.0
_LIT_WINDOW: Colour = (250, 206, 124)
_GLASS: Colour = (70, 84, 100)


def mix(start: Colour, end: Colour, share: float) -> Colour:
    """The colour a share of the way from `start` to `end`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(start, end, strict=True))
    return red, green, blue


def draw_sky(canvas: Canvas, scene: Scene) -> None:
    """Gradient, sun or moon, clouds; drawn at the final size and softened."""
    light = scene.light
    width, height = canvas.size[0] // OVERSAMPLING, canvas.size[1] // OVERSAMPLING
    share = np.minimum(1.0, np.arange(height) / (scene.camera.horizon * height))[:, None, None]
    column = np.asarray(light.zenith) * (1 - share) + np.asarray(light.horizon) * share
    sky = Image.fromarray(column.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(sky)
    if light.weather == "clear":
        _draw_sun(pen, light, width, height)
    cloud = mix(light.horizon, (255, 255, 255), {"day": 0.55, "dusk": 0.12, "night": 0.05}[light.time_of_day])
    for across, down, wide, high in scene.clouds:
        x, y = across * width, down * height
        half, tall = wide * width, high * height
        pen.ellipse((x - half, y - tall + 1, x + half, y + tall + 1), mix(cloud, light.zenith, 0.35))
        pen.ellipse((x - half, y - tall, x + half, y + tall * 0.7), cloud)
    soft = sky.filter(ImageFilter.BoxBlur(2))
    canvas.image.paste(soft.resize(canvas.size, Image.Resampling.NEAREST))


def _draw_sun(pen: ImageDraw.ImageDraw, light: Light, width: int, height: int) -> None:
    x, y = light.sun[0] * width, light.sun[1] * height
    radius = height * (0.035 if light.time_of_day == "night" else 0.05)
    glare = {"day": (255, 250, 226), "dusk": (255, 206, 140), "night": (222, 224, 214)}[light.time_of_day]
    for step in (1.9, 1.45):
        halo = mix(light.horizon if light.time_of_day != "night" else light.zenith, glare, 0.6 / step)
        pen.ellipse((x - radius * step, y - radius * step, x + radius * step, y + radius * step), halo)
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), glare)


def draw_ridge(canvas: Canvas, scene: Scene) -> None:
    """The far skyline: hills or towers, half lost in the haze."""
    light = scene.light
    width, height = canvas.size
    left, right = canvas.project((-900, 0, 400)), canvas.project((900, 0, 400))
    slope = (right[1] - left[1]) / max(1.0, right[0] - left[0])
    base = canvas.project((canvas.camera.x, 0, 400))

    def ground(x: float) -> float:
        return base[1] + slope * (x - base[0]) + 2

    colour = light.shade(scene.ridge_colour, min(220.0, light.visibility * 0.9))
    step = width / (len(scene.ridge) - (0 if scene.towers else 1))
    if scene.towers:
        for number, share in enumerate(scene.ridge):
            x = number * step
            box = (x, ground(x) - share * height, x + step, ground(x) + 6)
            canvas.pen.rectangle(box, mix(colour, light.horizon, 0.1 * (number % 3)))
        return
    across = [number * step for number in range(len(scene.ridge))]
    line = [(x, ground(x) - share * height) for x, share in zip(across, scene.ridge, strict=True)]
    canvas.pen.polygon([(0, ground(0) + 4), *line, (width, ground(width) + 4)], colour)


def draw_ground(canvas: Canvas, road: Road) -> None:
    """Verges, pavements, carriageway and its markings."""
    edge, walk = road.half_width, road.half_width + road.pavement
    pavement = mix(road.kerb, (120, 120, 120), 0.3)
    _draw_strip(canvas, _EVERYTHING, road.verge)
    if road.pavement > 1:
        _draw_strip(canvas, walk, pavement)
    _draw_strip(canvas, edge + 0.18, mix(road.kerb, (255, 255, 255), 0.1))
    _draw_strip(canvas, edge, road.surface)
    _draw_markings(canvas, road)


def _draw_strip(canvas: Canvas, half: float, colour: Colour) -> None:
    start = canvas.camera.forward
    for near, far in reversed(list(pairwise(_SLICES))):
        canvas.floor((-half, half), (start + near, start + far), colour)


def _draw_markings(canvas: Canvas, road: Road) -> None:
    start = canvas.camera.forward
    if road.patch is not None and road.patch[1] > start + 1.5:
        across, near, far, share = road.patch
        x, half = across * road.half_width, share * road.half_width
        canvas.floor((x - half, x + half), (near, far), mix(road.surface, (30, 30, 34), 0.4))
    if road.pavement <= 1:
        for near, far in pairwise((1.2, 3, 7, 16, 50)):
            for x in (-road.half_width + 0.3, road.half_width - 0.3):
                canvas.floor((x - 0.08, x + 0.08), (start + near, start + far), road.markings)
    if road.dash:
        for lane in range(1, road.lanes):
            _draw_dashes(canvas, road, road.half_width * (2 * lane / road.lanes - 1))
    if road.crossing is not None and road.crossing > start + 2:
        for bar in range(int(road.half_width * 2)):
            x = -road.half_width + 0.25 + bar
            canvas.floor((x, x + 0.5), (road.crossing, road.crossing + 3), (226, 226, 222))


def _draw_dashes(canvas: Canvas, road: Road, x: float) -> None:
    start, period = canvas.camera.forward, 2 * road.dash
    z = start - start % period + road.dash * 0.4
    while z < start + 48:
        if z > start + 0.4:
            canvas.floor((x - 0.07, x + 0.07), (max(z, start + 1.1), z + road.dash), road.markings)
        z += period


def draw_house(canvas: Canvas, house: House) -> None:
    """Walls, roof, windows on the street wall and the gable wall, and a shop's awning."""
    near, far = max(house.near, canvas.camera.forward + 1.6), house.far
    if far < near + 1:
        return
    eaves = 0.6 + 3.0 * house.floors
    street = house.side * house.edge
    back = house.side * (house.edge + house.depth)
    across = (min(street, back), max(street, back))
    canvas.front(across, (0, eaves), near, house.wall, light=0.92)
    canvas.flank(street, (0, eaves), (near, far), house.wall, light=0.8)
    if house.gable:
        _draw_gable(canvas, house, across, (near, far), eaves)
    if canvas.distance(near) < 62:
        _draw_windows(canvas, house, near, street, across)
    if house.awning is not None and canvas.distance(near) < 45:
        _draw_awning(canvas, house, near)


def _draw_gable(
    canvas: Canvas, house: House, across: tuple[float, float], along: tuple[float, float], eaves: float
) -> None:
    (left, right), (near, far) = across, along
    middle, top = (left + right) / 2, eaves + 0.32 * house.depth
    street = house.side * (house.edge - 0.3)
    canvas.face(((left, eaves, near), (right, eaves, near), (middle, top, near)), house.wall, light=0.92)
    slope = ((street, eaves, near), (middle, top, near), (middle, top, far), (street, eaves, far))
    canvas.face(slope, house.roof)


def _draw_windows(
    canvas: Canvas, house: House, near: float, street: float, across: tuple[float, float]
) -> None:
    shop = 1 if house.awning is not None else 0
    bits = house.lit
    gap = max(2.4, (house.far - house.near) / 4)
    first = house.near + gap * 0.35
    for floor in range(house.floors):
        low = 1.2 + 3.0 * floor
        ground = shop and floor == 0
        up = (0.5, 2.7) if ground else (low, low + 1.5)
        z = first
        while z + 1.2 < house.far:
            bits = _next_bits(bits)
            if z > near:
                lit = canvas.light.lamps_on and bits % 7 < (6 if ground else 2)
                end = z + (gap * 0.8 if ground else 1.2)
                canvas.flank(street, up, (z, end), _LIT_WINDOW if lit else _GLASS, shines=lit)
            z += gap
        if canvas.distance(near) > 3:
            for x in (across[0] + house.depth * 0.2, across[0] + house.depth * 0.62):
                bits = _next_bits(bits)
                lit = canvas.light.lamps_on and bits % 7 < 2
                glass = _LIT_WINDOW if lit else _GLASS
                canvas.front((x, x + 1.2), (low, low + 1.5), near, glass, shines=lit)


def _next_bits(bits: int) -> int:
    return (bits * 1103515245 + 12345) % 2**31


def _draw_awning(canvas: Canvas, house: House, near: float) -> None:
    assert house.awning is not None
    street, out = house.side * house.edge, house.side * (house.edge - 1.3)
    stripes = 8
    length = (house.far - near) / stripes
    for stripe in range(stripes):
        z, end = near + stripe * length, near + (stripe + 1) * length
        colour = house.awning[stripe % 2]
        canvas.face(
            ((street, 3.4, z), (out, 2.6, z), (out, 2.6, end), (street, 3.4, end)), colour, light=0.95
        )
        canvas.flank(out, (2.35, 2.6), (z, end), colour, light=0.85)


def image_size(size: int) -> tuple[int, int]:
    """Width and height of an image whose long side is size pixels: four to three, both even."""
    return size, round(size * 3 / 8) * 2
