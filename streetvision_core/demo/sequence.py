"""The sequences of the demo: which there are, and the images of one.

A sequence is one short drive or walk past one scene: two to four frames, one group, one label. All
of it depends on (seed, sequence number) alone, so workers may draw sequences in any order.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streetvision_core.demo import surroundings, works
from streetvision_core.demo.dice import Dice
from streetvision_core.demo.draw_street import image_size
from streetvision_core.demo.light import sample_light
from streetvision_core.demo.picture import draw_frame
from streetvision_core.demo.placer import Placer
from streetvision_core.demo.scene import (
    GREENS,
    SETTINGS,
    Scene,
    sample_camera,
    sample_clouds,
    sample_houses,
    sample_ridge,
    sample_road,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streetvision_core.demo.canvas import Camera

MOST_FRAMES = 4
AMBIGUOUS_SHARE = 0.025
_FRAME_COUNT_STREAM, _SCENE_STREAM = 0, 1


@dataclass(frozen=True, slots=True)
class DemoImage:
    """One drawn image and what is known about it; label 1 is Roadwork, 0 is None."""

    name: str
    jpeg: bytes
    label: int
    group: str
    attributes: Mapping[str, str]


def plan_sequences(images: int, *, seed: int) -> tuple[int, ...]:
    """Return the number of frames of each sequence; they add up to the number of images."""
    dice = Dice(seed, _FRAME_COUNT_STREAM)
    frames = []
    left = images
    while left:
        count = min(left, dice.whole(2, MOST_FRAMES))
        frames.append(count)
        left -= count
    return tuple(frames)


def sample_scene(dice: Dice, *, label: int) -> Scene:
    """Draw everything that one sequence shows."""
    setting = dice.pick(SETTINGS)
    light = sample_light(dice)
    road = sample_road(dice, setting)
    camera = sample_camera(dice, road)
    towers = setting in {"city", "highway"} and dice.chance(0.5)
    placer = Placer(dice, road=road, camera=camera)
    ambiguous = dice.chance(AMBIGUOUS_SHARE)
    if ambiguous:
        point = works.sample_ambiguous(placer, label=label, visibility=light.visibility)
        confusers = 0
    elif label:
        point = works.sample_works(placer)
        confusers = dice.pick((0, 0, 1, 1, 2))
    else:
        point = []
        confusers = dice.pick((1, 2, 3, 3, 4, 5))
    clear_until = max((thing.z for thing in point), default=dice.between(5, 22)) + 1
    things = [
        *point,
        *surroundings.sample_confusers(placer, confusers, clear_until=clear_until if point else 8.0),
        *surroundings.sample_traffic(placer, setting, clear_until=clear_until),
        *surroundings.sample_green(placer, setting),
    ]
    return Scene(
        setting=setting,
        light=light,
        camera=camera,
        road=road,
        ridge=sample_ridge(dice, towers=towers),
        ridge_colour=dice.tint((128, 132, 142)) if towers else dice.tint(dice.pick(GREENS), 20),
        towers=towers,
        clouds=sample_clouds(dice, light),
        houses=sample_houses(dice, setting, road),
        things=tuple(things),
        label=label,
        ambiguous=ambiguous,
    )


def _walk(camera: Camera, dice: Dice) -> Iterator[Camera]:
    """The camera of each frame: a step forward, and the hand's or the suspension's shake."""
    step = dice.between(0.1, 0.6)
    forward = 0.0
    while True:
        yield dataclasses.replace(
            camera,
            forward=forward,
            roll=camera.roll + dice.between(-0.012, 0.012),
            vanishing=camera.vanishing + dice.between(-0.02, 0.02),
            horizon=camera.horizon + dice.between(-0.015, 0.015),
        )
        forward += step


def draw_sequence(number: int, frames: int, *, seed: int, size: int) -> list[DemoImage]:
    """Draw all frames of one sequence; the same arguments give the same bytes in any process."""
    dice = Dice(seed, _SCENE_STREAM, number)
    # Neighbouring numbers take turns: the classes stay balanced however many sequences there are.
    scene = sample_scene(dice, label=number % 2)
    group = f"sequence_{number:05d}"
    attributes = {
        "time_of_day": scene.light.time_of_day,
        "weather": scene.light.weather,
        "ambiguous": "yes" if scene.ambiguous else "no",
    }
    cameras = _walk(scene.camera, dice)
    return [
        DemoImage(
            name=f"{group}/frame_{frame}.jpg",
            jpeg=draw_frame(scene, dice, camera=next(cameras), frame=frame, size=image_size(size)),
            label=scene.label,
            group=group,
            attributes=attributes,
        )
        for frame in range(frames)
    ]
