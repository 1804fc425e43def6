"""The resume state: the files of a killed training, from which the next run goes on after its last epoch.

A directory belongs to exactly one training. Whoever reads or writes the state holds `.lock` in it, a lock
that dies with its process, so a second run of the same training waits and then takes what the first made.

An epoch is saved in this order: `epoch-N.ckpt` (Lightning's whole state), `best-M.safetensors` (the best
weights so far, another name of the staged file, when there is a better epoch), and last `state.json`, which
holds the SHA-256 of both. Then every file that it does not name is removed. Each step is durable before the
next one begins, so a kill or a power cut leaves the earlier state or the new one, whole.

Reading trusts nothing. The digests are compared on the very bytes that are then loaded, and torch loads
tensors and plain values only (`weights_only`). A state of another training, of other library versions or of
another device is not used. A state that cannot be used raises an error while it is read, whose words
become the notice that training starts over. It costs the epochs, never a crash.

Not promised: the same bits when the number of threads or the processor is another one than before.
"""

from __future__ import annotations

import contextlib
import logging
import re
from importlib.metadata import version
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pydantic

from streetvision_core.errors import IntegrityError, SchemaError, StoreError
from streetvision_core.io import (
    StagedFile,
    bytes_digest,
    make_directory,
    write_file_atomic,
    write_json_atomic,
)
from streetvision_core.io.atomic import link_file_durably, sweep_partials
from streetvision_core.io.claims import progress_lock, refuse_foreign_progress, remove_own
from streetvision_core.io.encode import parse_json
from streetvision_core.training.report import CandidateRow, EpochRow, best_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from filelock import BaseFileLock


SCHEMA_VERSION = 4

_PARTS = {"state_dict", "loops", "optimizer_states", "lr_schedulers", "rows", "candidates"}
_START_OVER = "Training starts from the beginning."


class SavedRecord(pydantic.BaseModel, frozen=True, extra="forbid", strict=True):
    """`state.json`: which training it is, and the files of its last epoch and of its best one.

    The epochs count from 1 and name the files. A training without labels has no best one. `surroundings` are
    the device and the libraries.
    """

    schema_version: int = SCHEMA_VERSION
    training: str
    surroundings: dict[str, str]
    epoch: int = pydantic.Field(ge=1)
    epoch_sha256: str
    best_epoch: int | None = pydantic.Field(None, ge=1)
    best_sha256: str | None = None

    @property
    def epoch_name(self) -> str:
        """File name of Lightning's state after the epoch."""
        return epoch_name(self.epoch)

    @property
    def best_name(self) -> str | None:
        """File name of the best weights, None where there are none."""
        return None if self.best_epoch is None else best_name(self.best_epoch)


def epoch_name(epoch: int) -> str:
    """Return the file name of Lightning's state after an epoch, counted from 1."""
    return f"epoch-{epoch}.ckpt"


def best_name(epoch: int) -> str:
    """Return the file name of the weights of a best epoch, counted from 1."""
    return f"best-{epoch}.safetensors"


class SavedTraining:
    """A training as it was after the last of its `rows`.

    Without labels there are no rows, and `losses` are those of the epochs.
    """

    def __init__(self, checkpoint: dict[str, Any], *, weights: bytes) -> None:
        self.losses = tuple(float(loss) for loss in checkpoint.get("losses", ()))
        self.rows = tuple(EpochRow(**row) for row in checkpoint["rows"])
        self.candidates = tuple(CandidateRow(**row) for row in checkpoint["candidates"])
        self._checkpoint = checkpoint
        self._weights = weights

    def take_checkpoint(self) -> dict[str, Any]:
        """Hand over Lightning's state, once: it is several times as large as the model."""
        checkpoint, self._checkpoint = self._checkpoint, {}
        return checkpoint

    def stage_weights(self, path: Path) -> StagedFile:
        """Write the verified bytes of the best weights durably to `path`, once."""
        weights, self._weights = self._weights, b""
        return StagedFile.at(path, write_file_atomic(path, weights))


def _damaged_record(path: Path) -> IntegrityError:
    return IntegrityError("a saved training", "a damaged record", path, _START_OVER)


