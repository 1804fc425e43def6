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

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.errors import TrainingError
from streetvision_core.graph import CHECKPOINT, STEPS
from streetvision_core.inference.logits import Logits, groups_of, labels_of
from streetvision_core.io import StagedFile, json_digest, write_checkpoint_atomic
from streetvision_core.io.system import temporary_directory
from streetvision_core.io.tensors import tensor_digests
from streetvision_core.models import LABEL_NAMES, hub_config
from streetvision_core.training.checkpoint import (
    ADAPTERS_NAME,
    PROBE_NAME,
    WEIGHTS_NAME,
    Checkpoint,
)
from streetvision_core.training.config import LORA, PROBE, LpFt, TrainingConfig, recipe_of
from streetvision_core.training.report import best_of
from streetvision_core.training.throughput import NOTHING_TRAINED, Throughput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import torch

    from streetvision_core.data import ImageIndex, Splits
    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.models.backbone import Backbone
    from streetvision_core.training.data import EvaluationBatches
    from streetvision_core.training.frozen import FrozenBackbone
    from streetvision_core.training.loop import BestEpoch, Saving
    from streetvision_core.training.report import CandidateRow, EpochReport, EpochRow
    from streetvision_core.training.resume import SavedTraining

_log = logging.getLogger(__name__)
ROLES = STEPS[CHECKPOINT].roles
# Of the probe that lp_ft begins with: as the presets train a probe; on features they cost seconds.
PROBE_EPOCHS = 30


@dataclass(frozen=True)
class TrainingFolders:
    """The directories of a training.

    Attributes:
        staging: Where the best weights are staged.
        resume: Where the state after each epoch is saved, so that a killed training goes on in the next
            run; a directory of this training alone, for `io.progress.forget_progress` once it is
            published. None saves nothing.
        features: The cache of features, which all trainings share. None takes a temporary one.
        tensorboard: Where the learning curve of this run is written for TensorBoard, epoch by epoch. None
            writes none.
    """

    staging: Path
    resume: Path | None = None
    features: Path | None = None
    tensorboard: Path | None = None


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
    from streetvision_core.inference.predict import choose_device
    from streetvision_core.training.loop import Saving
    from streetvision_core.training.report import Curves
    from streetvision_core.training.resume import open_state
    from streetvision_core.training.seeds import training_session

    recipe = TrainingConfig.model_validate(config.model_dump(include=set(TrainingConfig.model_fields)))
    labels = {role: labels_of(splits.roles[role], index) for role in ROLES}
    _check_roles(labels)
    with ExitStack() as stack:
        state = None
        if folders.resume is not None:
            training = _identify(backbone, index=index, splits=splits, config=recipe, images=images)
            device = choose_device().type
            state = stack.enter_context(open_state(folders.resume, training=training, device=device))
        stack.enter_context(training_session())
        saving = Saving(state, state.load() if state else None)
        curves = Curves(folders.tensorboard, config=recipe)
        curves.begin(saving.saved.rows if saving.saved else ())
        cache = folders.features or stack.enter_context(temporary_directory("features of images"))
        task = _Task(
            backbone=backbone,
            names=splits.roles,
            labels=labels,
            groups=groups_of(splits.roles["val_select"], index),
            reader=images,
            config=recipe,
            directory=folders.staging,
            features=cache,
            on_epoch=curves.before(on_epoch),
        )
        return _fit(task, saving)


@dataclass(frozen=True)
class _Task:
    """A training to run: its model, its images and its listeners."""

    backbone: Backbone
    names: Mapping[str, Sequence[str]]
    labels: Mapping[str, list[int]]
    groups: tuple[str, ...]
    reader: ImageReader
    config: TrainingConfig
    directory: Path
    features: Path
    on_epoch: Callable[[EpochReport], None]


@dataclass(frozen=True)
class _Trained:
    """The outcome of a training: its epochs, the candidates of a probe, the best epoch, the throughput."""

    rows: tuple[EpochRow, ...]
    candidates: tuple[CandidateRow, ...]
    best: BestEpoch
    throughput: Throughput = NOTHING_TRAINED

    @property
    def weights(self) -> StagedFile:
        """The trained weights of the best epoch."""
        assert self.best.weights is not None
        return self.best.weights


def _fit(task: _Task, saving: Saving) -> Checkpoint:
    from streetvision_core.models.weights import read_state
    from streetvision_core.training.loop import Saving
    from streetvision_core.training.methods import trainable_classifier

    config = task.config
    if config.method.kind == PROBE:
        return _fit_probe(task, saving)
    if config.method.kind == LORA:
        trainable_classifier(task.backbone, config=config)  # refuses what has no attention, likewise
    probe = None
    if isinstance(config.method, LpFt):
        # Not saved: on cached features it takes seconds, and done again it gives the same head.
        recipe = config.model_copy(update={"epochs": PROBE_EPOCHS})
        probe = _train_probe(task, recipe, Saving(), backbone=_freeze(task))
    head = read_state(probe.weights) if probe else None
    return _finish_pixels(task, *_train_on_pixels(task, saving, head=head), probe=probe)


