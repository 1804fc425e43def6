"""The training loop: Lightning's trainer, from the first epoch or from the one after an earlier run's last.

`run_training` runs any `LoopModule`. Lightning logs nothing, writes nothing and keeps no checkpoints of its
own. Three callbacks do that work.

`SaveEpoch` saves each epoch, through the plugin `StateIO`. What it saves is Lightning's own checkpoint:
weights, averaged weights, optimizer, schedule, the counters of its loops, and the module's rows. Nothing else
is needed to go on after a kill: every random draw follows from the seed and from those counters, and the best
epoch and early stopping follow from the rows.

`BestEpoch` makes the weights of the best epoch durable before the next one starts, and stops the training
when no better one comes in `PATIENCE` epochs. Better is a higher MCC on val_select, or the same MCC at a
lower loss. The averaged weights are staged; each better epoch replaces the file atomically, so a kill leaves
a whole file or none.

`Progress` shows one bar over the whole training, where stderr is a terminal, and reports each epoch.
Elsewhere nothing is printed here: `on_epoch` gets each `EpochReport`, whose text is one readable line. Where
lines and bar share a terminal, the bar steps aside.
"""

from __future__ import annotations

import copy
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning
import torch
from lightning import Callback
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed
from tqdm import tqdm

from streetvision_core.inference.predict import choose_device
from streetvision_core.io import StagedFile, write_checkpoint_atomic
from streetvision_core.training.processes import ONE, Environment, Processes
from streetvision_core.training.report import EpochRow, Timing
from streetvision_core.training.throughput import MIB, Meter, Throughput, peak_memory_mb, share_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch.utils.data import DataLoader

    from streetvision_core.training.data import EpochBatches
    from streetvision_core.training.module import LoopModule, TrainingModule
    from streetvision_core.training.resume import ResumeState, SavedTraining

# The learning rate falls to the last epoch, so a shorter patience would judge the middle of a training.
PATIENCE = 8  # epochs


class Progress(Callback):
    """Reports epochs and draws the bar; `throughput` is that of this run so far."""

    def __init__(
        self, *, epochs: int, batches_per_epoch: int, images_per_epoch: int, on_epoch: Callable[[Any], None]
    ) -> None:
        self._epochs = epochs
        self._batches = batches_per_epoch
        self._images = images_per_epoch
        self._on_epoch = on_epoch
        self._bar: tqdm[Any] | None = None
        self._begun = self._epoch_begun = 0.0
        self._epochs_done = 0
        self._meter = Meter()
        self._peak_memory_mb = 0.0
        self._gpu_peak_memory_mb: float | None = None

    @property
    def throughput(self) -> Throughput:
        """The throughput of this run so far, validation left out."""
        meter = self._meter
        return Throughput(
            pictures_per_second=self._epochs_done * self._images / max(meter.trained_in_all, 1e-9),
            data_wait_share=share_of(meter.waited_in_all, meter.trained_in_all),
            peak_memory_mb=self._peak_memory_mb,
            gpu_peak_memory_mb=self._gpu_peak_memory_mb,
        )

    def on_train_start(self, trainer: lightning.Trainer, pl_module: LoopModule) -> None:  # type: ignore[override]
        """Open the bar, at the epochs that an earlier run has trained, and measure from here on."""
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
            self._meter = Meter(ahead=_recorded_work)
        pl_module.on_arrival = self._meter.batch_arrived
        self._begun = time.monotonic()
        self._bar = tqdm(
            total=self._epochs * self._batches,
            initial=trainer.current_epoch * self._batches,
            unit="batch",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            leave=True,
        )

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002 - as above
        """Start the epoch's clock."""
        self._epoch_begun = time.monotonic()
        self._meter.begin_epoch()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: LoopModule,  # type: ignore[override]
        outputs: Any,  # noqa: ARG002 - as above
        batch: Any,  # noqa: ARG002 - as above
        batch_idx: int,
    ) -> None:
        """Move the bar by a batch, and wait for the next one."""
        if self._bar is not None and not self._bar.disable:
            so_far = f", {pl_module.so_far}" if pl_module.so_far else ""
            epoch = f"{pl_module.phase} epoch".lstrip() + f" {trainer.current_epoch + 1}/{self._epochs}"
            self._bar.set_description_str(f"{epoch} batch {batch_idx + 1}/{self._batches}", refresh=False)
            self._bar.set_postfix_str(f"loss {pl_module.last_loss:.3f}{so_far}", refresh=False)
            self._bar.update()
        self._meter.batch_ended()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002 - as above
        """Stop the epoch's training clock."""
        self._meter.end_epoch()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: LoopModule) -> None:  # type: ignore[override]  # noqa: ARG002 - as above
        """Report the epoch."""
        now = time.monotonic()
        meter = self._meter
        meter.end_epoch()  # unless a validation has ended it
        self._epochs_done += 1
        self._peak_memory_mb = max(self._peak_memory_mb, peak_memory_mb())
        if pl_module.device.type == "cuda":
            self._gpu_peak_memory_mb = torch.cuda.max_memory_allocated(pl_module.device) / MIB
        timing = Timing(
            epochs=self._epochs,
            pictures_per_second=self._images / max(meter.trained, 1e-9),
            seconds=now - self._epoch_begun,
            seconds_left=(now - self._begun) / self._epochs_done * (self._epochs - pl_module.epochs_done),
            data_wait_share=share_of(meter.waited, meter.trained),
            peak_memory_mb=self._peak_memory_mb,
            gpu_peak_memory_mb=self._gpu_peak_memory_mb,
        )
        with self._bar_aside():
            self._on_epoch(pl_module.report(timing))

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:  # noqa: ARG002 - as above
        """Close the bar, however training ended."""
        if self._bar is not None:
            self._bar.close()

    @contextmanager
    def _bar_aside(self) -> Iterator[None]:
        """Take the bar off its line for the block: whoever writes to the terminal begins at its left."""
        if self._bar is None or self._bar.disable:
            yield
            return
        self._bar.clear()
        yield
        self._bar.refresh()