def read_record(path: Path, *, training: str, surroundings: Mapping[str, str]) -> SavedRecord | None:
    """Return the record of this training in these surroundings, or None where there is none.

    Raises:
        SchemaError: the record is of another version, training or surroundings.
        IntegrityError: it is damaged.
    """
    if not path.exists():
        return None
    data = _read(path)
    try:
        content = parse_json(data)
    except ValueError as error:
        raise _damaged_record(path) from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        expected = f"a saved training of schema version {SCHEMA_VERSION}"
        raise SchemaError(expected, f"version {version}", path, _START_OVER)
    try:
        record = SavedRecord.model_validate(content)
    except pydantic.ValidationError as error:
        raise _damaged_record(path) from error
    if record.training != training:
        raise SchemaError("the saved state of this training", "that of another", path, _START_OVER)
    if record.surroundings != surroundings:
        expected = f"a training saved with {_listed(surroundings)}"
        raise SchemaError(expected, _listed(record.surroundings), path, _START_OVER)
    return record


def read_training(directory: Path, record: SavedRecord) -> SavedTraining:
    """Read the files that the record names, each one verified before it is loaded.

    Raises:
        IntegrityError: a file is not what was saved, or holds something else than a training.
    """
    path = directory / record.epoch_name
    checkpoint = _load(_read(path, sha256=record.epoch_sha256), path)
    weights = _read(directory / record.best_name, sha256=record.best_sha256) if record.best_name else b""
    try:
        saved = SavedTraining(checkpoint, weights=weights)
        epochs = [row.epoch for row in saved.rows] or list(range(1, len(saved.losses) + 1))
        best_epoch = None if record.best_epoch is None else best_of(saved.rows).epoch
    except (TypeError, ValueError, IndexError) as error:
        raise IntegrityError("a row for each epoch", "something else", path, _START_OVER) from error
    if epochs != list(range(1, record.epoch + 1)) or best_epoch != record.best_epoch:
        expected = f"{record.epoch} epochs, of which {record.best_epoch} is the best"
        raise IntegrityError(expected, f"epochs {epochs}, best {best_epoch}", path, _START_OVER)
    return saved


def _read(path: Path, *, sha256: str | None = None) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        found = f"the error '{error.strerror}'"
        raise IntegrityError("the saved state of a training", found, path, _START_OVER) from error
    if sha256 is not None and bytes_digest(data) != sha256:
        raise IntegrityError("the saved state of a training", "other content", path, _START_OVER)
    return data


def _load(data: bytes, path: Path) -> dict[str, Any]:
    import torch

    try:
        checkpoint = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        # Foreign bytes make torch's reader fail in any way there is; each means that this cannot be used.
        found = f"something else ({type(error).__name__})"
        raise IntegrityError("tensors and plain values", found, path, _START_OVER) from error
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= _PARTS:
        raise IntegrityError("every part of a training", "parts of one", path, _START_OVER)
    return checkpoint


def _listed(surroundings: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(surroundings.items()))


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

    def load(self) -> SavedTraining | None:
        """Return what the last run saved, or None where there is nothing that can be used.

        What cannot be used stays until the first epoch is saved: the cause may be a passing one.
        """
        path = self.directory / STATE_NAME
        try:
            record = read_record(path, training=self._training, surroundings=self._surroundings)
            saved = read_training(self.directory, record) if record else None
        except (IntegrityError, SchemaError) as error:
            _log.warning("%s", error)
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
def open_state(directory: Path, *, training: str, device: str) -> Iterator[ResumeState]:
    """Lock the state of a training for the block; wait for another run that holds it.

    Args:
        directory: Belongs to this training alone; made if it is missing.
        training: The digest of everything that decides how the training goes.
        device: What it runs on, "cpu" or "cuda".

    Raises:
        StoreError: the directory is somebody's, a link, or cannot be written.
    """
    lock = progress_lock(directory)
    try:
        refuse_foreign_progress(directory)
        _acquire(lock, directory)
    except OSError as error:
        raise _refused("to lock the state of the training", error, directory) from error
    try:
        yield ResumeState(directory, training=training, device=device)
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, directory: Path) -> None:
    from filelock import Timeout

    timeout = 0.0
    while not lock.is_locked:
        make_directory(directory)
        try:
            lock.acquire(timeout=timeout, poll_interval=0.1)
        except FileNotFoundError:
            continue  # the other run published its result and removed the directory
        except Timeout:
            _log.info("Another run is training exactly this; waiting for it.")
            timeout = -1


def _refused(expected: str, error: OSError, path: Path) -> StoreError:
    action = "Mend the cause (space, permission, path) and run again."
    return StoreError(expected, f"the error '{error.strerror}'", path, action)
