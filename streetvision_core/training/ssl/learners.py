"""SimCLR as a learner: a model with a head on it that is thrown away afterwards.

`backward` leaves the gradient of one batch of views in what is trained. The head does not normalise over a
batch, so that a batch may be gone through in parts (`ssl_objectives.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from streetvision_core.training.ssl.objectives import backward_in_parts, contrastive_loss

if TYPE_CHECKING:
    from collections.abc import Callable

TEMPERATURE = 0.1
PROJECTION = 128  # width of what the views are compared in


class Contrastive:
    """SimCLR: the views of a picture find each other among the batch."""

    def __init__(self, model: Any) -> None:
        self.trained = nn.Sequential(model, *_perceptron(int(model.num_features), PROJECTION))

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self.trained.to(device)

    def backward(self, parts: int, run: Callable[[Any, int], torch.Tensor]) -> torch.Tensor:
        """Leave the gradient of a batch behind, gone through in parts; return its loss.

        Args:
            parts: Into how many parts the views are cut, all first views before the second ones.
            run: Returns what a model says of part i, float32, drawing the same whenever it is asked.
        """
        return backward_in_parts(
            lambda part: run(self.trained, part),
            parts,
            lambda said: contrastive_loss(*said.chunk(2), temperature=TEMPERATURE),
        )


def _perceptron(width: int, projection: int) -> tuple[nn.Module, ...]:
    hidden = max(width, projection)
    return nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, projection)
