"""One float32 tensor made durable with its SHA-256 known: ours against what one would write by hand.

Hashing runs beside writing, so the floor is the slower of the two. With SHA instructions (1.4 to 1.6 GiB/s)
that is the disk; without them (0.2 to 0.35 GiB/s) it is SHA-256. The rivals write, flush the file and hash
it; they flush no directory, rename nothing, and may leave a torn file behind. The ratios are of calls that
ran one after the other. The directory to write to may be given as an argument.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np
import psutil
import torch
from _common import machine_line, megabytes, print_table, spread
from safetensors.numpy import save_file

from streetvision_core.io import (
    Artifact,
    ArtifactStore,
    StagedFile,
    StepRun,
    describe_step,
    write_tensors_atomic,
)

SIZES = {"1 KiB": 2**10, "1 MiB": 2**20, "128 MiB": 2**27, "1 GiB": 2**30}
NAME = "model.safetensors"


def write_ours(place: Path, array: np.ndarray) -> None:
    write_tensors_atomic(place / NAME, {"x": array})


def publish_ours(place: Path, array: np.ndarray) -> None:
    store = ArtifactStore(place)
    directory = store.stage("run", "checkpoint")
    path, now = directory / NAME, datetime.now(tz=UTC)
    artifact = Artifact({NAME: StagedFile.at(path, write_tensors_atomic(path, {"x": array}))})
    outputs = store.write(directory, artifact)
    manifest = describe_step(
        StepRun(step_name="checkpoint", run_id="run", outputs=outputs, started=now, finished=now)
    )
    store.publish(directory, manifest)


def write_plainly(place: Path, array: np.ndarray) -> None:
    with (place / NAME).open("wb") as file:
        file.write(array.data)
        file.flush()
        os.fsync(file.fileno())


def save_with_torch(place: Path, array: np.ndarray) -> None:
    torch.save({"x": torch.from_numpy(array)}, place / NAME)
    flush_and_hash(place / NAME)


def save_with_safetensors(place: Path, array: np.ndarray) -> None:
    save_file({"x": array}, place / NAME)
    flush_and_hash(place / NAME)


def flush_and_hash(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        hashlib.file_digest(file, "sha256")


OURS, PUBLISHED = "write_tensors_atomic", "stage, write and publish"
WRITERS = {
    OURS: write_ours,
    PUBLISHED: publish_ours,
    "write + fsync, no hash": write_plainly,
    "torch.save + fsync + sha256": save_with_torch,
    "safetensors.save_file + fsync + sha256": save_with_safetensors,
}


class PeakMemory:
    """Resident memory of this process, sampled every 2 ms, above what it was at the start, in bytes."""

    def __enter__(self) -> Self:
        self._process, self._stop = psutil.Process(), threading.Event()
        self._start = self._peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def extra(self) -> int:
        return self._peak - self._start


def call(name: str, array: np.ndarray, scratch: str) -> float:
    """Return the seconds of one call of a writer, in a new directory that is then removed."""
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        started = time.perf_counter()
        WRITERS[name](Path(place), array)
        return time.perf_counter() - started


def measure(size: str, *, rounds: int, scratch: str) -> list[list[str]]:
    array = np.random.default_rng(0).standard_normal(SIZES[size] // 4, dtype=np.float32)
    seconds: dict[str, list[float]] = {name: [] for name in WRITERS}
    memory: dict[str, int] = {}
    for name in WRITERS:
        with PeakMemory() as peak:
            call(name, array, scratch)
        memory[name] = peak.extra
    for _ in range(rounds):
        for name, taken in seconds.items():
            taken.append(call(name, array, scratch))
    return [
        [
            size,
            name,
            spread([1000 * value for value in taken]),
            f"{SIZES[size] / statistics.median(taken) / 2**20:.4g}",
            spread([ours / theirs for ours, theirs in zip(seconds[OURS], taken, strict=True)]),
            megabytes(memory[name]),
        ]
        for name, taken in seconds.items()
    ]


def main() -> None:
    scratch = sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir()
    rows = [
        row
        for size, count in SIZES.items()
        for row in measure(size, rounds=15 if count < 2**27 else 3, scratch=scratch)
    ]
    print_table(
        "A float32 tensor made durable; 15 rounds, 3 of the large ones",
        machine=machine_line("numpy", "torch", "safetensors"),
        columns=["size", "what", "ms", "MiB/s", f"{OURS} takes, times as long", "extra memory"],
        rows=rows,
    )


if __name__ == "__main__":
    main()
