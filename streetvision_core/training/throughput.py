"""The speed of a training, its wait for data, and the memory it took.

The wait for data runs from the end of one batch until the next one has arrived in this process, before it
goes to the device. Nothing is synchronised for it. On a CPU that is the time in which the model stood still.
A GPU may still be at work on earlier batches meanwhile. Where it has work left when the batch arrives, the
wait cost nothing and is not counted. Where it has none left, the whole wait is counted, so the share is an
upper bound there. Of several processes the first one is measured; a wait of another one looks like computing.

Memory is that of the process since its start, at its peak, and what each process that it started holds of its
own at the end of an epoch; pages that they share count once.
"""

from __future__ import annotations

import multiprocessing
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.training.config import PROBE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# From this share on a training is limited by data: without the wait it would be a quarter faster.
DATA_LIMIT = 0.2
# What is measured differs from run to run, unlike all other metrics of a checkpoint.
MEASURED = ("pictures_per_second", "data_wait_share", "peak_memory_mb", "gpu_peak_memory_mb")
KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True)
class Throughput:
    """The throughput of this run's epochs: images per second without validation, and MiB at the peak.

    `pictures_per_second` is 0 where this run has trained nothing.
    """

    pictures_per_second: float = 0.0
    data_wait_share: float = 0.0
    peak_memory_mb: float = 0.0
    gpu_peak_memory_mb: float | None = None

    def to_metrics(self) -> dict[str, float]:
        """Return what was measured, by name."""
        speed = {"pictures_per_second": round(self.pictures_per_second, 1)}
        if not self.pictures_per_second:
            return speed
        gpu = self.gpu_peak_memory_mb
        return {
            **speed,
            "data_wait_share": round(self.data_wait_share, 4),
            "peak_memory_mb": round(self.peak_memory_mb, 1),
            **({} if gpu is None else {"gpu_peak_memory_mb": round(gpu, 1)}),
        }


NOTHING_TRAINED = Throughput()


def limited_by(metrics: Mapping[str, float], *, method: str) -> str:
    """Return a line that says what limited the training that has these metrics.

    Limited by data is one that waited for at least `DATA_LIMIT` of the training time, validation left out.
    """
    share = metrics.get("data_wait_share")
    if share is None:
        return "nothing was trained: an earlier run had finished all epochs"
    what = "features" if method == PROBE else "images"
    waited = f"{share:.0%} of the training time the model waited for {what}"
    if share < DATA_LIMIT:
        faster = "a smaller model or input" if "gpu_peak_memory_mb" in metrics else "a GPU or a smaller model"
        return f"limited by compute: only {waited}; {faster} would be faster"
    # Features come from memory or the cache; no setting makes that faster.
    advice = "" if method == PROBE else "; raise num_workers"
    return f"limited by data: {waited}{advice}"


class Meter:
    """Adds up training time and the wait for data, an epoch at a time; all in seconds.

    `ahead` is asked when a batch ends, and what it returns when the next one arrives: whether the device
    still has work left, so that the wait has cost nothing.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        ahead: Callable[[], Callable[[], bool]] = lambda: lambda: False,
    ) -> None:
        self.trained = self.waited = self.trained_in_all = self.waited_in_all = 0.0
        self._clock = clock
        self._ahead = ahead
        self._begun: float | None = None
        self._ended: float | None = None
        self._at_work: Callable[[], bool] = lambda: False

    def begin_epoch(self) -> None:
        """Start the training time; the first batch is waited for from here on."""
        self.waited = 0.0
        self._begun = self._ended = self._clock()
        self._at_work = lambda: False

    def batch_arrived(self) -> None:
        """End the wait, if there is one: what validation fetches is none."""
        if self._ended is not None:
            if not self._at_work():
                self.waited += self._clock() - self._ended
            self._ended = None

    def batch_ended(self) -> None:
        """Begin the wait for the next batch."""
        self._at_work = self._ahead()
        self._ended = self._clock()

    def end_epoch(self) -> None:
        """End the training time, once an epoch."""
        self._ended = None
        if self._begun is None:
            return
        self.trained = self._clock() - self._begun
        self._begun = None
        self.trained_in_all += self.trained
        self.waited_in_all += self.waited


def share_of(part: float, whole: float) -> float:
    """Return a part of a time as a share from 0 to 1; 0 of nothing."""
    return min(1.0, part / whole) if whole > 0 else 0.0


def peak_memory_mb() -> float:
    """Return MiB of this process at its peak and of its own processes now; 0 where the system cannot tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else KIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    own = sum(_private_bytes(child.pid) for child in multiprocessing.active_children())
    return (peak + own) / MIB


def _private_bytes(pid: int | None) -> int:
    """Return the bytes that only this process has; 0 where it has ended or the system does not tell."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(kib) * KIB for kib in re.findall(r"^Private_\w+:\s+(\d+) kB", rollup, re.MULTILINE))
