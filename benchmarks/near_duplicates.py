"""Near-duplicates by brute force: seconds and peak memory by number of different perceptual hashes.

Random hashes are the worst case for time, since no two of them are equal; a hundredth of them are given a
near-duplicate, so that components have to be united too.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from _common import machine_line, megabytes, peak_bytes, print_table

from streetvision_core.data.duplicates import near_duplicate_components

SIZES = (2_400, 10_000, 100_000)


def hashes(count: int) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(0)
    plain, mirrored = random.integers(0, 2**64, (2, count), dtype=np.uint64)
    plain[: count // 100] = plain[count // 100 : 2 * (count // 100)] ^ np.uint64(0b111)
    return [f"{value:016x}" for value in plain], [f"{value:016x}" for value in mirrored]


def row(count: int) -> tuple[object, ...]:
    plain, mirrored = hashes(count)
    started = time.perf_counter()
    components = near_duplicate_components(plain, mirrored)
    seconds = time.perf_counter() - started
    # Tracing every allocation is slow: the largest size is left out.
    peak = (
        megabytes(peak_bytes(lambda: near_duplicate_components(plain, mirrored))) if count < 50_000 else "-"
    )
    return f"{count:,}", f"{seconds:.2f} s", peak, f"{components.max() + 1:,}"


def main() -> None:
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    print_table(
        "near_duplicate_components (100,000 hashes only when asked for: near_duplicates.py 100000)",
        machine=machine_line("numpy", "scipy"),
        columns=("hashes", "time", "peak memory", "components"),
        rows=[row(count) for count in SIZES if count <= largest],
    )


if __name__ == "__main__":
    main()