def _recorded_work() -> Callable[[], bool]:
    """Return what tells whether the GPU has yet to finish what it was given so far; nobody waits."""
    event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return lambda: not event.query()


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
        best = self._best.told if self._best else None
        self._state.record(epoch=epoch, epoch_sha256=self._io.sha256, best=best)


class BestEpoch(Callback):
    """Stages the best weights at `path`; `row` and `weights` are the best epoch's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.row: EpochRow | None = None
        self.weights: StagedFile | None = None

    @property
    def told(self) -> tuple[int, StagedFile]:
        """The number of the best epoch, and its weights."""
        assert self.row is not None
        assert self.weights is not None
        return self.row.epoch, self.weights

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
        return self.row is not None and row.epoch - self.row.epoch >= PATIENCE


@dataclass(frozen=True)
class Saving:
    """The state in which each epoch is saved, None to save none, and what an earlier run has saved there."""

    state: ResumeState | None = None
    saved: SavedTraining | None = None


@dataclass(frozen=True)
class Plan:
    """The length of a training, and the hardware that it runs on.

    A step of the optimizer takes `accumulate` batches; `gradient_clip` is the largest norm of its gradient,
    0 for no limit. `precision` is "float32", or "auto" for bf16 where a GPU has it. `processes` are those
    that train together, and which of them this is.
    """

    epochs: int
    accumulate: int = 1
    gradient_clip: float = 0.0
    precision: str = "float32"
    processes: Processes = ONE


def run_training(
    module: LoopModule,
    loader: DataLoader[Any],
    validation: Iterable[Any] | None,
    *,
    plan: Plan,
    best: BestEpoch | None,
    saving: Saving,
    on_epoch: Callable[[Any], None],
) -> Throughput:
    """Train the epochs that are missing; return how fast these were. The module holds what came of them.

    Args:
        module: What learns.
        loader: Batches of train, in the order of its sampler, `EpochBatches`.
        validation: Batches of val_select; None where nothing is validated.
        plan: The length of the training, and the hardware that it runs on.
        best: Stages the best weights; None where no epoch is judged.
        saving: Where epochs are saved, and those that an earlier run has trained.
        on_epoch: Called with the module's report of each epoch, when it is saved.
    """
    batches = cast("EpochBatches", loader.sampler)
    epochs_done = module.epochs_done
    # Lightning tells the sampler its epoch too late for workers, which draw ahead as soon as they start.
    batches.set_epoch(epochs_done)
    progress = Progress(
        epochs=plan.epochs,
        batches_per_epoch=len(batches),
        images_per_epoch=batches.images_per_epoch,
        on_epoch=on_epoch,
    )
    callbacks: list[lightning.Callback] = [best] if best else []
    plugins: list[Any] = []
    if saving.state is not None:
        plugins = [StateIO(saving.saved)]
        callbacks.append(SaveEpoch(saving.state, io=plugins[0], best=best))
    processes = plan.processes
    trainer = lightning.Trainer(
        **_hardware(plan.precision, processes),
        max_epochs=plan.epochs,
        accumulate_grad_batches=plan.accumulate,
        gradient_clip_val=plan.gradient_clip or None,
        callbacks=[*callbacks, progress],
        plugins=[*plugins, Environment(processes)] if processes.count > 1 else plugins,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    path = saving.state.epoch_path(epochs_done) if saving.state and epochs_done else None
    _run(trainer, module, loader, validation, path=path)
    return progress.throughput


def _hardware(precision: str, processes: Processes) -> dict[str, Any]:
    """Return what Lightning is told of devices and precision; never fp16, where features of ViTs overflow."""
    device = choose_device().type
    bf16 = precision == "auto" and device == "cuda" and torch.cuda.is_bf16_supported()
    return {
        "accelerator": "gpu" if device == "cuda" else "cpu",
        "devices": processes.count,
        "strategy": DDPStrategy() if processes.count > 1 else "auto",
        "precision": "bf16-mixed" if bf16 else "32-true",
    }


def _run(
    trainer: lightning.Trainer,
    module: LoopModule,
    loader: DataLoader[Any],
    validation: Iterable[Any] | None,
    *,
    path: Path | None,
) -> None:
    """Fit; an interrupt stays an interrupt, which Lightning turns into an exit of the process."""
    try:
        trainer.fit(module, loader, validation, ckpt_path=path)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise
