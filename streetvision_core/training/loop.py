"""The training loop: Lightning's trainer, from the first epoch or from the one after an earlier run's last.

Lightning logs nothing, writes nothing and keeps no checkpoints of its own. Where a training goes on, its
checkpoint gives back weights, averages, optimizer, schedule and counters; the rows and the best epoch come
from the same state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning
import torch

from streetvision_core.models import build_classifier
from streetvision_core.models.predict import BATCH_SIZE, choose_device
from streetvision_core.training.data import DecodedPictures, make_train_loader
from streetvision_core.training.module import ClassifierModule, balanced_class_weights
from streetvision_core.training.progress import Progress
from streetvision_core.training.saving import SaveEpoch, StateIO

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch.utils.data import DataLoader

    from streetvision_core.data.pictures import PictureReader
    from streetvision_core.models.backbone import Backbone
    from streetvision_core.models.preprocessing import Preprocessing
    from streetvision_core.training.best import BestEpoch
    from streetvision_core.training.config import TrainingConfig
    from streetvision_core.training.data import EvaluationBatches
    from streetvision_core.training.report import EpochReport, EpochRow
    from streetvision_core.training.resume import ResumeState
    from streetvision_core.training.saved import SavedTraining


@dataclass(frozen=True)
class TrainingData:
    """What is trained on and validated on; `names` and `labels` are those of the train role."""

    reader: PictureReader
    names: Sequence[str]
    labels: Sequence[int]
    validation: EvaluationBatches
    transform: Preprocessing
    cache_bytes: int


def train(
    backbone: Backbone,
    data: TrainingData,
    *,
    config: TrainingConfig,
    best: BestEpoch,
    state: ResumeState | None,
    saved: SavedTraining | None,
    on_epoch: Callable[[EpochReport], None],
) -> tuple[tuple[EpochRow, ...], float]:
    """Train the epochs that are missing; return the rows of all, and pictures a second of those.

    Args:
        backbone: The starting weights.
        data: What is trained on and validated on.
        config: The recipe.
        best: Stages the best weights.
        state: Where each epoch is saved, or None to save none.
        saved: The epochs that an earlier run has trained, or None to begin at the first.
        on_epoch: Called after each epoch, when it is saved.
    """
    decoded = DecodedPictures(
        data.reader, data.names, input_side=max(data.transform.size), cache_bytes=data.cache_bytes
    )
    loader = make_train_loader(decoded, data.labels, transform=data.transform, config=config)
    rows = saved.rows if saved else ()
    # Lightning tells the sampler its epoch too late for workers, which draw ahead as soon as they start.
    loader.sampler.set_epoch(len(rows))  # type: ignore[attr-defined]  # it is an `EpochBatches`
    balanced = config.class_weights == "balanced"
    module = ClassifierModule(
        build_classifier(backbone, dropout=config.dropout),
        transform=data.transform,
        config=config,
        class_weights=balanced_class_weights(data.labels) if balanced else [1.0, 1.0],
        validation_batch_size=BATCH_SIZE,
        steps_per_epoch=len(loader),
        rows=rows,
    )
    progress = Progress(
        epochs=config.epochs,
        steps_per_epoch=len(loader),
        batch_size=min(config.batch_size, len(decoded)),
        on_epoch=on_epoch,
    )
    callbacks: list[lightning.Callback] = [best]
    plugins = []
    if state is not None:
        plugins = [StateIO(state, saved)]
        callbacks.append(SaveEpoch(state, io=plugins[0], best=best))
    trainer = _make_trainer(config, best.path.parent, callbacks=[*callbacks, progress], plugins=plugins)
    _run(
        trainer, module, loader, data.validation, path=state.epoch_path(len(rows)) if state and rows else None
    )
    return tuple(module.rows), progress.pictures_per_second


def _make_trainer(
    config: TrainingConfig, directory: Path, *, callbacks: list[Any], plugins: list[Any]
) -> lightning.Trainer:
    device = choose_device().type
    bf16 = config.precision == "auto" and device == "cuda" and torch.cuda.is_bf16_supported()
    return lightning.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if bf16 else "32-true",
        max_epochs=config.epochs,
        gradient_clip_val=config.gradient_clip or None,
        callbacks=callbacks,
        plugins=plugins,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=directory,
    )


def _run(
    trainer: lightning.Trainer,
    module: ClassifierModule,
    loader: DataLoader[Any],
    validation: EvaluationBatches,
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
