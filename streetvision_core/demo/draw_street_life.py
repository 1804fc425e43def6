"""Traffic and people: cars, vans, buses, lorries, tractors, pedestrians, cyclists."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from streetvision_core.demo.dice import Colour, colours
from streetvision_core.demo.draw_works import BLACK, RUBBER, stand_of

if TYPE_CHECKING:
    from streetvision_core.demo.canvas import Canvas
    from streetvision_core.demo.scene import Thing

SKINS = colours("e0b292 b07a58 764e3a eec8ac")
TROUSERS = colours("282e42 3c3834 242428 60584a")
_HAIR = colours("28201c 5a3e28 aa8c5a 78787a")
_GLASS: Colour = (58, 72, 86)


def draw_car(canvas: Canvas, thing: Thing) -> None:
    """A passenger car along the road: its tail where it drives ahead, its face where it comes towards us."""
    half, length = 0.88 * thing.scale, 4.2
    near, far = thing.z, thing.z + length
    _ground_shadow(canvas, thing.x, half, (near, far))
    body, cabin = (0.28, 0.86), (0.86, 1.45)
    across = (thing.x - half, thing.x + half)
    _wheels(canvas, across, (near, far), radius=0.33)
    canvas.box(across, body, (near, far), thing.colour)
    slim = (across[0] + 0.12, across[1] - 0.12)
    inside = (near + (0.5 if thing.facing > 0 else 1.3), far - 1.2)
    canvas.box(slim, cabin, inside, thing.colour)
    flank = canvas.visible_flank(slim)
    if flank is not None:
        canvas.flank(flank, (0.92, 1.36), (inside[0] + 0.25, inside[1] - 0.2), _GLASS)
    canvas.front((slim[0] + 0.1, slim[1] - 0.1), (0.92, 1.37), inside[0], _GLASS)
    if canvas.camera.height > cabin[1]:
        canvas.box((slim[0] + 0.08, slim[1] - 0.08), (1.44, 1.47), inside, thing.colour)
    _lights(canvas, thing, half, near, 0.62)
    canvas.front((thing.x - 0.26, thing.x + 0.26), (0.42, 0.54), near, (224, 224, 214))


def _ground_shadow(canvas: Canvas, x: float, half: float, along: tuple[float, float]) -> None:
    canvas.floor(
        (x - half - 0.2, x + half + 0.2), (along[0] - 0.15, along[1]), (64, 64, 68), light=canvas.light.shadow
    )


def _wheels(
    canvas: Canvas, across: tuple[float, float], along: tuple[float, float], *, radius: float
) -> None:
    for left in (across[0] + 0.06, across[1] - 0.28):
        canvas.front((left, left + 0.22), (0, radius), along[0] + 0.05, RUBBER)
    flank = canvas.visible_flank(across)
    if flank is None:
        return
    for z in (along[0] + 0.8, along[1] - 0.8):
        turns = [math.tau * step / 8 for step in range(8)]
        rim = [(flank, radius + radius * math.sin(turn), z + radius * math.cos(turn)) for turn in turns]
        canvas.face(rim, RUBBER)


def _lights(canvas: Canvas, thing: Thing, half: float, near: float, up: float) -> None:
    away = thing.facing > 0
    colour: Colour = (220, 30, 30) if away else (255, 250, 226)
    on = canvas.light.lamps_on or canvas.light.weather != "clear"
    for x in (thing.x - half + 0.2, thing.x + half - 0.2):
        canvas.front((x - 0.15, x + 0.15), (up, up + 0.15), near, colour, light=0.8, shines=on)
        if on:
            canvas.glow((x, up, near), 0.5 if away else 0.9, colour)


def draw_van(canvas: Canvas, thing: Thing) -> None:
    """A delivery van: one tall box with a short nose."""
    _draw_tall(canvas, thing, half=0.98, length=5.2, top=2.3, glass=(1.35, 2.0))


def draw_bus(canvas: Canvas, thing: Thing) -> None:
    """A bus with a band of windows."""
    _draw_tall(canvas, thing, half=1.22, length=10.5, top=3.1, glass=(1.4, 2.6))


def _draw_tall(
    canvas: Canvas, thing: Thing, *, half: float, length: float, top: float, glass: tuple[float, float]
) -> None:
    along = (thing.z, thing.z + length)
    across = (thing.x - half, thing.x + half)
    _ground_shadow(canvas, thing.x, half, along)
    _wheels(canvas, across, along, radius=0.42)
    canvas.box(across, (0.32, top), along, thing.colour)
    flank = canvas.visible_flank(across)
    if flank is not None:
        canvas.flank(flank, (0.32, 0.6), along, (70, 72, 78))
        start = along[0] + (0.6 if length > 8 else length * 0.62)
        canvas.flank(flank, glass, (start, along[1] - 0.5), _GLASS)
    canvas.front((across[0] + 0.18, across[1] - 0.18), glass, along[0], _GLASS)
    canvas.front((across[0], across[1]), (0.32, 0.5), along[0], (70, 72, 78))
    _lights(canvas, thing, half, along[0], 0.75)


def draw_truck(canvas: Canvas, thing: Thing) -> None:
    """A lorry: cab and a load box of another colour."""
    half = 1.2
    across = (thing.x - half, thing.x + half)
    along = (thing.z, thing.z + 7.5)
    box = thing.colour if thing.variant % 2 else (206, 206, 202)
    cab = (206, 206, 202) if thing.variant % 2 else thing.colour
    _ground_shadow(canvas, thing.x, half, along)
    _wheels(canvas, across, along, radius=0.5)
    front_cab = thing.facing < 0
    if not front_cab:
        canvas.box(across, (0.6, 2.5), (along[1] - 1.8, along[1]), cab)
        canvas.box(across, (0.7, 3.3), (along[0], along[1] - 1.9), box)
        canvas.front((thing.x - 0.03, thing.x + 0.03), (0.8, 3.2), along[0], (90, 90, 92))
    else:
        canvas.box(across, (0.7, 3.3), (along[0] + 1.9, along[1]), box)
        canvas.box(across, (0.4, 2.6), (along[0], along[0] + 1.8), cab)
        canvas.front((across[0] + 0.15, across[1] - 0.15), (1.5, 2.35), along[0], _GLASS)
    canvas.front(across, (0.4, 0.65), along[0], (60, 60, 64))
    _lights(canvas, thing, half, along[0], 0.7)


def draw_car_across(canvas: Canvas, thing: Thing) -> None:
    """A car that crosses or parks across the road, seen from the side."""
    stand = stand_of(canvas, thing)
    stand.shadow(4.4, 1.6)
    stand.shape(
        ((-2.1, 0.35), (2.1, 0.35), (2.1, 0.75), (1.3, 0.92), (-1.9, 0.95), (-2.1, 0.8)), thing.colour
    )
    stand.shape(((-1.5, 0.9), (1.1, 0.9), (0.45, 1.45), (-1.1, 1.45)), thing.colour, light=0.95)
    stand.shape(((-1.3, 0.95), (-0.3, 0.95), (-0.3, 1.36), (-1.0, 1.36)), _GLASS)
    stand.shape(((-0.2, 0.95), (0.85, 0.95), (0.38, 1.36), (-0.2, 1.36)), _GLASS)
    for wheel in (-1.3, 1.3):
        stand.disc((wheel, 0.34), 0.34, RUBBER)
        stand.disc((wheel, 0.34), 0.17, (160, 160, 164))
    stand.rectangle((1.95, 2.1), (0.6, 0.75), (250, 246, 220), shines=canvas.light.lamps_on)
    stand.rectangle((-2.1, -1.98), (0.65, 0.8), (200, 30, 30), shines=canvas.light.lamps_on)


def draw_tractor(canvas: Canvas, thing: Thing) -> None:
    """A farm tractor from the side: a large wheel, a small one, a cab; nothing that digs."""
    stand = stand_of(canvas, thing)
    stand.shadow(3.6, 1.5)
    stand.shape(((-0.4, 0.8), (1.9, 0.8), (1.9, 1.5), (-0.4, 1.6)), thing.colour)
    stand.shape(((-1.5, 1.0), (0.2, 1.0), (0.1, 2.5), (-1.3, 2.5)), thing.colour, light=0.85)
    stand.shape(((-1.3, 1.5), (0.05, 1.5), (0.0, 2.35), (-1.15, 2.35)), (90, 116, 132))
    for right, radius in ((-0.9, 0.85), (1.4, 0.5)):
        stand.disc((right, radius), radius, RUBBER)
        stand.disc((right, radius), radius * 0.5, (226, 206, 120))
    stand.stroke((1.2, 1.5), (1.2, 2.1), 0.08, BLACK)


def draw_person(canvas: Canvas, thing: Thing) -> None:
    """A pedestrian; with facing 2 in a hi-vis vest with reflecting bands."""
    scale = thing.scale * (0.94 + thing.variant % 13 / 100)
    stand = canvas.stand(thing.x, thing.z, scale=scale, mirrored=bool(thing.variant & 1))
    stand.shadow(0.6)
    stride = 0.08 + (thing.variant >> 3) % 12 / 100
    trousers = TROUSERS[(thing.variant >> 5) % 4]
    stand.shape(((-0.12, 0.85), (0.04, 0.85), (0.04 - stride, 0), (-0.1 - stride, 0)), trousers, light=0.85)
    stand.shape(((-0.04, 0.85), (0.13, 0.85), (0.1 + stride, 0), (-0.04 + stride, 0)), trousers)
    vest = thing.facing == 2
    low, high = 0.8, 1.42
    stand.shape(((-0.16, low), (0.17, low), (0.21, high), (-0.2, high)), thing.colour, reflective=vest)
    left = ((-0.2, high), (-0.3, low + 0.1), (-0.22, low + 0.08), (-0.12, high - 0.1))
    right = ((0.21, high), (0.3, low + 0.12), (0.22, low + 0.08), (0.12, high - 0.1))
    for arm in (left, right):
        stand.shape(arm, thing.colour, light=0.8)
    if vest:
        for up in (low + 0.14, low + 0.34):
            stand.rectangle((-0.17, 0.18), (up, up + 0.07), (226, 228, 220), reflective=True)
    skin = SKINS[(thing.variant >> 7) % 4]
    stand.disc((0, high + 0.16), 0.12, skin, squeeze=1.15)
    hair = _HAIR[(thing.variant >> 9) % 4]
    stand.shape(((-0.12, high + 0.18), (0.12, high + 0.18), (0.09, high + 0.3), (-0.09, high + 0.3)), hair)


def draw_cyclist(canvas: Canvas, thing: Thing) -> None:
    """A cyclist from the side."""
    stand = stand_of(canvas, thing)
    stand.shadow(1.7, 0.3)
    for wheel in (-0.52, 0.52):
        stand.disc((wheel, 0.34), 0.34, RUBBER)
        stand.disc((wheel, 0.34), 0.27, (112, 114, 118))
    wheels = ((-0.52, 0.34), (-0.2, 0.8)), ((0.4, 0.95), (0.52, 0.34))
    for start, end in (wheels[0], ((-0.2, 0.8), (0.4, 0.8)), wheels[1], ((-0.1, 0.36), (0.4, 0.8))):
        stand.stroke(start, end, 0.05, BLACK)
    stand.stroke((-0.15, 0.95), (0.05, 0.4), 0.14, TROUSERS[thing.variant % 4])
    stand.shape(
        ((-0.26, 0.9), (0.0, 0.9), (0.28, 1.42), (0.04, 1.5)), thing.colour, reflective=thing.facing == 2
    )
    stand.stroke((0.18, 1.35), (0.42, 0.98), 0.09, thing.colour, light=0.85)
    stand.disc((0.26, 1.62), 0.13, SKINS[(thing.variant >> 7) % 4])
    stand.shape(((0.12, 1.66), (0.4, 1.66), (0.34, 1.78), (0.18, 1.78)), thing.accent)
