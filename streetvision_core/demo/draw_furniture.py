"""Street furniture and green: signs, lamps, traffic lights, trees, and innocent things in loud colours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from streetvision_core.demo.draw_works import BLACK, stand_of

if TYPE_CHECKING:
    from streetvision_core.demo.canvas import Canvas, Stand
    from streetvision_core.demo.dice import Colour
    from streetvision_core.demo.scene import Thing

_POST: Colour = (128, 130, 134)
_LAMP_LIGHT: Colour = (255, 220, 160)
_RED: Colour = (204, 32, 32)
_WHITE: Colour = (238, 238, 236)
_BLUE: Colour = (36, 84, 168)


def _ring(
    centre: tuple[float, float], radius: float, corners: int, turn: float = 0.0
) -> list[tuple[float, float]]:
    angles = [turn + math.tau * corner / corners for corner in range(corners)]
    return [(centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)) for angle in angles]


def _post(stand: Stand, up: float) -> None:
    stand.stroke((0, 0), (0, up), 0.07, _POST)


def draw_red_white_sign(canvas: Canvas, thing: Thing) -> None:
    """A speed limit, no entry, stop or give way sign: red and white, but no works."""
    stand = stand_of(canvas, thing)
    _post(stand, 2.1)
    centre, kind = (0.0, 2.4), thing.variant % 5
    if kind in {0, 1}:
        stand.disc(centre, 0.42, _RED, reflective=True)
        stand.disc(centre, 0.31, _WHITE, reflective=True)
        for right in (-0.12, 0.1):
            stand.rectangle((right - 0.07, right + 0.07), (2.26, 2.54), BLACK)
        stand.rectangle((0.07, 0.13), (2.32, 2.48), _WHITE)
    elif kind == 2:
        stand.disc(centre, 0.42, _RED, reflective=True)
        stand.rectangle((-0.3, 0.3), (2.33, 2.47), _WHITE, reflective=True)
    elif kind == 3:
        stand.shape(_ring(centre, 0.46, 8, math.pi / 8), _WHITE, reflective=True)
        stand.shape(_ring(centre, 0.42, 8, math.pi / 8), _RED, reflective=True)
        stand.rectangle((-0.28, 0.28), (2.33, 2.47), _WHITE, reflective=True)
    else:
        stand.shape(_ring(centre, 0.56, 3, -math.pi / 2), _RED, reflective=True)
        stand.shape(_ring(centre, 0.34, 3, -math.pi / 2), _WHITE, reflective=True)


def draw_blue_sign(canvas: Canvas, thing: Thing) -> None:
    """A parking or direction sign."""
    stand = stand_of(canvas, thing)
    _post(stand, 2.2)
    if thing.variant % 2:
        stand.rectangle((-0.36, 0.36), (2.1, 2.8), _BLUE, reflective=True)
        stand.rectangle((-0.14, -0.04), (2.2, 2.7), _WHITE)
        stand.disc((0.04, 2.56), 0.14, _WHITE)
    else:
        stand.shape(((-0.9, 2.2), (0.8, 2.2), (1.1, 2.45), (0.8, 2.7), (-0.9, 2.7)), _BLUE, reflective=True)
        stand.rectangle((-0.7, 0.6), (2.4, 2.5), _WHITE)


def draw_diamond_sign(canvas: Canvas, thing: Thing) -> None:
    """A priority road's diamond, or a warning of a bend: high on a post, never a works sign."""
    stand = stand_of(canvas, thing)
    _post(stand, 2.1)
    centre = (0.0, 2.45)
    stand.shape(_ring(centre, 0.56, 4), _WHITE if thing.variant % 2 else BLACK, reflective=True)
    stand.shape(_ring(centre, 0.48 if thing.variant % 2 == 0 else 0.38, 4), thing.colour, reflective=True)
    if thing.variant % 2 == 0:
        stand.stroke((-0.05, 2.2), (-0.05, 2.5), 0.1, BLACK)
        stand.stroke((-0.05, 2.5), (0.16, 2.62), 0.1, BLACK)


def draw_traffic_light(canvas: Canvas, thing: Thing) -> None:
    """A traffic light with one of its three lamps on."""
    stand = stand_of(canvas, thing)
    stand.stroke((0, 0), (0, 2.3), 0.11, (70, 72, 76))
    stand.rectangle((-0.2, 0.2), (2.2, 3.25), (38, 40, 44))
    lamps: tuple[Colour, ...] = ((70, 240, 130), (255, 176, 40), (255, 50, 40))
    on = thing.variant % 3
    for lamp, colour in enumerate(lamps):
        up = 2.4 + 0.32 * lamp
        if lamp == on:
            stand.disc((0, up), 0.13, colour, shines=True)
            stand.glow(0, up, 0.5, colour)
        else:
            stand.disc((0, up), 0.13, (64, 60, 56))


def draw_lamp(canvas: Canvas, thing: Thing) -> None:
    """A street lamp that leans over the road; lit from dusk on."""
    stand = stand_of(canvas, thing)
    stand.stroke((0, 0), (0, 6.2), 0.13, thing.colour)
    stand.stroke((0, 6.2), (1.3, 6.6), 0.1, thing.colour)
    lit = canvas.light.lamps_on
    stand.rectangle((1.1, 1.8), (6.48, 6.66), _LAMP_LIGHT if lit else (196, 198, 196), shines=lit)
    if lit:
        stand.glow(1.45, 6.5, 1.1, _LAMP_LIGHT)


