"""From splits to a checkpoint: what `phase1_checkpoint` runs.

1. The roles are checked: train and val_select hold pictures, train holds both classes.
2. What an earlier run of exactly this training has saved is taken, where there is such a thing.
3. The pictures of both roles are read, verified and decoded, as many as the cache takes.
4. Lightning runs the epochs that are missing. The best epoch's weights are staged in `directory`, the state
   after each epoch is saved in `resume`, and nothing is written anywhere else.
5. The staged weights are read back, and their logits on val_select are recorded from that very model.

The same seed, pictures and configuration give the same weights bit for bit on the same machine with the
same number of threads; neither the number of workers nor the size of the cache nor a kill matters.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.errors import TrainingError
from streetvision_core.io import json_digest
from streetvision_core.models import LABEL_NAMES, hub_config
from streetvision_core.training.checkpoint import WEIGHTS_NAME, Checkpoint
from streetvision_core.training.logits import Logits, groups_of, labels_of
from streetvision_core.training.report import best_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from streetvision_core.data import ImageIndex, Splits
    from streetvision_core.data.pictures import PictureReader
    from streetvision_core.models.backbone import Backbone
    from streetvision_core.models.preprocessing import Preprocessing
    from streetvision_core.training.best import BestEpoch
    from streetvision_core.training.config import TrainingConfig
    from streetvision_core.training.data import EvaluationBatches
    from streetvision_core.training.report import EpochReport, EpochRow
    from streetvision_core.training.resume import ResumeState
    from streetvision_core.training.saved import SavedTraining

MIB = 1024 * 1024
ROLES = ("train", "val_select")


def fit_classifier(
    backbone: Backbone,
    *,
    index: ImageIndex,
    splits: Splits,
    pictures: PictureReader,
    config: TrainingConfig,
    directory: Path,
    resume: Path | None = None,
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
    on_notice: Callable[[str], None] = lambda _: None,
) -> Checkpoint:
    """Train a classifier on the train role and return its best epoch on val_select.

    Args:
        backbone: The starting weights.
        index: The pictures and their labels.
        splits: Which picture plays which role; only train and val_select are read.
        pictures: Reads the pictures of the index.
        config: The recipe.
        directory: Where the best weights are staged.
        resume: Where the state after each epoch is saved, so that a killed training goes on in the next
            run; a directory of this training alone, for `io.progress.forget_progress` once it is
            published. None saves nothing.
        on_epoch: Called after each epoch.
        on_notice: Told when an earlier run's epochs are taken or cannot be, or when another run trains this.

    Raises:
        TrainingError: an empty role, one class only in train, or a loss that is not finite.
        DataError: the splits name pictures that the index does not hold.
        IntegrityError: a picture or the backbone's weights are not what they were.
        StoreError: the weights or the state cannot be written.
    """
    from streetvision_core.models.predict import choose_device
    from streetvision_core.training.resume import open_state
    from streetvision_core.training.session import training_session

    labels = {role: labels_of(splits.roles[role], index) for role in ROLES}
    _check_roles(labels)
    with ExitStack() as stack:
        state = None
        if resume is not None:
            training = _identify(backbone, index=index, splits=splits, config=config)
            device = choose_device().type
            state = stack.enter_context(
                open_state(resume, training=training, device=device, on_notice=on_notice)
            )
        stack.enter_context(training_session(threads=config.threads))
        return _fit(
            backbone,
            names=splits.roles,
            labels=labels,
            groups=groups_of(splits.roles["val_select"], index),
            reader=pictures,
            config=config,
            directory=directory,
            state=state,
            on_epoch=on_epoch,
            on_notice=on_notice,
        )


def _fit(
    backbone: Backbone,
    *,
    names: Mapping[str, Sequence[str]],
    labels: dict[str, list[int]],
    groups: tuple[str, ...],
    reader: PictureReader,
    config: TrainingConfig,
    directory: Path,
    state: ResumeState | None,
    on_epoch: Callable[[EpochReport], None],
    on_notice: Callable[[str], None],
) -> Checkpoint:
    from streetvision_core.models.predict import BATCH_SIZE
    from streetvision_core.models.preprocessing import eval_transform
    from streetvision_core.models.views import make_views
    from streetvision_core.training.best import BestEpoch
    from streetvision_core.training.data import EvaluationBatches

    transform = eval_transform(backbone.pretrained_cfg, views=make_views(config))
    half_cache = config.cache_mb * MIB // 2
    best = BestEpoch(directory / WEIGHTS_NAME, patience=config.patience)
    saved = state.load(on_notice=on_notice) if state else None
    finished = saved is not None and _take_up(saved, best, epochs=config.epochs, on_notice=on_notice)
    validation = EvaluationBatches(
        reader,
        names["val_select"],
        labels["val_select"],
        transform=transform,
        batch_size=BATCH_SIZE,
        cache_bytes=half_cache,
    )
    if saved is not None and finished:
        rows, speed = saved.rows, 0.0
    else:
        from streetvision_core.training.loop import TrainingData, train

        data = TrainingData(reader, names["train"], labels["train"], validation, transform, half_cache)
        rows, speed = train(
            backbone, data, config=config, best=best, state=state, saved=saved, on_epoch=on_epoch
        )
    return _make_checkpoint(
        backbone,
        names=names["val_select"],
        labels=labels["val_select"],
        groups=groups,
        epochs=rows,
        best=best,
        speed=speed,
        validation=validation,
        transform=transform,
        on_notice=on_notice,
    )


def _identify(backbone: Backbone, *, index: ImageIndex, splits: Splits, config: TrainingConfig) -> str:
    """Return the digest of what decides how a training goes, besides the code."""
    from streetvision_core.training.config import SPEED_SETTINGS, TrainingConfig

    recipe = config.model_dump(mode="json", include=set(TrainingConfig.model_fields) - set(SPEED_SETTINGS))
    known = {picture.name: [picture.sha256, picture.label] for picture in index.pictures}
    return json_digest(
        {
            "recipe": recipe,
            "backbone": backbone.to_artifact().digest,
            "pictures": {role: [[name, *known[name]] for name in splits.roles[role]] for role in ROLES},
        }
    )


def _take_up(saved: SavedTraining, best: BestEpoch, *, epochs: int, on_notice: Callable[[str], None]) -> bool:
    """Stage the best weights of an earlier run; tell whether it had finished its training."""
    last = saved.rows[-1]
    best.restore(best_of(saved.rows), saved.stage_weights(best.path))
    if last.epoch >= epochs or best.is_exhausted(last):
        on_notice(
            f"Nothing is left to train: an earlier run had finished, after epoch {last.epoch} of {epochs}."
        )
        return True
    on_notice(f"Going on after epoch {last.epoch} of {epochs}, which an earlier run had finished.")
    return False


def _make_checkpoint(
    backbone: Backbone,
    *,
    names: Sequence[str],
    labels: Sequence[int],
    groups: tuple[str, ...],
    epochs: tuple[EpochRow, ...],
    best: BestEpoch,
    speed: float,
    validation: EvaluationBatches,
    transform: Preprocessing,
    on_notice: Callable[[str], None],
) -> Checkpoint:
    """Read the staged weights back and record what they say of val_select."""
    from streetvision_core.models.classifier import load_classifier
    from streetvision_core.models.predict import choose_device, describe_device, predict_pixels
    from streetvision_core.models.weights import read_state
    from streetvision_core.training.views import compare_views

    assert best.row is not None
    assert best.weights is not None
    config, device = hub_config(backbone, views=transform.views), choose_device()
    model = load_classifier(config, read_state(best.weights))
    logits = predict_pixels(model, validation.pixels(), transform, device=device)
    said = Logits(tuple(names), logits, np.array(labels, dtype=np.int64), groups)
    gained: dict[str, float] = {}
    if transform.views is not None:
        gain = compare_views(model, said, validation, transform=transform, device=device)
        on_notice(str(gain))
        gained = gain.to_metrics()
    return Checkpoint(
        weights=best.weights,
        config=config,
        epochs=epochs,
        val_select=said,
        metrics={
            "val_mcc": best.row.val_mcc,
            "val_loss": best.row.val_loss,
            "best_epoch": best.row.epoch,
            "epochs_run": len(epochs),
            "pictures_per_second": round(speed, 1),
            **gained,
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
