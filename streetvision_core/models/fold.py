"""Temperature and threshold inside the last layer, so that 0.5 is the tuned decision of whoever opens it.

With logits (a, b), softmax(logits / T)[1] > t exactly where (b - a) / T > logit(t), and logit(t) is
log(t / (1 - t)). So the last linear layer is divided by T, and each of its two biases moves by half of
logit(t), in opposite directions: the margin becomes (b - a) / T - logit(t), and its sigmoid is greater
than 0.5 in the same places. Otherwise the folded probability is the calibrated one, shifted in log odds.

"Exactly" is meant in real numbers. In float32 an image whose probability lies within rounding of the
threshold (about 1e-6) may fall on the other side.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


def fold_operating_point(model: Any, *, temperature: float, threshold: float) -> Any:
    """Return a copy of `model` whose probability 0.5 is `threshold` at `temperature`.

    Args:
        model: A timm classifier (`torch.nn.Module`) with two outputs and a linear last layer.
        temperature: Divides the logits; positive and finite.
        threshold: Probability above which the decision is roadwork, inside (0, 1).

    Raises:
        ConfigError: numbers that are no operating point, or a last layer that is not linear.
    """
    _check_operating_point(temperature, threshold)
    folded = copy.deepcopy(model)
    _fold(last_linear(folded), temperature, math.log(threshold) - math.log1p(-threshold))
    return folded


def _fold(layer: nn.Linear, temperature: float, shift: float) -> None:
    import torch

    with torch.no_grad():
        halves = torch.tensor([shift / 2, -shift / 2], dtype=torch.float64, device=layer.bias.device)
        bias = layer.bias.double() / temperature + halves
        layer.weight.copy_(layer.weight.double() / temperature)
        layer.bias.copy_(bias)


def last_linear(model: Any) -> nn.Linear:
    """Return the layer of a classifier into which an operating point is folded.

    Raises:
        ConfigError: it is not linear, has no bias, or another number of outputs.
    """
    from torch import nn

    head = model.get_classifier() if hasattr(model, "get_classifier") else None
    layer = head[-1] if isinstance(head, nn.Sequential) and len(head) else head
    if isinstance(layer, nn.Linear) and hasattr(layer.bias, "shape") and len(layer.bias) == len(LABEL_NAMES):
        return layer
    expected = f"a classifier that ends in one linear layer with a bias and {len(LABEL_NAMES)} outputs"
    action = "Choose an architecture with a linear head; the operating point cannot be folded into this one."
    raise ConfigError(expected, f"one that ends in {type(layer).__name__}", type(model).__name__, action)


def _check_operating_point(temperature: float, threshold: float) -> None:
    if not (temperature > 0 and math.isfinite(temperature) and 0 < threshold < 1):
        expected = "a positive, finite temperature and a threshold inside (0, 1)"
        found = f"temperature {temperature} and threshold {threshold}"
        action = "A threshold of 0 or 1 decides the same for every image; fit the policy again."
        raise ConfigError(expected, found, "the operating point", action)
