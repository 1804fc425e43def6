"""A JPEG of 1280 x 720 pixels to what a model of 224 x 224 sees: ours against Pillow and torchvision.

Usage: python benchmarks/decoding.py [PICTURES] [ROUNDS] [FOLDER]

Ours decodes at a half, a quarter or an eighth of the size where that is enough, shrinks in steps, and crops;
Pillow decodes everything, and torchvision's Resize, CenterCrop and PILToTensor do the rest. Both on one core,
in seconds of the processor, from bytes in memory, on the same images (of the demo, or those of FOLDER;
enlarged, quality 90), one round after the other. Ours checks size and EXIF orientation as well. The last
column says how far apart the pixels are.
"""

from __future__ import annotations

import os
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from _common import machine_line, print_table, spread
from _task import enlarged
from PIL import Image
from torchvision import transforms

from streetvision_core.demo import draw_images
from streetvision_core.models.preprocessing import eval_transform
from streetvision_core.training.data import DecodedImages

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = (1280, 720)
INPUT = 224
INTERPOLATION = transforms.InterpolationMode.BICUBIC


class Bytes:
    """Gives images by their number."""

    def __init__(self, pictures: list[bytes]) -> None:
        self._images = pictures

    conditions = None

    def read(self, name: str) -> bytes:
        return self._images[int(name)]


def load(count: int, folder: str | None) -> list[bytes]:
    if folder is None:
        return [enlarged(image.jpeg, SIZE) for image in draw_images(count, size=1024)]
    files = sorted(Path(folder).glob("*.jpg"))[:count]
    return [enlarged(path.read_bytes(), SIZE) for path in files]


def make_ours(pictures: list[bytes], crop_pct: float) -> Callable[[int], torch.Tensor]:
    transform = eval_transform(
        {"input_size": [3, INPUT, INPUT], "interpolation": "bicubic", "crop_pct": crop_pct}
    )
    names = [str(number) for number in range(len(pictures))]
    decoded = DecodedImages(Bytes(pictures), names, side=transform.resized_side, cache_bytes=0)
    return lambda number: transform.pixels(decoded.load([number])[0])


def make_theirs(pictures: list[bytes], crop_pct: float) -> Callable[[int], torch.Tensor]:
    steps = transforms.Compose(
        [
            transforms.Resize(int(INPUT / crop_pct), interpolation=INTERPOLATION),
            transforms.CenterCrop(INPUT),
            transforms.PILToTensor(),
        ]
    )

    def make(number: int) -> torch.Tensor:
        with Image.open(BytesIO(pictures[number])) as image:
            return steps(image.convert("RGB"))

    return make


def rate(make: Callable[[int], torch.Tensor], count: int) -> float:
    started = time.process_time()
    for number in range(count):
        make(number)
    return count / (time.process_time() - started)


def measure(pictures: list[bytes], crop_pct: float, rounds: int) -> list[list[str]]:
    ours, theirs = make_ours(pictures, crop_pct), make_theirs(pictures, crop_pct)
    apart = [(ours(i).float() - theirs(i).float()).abs().mean().item() for i in range(len(pictures))]
    pairs = [(rate(ours, len(pictures)), rate(theirs, len(pictures))) for _ in range(rounds)]
    fast, slow = (list(column) for column in zip(*pairs, strict=True))
    ratio = spread([our_rate / their_rate for our_rate, their_rate in pairs])
    crop = f"{INPUT} of {int(INPUT / crop_pct)}"
    return [
        [crop, "ours: decode at a scale, shrink, crop", spread(fast), ratio, f"{max(apart):.2f}"],
        [crop, "Pillow, Resize, CenterCrop, PILToTensor", spread(slow), "1", "0"],
    ]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    pictures = load(count, sys.argv[3] if len(sys.argv) > 3 else None)
    print_table(
        f"{len(pictures)} JPEGs of {SIZE[0]} x {SIZE[1]} to {INPUT} x {INPUT}; {rounds} rounds, one core",
        machine=machine_line("pillow", "torch", "torchvision"),
        columns=[
            "crop",
            "what",
            "pictures/s",
            "times as fast",
            "grey levels apart, the worst image's mean",
        ],
        rows=[row for crop_pct in (1.0, 0.875) for row in measure(pictures, crop_pct, rounds)],
    )


if __name__ == "__main__":
    main()
