"""The resume state: what a killed training leaves behind, so that the next run goes on after its last epoch.

A directory belongs to exactly one training. Whoever reads or writes the state holds `.lock` in it, a lock
that dies with its process, so a second run of the same training waits and then takes what the first made.

An epoch is saved in this order: `epoch-N.ckpt` (Lightning's whole state), `best-M.safetensors` (the best
weights so far, another name of the staged file, when there is a better epoch), and last `state.json`, which
holds the SHA-256 of both. Then what it does not name is removed. Each step is durable before the next one
begins, so a kill or a power cut leaves the earlier state or the new one, whole.

Reading trusts nothing: the digests are compared on the very bytes that are then loaded, torch loads tensors
and plain values only (`weights_only`), and a state of another training, of other library versions or of
another device is not used. What cannot be used costs a notice and the epochs, never a crash.

Not promised: the same bits when the number of threads or the processor is another one than before.
"""

from __future__ import annotations

import contextlib
import logging
import re
from importlib.metadata import version
from typing import TYPE_CHECKING

from streetvision_core.errors import IntegrityError, SchemaError, StoreError
from streetvision_core.io import make_directory, write_json_atomic
from streetvision_core.io.atomic import link_file_durably, sweep_partials
from streetvision_core.io.progress import progress_lock, refuse_foreign_progress
from streetvision_core.io.removal import remove_own
from streetvision_core.training.saved import (
    SavedRecord,
    epoch_name,
    read_record,
    read_training,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from filelock import BaseFileLock

    from streetvision_core.io import StagedFile
    from streetvision_core.training.saved import SavedTraining

_log = logging.getLogger(__name__)
STATE_NAME = "state.json"
LIBRARIES = ("lightning", "numpy", "pillow", "timm", "torch", "torchvision")

_OURS = re.compile(r"epoch-\d+\.ckpt|best-\d+\.safetensors")


class ResumeState:
    """The state in `directory`, which this process has locked; see `open_state`."""

    def __init__(self, directory: Path, *, training: str, device: str) -> None:
        self.directory = directory
        self._training = training
        self._surroundings = {"device": device, **{name: version(name) for name in LIBRARIES}}
        self._best_name: str | None = None

    def epoch_path(self, epoch: int) -> Path:
        """Return where Lightning's state after an epoch, counted from 1, is kept."""
        return self.directory / epoch_name(epoch)

    def load(self, *, on_notice: Callable[[str], None]) -> SavedTraining | None:
        """Return what the last run saved, or None where there is nothing that can be used.

        What cannot be used stays until the first epoch is saved: the cause may be a passing one.
        """
        path = self.directory / STATE_NAME
        try:
            record = read_record(path, training=self._training, surroundings=self._surroundings)
            saved = read_training(self.directory, record) if record else None
        except (IntegrityError, SchemaError) as error:
            on_notice(str(error))
            return None
        if record:
            self._best_name = record.best_name
        self._sweep(record)
        return saved

    def record(self, *, epoch: int, epoch_sha256: str, best: tuple[int, StagedFile] | None) -> None:
        """Make the written epoch the state that the next run goes on from; `best` is the best one so far."""
        record = SavedRecord(
            training=self._training,
            surroundings=self._surroundings,
            epoch=epoch,
            epoch_sha256=epoch_sha256,
            best_epoch=best and best[0],
            best_sha256=best and best[1].sha256,
        )
        if best and record.best_name and record.best_name != self._best_name:
            best_path = self.directory / record.best_name
            remove_own(best_path, root=self.directory.parent)
            link_file_durably(best[1].path, best_path)
            self._best_name = record.best_name
        write_json_atomic(self.directory / STATE_NAME, record.model_dump())
        self._sweep(record)

    def _sweep(self, record: SavedRecord | None) -> None:
        """Remove the files of ours that the record does not name, which a killed run has left."""
        kept = {record.epoch_name, record.best_name} if record else set()
        root = self.directory.parent
        try:
            for path in sorted(self.directory.iterdir()):
                if _OURS.fullmatch(path.name) and path.name not in kept:
                    remove_own(path, root=root)
            sweep_partials(self.directory, root=root)
        except (OSError, StoreError) as error:  # what cannot be removed costs room and nothing else
            _log.warning("an earlier state of the training stays: %s", error)


@contextlib.contextmanager
def open_state(
    directory: Path, *, training: str, device: str, on_notice: Callable[[str], None]
) -> Iterator[ResumeState]:
    """Lock the state of a training for the block; wait for another run that holds it.

    Args:
        directory: Belongs to this training alone; made if it is missing.
        training: The digest of everything that decides how the training goes.
        device: What it runs on, "cpu" or "cuda".
        on_notice: Told once if it has to wait.

    Raises:
        StoreError: the directory is somebody's, a link, or cannot be written.
    """
    lock = progress_lock(directory)
    try:
        refuse_foreign_progress(directory)
        _acquire(lock, directory, on_notice=on_notice)
    except OSError as error:
        raise _refused("to lock the state of the training", error, directory) from error
    try:
        yield ResumeState(directory, training=training, device=device)
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, directory: Path, *, on_notice: Callable[[str], None]) -> None:
    from filelock import Timeout

    timeout = 0.0
    while not lock.is_locked:
        make_directory(directory)
        try:
            lock.acquire(timeout=timeout, poll_interval=0.1)
        except FileNotFoundError:
            continue  # the other run published its result and removed the directory
        except Timeout:
            on_notice("Another run is training exactly this; waiting for it.")
            timeout = -1


def _refused(expected: str, error: OSError, path: Path) -> StoreError:
    action = "Mend the cause (space, permission, path) and run again."
    return StoreError(expected, f"the error '{error.strerror}'", path, action)
