"""From splits to a checkpoint: what `phase1_checkpoint` runs.

1. The roles are checked: train and val_select hold pictures, train holds both classes.
2. The pictures of both roles are read, verified and decoded, as many as the cache takes.
3. Lightning runs the loop. It logs nothing, writes nothing and keeps no checkpoints of its own: the best
   epoch's weights are staged in `directory`, and nothing else is written anywhere.
4. The staged weights are read back, and their logits on val_select are recorded from that very model.

The same seed, pictures and configuration give the same weights bit for bit on the same machine with the
same number of threads; the number of workers and the size of the cache do not matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.errors import TrainingError
from streetvision_core.models import LABEL_NAMES, build_classifier, hub_config
from streetvision_core.training.checkpoint import WEIGHTS_NAME, Checkpoint
from streetvision_core.training.logits import Logits, labels_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import lightning

    from streetvision_core.data import ImageIndex, Splits
    from streetvision_core.data.pictures import PictureReader
    from streetvision_core.models.backbone import Backbone
    from streetvision_core.training.best import BestEpoch
    from streetvision_core.training.config import TrainingConfig
    from streetvision_core.training.data import EvaluationBatches
    from streetvision_core.training.progress import Progress
    from streetvision_core.training.report import EpochReport

MIB = 1024 * 1024


def fit_classifier(
    backbone: Backbone,
    *,
    index: ImageIndex,
    splits: Splits,
    pictures: PictureReader,
    config: TrainingConfig,
    directory: Path,
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
) -> Checkpoint:
    """Train a classifier on the train role and return its best epoch on val_select.

    Args:
        backbone: The starting weights.
        index: The pictures and their labels.
        splits: Which picture plays which role; only train and val_select are read.
        pictures: Reads the pictures of the index.
        config: The recipe.
        directory: Where the best weights are staged.
        on_epoch: Called after each epoch.

    Raises:
        TrainingError: an empty role, one class only in train, or a loss that is not finite.
        DataError: the splits name pictures that the index does not hold.
        IntegrityError: a picture or the backbone's weights are not what they were.
        StoreError: the weights cannot be written.
    """
    from streetvision_core.training.session import training_session

    labels = {role: labels_of(splits.roles[role], index) for role in ("train", "val_select")}
    _check_roles(labels)
    with training_session(threads=config.threads):
        return _fit(
            backbone,
            splits=splits,
            labels=labels,
            reader=pictures,
            config=config,
            directory=directory,
            on_epoch=on_epoch,
        )


def _fit(
    backbone: Backbone,
    *,
    splits: Splits,
    labels: dict[str, list[int]],
    reader: PictureReader,
    config: TrainingConfig,
    directory: Path,
    on_epoch: Callable[[EpochReport], None],
) -> Checkpoint:
    from streetvision_core.models.predict import BATCH_SIZE
    from streetvision_core.models.preprocessing import eval_transform
    from streetvision_core.training.best import BestEpoch
    from streetvision_core.training.data import DecodedPictures, EvaluationBatches, make_train_loader
    from streetvision_core.training.module import ClassifierModule, balanced_class_weights
    from streetvision_core.training.progress import Progress

    transform = eval_transform(backbone.pretrained_cfg)
    half_cache = config.cache_mb * MIB // 2
    validation = EvaluationBatches(
        reader,
        splits.roles["val_select"],
        labels["val_select"],
        transform=transform,
        batch_size=BATCH_SIZE,
        cache_bytes=half_cache,
    )
    decoded = DecodedPictures(
        reader, splits.roles["train"], input_side=max(transform.size), cache_bytes=half_cache
    )
    loader = make_train_loader(decoded, labels["train"], transform=transform, config=config)
    balanced = config.class_weights == "balanced"
    module = ClassifierModule(
        build_classifier(backbone, dropout=config.dropout),
        transform=transform,
        config=config,
        class_weights=balanced_class_weights(labels["train"]) if balanced else [1.0, 1.0],
        validation_batch_size=BATCH_SIZE,
        steps_per_epoch=len(loader),
    )
    best = BestEpoch(directory / WEIGHTS_NAME, patience=config.patience)
    progress = Progress(
        epochs=config.epochs,
        steps_per_epoch=len(loader),
        batch_size=min(config.batch_size, len(decoded)),
        on_epoch=on_epoch,
    )
    _run(_make_trainer(config, directory, [best, progress]), module, loader, validation)
    return _make_checkpoint(
        backbone,
        names=splits.roles["val_select"],
        labels=labels["val_select"],
        epochs=tuple(module.rows),
        best=best,
        progress=progress,
        validation=validation,
    )


def _make_trainer(config: TrainingConfig, directory: Path, callbacks: list[Any]) -> lightning.Trainer:
    import lightning
    import torch

    from streetvision_core.models.predict import choose_device

    device = choose_device().type
    bf16 = config.precision == "auto" and device == "cuda" and torch.cuda.is_bf16_supported()
    return lightning.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if bf16 else "32-true",
        max_epochs=config.epochs,
        gradient_clip_val=config.gradient_clip or None,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=directory,
    )


def _run(trainer: lightning.Trainer, module: Any, loader: Any, validation: EvaluationBatches) -> None:
    """Fit; an interrupt stays an interrupt, which Lightning turns into an exit of the process."""
    try:
        trainer.fit(module, loader, validation)
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise


def _make_checkpoint(
    backbone: Backbone,
    *,
    names: Sequence[str],
    labels: Sequence[int],
    epochs: tuple[Any, ...],
    best: BestEpoch,
    progress: Progress,
    validation: EvaluationBatches,
) -> Checkpoint:
    """Read the staged weights back and record what they say of val_select."""
    from streetvision_core.models.classifier import load_classifier
    from streetvision_core.models.predict import choose_device, describe_device, predict_pixels
    from streetvision_core.models.preprocessing import eval_transform
    from streetvision_core.models.weights import read_state

    assert best.row is not None
    assert best.weights is not None
    config = hub_config(backbone)
    logits = predict_pixels(
        load_classifier(config, read_state(best.weights)),
        validation.pixels(),
        eval_transform(backbone.pretrained_cfg),
        device=choose_device(),
    )
    return Checkpoint(
        weights=best.weights,
        config=config,
        epochs=epochs,
        val_select=Logits(tuple(names), logits, np.array(labels, dtype=np.int64)),
        metrics={
            "val_mcc": best.row.val_mcc,
            "val_loss": best.row.val_loss,
            "best_epoch": best.row.epoch,
            "epochs_run": len(epochs),
            "pictures_per_second": round(progress.pictures_per_second, 1),
        },
        device=describe_device(),
    )


def _check_roles(labels: dict[str, list[int]]) -> None:
    action = "Materialize splits again, with more pictures or groups."
    for role, known in labels.items():
        if not known:
            raise TrainingError(f"pictures in the role {role}", "none", "the splits", action)
    if len(set(labels["train"])) < 2:
        found = f"only {LABEL_NAMES[labels['train'][0]]}"
        raise TrainingError("both classes in the role train", found, "the splits", action)
