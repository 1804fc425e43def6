"""ExPLoRA: starting weights that go on learning without labels, on the train role, before they are trained.

1. The model of the backbone is built; a linear probe is fitted on its features.
2. The last blocks are unfrozen, the others get adapters on queries and values, and the model learns from
   pairs of views of the train role (`learners.py`), without labels and without other roles.
3. The adapters are merged; the merged model is proved to say what the adapted one says.
4. A second probe is fitted on the merged model's features. The adapted weights are taken only where it beats
   the first on val_select beyond the paired interval; elsewhere the starting weights go on, and the record
   says so.
5. What was trained is staged, and read back from the disk onto fresh starting weights, which must give the
   adapted ones: that is what `adapters.safetensors` is published for, whether or not they are taken.
6. The weights that go on are staged.

A probe is scikit-learn's logistic regression on standardised features, fitted on train's labels and classes
weighing the same. It is for this one decision, and is no classifier that anyone would ship.

The same seed, images and configuration give the same weights bit for bit on the same machine with the
same number of threads. A killed adaptation goes on after its last epoch, and gives the weights of one
that was not killed.

Source: Khanna et al., ExPLoRA, 2406.10973.
"""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.errors import ConfigError, TrainingError
from streetvision_core.graph import STEPS
from streetvision_core.inference.logits import groups_of, labels_of
from streetvision_core.io import StagedFile, json_digest, write_checkpoint_atomic
from streetvision_core.models.backbone import ADAPTERS_NAME, WEIGHTS_NAME, Backbone
from streetvision_core.models.config import SEED, BackboneConfig, SimClr
from streetvision_core.training.ssl.adaptation import AdaptationEpoch, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from streetvision_core.data import ImageIndex, Splits
    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.training.loop import Saving
    from streetvision_core.training.ssl.learners import Adapted

_log = logging.getLogger(__name__)
ROLES = STEPS["backbone"].roles
_PARITY_IMAGES = 8
_PROBE_ITERATIONS = 2000


def adapt_backbone(
    backbone: Backbone,
    *,
    index: ImageIndex,
    splits: Splits,
    images: ImageReader,
    config: BackboneConfig,
    directory: Path,
    resume: Path | None = None,
    on_epoch: Callable[[AdaptationEpoch], None] = lambda _: None,
) -> Backbone:
    """Adapt starting weights to the train role, and return those that go on with the record of it.

    It logs whether it goes on with an earlier run's epochs, and whether the adapted weights are taken.

    Args:
        backbone: The starting weights, of a vision transformer, staged in `directory`.
        index: The images; the labels of train and val_select are for the probes alone.
        splits: Which image plays which role; only train and val_select are read.
        images: Reads the images of the index.
        config: The recipe, with an adaptation that is not none.
        directory: Where the weights and what was trained are staged.
        resume: Where each epoch is saved, for a run that goes on after a kill; None saves none.
        on_epoch: Called after each epoch.

    Raises:
        ConfigError: the architecture cannot be adapted.
        TrainingError: too few images, a loss that is not finite, an adapter that is not reached, or a
            merge that changes what the model says.
        DataError: the splits name images that the index does not hold.
        IntegrityError: an image or the starting weights are not what they were.
        StoreError: the weights cannot be written.
    """
    from streetvision_core.training.seeds import training_session

    labels = {role: labels_of(splits.roles[role], index) for role in ROLES}
    _check_roles(labels)
    training = _identify(backbone, index=index, names=splits.roles["train"], config=config)
    with _saved_epochs(resume, training) as saving, training_session():
        adapted, verdict = _adapt_and_judge(
            backbone,
            names=splits.roles,
            labels=labels,
            groups=groups_of(splits.roles["val_select"], index),
            reader=images,
            config=config,
            saving=saving,
            on_epoch=on_epoch,
        )
    _log.info("%s", verdict)
    return _stage(backbone, adapted, verdict, config=config, directory=directory, images=len(labels["train"]))


def _identify(backbone: Backbone, *, index: ImageIndex, names: Sequence[str], config: BackboneConfig) -> str:
    """Return the digest of what decides how the adaptation goes, besides the code."""
    digests = {image.name: image.sha256 for image in index.pictures}
    return json_digest(
        {
            "recipe": _recipe(config),
            "backbone": backbone.to_artifact().digest,
            "pictures": [[name, digests[name]] for name in names],
        }
    )


@contextmanager
def _saved_epochs(resume: Path | None, training: str) -> Iterator[Saving]:
    """Hold the saved state of the adaptation for the block; of None there is none."""
    from streetvision_core.inference.predict import choose_device
    from streetvision_core.training.loop import Saving
    from streetvision_core.training.resume import open_state

    if resume is None:
        yield Saving()
        return
    with open_state(resume, training=training, device=choose_device().type) as state:
        saved = state.load()
        if saved:
            _log.info("Going on after epoch %d, which an earlier run had finished.", len(saved.losses))
        yield Saving(state, saved)


