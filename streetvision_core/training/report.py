"""What is known of an epoch: the row that is kept with the checkpoint, and the report that is shown.

The row holds what the seed decides and goes into metrics.csv, so the same training gives the same file.
The report adds times, which differ from run to run and are shown only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, order=True)
class EpochRow:
    """One epoch, counted from 1.

    `train_loss` is the mean of what was minimised (weighted, smoothed, augmented pictures), `val_loss`
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

    def to_csv_row(self) -> dict[str, float]:
        """Return the row by column name."""
        return asdict(self)

    @classmethod
    def from_csv_row(cls, row: Mapping[str, str]) -> Self:
        """Read back what `to_csv_row` gave, from text."""
        return cls(int(row["epoch"]), **{name: float(row[name]) for name in EPOCH_COLUMNS if name != "epoch"})


EPOCH_COLUMNS = tuple(field.name for field in fields(EpochRow))


@dataclass(frozen=True)
class CandidateRow:
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

    def to_csv_row(self) -> dict[str, float]:
        """Return the row by column name."""
        return asdict(self)

    @classmethod
    def from_csv_row(cls, row: Mapping[str, str]) -> Self:
        """Read back what `to_csv_row` gave, from text."""
        numbers = {name: float(row[name]) for name in CANDIDATE_COLUMNS if name != "epoch"}
        return cls(epoch=int(row["epoch"]), **numbers)


CANDIDATE_COLUMNS = tuple(field.name for field in fields(CandidateRow))


def best_of(rows: Sequence[EpochRow]) -> EpochRow:
    """Return the best of one or more epochs, the first of equals."""
    best = rows[0]
    for row in rows[1:]:
        best = row if row.is_better_than(best) else best
    return best


@dataclass(frozen=True)
class Timing:
    """How an epoch went, whatever learns: the fields that `EpochReport` has by the same names."""

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
            f"{self.pictures_per_second:.0f} pictures/s "
            f"({self.data_wait_share:.0%} waiting for data), {self.peak_memory_mb:.0f} MB{gpu}, "
            f"{minutes}:{seconds:02d} left"
        )


@dataclass(frozen=True)
class EpochReport:
    """An epoch while it is trained; times in seconds, speed and share of waiting without the validation.

    `phase` says which training it belongs to where one follows the other, else it is empty. Memory is in MiB
    and at its peak so far (`throughput`).
    """

    epoch: int
    epochs: int
    train_loss: float
    val_loss: float
    val_mcc: float
    learning_rate: float
    pictures_per_second: float
    seconds: float
    seconds_left: float
    data_wait_share: float
    peak_memory_mb: float
    gpu_peak_memory_mb: float | None = None
    phase: str = ""

    def __str__(self) -> str:
        timing = Timing(**{one.name: getattr(self, one.name) for one in fields(Timing)})
        return (
            f"{f'{self.phase} epoch'.lstrip()} {self.epoch}/{self.epochs}: train loss {self.train_loss:.4f}, "
            f"val loss {self.val_loss:.4f}, val MCC {self.val_mcc:.3f}, {timing}"
        )