def _fit_probe(task: _Task, saving: Saving) -> Checkpoint:
    """Train a probe and put its best head on the backbone; what that says follows from the features."""
    from streetvision_core.inference.cached_features import feature_logits
    from streetvision_core.models.classifier import load_classifier
    from streetvision_core.models.views import make_views
    from streetvision_core.models.weights import read_state
    from streetvision_core.training.methods import finished_classifier, learned_attention

    backbone = _freeze(task)
    trained = _train_probe(task, task.config, saving, backbone=backbone)
    state = read_state(trained.weights)
    views = make_views(task.config.views, attention=learned_attention(state))
    weights = _stage_classifier(task, finished_classifier(task.backbone, state, config=task.config))
    config = hub_config(task.backbone, head_hidden=task.config.head_hidden, views=views)
    model = load_classifier(config, read_state(weights))
    logits = feature_logits(model, backbone.features(task.names["val_select"]), views=views)
    return _make_checkpoint(task, trained, _Finished(config, model, weights, logits), probe=trained)


def _freeze(task: _Task) -> FrozenBackbone:
    from streetvision_core.training.frozen import FrozenBackbone

    return FrozenBackbone(task.backbone, config=task.config, reader=task.reader, cache=task.features)


def _train_probe(
    task: _Task, config: TrainingConfig, saving: Saving, *, backbone: FrozenBackbone
) -> _Trained:
    """Train heads on the features of the backbone as it is."""
    from streetvision_core.training.loop import BestEpoch
    from streetvision_core.training.probe import ProbeData, train_probe

    best = BestEpoch(task.directory / PROBE_NAME, patience=config.patience)
    if saving.saved and _take_up(saving.saved, best, epochs=config.epochs):
        return _Trained(saving.saved.rows, saving.saved.candidates, best)
    validation = backbone.features(task.names["val_select"])
    module, speed = train_probe(
        ProbeData(
            backbone.train_views(task.names["train"]),
            task.labels["train"],
            validation,
            task.labels["val_select"],
        ),
        classifier=backbone.classifier,
        pooling=backbone.views,
        config=config,
        best=best,
        saving=saving,
        on_epoch=task.on_epoch,
    )
    return _Trained(tuple(module.rows), module.candidates, best, speed)


def _train_on_pixels(
    task: _Task, saving: Saving, *, head: Mapping[str, torch.Tensor] | None
) -> tuple[_Trained, EvaluationBatches]:
    """Train weights or adapters; return the crops of val_select as well, which are wanted again."""
    from streetvision_core.models.preprocessing import eval_transform
    from streetvision_core.models.views import make_views
    from streetvision_core.training.loop import BestEpoch
    from streetvision_core.training.pixels import (
        PixelTraining,
        RoleImages,
        train_on_pixels,
        validation_batches,
    )
    from streetvision_core.training.processes import companions, count_devices

    config = task.config
    name = ADAPTERS_NAME if config.method.kind == LORA else WEIGHTS_NAME
    best = BestEpoch(task.directory / name, patience=config.patience)
    roles = {role: RoleImages(task.names[role], task.labels[role]) for role in ROLES}
    transform = eval_transform(task.backbone.pretrained_cfg, views=make_views(config.views))
    devices = count_devices(config.hardware.devices)
    crops = partial(validation_batches, task.reader, roles["val_select"], transform=transform, config=config)
    if saving.saved and _take_up(saving.saved, best, epochs=config.epochs):
        return _Trained(saving.saved.rows, (), best), crops()
    # One process keeps all of val_select for its training and for later; of several each keeps its share.
    validation = crops() if devices == 1 else None
    work = PixelTraining(
        backbone=task.backbone,
        reader=task.reader,
        **roles,
        config=config,
        head=head,
        best=best,
        saving=saving,
    )
    with companions(devices, train_on_pixels, training=work) as processes:
        module, speed = train_on_pixels(
            work,
            validation=validation,
            on_epoch=task.on_epoch,
            processes=processes,
        )
    return _Trained(tuple(module.rows), (), best, speed), validation or crops()


def _finish_pixels(
    task: _Task, trained: _Trained, validation: EvaluationBatches, *, probe: _Trained | None
) -> Checkpoint:
    """Read the staged weights back, adapters merged into them, and ask them about val_select."""
    from streetvision_core.inference.predict import choose_device, predict_pixels
    from streetvision_core.models.classifier import load_classifier
    from streetvision_core.models.preprocessing import hub_transform
    from streetvision_core.models.views import make_views
    from streetvision_core.models.weights import read_state
    from streetvision_core.training.methods import finished_classifier, require_what_was_trained

    weights, parts = trained.weights, {}
    if task.config.method.kind == LORA:
        merged = finished_classifier(task.backbone, read_state(trained.weights), config=task.config)
        weights, parts = _stage_classifier(task, merged), {ADAPTERS_NAME: trained.weights}
    views = make_views(task.config.views)
    config = hub_config(task.backbone, head_hidden=task.config.head_hidden, views=views)
    model = load_classifier(config, read_state(weights))
    logits = predict_pixels(model, validation.pixels(), hub_transform(config), device=choose_device())
    if task.config.method.kind == LORA:
        labels, validated = task.labels["val_select"], _row_of(trained).val_loss
        require_what_was_trained(logits, labels, validated=validated, where=trained.weights.path)
    finished = _Finished(config, model, weights, logits)
    return _make_checkpoint(task, trained, finished, probe=probe, parts=parts, validation=validation)


