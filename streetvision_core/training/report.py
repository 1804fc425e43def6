"""The figures of an epoch: the row kept with the checkpoint, the report that is shown, and learning curves.

The row holds what the seed decides and goes into metrics.csv, so the same training gives the same file.
The report adds times, which differ from run to run and are shown only.

`Curves` writes the learning curves for TensorBoard: one event file for each run, epoch by epoch. Every method
writes the same tags (`TAGS`) at the same steps, the epochs counted from 1; the settings stand beside them as
text. The probe that lp_ft trains first has a curve of its own, in the directory `probe`. A run that goes on
with the training of an earlier one writes the earlier epochs again, as far as they are known: the rows, not
the times. Curves are only for looking at: where one cannot be written, the log says so once and the training
goes on.

`SummaryWriter` of torch is not used: a thread of it writes, prints a traceback of its own when the disk is
full, and is alive while the loader forks its workers; and its import takes half a second where the records
alone take a tenth.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

from streetvision_core.io.names import CURVE_NAME
from streetvision_core.training.config import FINETUNE, TrainingConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tensorboard.compat.proto.event_pb2 import Event


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Row:
    """A row of a CSV file: the number of an epoch, and numbers."""

    def to_csv_row(self) -> dict[str, float]:
        """Return the row by column name."""
        return asdict(self)

    @classmethod
    def from_csv_row(cls, row: Mapping[str, str]) -> Self:
        """Read back what `to_csv_row` gave, from text."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: int(row[name]) if name == "epoch" else float(row[name]) for name in names})


