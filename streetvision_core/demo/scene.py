"""The records of a street scene, all frozen, and the sampler of the street itself.

A scene is everything the images of one sequence show: the light, the camera, the road, its houses
and the things that stand or move on it. It is sampled once; each frame moves the camera a little.
What stands on the road is sampled in `works` and `surroundings`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streetvision_core.demo.canvas import Camera
from streetvision_core.demo.dice import Colour, Dice, colours

if TYPE_CHECKING:
    from streetvision_core.demo.light import Light

SETTINGS = ("residential", "residential", "city", "city", "country", "highway")

CAR_PAINTS = colours("e2e2e4 282a30 7e8288 b0b4ba 284278 466ea0 961e22 2c543e c4baa0 5c4232")
WALLS = colours("d6cab4 beb2a4 b0745c 965848 e2dcd0 a8aeb2 ceb488 8e948c bac6cc dec4b4 786862")
ROOFS = colours("7e4234 5c5452 464850 96543c 684c3c")
GREENS = colours("467038 5c803e 3a603c 708842 507850")
VERGES = colours("68844a 808c54 968c6c 5c7848 8e9278")

_AWNINGS = colours("c42824 ec781e 286054 3c508c ecaa28")


@dataclass(frozen=True, slots=True)
class Thing:
    """Something with a place: x metres from the road's centre line, z metres along it.

    `variant` is a random number from which the drawing takes its small differences; `drift` is how
    many metres it moves along the road from one frame to the next.
    """

    kind: str
    x: float
    z: float
    scale: float
    colour: Colour
    accent: Colour
    variant: int
    facing: int
    drift: float = 0.0


@dataclass(frozen=True, slots=True)
class House:
    """A box beside the road: its street wall stands at x = side * edge."""

    side: int
    edge: float
    depth: float
    near: float
    far: float
    floors: int
    wall: Colour
    roof: Colour
    gable: bool
    awning: tuple[Colour, Colour] | None
    lit: int


@dataclass(frozen=True, slots=True)
class Road:
    """The carriageway and its margins; widths in metres."""

    half_width: float
    lanes: int
    pavement: float
    surface: Colour
    verge: Colour
    kerb: Colour
    markings: Colour
    dash: float
    crossing: float | None
    patch: tuple[float, float, float, float] | None


@dataclass(frozen=True, slots=True)
class Scene:
    """One sequence: what all its frames show, and the answer."""

    setting: str
    light: Light
    camera: Camera
    road: Road
    ridge: tuple[float, ...]
    ridge_colour: Colour
    towers: bool
    clouds: tuple[tuple[float, float, float, float], ...]
    houses: tuple[House, ...]
    things: tuple[Thing, ...]
    label: int
    ambiguous: bool


def sample_camera(dice: Dice, road: Road) -> Camera:
    """A dash cam, or a phone held by somebody on the pavement."""
    walking = dice.chance(0.3)
    reach = road.half_width + road.pavement * 0.5 if walking else road.half_width * 0.55
    return Camera(
        focal=dice.between(0.72, 1.2),
        horizon=dice.between(0.3, 0.6),
        vanishing=dice.between(0.26, 0.74),
        roll=math.radians(dice.between(-5, 5)),
        x=dice.side() * dice.between(0.2, 1.0) * reach,
        height=dice.between(1.4, 1.8) if walking else dice.between(1.2, 2.6),
        forward=0.0,
        bend=0.0 if dice.chance(0.4) else dice.between(-0.004, 0.004),
    )


def sample_road(dice: Dice, setting: str) -> Road:
    """The carriageway of a setting, with its markings and an old, repaired patch now and then."""
    half_width = {
        "residential": dice.between(2.8, 4.2),
        "city": dice.between(3.4, 6.5),
        "country": dice.between(2.8, 4.0),
        "highway": dice.between(5.5, 8.0),
    }[setting]
    grey = dice.whole(74, 128)
    side = dice.side()
    near = dice.between(4, 14)
    patch = (side * dice.between(0.1, 0.5), near, near + dice.between(1.5, 7), dice.between(0.2, 0.45))
    return Road(
        half_width=half_width,
        lanes={"city": dice.pick((2, 2, 3, 4)), "highway": dice.pick((3, 4))}.get(setting, 2),
        pavement={"residential": dice.between(1.4, 2.6), "city": dice.between(2.2, 4.5)}.get(setting, 0.5),
        surface=dice.tint((grey, grey, grey + 4), 5),
        verge=dice.tint(dice.pick(VERGES)),
        kerb=dice.tint((168, 164, 158)),
        markings=dice.pick(((228, 228, 222), (228, 228, 222), (224, 190, 84))),
        dash=0.0 if setting == "residential" and dice.chance(0.4) else dice.between(2.0, 4.5),
        crossing=dice.between(7, 26) if setting != "highway" and dice.chance(0.2) else None,
        patch=patch if dice.chance(0.35) else None,
    )


def sample_ridge(dice: Dice, *, towers: bool) -> tuple[float, ...]:
    """Heights of the far skyline, in shares of the image's height above the horizon."""
    if towers:
        return tuple(dice.between(0.02, 0.24) for _ in range(dice.whole(8, 18)))
    swell, phase, waves = dice.between(0.02, 0.13), dice.between(0, 6), dice.between(0.5, 1.6)
    return tuple(
        max(0.004, swell * (0.6 + 0.5 * math.sin(phase + waves * step * 0.55)) + dice.between(0, 0.012))
        for step in range(16)
    )


