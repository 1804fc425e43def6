"""How Lightning reads and writes the resume state: a callback that saves each epoch, and the plugin it uses.

What is saved is Lightning's own checkpoint: weights, averaged weights, optimizer, schedule, the counters of
its loops, and the module's rows. Nothing else is needed: every random draw follows from the seed and from
those counters, and early stopping from the rows.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning import Callback
from lightning.pytorch.plugins import CheckpointIO
from torch import distributed

from streetvision_core.io import write_checkpoint_atomic

if TYPE_CHECKING:
    import lightning

    from streetvision_core.training.best import BestEpoch
    from streetvision_core.training.module import LoopModule
    from streetvision_core.training.resume import ResumeState
    from streetvision_core.training.saved import SavedTraining


class StateIO(CheckpointIO):
    """Writes Lightning's checkpoint durably, and hands it the one that was verified."""

    def __init__(self, saved: SavedTraining | None) -> None:
        self.sha256 = ""
        self._saved = saved

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ARG002 - Lightning's signature
        """Write the checkpoint durably; `sha256` is then that of the file."""
        self.sha256 = write_checkpoint_atomic(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:  # noqa: ARG002 - as above
        """Return the checkpoint that was verified and loaded when the state was opened."""
        assert self._saved is not None
        checkpoint = self._saved.take_checkpoint()
        # Processes are sent tensors in memory that they share, and optimizers go on in what they are given.
        return copy.deepcopy(checkpoint) if distributed.is_initialized() else checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Do nothing: the resume state removes what it does not name."""


class SaveEpoch(Callback):
    """Saves every finished epoch, after `best` has judged it, where there is one."""

    def __init__(self, state: ResumeState, *, io: StateIO, best: BestEpoch | None) -> None:
        self._state = state
        self._io = io
        self._best = best

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: LoopModule) -> None:  # type: ignore[override]
        """Make this epoch the one that a later run goes on from."""
        epoch = pl_module.epochs_done
        trainer.save_checkpoint(self._state.epoch_path(epoch), weights_only=False)
        if not trainer.is_global_zero:  # saving takes all processes, and the first one writes
            return
        best = None
        if self._best is not None:
            assert self._best.row is not None
            assert self._best.weights is not None
            best = (self._best.row.epoch, self._best.weights)
        self._state.record(epoch=epoch, epoch_sha256=self._io.sha256, best=best)
