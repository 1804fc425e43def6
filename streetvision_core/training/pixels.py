"""Training on pixels: all weights of a classifier, or adapters in it, on augmented images of train.

Several processes may run this at once with the same arguments, one for each device; only the first of them
has something to tell and to save.

`compare_views` measures what many views are worth: MCC and time of an image, beside those of the whole image
alone. Both come from one run on one machine: the MCC on all of val_select at probability 0.5, from one model,
and the time from an image's file to its logits, decoding included, on one batch of those images.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from streetvision_core.eval import compute_mcc
from streetvision_core.inference.predict import BATCH_SIZE, choose_device, predict_logits, predict_pixels
from streetvision_core.models.preprocessing import Preprocessing, eval_transform
from streetvision_core.models.views import make_views
from streetvision_core.training.augmentation import make_augmentation
from streetvision_core.training.data import (
    CACHE_BYTES,
    AugmentedImages,
    DecodedImages,
    EpochBatches,
    EvaluationBatches,
    choose_workers,
    decoded_side,
    make_loader,
)
from streetvision_core.training.loop import BestEpoch, Plan, Saving, run_training
from streetvision_core.training.losses import class_weights
from streetvision_core.training.module import ClassifierModule
from streetvision_core.training.processes import ONE, Processes, group_of
from streetvision_core.training.seeds import training_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from torch.utils.data import DataLoader

    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.inference.logits import Logits
    from streetvision_core.models.backbone import Backbone
    from streetvision_core.training.config import TrainingConfig
    from streetvision_core.training.report import EpochReport
    from streetvision_core.training.throughput import Throughput

# The largest norm of a step's gradient: what a rare image may move the weights by, as everybody trains.
GRADIENT_CLIP = 1.0


@dataclass(frozen=True)
class RoleImages:
    """The images of a role, in order."""

    names: Sequence[str]
    labels: Sequence[int]


def validation_batches(
    reader: ImageReader,
    images: RoleImages,
    *,
    transform: Preprocessing,
    processes: Processes = ONE,
) -> EvaluationBatches:
    """Return the images of val_select as the model's crops; they take half of the memory for images."""
    return EvaluationBatches(
        reader,
        images.names,
        images.labels,
        transform=transform,
        batch_size=BATCH_SIZE,
        cache_bytes=_half_cache(processes),
        rank=processes.rank,
        processes=processes.count,
    )


@dataclass(frozen=True)
class PixelTraining:
    """The description of a training on pixels that every process receives.

    `reader` reads the images of both roles. The head starts from `head`, None for a new one; `best` stages
    the best weights.
    """

    backbone: Backbone
    reader: ImageReader
    train: RoleImages
    val_select: RoleImages
    config: TrainingConfig
    head: Mapping[str, torch.Tensor] | None
    best: BestEpoch
    saving: Saving


def train_on_pixels(
    training: PixelTraining,
    *,
    validation: EvaluationBatches | None = None,
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
    processes: Processes = ONE,
) -> tuple[ClassifierModule, Throughput]:
    """Train a classifier or its adapters; return the module with its rows, and how fast it was.

    Args:
        training: What is trained, and on what.
        validation: The crops of val_select, where they are at hand.
        on_epoch: Called after each epoch.
        processes: The processes that train together, and which of them this is.
    """
    from streetvision_core.training.methods import trainable_classifier

    config, known = training.config, training.saving.saved
    with training_session(), group_of(processes):
        transform = eval_transform(training.backbone.pretrained_cfg, views=make_views(config.views))
        loader, steps = _make_loader(training, transform=transform, processes=processes)
        module = ClassifierModule(
            trainable_classifier(training.backbone, config=config, head=training.head),
            transform=transform,
            validation_batch_size=BATCH_SIZE,
            config=config,
            class_weights=class_weights(training.train.labels),
            steps_per_epoch=steps,
            rows=known.rows if known else (),
        )
        speed = run_training(
            module,
            loader,
            validation
            or validation_batches(
                training.reader, training.val_select, transform=transform, processes=processes
            ),
            plan=Plan(
                epochs=config.epochs,
                accumulate=config.hardware.accumulate,
                gradient_clip=GRADIENT_CLIP,
                precision="auto",
                processes=processes,
            ),
            best=training.best,
            saving=training.saving,
            on_epoch=on_epoch,
        )
        return module, speed


