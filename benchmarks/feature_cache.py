"""The feature cache: opening a set with every shard proven, and reading it, in a process of its own.

Usage: python benchmarks/feature_cache.py [PICTURES] [WIDTH]

Features are random; a tenth of the images is asked for twice. Memory is the growth of the process's peak
(VmHWM) over what it was when everything had been imported; mapped pages of the disk's cache count in it.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import machine_line, megabytes, print_table

from streetvision_core.inference.feature_cache import SHARD_ROWS, FeatureKey, FeatureSet, open_features

PICTURES, WIDTH, BATCH, BATCHES = 50_000, 384, 256, 200


def key_of(width: int) -> FeatureKey:
    return FeatureKey("", "random", {}, {}, "float32", "plain", {}, shape=(width,))


def digests(count: int) -> list[str]:
    return [row.tobytes().hex() for row in np.random.default_rng(0).integers(0, 256, (count, 32), np.uint8)]


def fill(directory: Path, count: int, width: int) -> None:
    features = open_features(directory, key_of(width), digests(count))
    random = np.random.default_rng(1)
    for start in range(0, count, SHARD_ROWS):
        positions = np.arange(start, min(start + SHARD_ROWS, count))
        features.publish(positions, random.standard_normal((len(positions), width), np.float32))


def read(directory: Path, count: int, width: int) -> list[tuple[str, str, str]]:
    """Open and read a set; return what, how long and the growth of the peak until then."""
    names = digests(count)
    names += names[: count // 10]
    base, rows = peak_rss(), []

    def note(what: str, started: float) -> None:
        seconds = time.perf_counter() - started
        rows.append((what, f"{seconds:.2f} s", megabytes(peak_rss() - base)))

    started = time.perf_counter()
    features = open_features(directory, key_of(width), names)
    assert not len(features.missing)
    note("open, every shard hashed", started)
    random = np.random.default_rng(2)
    started = time.perf_counter()
    for _ in range(BATCHES):
        features[random.integers(0, len(features), BATCH)]
    note(f"{BATCHES} random batches of {BATCH}", started)
    started = time.perf_counter()
    total = float(sum(part.sum(dtype=np.float64) for part in whole(features)))
    note(f"all rows in order (sum {total:.1f})", started)
    return rows


def whole(features: FeatureSet):
    return (features[start : start + SHARD_ROWS] for start in range(0, len(features), SHARD_ROWS))


def peak_rss() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PICTURES
    width = int(sys.argv[2]) if len(sys.argv) > 2 else WIDTH
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        started = time.perf_counter()
        fill(Path(scratch), count, width)
        filled = ("publish", f"{time.perf_counter() - started:.2f} s", "-")
        with context.Pool(1) as pool:
            rows = pool.apply(read, (Path(scratch), count, width))
    print_table(
        f"feature cache: {count:,} images, float32 [{width}] ({megabytes(4 * count * width)})",
        machine=machine_line("numpy"),
        columns=("what", "time", "peak memory"),
        rows=[filled, *rows],
    )


if __name__ == "__main__":
    main()