def draw_tree(canvas: Canvas, thing: Thing) -> None:
    """A broad-leaved tree; some are orange in autumn."""
    stand = stand_of(canvas, thing)
    stand.shadow(3.0, 1.2)
    stand.shape(((-0.2, 0), (0.2, 0), (0.12, 2.4), (-0.12, 2.4)), (92, 70, 54))
    bits = thing.variant
    puffs = ((0.0, 3.0, 1.5), (-1.0, 2.9, 0.9), (1.0, 3.0, 1.0), (-0.4, 4.0, 1.1), (0.6, 4.0, 0.95))
    for number, (right, up, radius) in enumerate(puffs):
        shift = ((bits >> (3 * number)) % 8 - 4) / 12
        stand.disc((right + shift, up - 0.15), radius, thing.colour, light=0.72)
        stand.disc(
            (right + shift - 0.15, up + 0.1), radius * 0.86, thing.colour, light=0.88 + 0.06 * (number % 3)
        )


def draw_conifer(canvas: Canvas, thing: Thing) -> None:
    """A fir in three tiers."""
    stand = stand_of(canvas, thing)
    stand.rectangle((-0.15, 0.15), (0, 0.8), (86, 66, 52))
    for tier in range(3):
        low, wide = 0.6 + 1.3 * tier, 1.5 - 0.35 * tier
        stand.shape(((-wide, low), (wide, low), (0, low + 2.1)), thing.colour, light=0.7 + 0.1 * tier)


def draw_bush(canvas: Canvas, thing: Thing) -> None:
    """A bush or a piece of hedge."""
    stand = stand_of(canvas, thing)
    for right, up, radius in ((-0.6, 0.4, 0.6), (0.5, 0.45, 0.65), (0.0, 0.7, 0.6)):
        stand.disc((right, up), radius, thing.colour, squeeze=0.8, light=0.75 + 0.15 * (up > 0.5))


def draw_planter(canvas: Canvas, thing: Thing) -> None:
    """A terracotta pot, wide at the top, with something green."""
    stand = stand_of(canvas, thing)
    stand.shadow(0.8)
    stand.disc((0, 0.95), 0.42, (84, 128, 66), squeeze=0.9)
    stand.shape(((-0.22, 0), (0.22, 0), (0.36, 0.68), (-0.36, 0.68)), thing.colour, light=0.9)
    stand.rectangle((-0.4, 0.4), (0.6, 0.74), thing.colour)


def draw_bin(canvas: Canvas, thing: Thing) -> None:
    """A litter bin or letter box: a plain upright box with a lid."""
    stand = stand_of(canvas, thing)
    stand.shadow(0.7)
    stand.rectangle((-0.3, 0.3), (0.1, 1.05), thing.colour, reflective=False)
    stand.rectangle((0.14, 0.3), (0.1, 1.05), thing.colour, light=0.75)
    stand.rectangle(
        (-0.34, 0.34), (1.0, 1.14), thing.colour if thing.variant % 2 else (60, 62, 66), light=0.9
    )
    stand.rectangle((-0.18, 0.14), (0.62, 0.8), thing.accent)


def draw_parasol(canvas: Canvas, thing: Thing) -> None:
    """A cafe's parasol in two colours, a table under it."""
    stand = stand_of(canvas, thing)
    stand.shadow(2.4, 1.0)
    stand.stroke((0, 0), (0, 2.5), 0.07, (200, 196, 188))
    stand.rectangle((-0.5, 0.5), (0.68, 0.75), (150, 112, 78))
    for gore in range(6):
        left, right = -1.35 + 0.45 * gore, -0.9 + 0.45 * gore
        stand.shape(((left, 2.1), (right, 2.1), (0, 2.8)), thing.accent if gore % 2 else thing.colour)


def draw_billboard(canvas: Canvas, thing: Thing) -> None:
    """An advertisement in loud colours."""
    stand = stand_of(canvas, thing)
    for post in (-1.0, 1.0):
        stand.stroke((post, 0), (post, 1.4), 0.12, _POST)
    stand.rectangle((-1.5, 1.5), (1.2, 3.0), _WHITE)
    stand.rectangle((-1.4, 1.4), (1.3, 2.9), thing.colour)
    stand.disc((-0.7, 2.1), 0.5, thing.accent)
    for up in (1.6, 2.0, 2.4):
        stand.rectangle((0.05, 1.15), (up, up + 0.16), thing.accent)


def draw_bollards(canvas: Canvas, thing: Thing) -> None:
    """Three fixed posts with one band, at the edge of the pavement."""
    stand = stand_of(canvas, thing)
    for right in (-0.9, 0.0, 0.9):
        stand.rectangle((right - 0.08, right + 0.08), (0, 0.9), thing.colour)
        stand.rectangle((right - 0.08, right + 0.08), (0.62, 0.74), thing.accent, reflective=True)


def draw_banner(canvas: Canvas, thing: Thing) -> None:
    """A flag on a tall pole."""
    stand = stand_of(canvas, thing)
    stand.stroke((0, 0), (0, 4.6), 0.08, (206, 206, 204))
    wave = (thing.variant % 20) / 100
    stand.shape(((0.05, 2.6), (0.85, 2.5 + wave), (0.85, 4.4 + wave), (0.05, 4.5)), thing.colour)
    stand.shape(((0.05, 3.2), (0.85, 3.1 + wave), (0.85, 3.7 + wave), (0.05, 3.8)), thing.accent)
