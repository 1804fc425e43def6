"""A saved training: the record of its files, and how they are read again without trusting them.

The digests are compared on the very bytes that are then loaded, and torch loads tensors and plain values
only (`weights_only`). Whatever cannot be used raises, with words for the notice that training starts over.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import pydantic

from streetvision_core.errors import IntegrityError, SchemaError
from streetvision_core.io import StagedFile, bytes_digest, write_file_atomic
from streetvision_core.io.encode import parse_json
from streetvision_core.training.report import CandidateRow, EpochRow, best_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA_VERSION = 3

_PARTS = {"state_dict", "loops", "optimizer_states", "lr_schedulers", "rows", "candidates", "unreadable"}
_START_OVER = "Training starts from the beginning."


class SavedRecord(pydantic.BaseModel, frozen=True, extra="forbid", strict=True):
    """`state.json`: which training it is, and the files of its last epoch and of its best one.

    The epochs count from 1 and name the files. What learns without labels has no best
    one. `surroundings` are the device and the libraries.
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
    """A training as it was after the last of its `rows`; `unreadable` are the pictures that it left out.

    Without labels there are no rows, and `losses` are those of the epochs.
    """

    def __init__(self, checkpoint: dict[str, Any], *, weights: bytes) -> None:
        self.losses = tuple(float(loss) for loss in checkpoint.get("losses", ()))
        self.rows = tuple(EpochRow(**row) for row in checkpoint["rows"])
        self.candidates = tuple(CandidateRow(**row) for row in checkpoint["candidates"])
        self.unreadable = tuple(str(name) for name in checkpoint["unreadable"])
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
    found = content.get("schema_version") if isinstance(content, dict) else None
    if found != SCHEMA_VERSION:
        expected = f"a saved training of schema version {SCHEMA_VERSION}"
        raise SchemaError(expected, f"version {found}", path, _START_OVER)
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
