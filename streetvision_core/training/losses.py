"""The loss of each image that training minimises, from logits and the share of each class in its target.

The loss of a batch is the plain mean over its images, class weights included. So it is linear in the
images: the mean over the parts of a batch, or over processes, is the loss of the whole batch, which
dividing by the sum of a batch's weights (as torch does) would not be.

- Cross-entropy: -sum_c w_c q_c log p_c, with targets q.
- Focal loss (Lin et al., 1708.02002): the same with (1 - p_c) ** gamma before each logarithm.
- Class weights: N / (2 n_c), so that both classes count the same, as they do in MCC; their mean over the
  images of train is 1, so that they do not change the step size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

CLASSES = 2


# The share of each label that is spread over both classes: people label some images wrongly.
LABEL_SMOOTHING = 0.05


def class_weights(labels: Sequence[int]) -> list[float]:
    """Return the weight of classes 0 and 1, both present in `labels`; their mean over `labels` is 1."""
    counts = np.bincount(labels, minlength=CLASSES).astype(np.float64)
    return [float(weight) for weight in counts.sum() / (CLASSES * counts)]


def soft_targets(labels: torch.Tensor, *, smoothing: float) -> torch.Tensor:
    """Return targets float32 [..., 2] of labels int64 [...]: `smoothing` is spread over both classes."""
    return functional.one_hot(labels, CLASSES).float() * (1 - smoothing) + smoothing / CLASSES


def image_losses(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, *, gamma: float
) -> torch.Tensor:
    """Return the loss of each image, float32 [...].

    Args:
        logits: float [..., 2].
        targets: The share of each class, float32 [..., 2].
        weights: Of the classes, float32 [2].
        gamma: Focal loss's discount of easy images; 0 gives cross-entropy.
    """
    log_p = logits.float().log_softmax(-1)
    if gamma:
        # 1 - p_c is the other class's share. Its power is taken of the logarithm: below gamma 1 the gradient
        # of the plain one is not a number where an image is so easy that 1 - p_c is rounded to 0.
        log_p = log_p * (gamma * log_p.flip(-1)).exp()
    return -(targets * weights * log_p).sum(-1)
