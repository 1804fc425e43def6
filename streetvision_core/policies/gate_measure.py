"""The gate of a checkpoint: measures pictures where there are errors enough to learn from, and fits.

Pictures of train say what usual features look like, pictures of val_select where the errors are; no other
role is read. Where the errors are too few for a gate no picture is read at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.inference.logits import digests_of, labels_of
from streetvision_core.policies.gate_fit import fit_gate, needs_extras, verify_gate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streetvision_core.data import ImageIndex
    from streetvision_core.data.decoding.decode import PictureReader
    from streetvision_core.data.splits import Splits
    from streetvision_core.inference.logits import TrainedClassifier
    from streetvision_core.policies.config import GateConfig
    from streetvision_core.policies.gate import Gate


def train_gate(
    checkpoint: TrainedClassifier,
    *,
    index: ImageIndex,
    splits: Splits,
    pictures: PictureReader,
    config: GateConfig,
    checkpoint_version: str,
    cache: Path | None = None,
) -> Gate:
    """Fit the gate policy of a checkpoint on val_select.

    Args:
        checkpoint: The classifier.
        index: Labels of at least the pictures of train.
        splits: Which picture plays which role.
        pictures: Reads the pictures of train and val_select.
        config: Recorded in the policy.
        checkpoint_version: The data version of the checkpoint.
        cache: Where features of pictures are kept (`cached_features`): one that is there is not computed
            again, and its picture not read. The gate is the same.

    Raises:
        DataError: val_select is of one class, or a picture is not in the index.
        IntegrityError: the weights or a picture are not what they were.
    """
    where = _Where(index, pictures, cache)
    measured = _measure_if_needed(checkpoint, config, splits=splits, where=where)
    return fit_gate(checkpoint.val_select, checkpoint_version=checkpoint_version, config=config, **measured)


def gate_problems(
    gate: Gate,
    checkpoint: TrainedClassifier,
    *,
    index: ImageIndex,
    splits: Splits,
    pictures: PictureReader,
    cache: Path | None = None,
) -> list[str]:
    """Measure and fit again; return what differs, one sentence a difference. Arguments as `train_gate`."""
    config = gate.policy.chosen_by
    where = _Where(index, pictures, cache)
    measured = _measure_if_needed(checkpoint, config, splits=splits, where=where)
    return verify_gate(gate.policy, checkpoint.val_select, **measured)


@dataclass(frozen=True)
class _Where:
    """Where pictures and what is known of them come from."""

    index: ImageIndex
    pictures: PictureReader
    cache: Path | None


def _measure_if_needed(
    checkpoint: TrainedClassifier, config: GateConfig, *, splits: Splits, where: _Where
) -> dict[str, Any]:
    """Return `extras` of val_select and the `reference` of train; nothing where no gate will be trained."""
    if not needs_extras(checkpoint.val_select, config):
        return {}
    train = splits.roles["train"]
    measure = _measure if where.cache is None else _measure_cached
    extras = measure(checkpoint, checkpoint.val_select.ids, where)
    features = measure(checkpoint, train, where)["features"]
    return {
        "extras": extras,
        "reference": {"features": features, "labels": np.array(labels_of(train, where.index))},
    }


def _measure(checkpoint: TrainedClassifier, names: Sequence[str], where: _Where) -> dict[str, Any]:
    """Return the extras of the named pictures in their order, arrays [N] or [N, D] by name."""
    from streetvision_core.data.decoding.decode import decode
    from streetvision_core.inference.measure import measure_pixels
    from streetvision_core.inference.predict import choose_device
    from streetvision_core.models.preprocessing import hub_transform

    transform = hub_transform(checkpoint.config)
    batches = [
        measured.extras
        for measured in measure_pixels(
            checkpoint.load_model(),
            (transform.pixels(decode(where.pictures.read(name))) for name in names),
            transform,
            device=choose_device(),
            extras=True,
        )
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _measure_cached(checkpoint: TrainedClassifier, names: Sequence[str], where: _Where) -> dict[str, Any]:
    """Return the very numbers of `_measure`, computing only what the cache lacks."""
    import torch

    from streetvision_core.inference.cached_features import (
        MIRRORED,
        PLAIN,
        feature_logits,
        feature_measures,
        measure_pictures,
        plain_crop,
        quality_measure,
    )
    from streetvision_core.inference.measure import margins
    from streetvision_core.models.pooling import pool_features
    from streetvision_core.models.preprocessing import hub_transform

    model, transform = checkpoint.load_model(), hub_transform(checkpoint.config)
    measures = feature_measures(model, transform, config=checkpoint.config, views=(PLAIN, MIRRORED))
    plain, mirrored, quality = measure_pictures(
        model,
        [*measures, quality_measure(transform)],
        names,
        digests=digests_of(names, where.index),
        read=where.pictures.read,
        crop=plain_crop(transform),
        cache=where.cache,
    )
    views = transform.views
    straight, turned = (
        margins(feature_logits(model, features, views=views)) for features in (plain, mirrored)
    )
    rows = plain[:]
    sharpness, brightness = quality[:].T
    return {
        "features": rows if views is None else pool_features(torch.from_numpy(rows), views=views).numpy(),
        "disagreement": np.abs(straight - turned),
        "sharpness": sharpness,
        "brightness": brightness,
    }
