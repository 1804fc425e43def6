"""The drawings of roadworks: cones, barrels, barriers, fences, signs, diggers, rollers, trenches."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streetvision_core.demo.canvas import Canvas, Stand
    from streetvision_core.demo.dice import Colour
    from streetvision_core.demo.scene import Thing

BLACK: Colour = (34, 34, 38)
AMBER: Colour = (255, 176, 40)
RUBBER: Colour = (46, 46, 50)


def stand_of(canvas: Canvas, thing: Thing) -> Stand:
    """The flat figure of a thing, turned the way it faces."""
    return canvas.stand(thing.x, thing.z, scale=thing.scale, mirrored=thing.facing < 0)


def draw_cone(canvas: Canvas, thing: Thing) -> None:
    """A traffic cone with two reflecting bands."""
    stand = stand_of(canvas, thing)
    stand.shadow(0.75)
    stand.shape(((-0.3, 0), (0.3, 0), (0.27, 0.07), (-0.27, 0.07)), thing.colour, light=0.7)
    stand.shape(((-0.21, 0.06), (0.21, 0.06), (0.045, 0.88), (-0.045, 0.88)), thing.colour, reflective=True)
    for low, high in ((0.28, 0.44), (0.56, 0.68)):
        stand.shape(
            ((_cone(low), low), (-_cone(low), low), (-_cone(high), high), (_cone(high), high)),
            thing.accent,
            reflective=True,
        )
    stand.shape(((0.05, 0.06), (0.21, 0.06), (0.045, 0.88), (0.0, 0.88)), thing.colour, light=0.72)


def _cone(height: float) -> float:
    return 0.21 - 0.165 * (height - 0.06) / 0.82


def draw_barrel(canvas: Canvas, thing: Thing) -> None:
    """A traffic drum: orange and white bands, a lamp on some."""
    stand = stand_of(canvas, thing)
    stand.shadow(0.8)
    stand.rectangle((-0.34, 0.34), (0, 0.1), RUBBER)
    for band, (low, high) in enumerate(((0.1, 0.34), (0.34, 0.5), (0.5, 0.68), (0.68, 0.84), (0.84, 1.02))):
        stand.rectangle(
            (-0.28, 0.28), (low, high), thing.accent if band % 2 else thing.colour, reflective=True
        )
    stand.disc((0, 1.02), 0.28, thing.colour, squeeze=0.25, light=0.85)
    if thing.variant % 3 == 0:
        _lamp(stand, 0, 1.15)


def _lamp(stand: Stand, right: float, up: float) -> None:
    stand.disc((right, up), 0.1, AMBER, shines=True)
    stand.glow(right, up, 0.7, AMBER)


def draw_barrier(canvas: Canvas, thing: Thing) -> None:
    """A red-white barrier on two feet, one or two boards, lamps on some."""
    stand = stand_of(canvas, thing)
    stand.shadow(2.0)
    for foot in (-0.75, 0.75):
        stand.rectangle((foot - 0.05, foot + 0.05), (0, 1.0), (110, 110, 112))
        stand.rectangle((foot - 0.22, foot + 0.22), (0, 0.07), RUBBER)
    boards = ((0.7, 1.0),) if thing.variant % 3 == 0 else ((0.72, 1.0), (0.3, 0.52))
    for low, high in boards:
        _striped_board(stand, (-1.0, 1.0), (low, high), (thing.colour, thing.accent))
    if thing.variant % 2:
        for right in (-0.85, 0.85):
            _lamp(stand, right, 1.12)


def _striped_board(
    stand: Stand, across: tuple[float, float], up: tuple[float, float], paints: tuple[Colour, Colour]
) -> None:
    (left, right), (low, high) = across, up
    stand.rectangle(across, up, paints[1], reflective=True)
    pitch, lean = 0.5, 0.16
    x = left
    while x < right - 0.05:
        end = min(right, x + pitch / 2)
        stand.shape(
            ((x, low), (end, low), (min(right, end + lean), high), (min(right, x + lean), high)),
            paints[0],
            reflective=True,
        )
        x += pitch


def draw_fence(canvas: Canvas, thing: Thing) -> None:
    """A site fence with a striped foot board."""
    stand = stand_of(canvas, thing)
    for step in range(9):
        right = -1.1 + 0.275 * step
        stand.stroke((right, 0.1), (right, 1.7), 0.03, (176, 178, 182))
    for up in (0.12, 1.0, 1.7):
        stand.stroke((-1.1, up), (1.1, up), 0.05, (150, 152, 158))
    _striped_board(stand, (-1.1, 1.1), (0.75, 1.0), (thing.colour, thing.accent))


def draw_works_sign(canvas: Canvas, thing: Thing) -> None:
    """A works sign on a low stand: an orange diamond or a triangle, with the digging man."""
    stand = stand_of(canvas, thing)
    stand.shadow(0.9)
    for foot in (-0.35, 0.35):
        stand.stroke((foot, 0), (0, 0.8), 0.06, (120, 120, 122))
    diamond = thing.colour[2] < 120
    if diamond:
        corners = ((0, 0.45), (0.72, 1.17), (0, 1.89), (-0.72, 1.17))
        _polygon_sign(stand, corners, (0, 1.17), (BLACK, thing.colour))
    else:
        triangle = ((-0.75, 0.6), (0.75, 0.6), (0, 1.9))
        _polygon_sign(stand, triangle, (0, 1.03), ((206, 34, 32), (244, 214, 70)))
    middle = 1.12 if diamond else 0.98
    stand.disc((0.02, middle + 0.27), 0.08, BLACK)
    stand.shape(
        ((-0.02, middle + 0.2), (0.14, middle + 0.1), (0.1, middle - 0.25), (-0.12, middle - 0.25)), BLACK
    )
    stand.stroke((0.1, middle + 0.1), (-0.28, middle - 0.2), 0.06, BLACK)
    stand.shape(((-0.4, middle - 0.28), (-0.16, middle - 0.28), (-0.28, middle - 0.12)), BLACK)


def _polygon_sign(
    stand: Stand,
    corners: tuple[tuple[float, float], ...],
    middle: tuple[float, float],
    paints: tuple[Colour, Colour],
) -> None:
    stand.shape(corners, paints[0], reflective=True)
    inner = [(middle[0] + (x - middle[0]) * 0.84, middle[1] + (y - middle[1]) * 0.84) for x, y in corners]
    stand.shape(inner, paints[1], reflective=True)


def draw_digger(canvas: Canvas, thing: Thing) -> None:
    """An excavator from the side: tracks, cab, boom, bucket; the boom's pose is its variant."""
    stand = stand_of(canvas, thing)
    stand.shadow(4.6, 2.0)
    stand.shape(
        ((-1.7, 0.15), (-1.4, 0), (1.4, 0), (1.7, 0.15), (1.7, 0.6), (1.4, 0.75), (-1.4, 0.75), (-1.7, 0.6)),
        RUBBER,
    )
    for wheel in (-1.3, -0.65, 0, 0.65, 1.3):
        stand.disc((wheel, 0.36), 0.24, (84, 84, 88))
    stand.shape(((-1.8, 0.8), (1.1, 0.8), (1.1, 1.5), (-0.4, 1.75), (-1.8, 1.75)), thing.colour)
    stand.shape(((-1.8, 0.8), (1.1, 0.8), (1.1, 1.0), (-1.8, 1.0)), thing.colour, light=0.65)
    stand.shape(((-0.4, 0.9), (1.0, 0.9), (0.95, 2.0), (0.6, 2.75), (-0.4, 2.75)), thing.colour, light=0.9)
    stand.shape(((-0.25, 1.5), (0.85, 1.5), (0.82, 2.0), (0.52, 2.58), (-0.25, 2.58)), (90, 116, 132))
    reach = (thing.variant % 100) / 100
    elbow, wrist = (2.6 + 0.4 * reach, 3.7 - 0.5 * reach), (3.9 - 0.3 * reach, 1.5 + 0.4 * reach)
    stand.stroke((0.8, 1.2), elbow, 0.42, thing.colour, light=0.95)
    stand.stroke(elbow, wrist, 0.32, thing.colour, light=0.82)
    x, y = wrist
    stand.shape(((x - 0.3, y + 0.1), (x + 0.35, y), (x + 0.2, y - 0.8), (x - 0.6, y - 0.7)), (70, 68, 66))
    if thing.variant % 2:
        _lamp(stand, 0.1, 2.85)


