"""Cross-validation: the recipe on K folds of whole groups; an image is judged by models that saw none of its.

Groups are dealt to folds with both classes as evenly as may be (`eval/folds.py`). Fold k is judged by a
classifier that was trained on the others: the fold after it chooses the epoch, as val_select does, and the
rest is trained on. It is the very code of a single training, `fit_classifier`, and the features of a probe
come from the cache, so that they are computed once.

A small set is dealt several times, because one deal of few groups is luck. For a probe the first deal is
also trained on a quarter, a half and three quarters of each training part, in whole groups: whether more
images would help.

No figure here is of a model that is shipped: it says what the recipe does on images like these. A
backbone that was adapted to train is taken as it is: it has seen images of every fold, without their labels.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from streetvision_core.eval.folds import deal_folds, units_of_classes
from streetvision_core.inference.logits import labels_of, predict_role
from streetvision_core.io.system import temporary_directory
from streetvision_core.models.config import Settings
from streetvision_core.training.config import PROBE, TrainingConfig
from streetvision_core.training.fit import TrainingFolders, fit_classifier
from streetvision_core.training.out_of_fold.judged import JudgedFolds, judged_folds
from streetvision_core.training.out_of_fold.record import CrossValidation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from streetvision_core.data import ImageIndex, Splits
    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.eval.inputs import Bools
    from streetvision_core.models.backbone import Backbone

    Positions = npt.NDArray[np.intp]

ALL_BUT_TEST = "all_but_test"
# The shares of the learning curve are of as many parts; the last share, everything, is the full training.
PARTS = 4
# A probe is repeated until so many images were judged.
ENOUGH_JUDGED, MOST_REPEATS = 2000, 5
_log = logging.getLogger(__name__)


class CrossValidationConfig(Settings):
    """The number of folds, and the roles whose images are judged."""

    folds: int = Field(
        5, ge=3, le=50, description="parts of whole groups; one is judged, one chooses the epoch"
    )
    roles: Literal["train_and_val_select", "all_but_test"] = Field(
        "train_and_val_select",
        description="all_but_test adds val_calib, which counts as a look at it in the ledger",
    )

    @property
    def names_of_roles(self) -> tuple[str, ...]:
        """The roles of the images that are judged."""
        select = ("train", "val_select")
        return (*select, "val_calib") if self.roles == ALL_BUT_TEST else select


@dataclass(frozen=True)
class _Task:
    """A cross-validation to run: its images as arrays [N], and everything that a training takes."""

    backbone: Backbone
    index: ImageIndex
    splits: Splits
    reader: ImageReader
    recipe: TrainingConfig
    features: Path
    folds: int
    names: npt.NDArray[np.str_]
    truth: npt.NDArray[np.bool_]
    unit: Positions
    kept: JudgedFolds


def cross_validate(
    backbone: Backbone,
    *,
    index: ImageIndex,
    splits: Splits,
    images: ImageReader,
    recipe: TrainingConfig,
    config: CrossValidationConfig,
    features: Path,
    resume: Path | None = None,
) -> CrossValidation:
    """Train the recipe on every fold's complement and return what is said of each fold.

    Args:
        backbone: The starting weights.
        index: The images and their labels.
        splits: Which image plays which role, and the united groups.
        images: Reads the images of the roles.
        recipe: How each classifier is trained.
        config: The folds and the roles.
        features: The cache of features, which all trainings share.
        resume: Where judged folds are kept, so that a killed run goes on; a directory of this
            cross-validation alone. None keeps nothing.

    Raises:
        DataError: fewer groups of a class than folds.
        TrainingError: the part of a fold that is trained on has one class only, or a loss is not finite.
        IntegrityError: an image or the backbone's weights are not what they were.
    """
    names = sorted(name for role in config.names_of_roles for name in splits.roles[role])
    labels = np.array(labels_of(names, index), dtype=np.int64)
    groups = tuple(splits.group_of[name] for name in names)
    task = _Task(
        backbone=backbone,
        index=index,
        splits=splits,
        reader=images,
        recipe=recipe,
        features=features,
        folds=config.folds,
        names=np.array(names),
        truth=labels == 1,
        unit=np.unique(np.asarray(groups), return_inverse=True)[1],
        kept=JudgedFolds(),
    )
    repeats = repeats_of(len(names), method=recipe.method.kind)
    fold = np.stack([_deal(task, folds=config.folds, seed=recipe.seed + repeat) for repeat in range(repeats)])
    shares = _smaller_shares(task, fold[0])
    with judged_folds(resume) as kept:
        task = replace(task, kept=kept)
        rounds = [_judge(task, assignment) for assignment in fold]
        smaller = [_judge(task, fold[0], share=share) for share in shares]
    nothing = np.empty((0, len(names), 2), dtype=np.float32)
    return CrossValidation(
        ids=tuple(names),
        groups=groups,
        labels=labels,
        fold=fold.astype(np.int64),
        logits=np.stack([result.logits for result in rounds]),
        curve=np.stack([result.logits for result in smaller]) if smaller else nothing,
        shares=(*shares, 1.0),
        trained_on=tuple(result.trained_on for result in (*smaller, rounds[0])),
        roles=config.names_of_roles,
        method=recipe.method.kind,
    )


def repeats_of(images: int, *, method: str) -> int:
    """Return how often folds of so many images are drawn: only a probe is cheap enough for several."""
    return min(MOST_REPEATS, math.ceil(ENOUGH_JUDGED / images)) if method == PROBE else 1


def _deal(task: _Task, members: Bools | None = None, *, folds: int, seed: int) -> Positions:
    """Return the fold of each image, or of each of the members [N]."""
    kept = np.ones(task.truth.size, np.bool_) if members is None else members
    return deal_folds(task.truth[kept], task.unit[kept], folds=folds, seed=seed, purpose="cross_validation")


def _smaller_shares(task: _Task, fold: Positions) -> tuple[float, ...]:
    """Return the shares of the learning curve below 1; none where training costs, or groups are too few."""
    if task.recipe.method.kind != PROBE:
        return ()
    fewest = min(
        units
        for fitting in (_trained_on(fold, number) for number in range(task.folds))
        for units in units_of_classes(task.truth[fitting], task.unit[fitting]).values()
    )
    if fewest < PARTS:
        _log.info("no learning curve: a class is in %d groups of what is trained on", fewest)
        return ()
    return tuple(part / PARTS for part in range(1, PARTS))


def _trained_on(fold: Positions, number: int) -> Bools:
    """Return which images [N] the classifier that judges a fold is trained on."""
    folds = int(fold.max()) + 1
    trained: Bools = ~np.isin(fold, (number, (number + 1) % folds))
    return trained


@dataclass(frozen=True)
class _Round:
    """The logits [N, 2] of one deal, and the mean number of images that a classifier was trained on."""

    logits: npt.NDArray[np.float32]
    trained_on: float


def _judge(task: _Task, fold: Positions, *, share: float = 1.0) -> _Round:
    """Train a classifier for each fold, on a share of its training part, and judge the fold."""
    logits = np.empty((task.truth.size, 2), dtype=np.float32)
    trained = []
    for number in range(task.folds):
        fitting, judged = _trained_on(fold, number), fold == number
        chosen = fitting.copy()
        if share < 1:
            chosen[fitting] = _deal(task, fitting, folds=PARTS, seed=task.recipe.seed) < share * PARTS
        roles = {"train": chosen, "val_select": ~fitting & ~judged}
        result = task.kept.take(chosen, judged)
        if result is None:
            result = _train_and_judge(task, roles, judged)
            task.kept.keep(chosen, judged, result)
        logits[judged] = result
        trained.append(int(chosen.sum()))
        _log.info("fold %d of %d, trained on %d images", number + 1, task.folds, trained[-1])
    return _Round(logits, float(np.mean(trained)))


def _train_and_judge(task: _Task, roles: Mapping[str, Bools], judged: Bools) -> npt.NDArray[np.float32]:
    named = {role: tuple(task.names[members].tolist()) for role, members in roles.items()}
    with temporary_directory("the classifier of a fold") as directory:
        checkpoint = fit_classifier(
            task.backbone,
            index=task.index,
            splits=replace(task.splits, roles=named),
            images=task.reader,
            config=task.recipe,
            folders=TrainingFolders(directory, features=task.features),
        )
        predicted = predict_role(
            checkpoint,
            task.names[judged].tolist(),
            index=task.index,
            images=task.reader,
            # Only a probe leaves the backbone as it is: features of others are wanted once.
            cache=task.features if task.recipe.method.kind == PROBE else None,
        )
    return predicted.logits
