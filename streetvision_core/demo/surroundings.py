"""The surroundings in a scene: things that are mistaken for works, traffic, people and green.

Scenes without works get more confusers than scenes with works, so that the amount of a colour tells
little and the shapes have to be seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.demo.placer import COATS, HI_VIS, LEAVES, ORANGES, RED, WHITE, YELLOWS, Placer
from streetvision_core.demo.scene import CAR_PAINTS, GREENS, Thing

if TYPE_CHECKING:
    from streetvision_core.demo.dice import Colour

# As often as they are named.
CONFUSERS = (
    *("orange_vehicle",) * 3,
    *("hi_vis_person",) * 2,
    *("red_white_sign",) * 2,
    *("diamond_sign", "traffic_light", "planter", "bin", "parasol", "billboard", "bollards", "banner"),
    *("autumn_tree", "tractor"),
)
_VEHICLES = ("car", "car", "car", "van", "truck", "bus")
_DARK: Colour = (40, 46, 56)


def sample_confusers(placer: Placer, count: int, *, clear_until: float) -> list[Thing]:
    """Innocent things in the colours of works; vehicles keep behind clear_until."""
    return [_sample_confuser(placer, placer.dice.pick(CONFUSERS), clear_until) for _ in range(count)]


def _sample_confuser(placer: Placer, kind: str, clear_until: float) -> Thing:
    dice, road = placer.dice, placer.road
    if kind in {"orange_vehicle", "tractor"}:
        paint = dice.pick((*ORANGES, *ORANGES, *YELLOWS, RED))
        return _vehicle_at(placer, paint, kind=kind, near=clear_until, far=max(20, clear_until + 8))
    if kind == "hi_vis_person":
        x, z = placer.spot(0, road.half_width + road.pavement + 0.5, near=6, far=16)
        return placer.thing(dice.pick(("person", "cyclist")), x, z, colour=dice.pick(HI_VIS), facing=2)
    beside = road.half_width + 0.4
    x, z = placer.spot(beside, beside + max(0.8, road.pavement * 0.8), near=6, far=17)
    colour = dice.pick(ORANGES)
    if kind in {"red_white_sign", "traffic_light"}:
        colour = RED
    elif kind == "diamond_sign":
        colour = dice.pick((*YELLOWS, *YELLOWS, WHITE))
    elif kind == "bollards":
        colour = dice.pick((RED, (60, 60, 64), *ORANGES[:1]))
    elif kind in {"parasol", "banner", "bin"}:
        colour = dice.pick((*ORANGES, RED, *YELLOWS[:1]))
    elif kind == "autumn_tree":
        return placer.thing("tree", x, z, colour=dice.pick(LEAVES[-3:]), scale=dice.between(0.6, 1.2))
    return placer.thing(kind, x, z, colour=colour, accent=dice.pick((WHITE, WHITE, (40, 40, 46))))


def _vehicle_at(placer: Placer, paint: Colour, *, kind: str, near: float, far: float) -> Thing:
    dice, road = placer.dice, placer.road
    vehicle = dice.pick(_VEHICLES) if kind != "tractor" else kind
    if dice.chance(0.25):
        x, z = placer.spot(0, road.half_width, near=near + 1, far=far + 4)
        return placer.thing("car_across", x, z, colour=paint, accent=_DARK)
    x, z = placer.spot(road.half_width * 0.35, road.half_width * 0.9, near=near, far=far)
    facing = 1 if x > 0 else -1
    drift = facing * dice.between(-0.2, 0.6)
    return placer.thing(vehicle, x, z, colour=paint, accent=_DARK, facing=facing, drift=drift)


def sample_traffic(placer: Placer, setting: str, *, clear_until: float) -> list[Thing]:
    """Ordinary traffic and people; no traffic nearer than clear_until, where it would hide the point."""
    dice, road = placer.dice, placer.road
    things = []
    for _ in range(dice.pick((0, 1, 1, 2, 3))):
        x = dice.side() * road.half_width * dice.pick((0.4, 0.5, 0.8))
        facing = 1 if x > 0 else -1
        kind = dice.pick(_VEHICLES)
        z = clear_until + dice.between(2, 40)
        paint, drift = dice.pick(CAR_PAINTS), facing * 0.5
        things.append(placer.thing(kind, x, z, colour=paint, accent=_DARK, facing=facing, drift=drift))
    for _ in range(dice.whole(0, 4) if setting in {"residential", "city"} else 0):
        side = dice.side()
        z = dice.between(5, 50)
        paint, x = dice.pick(CAR_PAINTS), side * (road.half_width + 0.3)
        things.append(placer.thing("car", x, z, colour=paint, accent=_DARK, facing=side))
    for _ in range(dice.pick((0, 0, 1, 2, 3)) if setting != "highway" else 0):
        x = dice.side() * (road.half_width + dice.between(0.3, max(0.6, road.pavement)))
        things.append(placer.thing("person", x, dice.between(6, 30), colour=dice.pick(COATS), facing=1))
    return things


def sample_green(placer: Placer, setting: str) -> list[Thing]:
    """Trees, bushes, lamps and the ordinary signs of a setting."""
    dice, road = placer.dice, placer.road
    things = []
    edge = road.half_width + road.pavement
    for _ in range(dice.whole(*{"city": (0, 5), "highway": (2, 10)}.get(setting, (3, 12)))):
        x = dice.side() * (edge + dice.between(0.4, 9))
        kind = dice.pick(("tree", "tree", "conifer", "bush"))
        leaves = dice.pick(LEAVES) if kind != "conifer" else dice.pick(GREENS)
        things.append(placer.thing(kind, x, dice.between(7, 80), colour=leaves, scale=dice.between(0.6, 1.5)))
    if dice.chance(0.6):
        side, first, gap = dice.side(), dice.between(5, 12), dice.between(14, 24)
        x, grey = side * (road.half_width + 0.6), (96, 98, 102)
        along = [first + gap * step for step in range(4)]
        things += [placer.thing("lamp", x, z, colour=grey, facing=-side) for z in along]
    if dice.chance(0.3):
        x, z = placer.spot(road.half_width + 0.4, road.half_width + 1.2, near=8, far=30)
        sign = dice.pick(("blue_sign", "traffic_light", "red_white_sign"))
        things.append(placer.thing(sign, x, z, colour=RED))
    return things
