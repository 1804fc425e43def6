"""The training loop: Lightning's trainer, from the first epoch or from the one after an earlier run's last.

It runs any `LoopModule`. Lightning logs nothing, writes nothing and keeps no checkpoints of its own.
Where a training goes on, its checkpoint gives back weights, averages, optimizer, schedule and counters; the
rows and the best epoch come from the same state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import lightning
import torch
from lightning.pytorch.strategies import DDPStrategy

from streetvision_core.models.predict import choose_device
from streetvision_core.training.processes import ONE, Environment, Processes
from streetvision_core.training.progress import Progress
from streetvision_core.training.saving import SaveEpoch, StateIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torch.utils.data import DataLoader

    from streetvision_core.training.best import BestEpoch
    from streetvision_core.training.data import EpochBatches
    from streetvision_core.training.module import LoopModule
    from streetvision_core.training.resume import ResumeState
    from streetvision_core.training.saved import SavedTraining
    from streetvision_core.training.throughput import Throughput


@dataclass(frozen=True)
class Saving:
    """Where each epoch is saved, or None to save none, and what an earlier run has saved there."""

    state: ResumeState | None = None
    saved: SavedTraining | None = None


@dataclass(frozen=True)
class Plan:
    """How long and on what it is trained.

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
        plan: How long and on what it is trained.
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
        pictures_per_epoch=batches.pictures_per_epoch,
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
