"""The gate of a checkpoint: measures pictures where there are errors enough to learn from, and fits.

Pictures of train say what usual features look like, pictures of val_select where the errors are; no other
role is read. Where the errors are too few for a gate no picture is read at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.eval.gate_fit import fit_gate, needs_extras, verify_gate
from streetvision_core.training.logits import labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streetvision_core.data import ImageIndex
    from streetvision_core.data.pictures import PictureReader
    from streetvision_core.data.splits import Splits
    from streetvision_core.eval.gate import Gate
    from streetvision_core.eval.gate_config import GateConfig
    from streetvision_core.training.checkpoint import Checkpoint


def train_gate(
    checkpoint: Checkpoint,
    *,
    index: ImageIndex,
    splits: Splits,
    pictures: PictureReader,
    config: GateConfig,
    checkpoint_version: str,
) -> Gate:
    """Fit the gate policy of a checkpoint on val_select.

    Args:
        checkpoint: The classifier.
        index: Labels of at least the pictures of train.
        splits: Which picture plays which role.
        pictures: Reads the pictures of train and val_select.
        config: Recorded in the policy.
        checkpoint_version: The data version of the checkpoint.

    Raises:
        DataError: val_select is of one class, or a picture is not in the index.
        IntegrityError: the weights or a picture are not what they were.
    """
    measured = _measure_if_needed(checkpoint, config, index=index, splits=splits, pictures=pictures)
    return fit_gate(checkpoint.val_select, checkpoint_version=checkpoint_version, config=config, **measured)


def gate_problems(
    gate: Gate, checkpoint: Checkpoint, *, index: ImageIndex, splits: Splits, pictures: PictureReader
) -> list[str]:
    """Measure and fit again; return what differs, one sentence a difference. Arguments as `train_gate`."""
    config = gate.policy.chosen_by
    measured = _measure_if_needed(checkpoint, config, index=index, splits=splits, pictures=pictures)
    return verify_gate(gate.policy, checkpoint.val_select, **measured)


def _measure_if_needed(
    checkpoint: Checkpoint,
    config: GateConfig,
    *,
    index: ImageIndex,
    splits: Splits,
    pictures: PictureReader,
) -> dict[str, Any]:
    """Return `extras` of val_select and the `reference` of train; nothing where no gate will be trained."""
    if not needs_extras(checkpoint.val_select, config):
        return {}
    train = splits.roles["train"]
    extras = _measure(checkpoint, checkpoint.val_select.ids, pictures)
    features = _measure(checkpoint, train, pictures)["features"]
    return {
        "extras": extras,
        "reference": {"features": features, "labels": np.array(labels_of(train, index))},
    }


def _measure(checkpoint: Checkpoint, names: Sequence[str], pictures: PictureReader) -> dict[str, Any]:
    """Return the extras of the named pictures in their order, arrays [N] or [N, D] by name."""
    from streetvision_core.data.pictures import decode
    from streetvision_core.models.measure import measure_pixels
    from streetvision_core.models.predict import choose_device
    from streetvision_core.models.preprocessing import hub_transform

    transform = hub_transform(checkpoint.config)
    batches = [
        measured.extras
        for measured in measure_pixels(
            checkpoint.load_model(),
            (transform.pixels(decode(pictures.read(name))) for name in names),
            transform,
            device=choose_device(),
            extras=True,
        )
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
