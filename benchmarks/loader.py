"""Memory of training on very many images: what the loader and the reader of features hold for each of them.

Usage: python benchmarks/loader.py [PICTURES]

The images do not exist: every name reads one small JPEG, nothing is kept decoded, and the features are
random. Each part runs in a process of its own; what is printed is the growth of its peak (VmHWM) over what it
was once everything had been imported, and of that what the caller's own lists take (names, labels, digests).
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from _common import machine_line, megabytes, print_table
from PIL import Image

from streetvision_core.inference.feature_cache import SHARD_ROWS, FeatureKey, open_features
from streetvision_core.models.preprocessing import eval_transform
from streetvision_core.training import TrainingConfig
from streetvision_core.training.augmentation import make_augmentation
from streetvision_core.training.data import AugmentedImages, DecodedImages, EpochBatches, make_loader
from streetvision_core.training.probe import spread_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PICTURES, WIDTH, BATCH, BATCHES = 1_000_000, 192, 64, 50
CFG = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}
Row = tuple[str, str, str]


class OnePicture:
    """Every name is this image."""

    def __init__(self) -> None:
        buffer = BytesIO()
        Image.new("RGB", (96, 96), (90, 90, 90)).save(buffer, "JPEG")
        self._data = buffer.getvalue()

    conditions = None

    def read(self, name: str) -> bytes:  # noqa: ARG002 - a reader's signature
        return self._data

    def see(self, image: Image.Image, name: str, *, draw: int = 0) -> Image.Image:  # noqa: ARG002 - likewise
        return image


class Memory:
    """Growth of this process's peak since it was made."""

    def __init__(self) -> None:
        self._base = peak_rss()
        self._started = time.perf_counter()

    def row(self, what: str) -> Row:
        seconds, self._started = time.perf_counter() - self._started, time.perf_counter()
        return what, f"{seconds:.1f} s", megabytes(peak_rss() - self._base)


def peak_rss() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def measure_loader(count: int) -> list[Row]:
    """An epoch's order and some batches, with nothing kept decoded."""
    torch.set_num_threads(1)
    memory = Memory()
    names = [f"video-{number // 100:06d}/frame-{number:09d}.jpg" for number in range(count)]
    labels = [number % 2 for number in range(count)]
    rows = [memory.row("loader: names and labels")]
    decoded = DecodedImages(OnePicture(), names, side=64, cache_bytes=0)
    batches = EpochBatches(count, batch_size=BATCH, seed=0)
    augment = make_augmentation(TrainingConfig().augmentation, transform=eval_transform(CFG))
    loader = make_loader(AugmentedImages(decoded, labels, augment=augment, seed=0), batches, workers=0)
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        take(iter(loader))
    return [*rows, memory.row(f"loader: and {BATCHES} batches of {BATCH} in each of two epochs")]


def take(batches: Iterator[object]) -> None:
    for _ in range(BATCHES):
        next(batches)


def digests(count: int) -> list[str]:
    return [row.tobytes().hex() for row in np.random.default_rng(0).integers(0, 256, (count, 32), np.uint8)]


def measure_features(count: int, directory: str) -> list[Row]:
    """Fill, open and read a set of features."""
    memory = Memory()
    names = digests(count)
    rows = [memory.row("features: digests of the images")]
    key = FeatureKey("", "random", {}, {}, "float32", "plain", {}, shape=(WIDTH,))
    features = open_features(Path(directory), key, names)
    random = np.random.default_rng(1)
    for start in range(0, count, SHARD_ROWS):
        positions = np.arange(start, min(start + SHARD_ROWS, count))
        features.publish(positions, random.standard_normal((len(positions), WIDTH), np.float32))
    del features
    rows.append(memory.row("features: and written"))
    features = open_features(Path(directory), key, names)
    assert not len(features.missing)
    rows.append(memory.row("features: and opened, every shard hashed"))
    for _ in range(BATCHES):
        features[random.integers(0, count, BATCH)]
    rows.append(memory.row(f"features: and {BATCHES} random batches of {BATCH}"))
    spread_of([features])
    return [*rows, memory.row("features: and mean and deviation of all")]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PICTURES
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        with context.Pool(1) as pool:
            rows = pool.apply(measure_loader, (count,))
        with context.Pool(1) as pool:
            rows += pool.apply(measure_features, (count, scratch))
    print_table(
        f"{count:,} images; features float32 [{WIDTH}] ({megabytes(4 * WIDTH * count)} on the disk)",
        machine=machine_line("numpy", "torch"),
        columns=("what", "time", "peak memory, all so far"),
        rows=rows,
    )


if __name__ == "__main__":
    main()
