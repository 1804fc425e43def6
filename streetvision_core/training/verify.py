"""What could be wrong with a checkpoint and with logits, found again from their files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.errors import StreetVisionError
from streetvision_core.eval.metrics import compute_mcc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streetvision_core.training.checkpoint import Checkpoint
    from streetvision_core.training.logits import Logits


def checkpoint_problems(checkpoint: Checkpoint, *, names: Sequence[str]) -> list[str]:
    """Load the weights and judge what they said of val_select; one sentence a fault, none when good.

    Args:
        checkpoint: The checkpoint.
        names: The pictures of val_select.
    """
    import torch

    problems = logits_problems(checkpoint.val_select, role="val_select", names=names)
    try:
        state = checkpoint.load_model().state_dict()
    except StreetVisionError as error:
        return [*problems, str(error)]
    problems += [
        f"the weights {name} are not finite" for name, w in state.items() if not torch.isfinite(w).all()
    ]
    said = np.argmax(checkpoint.val_select.logits, axis=1)
    if (mcc := compute_mcc(checkpoint.val_select.labels, said)) <= 0:
        problems.append(_no_better(mcc, checkpoint.val_select))
    return problems


def _no_better(mcc: float, logits: Logits) -> str:
    roadwork = int(logits.labels.sum())
    counts = f"{logits.labels.size - roadwork} None and {roadwork} Roadwork images"
    return (
        f"it is no better than the majority class: MCC {mcc:.3f} on val_select, which has {counts}"
        f" of {len(set(logits.groups))} groups. With few of a class: add images of it, from other places."
        " Otherwise: train for more epochs, start from pretrained weights, or check the labels"
    )


def logits_problems(logits: Logits, *, role: str, names: Sequence[str]) -> list[str]:
    """Tell where logits are not of exactly the pictures of a role; their record proves the rest."""
    missing, foreign = sorted(set(names) - set(logits.ids)), sorted(set(logits.ids) - set(names))
    problems = []
    if missing:
        problems.append(f"{len(missing)} pictures of {role} have no logits, {missing[0]} for instance")
    if foreign:
        problems.append(
            f"{len(foreign)} pictures have logits but are not of {role}, {foreign[0]} for instance"
        )
    return problems