def _make_loader(
    training: PixelTraining, *, transform: Preprocessing, processes: Processes
) -> tuple[DataLoader[Any], int]:
    """Return the augmented images of train in batches, and how many steps an epoch has."""
    config = training.config
    decoded = DecodedImages(
        training.reader,
        training.train.names,
        side=decoded_side(config, transform=transform, conditions=training.reader.conditions),
        cache_bytes=_half_cache(processes),
    )
    batches = EpochBatches(
        len(decoded),
        batch_size=config.batch_size,
        seed=config.seed,
        parts=config.hardware.accumulate,
        rank=processes.rank,
        processes=processes.count,
    )
    workers = choose_workers(
        config.hardware.num_workers, device=choose_device().type, processes=processes.count
    )
    augment = make_augmentation(config.augmentation, transform=transform)
    dataset = AugmentedImages(decoded, training.train.labels, augment=augment, seed=config.seed)
    return make_loader(dataset, batches, workers=workers), batches.steps


def _half_cache(processes: Processes) -> int:
    return CACHE_BYTES // (2 * processes.count)


REPEATS = 2


@dataclass(frozen=True)
class ViewsGain:
    """MCC on val_select and images a second, of all `views` and of the whole image alone."""

    views: int
    mcc: float
    mcc_whole: float
    pictures_per_second: float
    pictures_per_second_whole: float

    @property
    def cost(self) -> float:
        """The time that an image takes, as a multiple of its time with the whole image."""
        return self.pictures_per_second_whole / self.pictures_per_second

    def to_metrics(self) -> dict[str, float]:
        """Return what stands beside the checkpoint."""
        return {"views_mcc_gain": self.mcc - self.mcc_whole, "views_cost": round(self.cost, 2)}

    def __str__(self) -> str:
        return (
            f"{self.views} views: val_select MCC {self.mcc:.3f} against {self.mcc_whole:.3f} with the whole"
            f" image alone, at {self.cost:.1f} times the time an image."
        )


def compare_views(
    model: Any,
    val_select: Logits,
    validation: EvaluationBatches,
    *,
    transform: Preprocessing,
    device: str | torch.device,
) -> ViewsGain:
    """Measure what the views of `transform` gain and cost.

    Args:
        model: The classifier.
        val_select: Its logits of val_select with these views.
        validation: The images of val_select, in the order of `val_select`.
        transform: A preprocessing of many views.
        device: Where the model runs.
    """
    assert transform.views is not None
    firsts = (views[0] for views in validation.pixels())
    whole = predict_pixels(model, firsts, transform.whole, device=device)
    return ViewsGain(
        views=transform.views.count,
        mcc=compute_mcc(val_select.labels, val_select.logits[:, 1] > val_select.logits[:, 0]),
        mcc_whole=compute_mcc(val_select.labels, whole[:, 1] > whole[:, 0]),
        pictures_per_second=_speed(model, validation, transform, device=device),
        pictures_per_second_whole=_speed(model, validation, transform.whole, device=device),
    )


def _speed(
    model: Any, validation: EvaluationBatches, transform: Preprocessing, *, device: str | torch.device
) -> float:
    """Return images a second of the faster of two runs over a full batch, repeating where there are few."""
    seconds = []
    for _ in range(REPEATS):
        positions = islice(cycle(range(validation.pictures)), BATCH_SIZE)
        started = time.perf_counter()
        predict_logits(model, map(validation.image, positions), transform, device=device)
        seconds.append(time.perf_counter() - started)
    return BATCH_SIZE / min(seconds)
