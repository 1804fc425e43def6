"""Near-duplicates of synthetic hashes: seconds and peak memory by number of images.

The hashes are random, which gives tables nothing to skip. A hundredth of them have a true copy planted, a few
bits off, and half of these copies are mirrored; another hundredth are black frames that are all alike. Each
planted copy has to be found.
"""

from __future__ import annotations

import os
import resource
import sys
import time

import numpy as np
from _common import machine_line, megabytes, print_table

from streetvision_core.data.duplicates import Hashes, compare_hashes

SIZES = (3_000, 100_000, 1_000_000)


def off(random: np.random.Generator, words: np.ndarray, bits: int) -> np.ndarray:
    """Words with up to `bits` bits of each turned over."""
    for _ in range(bits):
        words = words ^ (np.uint64(1) << random.integers(0, 64, words.shape).astype(np.uint64))
    return words


def hashes(count: int) -> Hashes:
    random = np.random.default_rng(0)
    plain, mirrored = random.integers(0, 2**64, (2, count), dtype=np.uint64)
    plain256, mirrored256 = random.integers(0, 2**64, (2, count, 4), dtype=np.uint64)
    copies, black = count // 100, count // 100
    for start, (here, there) in enumerate(((plain, plain256), (mirrored, mirrored256))):
        part = slice(start * copies // 2, (start + 1) * copies // 2)
        source = slice(copies + part.start, copies + part.stop)
        here[part], there[part] = off(random, plain[source], 5), off(random, plain256[source], 5)
    for table in (plain, mirrored, plain256, mirrored256):
        table[-black:] = off(random, np.zeros_like(table[-black:]), 3)
    return Hashes(plain, mirrored, plain256, mirrored256, np.ones(count, np.bool_))


def row(count: int) -> tuple[object, ...]:
    table = hashes(count)
    started, busy = time.perf_counter(), time.process_time()
    result = compare_hashes(table, range(count))
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    copies = count // 100
    kept = result.component[:copies] == result.component[copies : 2 * copies]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pairs = f"{int(result.count.sum()) // 2:,}"
    return (
        f"{count:,}",
        f"{seconds:.1f} s",
        f"{busy:.1f} s",
        megabytes(peak),
        pairs,
        f"{int(kept.sum())} of {copies}",
    )


def main() -> None:
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else SIZES[-1]
    load = os.getloadavg()[0]
    print_table(
        f"compare_hashes (load of the machine at the start: {load:.1f})",
        machine=machine_line("numpy", "scipy"),
        columns=("images", "time", "of one core", "peak memory of the process", "pairs", "copies found"),
        rows=[row(count) for count in SIZES if count <= largest],
    )


if __name__ == "__main__":
    main()
