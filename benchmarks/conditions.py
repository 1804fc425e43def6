"""Images drawn under conditions, a second, on two threads at 224 pixels, by profile and level.

    python benchmarks/conditions.py

The images are drawn streets of 384 x 288 pixels, decoded before; JPEG at the end is part of what is measured.
Each figure is the median of several rounds over all images, with the slowest and the fastest.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO

from _common import machine_line, print_table, spread
from PIL import Image

from streetvision_core.data.conditions import CAMERA, NATIX_CROPS_2025, Profile
from streetvision_core.data.conditions.draw import draw_image
from streetvision_core.data.config import DemoConfig
from streetvision_core.demo import draw_images
from streetvision_core.io import bytes_digest

SIDE, THREADS = 224, 2


def images(count: int) -> list[tuple[Image.Image, str]]:
    drawn = draw_images(DemoConfig(pictures=count, size=384), workers=1)
    return [(Image.open(BytesIO(one.jpeg)).convert("RGB"), bytes_digest(one.jpeg)) for one in drawn]


def speeds(seen: list[tuple[Image.Image, str]], profile: Profile, level: str, *, rounds: int) -> list[float]:
    """Return images a second of each round, every one with draws of its own."""
    rates = []
    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(rounds):
            draw = partial(draw_one, profile, level, number)
            began = time.perf_counter()
            list(pool.map(draw, seen))
            rates.append(len(seen) / (time.perf_counter() - began))
    return rates


def draw_one(profile: Profile, level: str, draw: int, one: tuple[Image.Image, str]) -> None:
    draw_image(one[0], profile, one[1], level=level, draw=draw)


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
            rates = speeds(seen, profile, level, rounds=parsed.rounds)
            rows.append((profile.name, level or "all, by weight", spread(rates)))
    print_table(
        f"Conditions: images a second at {SIDE} pixels, {THREADS} threads, {parsed.rounds} rounds",
        machine=machine_line("pillow", "numpy"),
        columns=("profile", "level", "images/s"),
        rows=rows,
    )


if __name__ == "__main__":
    main()
