"""The training of `phase1_checkpoint`, from splits to a checkpoint.

1. The roles are checked: train and val_select hold images, train holds both classes.
2. What an earlier run of exactly this training has saved is taken, where there is such a thing.
3. A probe takes the features of both roles, from the cache where they are known, and trains heads on them.
   Everything else reads, verifies and decodes the images, as many as the memory for them takes, and trains
   on those; `lp_ft` does both, one after the other.
4. Lightning runs the epochs that are missing. What was trained is staged in `directory` whenever an epoch is
   the best so far, the state after each epoch is saved in `resume`.
5. What was trained becomes a plain classifier: a head is put on its backbone, adapters are merged. Its
   staged weights are read back, and their logits on val_select are recorded from that very model.

The same seed, images and configuration give the same weights bit for bit on the same machine with the
same number of threads; neither the number of workers nor the caches nor a kill matters. An image that cannot
be read ends the training; once it is there again, the next run goes on after the last epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.errors import TrainingError
from streetvision_core.graph import CHECKPOINT, STEPS
from streetvision_core.inference.logits import groups_of, labels_of
from streetvision_core.training.config import TrainingConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from streetvision_core.data import ImageIndex, Splits
    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.models.backbone import Backbone
    from streetvision_core.training.checkpoint import Checkpoint
    from streetvision_core.training.report import EpochReport

ROLES = STEPS[CHECKPOINT].roles


@dataclass(frozen=True)
class TrainingFolders:
    """The directories of a training.

    Attributes:
        staging: Where the best weights are staged.
        resume: Where the state after each epoch is saved, so that a killed training goes on in the next
            run; a directory of this training alone, for `io.claims.forget_progress` once it is
            published. None saves nothing.
        features: The cache of features, which all trainings share. None takes a temporary one.
        tensorboard: Where the learning curve of this run is written for TensorBoard, epoch by epoch. None
            writes none.
    """

    staging: Path
    resume: Path | None = None
    features: Path | None = None
    tensorboard: Path | None = None


@dataclass(frozen=True)
class Task:
    """A training to run: its model, its images, its directories and its listener."""

    backbone: Backbone
    names: Mapping[str, Sequence[str]]
    labels: Mapping[str, list[int]]
    groups: tuple[str, ...]
    digests: Mapping[str, str]
    reader: ImageReader
    config: TrainingConfig
    folders: TrainingFolders
    on_epoch: Callable[[EpochReport], None]

    @property
    def cache(self) -> Path:
        """The cache of features, once there is one."""
        assert self.folders.features is not None
        return self.folders.features


def fit_classifier(
    backbone: Backbone,
    *,
    index: ImageIndex,
    splits: Splits,
    images: ImageReader,
    config: TrainingConfig,
    folders: TrainingFolders,
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
) -> Checkpoint:
    """Train a classifier on the train role and return its best epoch on val_select.

    It logs when an earlier run's epochs are taken or cannot be, and when another run trains this.

    Args:
        backbone: The starting weights.
        index: The images and their labels.
        splits: Which image plays which role; only train and val_select are read.
        images: Reads the images of the index; under its conditions they are seen.
        config: The recipe.
        folders: Where the best weights are staged, and what else is kept.
        on_epoch: Called after each epoch.

    Raises:
        TrainingError: an empty role, one class only in train, or a loss that is not finite.
        DataError: the splits name images that the index does not hold.
        IntegrityError: an image or the backbone's weights are not what they were.
        StoreError: the weights or the state cannot be written.
    """
    from streetvision_core.training.fitting import run

    labels = {role: labels_of(splits.roles[role], index) for role in ROLES}
    _check_roles(labels)
    return run(
        Task(
            backbone=backbone,
            names=splits.roles,
            labels=labels,
            groups=groups_of(splits.roles["val_select"], index),
            digests={image.name: image.sha256 for image in index.pictures},
            reader=images,
            config=TrainingConfig.model_validate(config.model_dump(include=set(TrainingConfig.model_fields))),
            folders=folders,
            on_epoch=on_epoch,
        )
    )


def _check_roles(labels: dict[str, list[int]]) -> None:
    action = "Materialize splits again, with more images or groups."
    for role, known in labels.items():
        if not known:
            raise TrainingError(f"images in the role {role}", "none", "the splits", action)
    if len(set(labels["train"])) < 2:
        found = f"only {LABEL_NAMES[labels['train'][0]]}"
        raise TrainingError("both classes in the role train", found, "the splits", action)
