"""Timing, memory and the table that every benchmark prints."""

from __future__ import annotations

import os
import platform
import statistics
import time
import tracemalloc
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated calls."""

    median: float
    minimum: float
    maximum: float

    def __str__(self) -> str:
        return f"{_seconds(self.median)} ({_seconds(self.minimum)} to {_seconds(self.maximum)})"


def time_calls(function: Callable[[], object], *, repeats: int = 7, loops: int = 1) -> Timing:
    """Time one call, `repeats` times over the mean of `loops` calls, after one call that is not counted."""
    function()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(loops):
            function()
        seconds.append((time.perf_counter() - started) / loops)
    return Timing(statistics.median(seconds), min(seconds), max(seconds))


def peak_bytes(function: Callable[[], object]) -> int:
    """Measure the most memory Python and NumPy held during one call, beyond what was held before it."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def spread(values: Sequence[float]) -> str:
    """Return median, least and most."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def machine_line(*packages: str) -> str:
    """Name the processor, the cores and the versions; no host name."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def print_table(
    title: str, *, columns: Sequence[str], rows: Sequence[Sequence[object]], machine: str = ""
) -> None:
    """Print a title, the machine where one was measured, and aligned columns."""
    lines = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    print("\n".join(filter(None, (title, machine))))
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print()


def _seconds(value: float) -> str:
    for limit, scale, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms")):
        if value < limit:
            return f"{value * scale:.3g} {unit}"
    return f"{value:.3g} s"


def _processor() -> str:
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [
        line.split(":", 1)[1].strip() for line in described.splitlines() if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()
