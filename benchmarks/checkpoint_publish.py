"""A 512 MiB checkpoint staged, hashed and published, against plain torch.save + fsync of the same weights.

Hashing runs beside writing, so the floor is the slower of the two. With SHA instructions (1.4 to 1.6 GiB/s)
that is the disk; without them (0.2 to 0.35 GiB/s) it is SHA-256, which is printed beside it.
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
from typing import TYPE_CHECKING, Self

import psutil
import torch
from _common import machine_line, print_table

from streetvision_core.io import Artifact, ArtifactStore, StagedFile, describe_step, write_checkpoint_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20


def publish(store: ArtifactStore, state: dict[str, torch.Tensor], run: int) -> None:
    directory = store.stage(f"run{run}", "checkpoint")
    path = directory / "model.safetensors"
    staged = StagedFile.at(path, write_checkpoint_atomic(path, state))
    artifact, now = Artifact({"model.safetensors": staged}), datetime.now(tz=UTC)
    store.publish(
        directory,
        describe_step(
            step_name="checkpoint",
            run_id=f"run{run}",
            dagster_run_id="",
            code_version="",
            config={},
            inputs={},
            roles=(),
            outputs=store.write(directory, artifact),
            metrics={},
            started=now,
            finished=now,
            device="cpu",
            seed=None,
        ),
    )


def plain(path: Path, state: dict[str, torch.Tensor]) -> None:
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def hash_all(state: dict[str, torch.Tensor]) -> None:
    digest = hashlib.sha256()
    for tensor in state.values():
        digest.update(memoryview(tensor.numpy()).cast("B"))


class PeakMemory:
    """Resident memory of this process, sampled every 2 ms, above what it was at the start, in MiB."""

    def __enter__(self) -> Self:
        self._process, self._stop = psutil.Process(), threading.Event()
        self._start = self.peak = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def extra_mib(self) -> float:
        return (self.peak - self._start) / MIB


def main(size_mib: int = 512, rounds: int = 7) -> None:
    state = {f"layer{i}": torch.randn(size_mib // 8 * MIB // 4) for i in range(8)}
    ours, theirs, hashing, memory = [], [], [], []
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as scratch:
        store = ArtifactStore(Path(scratch) / "store")
        plain(Path(scratch) / "warm.pt", state)
        publish(store, state, 0)
        for run in range(1, rounds + 1):
            theirs.append(timed(plain, Path(scratch) / f"{run}.pt", state))
            hashing.append(timed(hash_all, state))
            with PeakMemory() as peak:
                ours.append(timed(publish, store, state, run))
            memory.append(peak.extra_mib)
            Path(scratch, f"{run}.pt").unlink()
            (store.directory(f"run{run}", "checkpoint") / "model.safetensors").unlink()
    floor_ratios = [a / max(b, c) for a, b, c in zip(ours, theirs, hashing, strict=True)]
    print_table(
        f"A {size_mib} MiB checkpoint, {rounds} pairs in turn",
        machine=machine_line("torch", "safetensors"),
        columns=["what", "median", "least", "most"],
        rows=[
            ["stage, hash and publish, s", *spread(ours)],
            ["torch.save + fsync, s", *spread(theirs)],
            ["SHA-256 of the tensors in memory, s", *spread(hashing)],
            [
                "ratio to torch.save + fsync, pair by pair",
                *spread([a / b for a, b in zip(ours, theirs, strict=True)]),
            ],
            ["ratio to the larger of both, pair by pair", *spread(floor_ratios)],
            ["extra memory of publish, MiB", *spread(memory)],
        ],
    )


def spread(values: list[float]) -> list[str]:
    return [f"{value:.2f}" for value in (statistics.median(values), min(values), max(values))]


def timed(function: Callable[..., None], *arguments: object) -> float:
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