def _adapt_and_judge(
    backbone: Backbone,
    *,
    names: Mapping[str, Sequence[str]],
    labels: Mapping[str, Sequence[int]],
    groups: Sequence[str],
    reader: ImageReader,
    config: BackboneConfig,
    saving: Saving,
    on_epoch: Callable[[AdaptationEpoch], None],
) -> tuple[Adapted, Verdict]:
    import torch

    from streetvision_core.eval.paired import compare_decisions
    from streetvision_core.inference.predict import BATCH_SIZE, choose_device, predict_pixels
    from streetvision_core.models.adapters import block_count
    from streetvision_core.models.preprocessing import eval_transform
    from streetvision_core.training.data import CACHE_BYTES, DecodedImages, EvaluationBatches
    from streetvision_core.training.ssl.learners import learn_from_views
    from streetvision_core.training.ssl.views import SCALE_MIN

    recipe, model = config.adaptation, _build(backbone)
    assert isinstance(recipe, SimClr)  # nobody asks for the adaptation "none"
    block_count(model)  # refuses what is no vision transformer, before every image has been looked at
    transform = eval_transform(backbone.pretrained_cfg)
    side = math.ceil(max(transform.size) / math.sqrt(SCALE_MIN))
    share = CACHE_BYTES // 3  # the views' images, and each role's crops for the probes
    crops = {
        role: EvaluationBatches(
            reader, names[role], labels[role], transform=transform, batch_size=BATCH_SIZE, cache_bytes=share
        )
        for role in ROLES
    }

    def decide(model: Any) -> list[Any]:
        where = choose_device()
        features = {
            role: predict_pixels(model, crops[role].pixels(), transform, device=where) for role in ROLES
        }
        return probe_decisions(features["train"], labels["train"], features["val_select"])

    before = decide(model)
    adapted = learn_from_views(
        model,
        DecodedImages(reader, names["train"], side=side, cache_bytes=share),
        sample=torch.stack([crops["train"][i] for i in range(min(_PARITY_IMAGES, len(names["train"])))]),
        transform=transform,
        config=recipe,
        seed=SEED,
        saving=saving,
        on_epoch=on_epoch,
    )
    compared = compare_decisions(
        np.array(labels["val_select"]), before, decide(adapted.model), groups, seed=SEED
    )
    return adapted, Verdict(compared)


def used_device(config: BackboneConfig) -> str:
    """Return where a backbone of this configuration is made: a device's name, "cpu" without adaptation."""
    if not config.is_adapted:
        return "cpu"
    from streetvision_core.inference.predict import describe_device

    return describe_device()


def probe_decisions(
    features: npt.NDArray[np.float32], labels: Sequence[int], others: npt.NDArray[np.float32]
) -> list[Any]:
    """Return what a linear probe says of other images, "none" or "roadwork" each.

    Args:
        features: What it is fitted on, [N, D].
        labels: Their labels, both classes.
        others: The features of the images it decides, [M, D].
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=_PROBE_ITERATIONS)
    )
    predicted = probe.fit(features.astype(np.float64), labels).predict(others.astype(np.float64))
    return ["roadwork" if label else "none" for label in predicted]


def _build(backbone: Backbone) -> Any:
    """Return the backbone's model without a head."""
    from streetvision_core.models.zoo import create_model, load_exactly

    model = create_model(backbone.architecture, seed=0, num_classes=0, **backbone.model_args)
    load_exactly(model, backbone.read_state(), where=f"the backbone {backbone.architecture}")
    return model


def _stage(
    backbone: Backbone,
    adapted: Adapted,
    verdict: Verdict,
    *,
    config: BackboneConfig,
    directory: Path,
    images: int,
) -> Backbone:
    """Stage what was trained, and the merged weights where they are taken; return the backbone of both."""
    path = directory / ADAPTERS_NAME
    record = {
        **verdict.to_record(),
        "recipe": _recipe(config),
        "pictures": images,
        "adapters": asdict(adapted.adapters),
        "losses": list(adapted.losses),
        "merge_parity": adapted.parity,
    }
    staged = StagedFile.at(path, write_checkpoint_atomic(path, adapted.trained))
    _require_what_was_trained(staged, backbone, adapted)
    judged = replace(backbone, adaptation=record, adapters=staged)
    if not verdict.adopted:
        return judged
    weights = directory / WEIGHTS_NAME
    return replace(
        judged,
        source=f"{backbone.source}; adapted by {config.adaptation.kind} to {images} images of train",
        weights=StagedFile.at(weights, write_checkpoint_atomic(weights, adapted.model)),
    )


def _require_what_was_trained(staged: StagedFile, backbone: Backbone, adapted: Adapted) -> None:
    """Prove that the staged adapters on fresh starting weights are the weights that were adapted.

    Raises:
        TrainingError: they are others, or do not fit.
    """
    from streetvision_core.models.adapters import PARITY, weights_gap
    from streetvision_core.models.weights import read_state
    from streetvision_core.training.ssl.learners import rebuild_adapted

    action = "Run the step again; report it where that does not help."
    try:
        rebuilt = rebuild_adapted(_build(backbone), read_state(staged))
    except ConfigError as error:
        raise TrainingError("what was trained, read back", error.found, staged.path, action) from error
    gap = weights_gap(adapted.model.state_dict(), rebuilt.state_dict())
    if not gap <= PARITY:
        found = f"weights that differ by {gap:g} of the largest"
        raise TrainingError("what was trained, read back onto starting weights", found, staged.path, action)


def _recipe(config: BackboneConfig) -> dict[str, Any]:
    """Return the recipe, its constants included, whatever record it is part of."""
    from streetvision_core.training.ssl import learners

    return {
        **config.adaptation.model_dump(mode="json"),
        "seed": SEED,
        "rank": learners.RANK,
        "alpha": learners.ALPHA,
        "unfrozen_blocks": learners.UNFROZEN_BLOCKS,
        "learning_rate": learners.LEARNING_RATE,
    }


def _check_roles(labels: Mapping[str, Sequence[int]]) -> None:
    for role, needed in (("train", "images of both classes"), ("val_select", "images")):
        if len(set(labels[role])) < (2 if role == "train" else 1):
            found = f"{len(labels[role])} of one class" if labels[role] else "none"
            action = "Materialize splits again, with more images or groups, or without adaptation."
            raise TrainingError(f"{needed} in the role {role}", found, "the splits", action)
