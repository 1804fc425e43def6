"""Images drawn under conditions, a second, on two threads at 224 pixels, by profile and level; and an epoch.

    python benchmarks/conditions.py

The images are drawn streets of 384 x 288 pixels, decoded before; JPEG at the end is part of what is measured.
Each figure is the median of several rounds over all images, with the slowest and the fastest. Milliseconds
are of the processor, user and system: they hardly depend on who else uses it.

An epoch of the default network, the cheapest that is trained here, is timed as it is and under each profile,
in seconds of the processor: what two more epochs cost, halved, validation included.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path

from _common import machine_line, print_table, spread
from _task import Task, make_task
from PIL import Image

from streetvision_core.data.conditions import AS_IS, CAMERA, NATIX_CROPS_2025, Conditions, Profile
from streetvision_core.data.conditions.draw import draw_image
from streetvision_core.demo import draw_images
from streetvision_core.io import bytes_digest
from streetvision_core.models import BackboneConfig, prepare_backbone
from streetvision_core.training import TrainingConfig, TrainingFolders, fit_classifier

SIDE, THREADS, EPOCH_IMAGES = 224, 2, 400


def images(count: int) -> list[tuple[Image.Image, str]]:
    drawn = draw_images(count, size=384, workers=1)
    return [(Image.open(BytesIO(image.jpeg)).convert("RGB"), bytes_digest(image.jpeg)) for image in drawn]


def speeds(
    seen: list[tuple[Image.Image, str]], profile: Profile, level: str, *, rounds: int
) -> tuple[list[float], list[float]]:
    """Return images a second and processor ms an image of each round, every one with draws of its own."""
    rates, costs = [], []
    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(rounds):
            draw = partial(draw_one, profile, level, number)
            began, used = time.perf_counter(), time.process_time()
            list(pool.map(draw, seen))
            rates.append(len(seen) / (time.perf_counter() - began))
            costs.append(1000 * (time.process_time() - used) / len(seen))
    return rates, costs


def draw_one(profile: Profile, level: str, draw: int, drawn: tuple[Image.Image, str]) -> None:
    image, sha256 = drawn
    draw_image(image, profile, sha256, level=level, draw=draw)


def training_seconds(task: Task, profile: Profile, *, epochs: int, root: Path) -> float:
    """Return the processor time of a training of so many epochs under a profile."""
    reader = copy.copy(task.reader)
    reader.conditions = Conditions(profile=profile, reported=CAMERA, seed=0)
    used = time.process_time()
    with tempfile.TemporaryDirectory(dir=root) as directory:
        fit_classifier(
            prepare_backbone(BackboneConfig(), directory=root),
            index=task.index,
            splits=task.splits,
            images=reader,
            config=TrainingConfig.model_validate({"epochs": epochs}),
            folders=TrainingFolders(Path(directory), features=root / "features"),
        )
    return time.process_time() - used


def print_epochs(*, rounds: int) -> None:
    """Print what an epoch costs as it is and under each profile."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "images").mkdir()
        task = make_task(root / "images", train=EPOCH_IMAGES, others=32)
        training_seconds(task, AS_IS, epochs=1, root=root)  # imports are nobody's epoch
        for _ in range(rounds):
            for profile in (AS_IS, CAMERA, NATIX_CROPS_2025):
                short, long = (training_seconds(task, profile, epochs=n, root=root) for n in (1, 3))
                seconds.setdefault(profile.name, []).append((long - short) / 2)
    plain = seconds[AS_IS.name]
    print_table(
        f"An epoch of {EPOCH_IMAGES} images of 256 pixels, the default network, one thread, {rounds} rounds",
        machine=machine_line("torch", "timm"),
        columns=("profile", "processor s", "times as it is"),
        rows=[
            (profile, spread(own), spread([a / b for a, b in zip(own, plain, strict=True)]))
            for profile, own in seconds.items()
        ],
    )


def main() -> None:
    """Print images a second of every level."""
    parser = argparse.ArgumentParser(description="Images drawn under conditions, a second.")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parsed = parser.parse_args()
    seen = images(parsed.images)
    rows = []
    for shipped in (CAMERA, NATIX_CROPS_2025):
        profile = shipped.model_copy(update={"size": SIDE})
        for level in ("", *profile.names):
            rates, costs = speeds(seen, profile, level, rounds=parsed.rounds)
            rows.append((profile.name, level or "all, by weight", spread(rates), spread(costs)))
    print_table(
        f"Conditions: images a second at {SIDE} pixels, {THREADS} threads, {parsed.rounds} rounds",
        machine=machine_line("pillow", "numpy"),
        columns=("profile", "level", "images/s", "processor ms an image"),
        rows=rows,
    )
    print_epochs(rounds=min(3, parsed.rounds))


if __name__ == "__main__":
    main()
