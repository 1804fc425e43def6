"""The works on the road, and the scenes in which one may honestly disagree.

The answer follows one rule, without noise: **a scene is Roadwork if and only if something of the works
stands on the carriageway.** A lone cone far away on the road is Roadwork; works that are stored beside
the road are None. Those two are the ambiguous scenes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.demo.placer import HI_VIS, ORANGES, RED, WHITE, YELLOWS, Placer

if TYPE_CHECKING:
    from streetvision_core.demo.dice import Colour
    from streetvision_core.demo.scene import Thing

_EARTH: Colour = (132, 102, 74)


def sample_works(placer: Placer) -> list[Thing]:
    """Works on the carriageway: one of four kinds of site, with what usually stands around it."""
    dice, road = placer.dice, placer.road
    x, z = placer.spot(road.half_width * 0.2, road.half_width * 0.9, near=5.5, far=15)
    side = 1 if x > 0 else -1
    site = dice.pick((_taper, _closed_lane, _dig, _moving_site))
    things = site(placer, side, x, z)
    edge = side * (road.half_width + 0.5)
    if dice.chance(0.55):
        along = z + dice.between(-2, 3)
        things.append(placer.thing("works_sign", edge, along, colour=dice.pick((*ORANGES, WHITE))))
    for _ in range(dice.pick((0, 0, 1, 2))):
        across, along = x + dice.between(-1.5, 1.5), z + dice.between(1, 5)
        things.append(placer.thing("person", across, along, colour=dice.pick(HI_VIS), facing=2))
    if dice.chance(0.3):
        along, scale = z + dice.between(2, 6), dice.between(0.7, 1.5)
        things.append(placer.thing("mound", x, along, colour=_EARTH, scale=scale))
    return things


def _row(
    placer: Placer, kind: str, start: tuple[float, float], end: tuple[float, float], count: int
) -> list[Thing]:
    colour, things = placer.dice.pick(ORANGES), []
    for step in range(count):
        share = step / max(1, count - 1)
        x = start[0] + (end[0] - start[0]) * share + placer.dice.between(-0.1, 0.1)
        z = start[1] + (end[1] - start[1]) * share
        things.append(placer.thing(kind, x, z, colour=colour, scale=placer.dice.between(0.95, 1.1)))
    return things


def _taper(placer: Placer, side: int, x: float, z: float) -> list[Thing]:
    dice = placer.dice
    kind = dice.pick(("cone", "cone", "barrel"))
    edge = side * placer.road.half_width
    return _row(placer, kind, (edge, z - 1.5), (x * 0.7, z + dice.between(5, 11)), dice.whole(4, 9))


def _closed_lane(placer: Placer, side: int, x: float, z: float) -> list[Thing]:
    dice = placer.dice
    count, things = dice.whole(1, 3), []
    for step in range(count):
        across, paint = x + side * (step - (count - 1) / 2) * 2.0, dice.pick((RED, RED, ORANGES[0]))
        things.append(placer.thing("barrier", across, z + 0.2 * step, colour=paint))
    if dice.chance(0.6):
        kind = dice.pick(("cone", "barrel"))
        things += _row(placer, kind, (x - side * 1.2, z + 1.5), (x - side * 1.4, z + 14), dice.whole(3, 6))
    return things


def _dig(placer: Placer, side: int, x: float, z: float) -> list[Thing]:
    dice = placer.dice
    paint, scale = dice.pick((*YELLOWS, *ORANGES[:2])), dice.between(0.8, 1.15)
    machine = placer.thing("digger", x, z + 3, colour=paint, scale=scale)
    things = [machine, placer.thing("trench", x, z + 1, colour=(96, 76, 60))]
    guard = dice.pick(("cone", "barrier", "fence"))
    if guard == "cone":
        things += _row(placer, "cone", (x - 2, z), (x + 2, z + dice.between(-0.5, 2)), dice.whole(2, 5))
    else:
        things += [placer.thing(guard, x + shift, z, colour=RED) for shift in (-1.1, 1.1)]
    if dice.chance(0.5):
        things.append(placer.thing("mound", x + side * 2.4, z + 3, colour=_EARTH))
    return things


def _moving_site(placer: Placer, side: int, x: float, z: float) -> list[Thing]:
    dice = placer.dice
    head = dice.pick(("arrow_board", "roller"))
    colour = dice.pick((*YELLOWS, *ORANGES[:2]))
    things = [placer.thing(head, x, z + 2, colour=colour)]
    return things + _row(placer, "cone", (x - side, z), (x - side * 1.6, z + 9), dice.whole(3, 6))


def sample_ambiguous(placer: Placer, *, label: int, visibility: float) -> list[Thing]:
    """Honestly hard scenes: a lone cone far away on the road, or works stored beside it."""
    dice, road = placer.dice, placer.road
    if label:
        # A pixel or two must be left of the cone, or the answer could not be known at all.
        x, z = placer.spot(0, road.half_width * 0.8, near=13, far=min(24, 0.5 * visibility))
        return [placer.thing("cone", x, z, colour=dice.pick(ORANGES))]
    beside = road.half_width + max(0.8, road.pavement * 0.6)
    x, z = placer.spot(beside, beside + 0.8, near=7, far=16)
    kind = dice.pick(("cone", "cone", "barrier", "works_sign"))
    return [placer.thing(kind, x, z, colour=dice.pick(ORANGES))]