def _stage_classifier(task: _Task, model: Any) -> StagedFile:
    path = task.directory / WEIGHTS_NAME
    return StagedFile.at(path, write_checkpoint_atomic(path, model))


def _identify(
    backbone: Backbone,
    *,
    index: ImageIndex,
    splits: Splits,
    config: TrainingConfig,
    images: ImageReader,
) -> str:
    """Return the digest of what decides how a training goes, besides the code."""
    recipe, seen = recipe_of(config), images.conditions
    known = {image.name: [image.sha256, image.label] for image in index.pictures}
    return json_digest(
        {
            "recipe": recipe,
            "backbone": backbone.to_artifact().digest,
            "pictures": {role: [[name, *known[name]] for name in splits.roles[role]] for role in ROLES},
            **({} if seen is None or seen.is_as_is else {"conditions": seen.model_dump(mode="json")}),
        }
    )


def _take_up(saved: SavedTraining, best: BestEpoch, *, epochs: int) -> bool:
    """Stage the best weights of an earlier run; tell whether it had finished its training."""
    last = saved.rows[-1]
    best.restore(best_of(saved.rows), saved.stage_weights(best.path))
    if last.epoch >= epochs or best.is_exhausted(last):
        _log.info(
            "Nothing is left to train: an earlier run had finished, after epoch %d of %d.", last.epoch, epochs
        )
        return True
    _log.info("Going on after epoch %d of %d, which an earlier run had finished.", last.epoch, epochs)
    return False


@dataclass(frozen=True)
class _Finished:
    """The classifier that was made of what was trained; `logits` are its own on val_select, [N, 2]."""

    config: dict[str, Any]
    model: Any
    weights: StagedFile
    logits: npt.NDArray[np.float32]


def _make_checkpoint(
    task: _Task,
    trained: _Trained,
    finished: _Finished,
    *,
    probe: _Trained | None,
    parts: Mapping[str, StagedFile] | None = None,
    validation: EvaluationBatches | None = None,
) -> Checkpoint:
    from streetvision_core.inference.predict import describe_device

    row = _row_of(trained)
    labels = np.array(task.labels["val_select"], dtype=np.int64)
    said = Logits(tuple(task.names["val_select"]), finished.logits, labels, task.groups)
    metrics = {
        "val_mcc": row.val_mcc,
        **{name: said.metrics()[name] for name in ("mcc_low", "mcc_high")},
        "val_loss": row.val_loss,
        "best_epoch": row.epoch,
        "epochs_run": len(trained.rows),
        **trained.throughput.to_metrics(),
        **({"probe_val_mcc": _row_of(probe).val_mcc} if probe and probe is not trained else {}),
        **_views_metrics(task, finished.model, said, config=finished.config, validation=validation),
    }
    return Checkpoint(
        weights=finished.weights,
        config=finished.config,
        epochs=trained.rows,
        val_select=said,
        candidates=probe.candidates if probe else (),
        parts={**(parts or {}), **({PROBE_NAME: probe.weights} if probe else {})},
        tensors=tensor_digests(finished.weights.path.read_bytes()),
        metrics=metrics,
        device=describe_device(),
    )


def _row_of(trained: _Trained) -> EpochRow:
    assert trained.best.row is not None
    return trained.best.row


def _views_metrics(
    task: _Task,
    model: Any,
    said: Logits,
    *,
    config: Mapping[str, Any],
    validation: EvaluationBatches | None,
) -> dict[str, float]:
    """Measure what many views gain and cost, where there are many."""
    from streetvision_core.inference.predict import choose_device
    from streetvision_core.models.preprocessing import hub_transform
    from streetvision_core.training.pixels import RoleImages, compare_views, validation_batches

    transform = hub_transform(config)
    if transform.views is None:
        return {}
    images = RoleImages(task.names["val_select"], task.labels["val_select"])
    crops = validation or validation_batches(task.reader, images, transform=transform, config=task.config)
    gain = compare_views(model, said, crops, transform=transform, device=choose_device())
    _log.info("%s", gain)
    return gain.to_metrics()


def _check_roles(labels: dict[str, list[int]]) -> None:
    action = "Materialize splits again, with more images or groups."
    for role, known in labels.items():
        if not known:
            raise TrainingError(f"images in the role {role}", "none", "the splits", action)
    if len(set(labels["train"])) < 2:
        found = f"only {LABEL_NAMES[labels['train'][0]]}"
        raise TrainingError("both classes in the role train", found, "the splits", action)
