"""The running of a training; `fit.fit_classifier` is its door, and loads nothing of this."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.inference.cached_features import feature_logits
from streetvision_core.inference.logits import Logits
from streetvision_core.inference.predict import choose_device, describe_device, predict_pixels
from streetvision_core.io import StagedFile, json_digest, write_checkpoint_atomic
from streetvision_core.io.system import temporary_directory
from streetvision_core.io.tensors import tensor_digests
from streetvision_core.models import hub_config
from streetvision_core.models.classifier import load_classifier
from streetvision_core.models.preprocessing import Preprocessing, eval_transform, hub_transform
from streetvision_core.models.views import Views, make_views
from streetvision_core.models.weights import read_state
from streetvision_core.training.checkpoint import ADAPTERS_NAME, PROBE_NAME, WEIGHTS_NAME, Checkpoint
from streetvision_core.training.config import LORA, PROBE, LpFt, TrainingConfig, recipe_of
from streetvision_core.training.fit import ROLES, Task
from streetvision_core.training.loop import BestEpoch, Saving
from streetvision_core.training.methods import (
    finished_classifier,
    learned_attention,
    require_what_was_trained,
    trainable_classifier,
)
from streetvision_core.training.pixels import (
    PixelTraining,
    RoleImages,
    compare_views,
    train_on_pixels,
    validation_batches,
)
from streetvision_core.training.probe import FrozenBackbone, ProbeData, train_probe
from streetvision_core.training.processes import companions, count_devices
from streetvision_core.training.report import CandidateRow, Curves, EpochRow, best_of
from streetvision_core.training.resume import SavedTraining, open_state
from streetvision_core.training.seeds import training_session
from streetvision_core.training.throughput import NOTHING_TRAINED, Throughput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt
    import torch

    from streetvision_core.training.data import EvaluationBatches

    Say = Callable[[Any, Preprocessing], npt.NDArray[np.float32]]

_log = logging.getLogger(__name__)
# Of the probe that lp_ft begins with: as the presets train a probe; on features they cost seconds.
PROBE_EPOCHS = 30


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

    @property
    def row(self) -> EpochRow:
        """The best epoch."""
        assert self.best.row is not None
        return self.best.row


def run(task: Task) -> Checkpoint:
    """Run a training; see `fit.fit_classifier`."""
    folders = task.folders
    with ExitStack() as stack:
        state = None
        if folders.resume is not None:
            device = choose_device().type
            state = stack.enter_context(open_state(folders.resume, training=_identify(task), device=device))
        stack.enter_context(training_session())
        saving = Saving(state, state.load() if state else None)
        curves = Curves(folders.tensorboard, config=task.config)
        curves.begin(saving.saved.rows if saving.saved else ())
        cache = folders.features or stack.enter_context(temporary_directory("features of images"))
        folders = replace(folders, features=cache)
        return _fit(replace(task, folders=folders, on_epoch=curves.before(task.on_epoch)), saving)


def _fit(task: Task, saving: Saving) -> Checkpoint:
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


def _fit_probe(task: Task, saving: Saving) -> Checkpoint:
    """Train a probe and put its best head on the backbone, whose logits follow from the features."""
    backbone = _freeze(task)
    trained = _train_probe(task, task.config, saving, backbone=backbone)
    state = read_state(trained.weights)
    views = make_views(task.config.views, attention=learned_attention(state))
    weights = _stage_classifier(task, finished_classifier(task.backbone, state, config=task.config))

    def say(model: Any, _: Preprocessing) -> npt.NDArray[np.float32]:
        return feature_logits(model, backbone.features(task.names["val_select"]), views=views)

    return _make_checkpoint(task, trained, weights, say=say, views=views, probe=trained)


def _freeze(task: Task) -> FrozenBackbone:
    return FrozenBackbone(task.backbone, config=task.config, reader=task.reader, cache=task.cache)


def _train_probe(task: Task, config: TrainingConfig, saving: Saving, *, backbone: FrozenBackbone) -> _Trained:
    """Train heads on the features of the backbone as it is."""
    best = BestEpoch(task.folders.staging / PROBE_NAME)
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
    task: Task, saving: Saving, *, head: Mapping[str, torch.Tensor] | None
) -> tuple[_Trained, EvaluationBatches]:
    """Train weights or adapters; return the crops of val_select as well, which are wanted again."""
    config = task.config
    name = ADAPTERS_NAME if config.method.kind == LORA else WEIGHTS_NAME
    best = BestEpoch(task.folders.staging / name)
    roles = {role: RoleImages(task.names[role], task.labels[role]) for role in ROLES}
    transform = eval_transform(task.backbone.pretrained_cfg, views=make_views(config.views))
    devices = count_devices(config.hardware.devices)
    crops = partial(validation_batches, task.reader, roles["val_select"], transform=transform)
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
            work, validation=validation, on_epoch=task.on_epoch, processes=processes
        )
    return _Trained(tuple(module.rows), (), best, speed), validation or crops()


def _finish_pixels(
    task: Task, trained: _Trained, validation: EvaluationBatches, *, probe: _Trained | None
) -> Checkpoint:
    """Read the staged weights back, adapters merged into them, and ask them about val_select."""
    weights, parts, adapted = trained.weights, {}, task.config.method.kind == LORA
    if adapted:
        merged = finished_classifier(task.backbone, read_state(trained.weights), config=task.config)
        weights, parts = _stage_classifier(task, merged), {ADAPTERS_NAME: trained.weights}

    def say(model: Any, transform: Preprocessing) -> npt.NDArray[np.float32]:
        logits = predict_pixels(model, validation.pixels(), transform, device=choose_device())
        if adapted:
            labels, loss = task.labels["val_select"], trained.row.val_loss
            require_what_was_trained(logits, labels, validated=loss, where=trained.weights.path)
        return logits

    return _make_checkpoint(
        task,
        trained,
        weights,
        say=say,
        views=make_views(task.config.views),
        probe=probe,
        parts=parts,
        validation=validation,
    )


def _stage_classifier(task: Task, model: Any) -> StagedFile:
    path = task.folders.staging / WEIGHTS_NAME
    return StagedFile.at(path, write_checkpoint_atomic(path, model))


def _identify(task: Task) -> str:
    """Return the digest of what decides how a training goes, besides the code."""
    recipe, seen = recipe_of(task.config), task.reader.conditions
    images = {
        role: [
            [name, task.digests[name], label]
            for name, label in zip(task.names[role], task.labels[role], strict=True)
        ]
        for role in ROLES
    }
    return json_digest(
        {
            "recipe": recipe,
            "backbone": task.backbone.to_artifact().digest,
            "pictures": images,
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


def _make_checkpoint(
    task: Task,
    trained: _Trained,
    weights: StagedFile,
    *,
    say: Say,
    views: Views | None,
    probe: _Trained | None,
    parts: Mapping[str, StagedFile] | None = None,
    validation: EvaluationBatches | None = None,
) -> Checkpoint:
    """Read the staged weights back, take their logits on val_select by `say`, and describe the training."""
    config = hub_config(task.backbone, head_hidden=task.config.head_hidden, views=views)
    model, transform, row = load_classifier(config, read_state(weights)), hub_transform(config), trained.row
    labels = np.array(task.labels["val_select"], dtype=np.int64)
    logits = Logits(tuple(task.names["val_select"]), say(model, transform), labels, task.groups)
    metrics = {
        "val_mcc": row.val_mcc,
        **{name: logits.metrics()[name] for name in ("mcc_low", "mcc_high")},
        "val_loss": row.val_loss,
        "best_epoch": row.epoch,
        "epochs_run": len(trained.rows),
        **trained.throughput.to_metrics(),
        **({"probe_val_mcc": probe.row.val_mcc} if probe and probe is not trained else {}),
        **(_views_metrics(task, model, logits, transform=transform, validation=validation) if views else {}),
    }
    return Checkpoint(
        weights=weights,
        config=config,
        epochs=trained.rows,
        val_select=logits,
        candidates=probe.candidates if probe else (),
        parts={**(parts or {}), **({PROBE_NAME: probe.weights} if probe else {})},
        tensors=tensor_digests(weights.path.read_bytes()),
        metrics=metrics,
        device=describe_device(),
    )


def _views_metrics(
    task: Task, model: Any, logits: Logits, *, transform: Preprocessing, validation: EvaluationBatches | None
) -> dict[str, float]:
    """Measure what many views gain and cost."""
    images = RoleImages(task.names["val_select"], task.labels["val_select"])
    crops = validation or validation_batches(task.reader, images, transform=transform)
    gain = compare_views(model, logits, crops, transform=transform, device=choose_device())
    _log.info("%s", gain)
    return gain.to_metrics()
