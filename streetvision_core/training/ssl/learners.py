"""The two ways to learn from pairs of views: a model with a head on it that is thrown away afterwards.

A learner owns the adapted model. `backward` leaves the gradient of one batch of views in what is trained,
`after_step` follows each step of the optimizer, and `learned` is the model that comes out of it: the model
itself with `Contrastive`, its average over the steps with `Distillation`.

No head normalises over a batch, so that a batch may be gone through in parts (`ssl_objectives.py`).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from streetvision_core.training.ssl.objectives import (
    backward_in_parts,
    contrastive_loss,
    distillation_loss,
    mean_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from streetvision_core.models.explora_config import ExploraConfig

CENTRE_MOMENTUM = 0.9  # DINO's


class Contrastive:
    """SimCLR: the views of a picture find each other among the batch."""

    def __init__(self, model: Any, config: ExploraConfig) -> None:
        width = int(model.num_features)
        self.learned = model
        self.trained = nn.Sequential(model, *_perceptron(width, config.explora_projection))
        self._temperature = config.explora_temperature

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
            lambda said: contrastive_loss(*said.chunk(2), temperature=self._temperature),
        )

    def after_step(self) -> None:
        """Nothing follows a step."""


class Distillation:
    """DINO: the student says of one view what its own average over the steps says of the other."""

    def __init__(self, model: Any, config: ExploraConfig) -> None:
        self.trained = nn.Sequential(
            model, Prototypes(int(model.num_features), config.explora_projection, config.explora_prototypes)
        )
        self._teacher = copy.deepcopy(self.trained).eval().requires_grad_(requires_grad=False)
        self.learned = self._teacher[0]
        self._pairs = [
            (old, new)
            for old, new in zip(self._teacher.parameters(), self.trained.parameters(), strict=True)
            if new.requires_grad
        ]
        self._centre: torch.Tensor | None = None
        self._config = config

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self.trained.to(device)
        self._teacher.to(device)

    def backward(self, parts: int, run: Callable[[Any, int], torch.Tensor]) -> torch.Tensor:
        """Leave the gradient of a batch behind and return its loss, as `Contrastive` does."""
        with torch.no_grad():
            wanted = torch.cat([run(self._teacher, part) for part in range(parts)])
        # Beginning at the first batch's mean and not at 0, the first losses are not those of a teacher that
        # says the same of every picture.
        centre = self._centre if self._centre is not None else mean_of(wanted)
        loss = backward_in_parts(
            lambda part: run(self.trained, part),
            parts,
            lambda said: distillation_loss(
                said,
                wanted,
                centre=centre,
                student_temperature=self._config.explora_temperature,
                teacher_temperature=self._config.explora_teacher_temperature,
            ),
        )
        self._centre = CENTRE_MOMENTUM * centre + (1 - CENTRE_MOMENTUM) * mean_of(wanted)
        return loss

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the teacher towards the student."""
        for old, new in self._pairs:
            old.lerp_(new, 1 - self._config.explora_teacher_momentum)


class Prototypes(nn.Module):
    """DINO's head: a perceptron, and the cosine of its output to each of `count` directions."""

    def __init__(self, width: int, projection: int, count: int) -> None:
        super().__init__()
        self.perceptron = nn.Sequential(*_perceptron(width, projection))
        self.directions = nn.Parameter(torch.randn(count, projection))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return cosines [N, count] of features [N, width]."""
        found = functional.normalize(self.perceptron(features), dim=1)
        return found @ functional.normalize(self.directions, dim=1).T


def _perceptron(width: int, projection: int) -> tuple[nn.Module, ...]:
    hidden = max(width, projection)
    return nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, projection)
