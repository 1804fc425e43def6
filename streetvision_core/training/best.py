"""The best epoch: its weights are durable before the next epoch starts, and training stops without a better.

Better is a higher MCC on val_select, or the same MCC at a lower loss. What is staged is what was trained,
averaged; each better epoch replaces the file atomically, so a kill leaves a whole one or none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning import Callback

from streetvision_core.io import StagedFile, write_checkpoint_atomic

if TYPE_CHECKING:
    from pathlib import Path

    import lightning

    from streetvision_core.training.module import TrainingModule
    from streetvision_core.training.report import EpochRow


class BestEpoch(Callback):
    """Stages the best weights at `path`; `row` and `weights` are the best epoch's."""

    def __init__(self, path: Path, *, patience: int) -> None:
        self.path = path
        self.row: EpochRow | None = None
        self.weights: StagedFile | None = None
        self._patience = patience

    def restore(self, row: EpochRow, weights: StagedFile) -> None:
        """Take the best epoch of an earlier run, whose weights are staged at `path`."""
        self.row, self.weights = row, weights

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: TrainingModule) -> None:  # type: ignore[override]
        """Judge the epoch that was just validated."""
        row = pl_module.rows[-1]
        if row.is_better_than(self.row):
            self.row = row
            if trainer.is_global_zero:
                digest = write_checkpoint_atomic(self.path, pl_module.trained_state())
                self.weights = StagedFile.at(self.path, digest)
        elif self.is_exhausted(row):
            trainer.should_stop = True

    def is_exhausted(self, row: EpochRow) -> bool:
        """Tell whether training stops after this epoch, because no better one came in time."""
        return self.row is not None and row.epoch - self.row.epoch >= self._patience