@dataclass(frozen=True, order=True)
class EpochRow(_Row):
    """One epoch, counted from 1.

    `train_loss` is the mean of what was minimised (weighted, smoothed, augmented images), `val_loss`
    the plain negative log-likelihood on val_select in nats, `val_mcc` the MCC there at probability 0.5;
    both with the averaged weights. `learning_rate` is that of the epoch's last step.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_mcc: float
    learning_rate: float

    def is_better_than(self, other: EpochRow | None) -> bool:
        """Tell whether this epoch has the higher MCC, or the same at a lower loss."""
        return other is None or (self.val_mcc, -self.val_loss) > (other.val_mcc, -other.val_loss)


EPOCH_COLUMNS = tuple(field.name for field in fields(EpochRow))


@dataclass(frozen=True)
class CandidateRow(_Row):
    """One of the heads that a probe trains at once, at its best epoch so far; at epoch 0 not judged yet."""

    learning_rate: float
    weight_decay: float
    epoch: int = 0
    val_loss: float = 0.0
    val_mcc: float = 0.0

    def after(self, row: EpochRow) -> Self:
        """Return it after another epoch, which counts where it is the best of this head so far."""
        if self.epoch and (self.val_mcc, -self.val_loss) >= (row.val_mcc, -row.val_loss):
            return self
        return replace(self, epoch=row.epoch, val_loss=row.val_loss, val_mcc=row.val_mcc)


CANDIDATE_COLUMNS = tuple(field.name for field in fields(CandidateRow))


def best_of(rows: Sequence[EpochRow]) -> EpochRow:
    """Return the best of one or more epochs, the first of equals."""
    best = rows[0]
    for row in rows[1:]:
        best = row if row.is_better_than(best) else best
    return best


@dataclass(frozen=True)
class Timing:
    """The times of an epoch, for any method; memory is in MiB and at its peak so far (`throughput`)."""

    epochs: int
    pictures_per_second: float
    seconds: float
    seconds_left: float
    data_wait_share: float
    peak_memory_mb: float
    gpu_peak_memory_mb: float | None = None

    def __str__(self) -> str:
        minutes, seconds = divmod(round(self.seconds_left), 60)
        gpu = "" if self.gpu_peak_memory_mb is None else f" and {self.gpu_peak_memory_mb:.0f} MB of the GPU"
        return (
            f"{self.pictures_per_second:.0f} images/s "
            f"({self.data_wait_share:.0%} waiting for data), {self.peak_memory_mb:.0f} MB{gpu}, "
            f"{minutes}:{seconds:02d} left"
        )


@dataclass(frozen=True)
class EpochReport(Timing, EpochRow):
    """An epoch while it is trained; times in seconds, speed and share of waiting without the validation.

    `phase` says which training it belongs to where one follows the other, else it is empty.
    """

    phase: str = ""

    def __str__(self) -> str:
        return (
            f"{f'{self.phase} epoch'.lstrip()} {self.epoch}/{self.epochs}: train loss {self.train_loss:.4f}, "
            f"val loss {self.val_loss:.4f}, val MCC {self.val_mcc:.3f}, {Timing.__str__(self)}"
        )


# Attributes of a row, then of a report, and what TensorBoard calls them; the part before / makes a group.
TAGS = {
    "train_loss": "loss/train",
    "val_loss": "loss/val_select",
    "val_mcc": "mcc/val_select",
    "learning_rate": "learning_rate",
    "pictures_per_second": "speed/pictures_per_second",
    "data_wait_share": "speed/data_wait_share",
    "peak_memory_mb": "memory/peak_mb",
    "gpu_peak_memory_mb": "memory/gpu_peak_mb",
}
SETTINGS_TAG = "settings"


class Curves:
    """Writes the epochs of a run below `directory`; with None it writes nothing."""

    def __init__(self, directory: Path | None, *, config: TrainingConfig) -> None:
        self._directory = directory
        self._config = config
        self._begun: set[Path] = set()

    def begin(self, rows: Sequence[EpochRow]) -> None:
        """Write the epochs that an earlier run has trained."""
        if rows:
            self._write("", list(map(_scalars, rows)))

    def before(self, on_epoch: Callable[[EpochReport], None]) -> Callable[[EpochReport], None]:
        """Return what writes an epoch and then hands its report on."""

        def report(epoch: EpochReport) -> None:
            self._write("" if epoch.phase == FINETUNE else epoch.phase, [_scalars(epoch)])
            on_epoch(epoch)

        return report

    def _write(self, phase: str, events: Sequence[Event]) -> None:
        """Append events to the curve of a phase, which is new in this run when it comes first."""
        if self._directory is None:
            return
        from tensorboard.summary.writer.record_writer import RecordWriter

        path = self._directory / phase / CURVE_NAME
        first = path not in self._begun
        if first:
            events = [_header(), _text(SETTINGS_TAG, _settings(self._config)), *events]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb" if first else "ab") as file:
                writer = RecordWriter(file)
                for event in events:
                    writer.write(event.SerializeToString())
        except OSError as error:
            self._directory = None
            _log.warning(
                "The learning curve for TensorBoard ends here: the error '%s' at %s. The training goes on.",
                error.strerror,
                path,
            )
        self._begun.add(path)


def _header() -> Event:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=time.time(), file_version="brain.Event:2")


def _scalars(epoch: EpochRow) -> Event:
    """Return the event of an epoch with those of its numbers that it has."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    numbers = {tag: getattr(epoch, name, None) for name, tag in TAGS.items()}
    values = [
        Summary.Value(tag=tag, simple_value=number) for tag, number in numbers.items() if number is not None
    ]
    return Event(wall_time=time.time(), step=epoch.epoch, summary=Summary(value=values))


def _text(tag: str, markdown: str) -> Event:
    """Return an event that TensorBoard shows as text."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto

    shown = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    tensor = TensorProto(dtype="DT_STRING", string_val=[markdown.encode()])
    value = Summary.Value(tag=tag, metadata=shown, tensor=tensor)
    return Event(wall_time=time.time(), summary=Summary(value=[value]))


def _settings(config: TrainingConfig) -> str:
    rows = [f"| {name} | {value} |" for name, value in _leaves(config.model_dump(mode="json"))]
    return "\n".join(["| setting | value |", "| --- | --- |", *rows])


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give the settings by their dotted names."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