def draw_roller(canvas: Canvas, thing: Thing) -> None:
    """A road roller from the side: two drums, a canopy."""
    stand = stand_of(canvas, thing)
    stand.shadow(4.0, 1.6)
    for drum in (-1.35, 1.35):
        stand.disc((drum, 0.65), 0.65, (92, 92, 96))
        stand.disc((drum, 0.65), 0.42, (140, 140, 144))
    stand.shape(((-1.5, 0.8), (1.6, 0.8), (1.5, 1.45), (-1.4, 1.45)), thing.colour)
    stand.rectangle((-0.5, 0.5), (1.45, 1.9), RUBBER)
    for post in (-0.75, 0.75):
        stand.stroke((post, 1.4), (post, 2.7), 0.09, BLACK)
    stand.rectangle((-1.0, 1.0), (2.65, 2.85), thing.colour, light=0.9)
    _lamp(stand, 0.0, 2.98)


def draw_arrow_board(canvas: Canvas, thing: Thing) -> None:
    """A trailer with an arrow of lamps and a striped tail."""
    stand = stand_of(canvas, thing)
    stand.shadow(2.4, 1.5)
    for wheel in (-0.8, 0.8):
        stand.disc((wheel, 0.3), 0.3, RUBBER)
    stand.rectangle((-1.1, 1.1), (0.35, 0.9), thing.colour)
    _striped_board(stand, (-1.1, 1.1), (0.4, 0.72), ((206, 34, 32), thing.accent))
    stand.rectangle((-1.2, 1.2), (1.15, 2.75), BLACK)
    stand.stroke((0, 0.9), (0, 1.15), 0.14, (120, 120, 122))
    shaft = [(right, 1.95) for right in (-0.9, -0.5, -0.1, 0.3, 0.7)]
    for right, up in (*shaft, (0.35, 2.35), (0.35, 1.55)):
        stand.disc((right, up), 0.14, AMBER, shines=True)
    stand.glow(0.2, 1.95, 1.3, AMBER)


def draw_mound(canvas: Canvas, thing: Thing) -> None:
    """A heap of earth or gravel."""
    stand = stand_of(canvas, thing)
    stand.shadow(2.8, 1.0)
    stand.shape(((-1.4, 0), (1.4, 0), (0.9, 0.5), (0.35, 0.95), (-0.2, 1.05), (-0.8, 0.55)), thing.colour)
    stand.shape(((0.2, 0), (1.4, 0), (0.9, 0.5), (0.35, 0.95)), thing.colour, light=0.75)


def draw_trench(canvas: Canvas, thing: Thing) -> None:
    """An opened carriageway: bare earth with a dark edge."""
    half = 1.3 * thing.scale
    canvas.floor((thing.x - half, thing.x + half), (thing.z - 0.4, thing.z + 3.4), BLACK)
    canvas.floor((thing.x - half + 0.1, thing.x + half - 0.1), (thing.z - 0.1, thing.z + 3.4), thing.colour)