def sample_clouds(dice: Dice, light: Light) -> tuple[tuple[float, float, float, float], ...]:
    """Cloud puffs: centre, half width and half height in shares of the image."""
    puffs = []
    for _ in range(round(light.cloudiness * 6)):
        across, down, wide = dice.between(0, 1), dice.between(0.0, 0.34), dice.between(0.06, 0.2)
        puffs += [
            (
                across + dice.between(-1, 1) * wide,
                down + dice.between(-0.03, 0.03),
                wide * dice.between(0.4, 1),
                wide * dice.between(0.15, 0.4),
            )
            for _ in range(4)
        ]
    return tuple(puffs)


def sample_houses(dice: Dice, setting: str, road: Road) -> tuple[House, ...]:
    """Rows of houses on both sides, with gaps; none along a highway but far away."""
    houses = []
    share = {"residential": 0.85, "city": 0.95, "country": 0.22, "highway": 0.14}[setting]
    for side in (-1, 1):
        dense = share * (dice.between(0.1, 0.5) if dice.chance(0.2) else 1.0)
        back = dice.between(0.3, 6.0) if setting in {"residential", "city"} else dice.between(6, 16)
        z = dice.between(3, 16)
        while z < 130:
            length = dice.between(6, 16) * (1 + z / 80)
            if dice.chance(dense):
                edge = road.half_width + road.pavement + back
                houses.append(_sample_house(dice, setting, side=side, edge=edge, along=(z, z + length)))
            z += length + (dice.between(0, 1) if setting == "city" else dice.between(1, 9))
    return tuple(houses)


def _sample_house(dice: Dice, setting: str, *, side: int, edge: float, along: tuple[float, float]) -> House:
    floors = dice.whole(*{"city": (2, 9), "residential": (1, 3)}.get(setting, (1, 2)))
    awning = None
    if setting == "city" and dice.chance(0.45):
        stripe = dice.tint(dice.pick(_AWNINGS))
        awning = (stripe, dice.pick(((236, 232, 226), (236, 232, 226), (120, 40, 40))))
    return House(
        side=side,
        edge=edge + dice.between(0, 1.2),
        depth=dice.between(7, 14),
        near=along[0],
        far=along[1],
        floors=floors,
        wall=dice.tint(dice.pick(WALLS), 16),
        roof=dice.tint(dice.pick(ROOFS), 12),
        gable=setting != "city" or dice.chance(0.25),
        awning=awning,
        lit=dice.whole(0, 2**30),
    )
