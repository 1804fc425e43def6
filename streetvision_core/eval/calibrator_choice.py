"""The choice of a calibrator: the simplest that is about as good as the best, by cross-validated likelihood.

The images are split into folds that hold both classes as evenly as may be; images of one group are
never in two folds. Each method is fitted on all folds but one and judged on that one, so that every image
is judged once, by a fit that did not see it. The loss is the NLL in nats. A method is as good as the best
one where its mean loss exceeds the best by at most one standard error of that difference, which is taken
image by image (group by group), for the same images are hard for all methods. Among these the
simplest is taken, in the order of `METHODS`, and fitted on all images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.eval.calibration import (
    fit_isotonic,
    fit_platt,
    fit_temperature_scaling,
)
from streetvision_core.eval.calibrators import METHODS
from streetvision_core.eval.folds import split_folds
from streetvision_core.eval.inputs import (
    binary_vector,
    margin_vector,
    require_both_classes,
    require_equal_length,
)
from streetvision_core.eval.reliability import log_losses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from streetvision_core.eval.calibrators import Calibrator
    from streetvision_core.eval.inputs import Floats, Values

FITS: dict[str, Callable[[Values, Values], Calibrator]] = {
    "temperature": fit_temperature_scaling,
    "platt": fit_platt,
    "isotonic": fit_isotonic,
}


@dataclass(frozen=True)
class CrossValidated:
    """A method's mean loss in nats on images it was not fitted on, and how far it is from the best.

    `excess` is the difference to the best method, 0 for that one, and `standard_error` belongs to it.
    """

    method: str
    nll: float
    excess: float
    standard_error: float


@dataclass(frozen=True)
class CalibratorChoice:
    """The chosen calibrator, fitted on all images, and what every method was judged by."""

    calibrator: Calibrator
    judged: tuple[CrossValidated, ...]


def choose_calibrator(
    logits: Values,
    labels: Values,
    *,
    groups: Sequence[str] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> CalibratorChoice:
    """Choose and fit a calibrator for logits [N, 2] or [N] and labels [N].

    Args:
        logits: Logits of images that neither trained the model nor will judge it: val_select.
        labels: Their labels, 0 or 1.
        groups: The group of each image, [N]; no group is split. None: every image by itself.
        folds: How many folds.
        seed: Seed of the folds.

    Raises:
        DataError: shapes that do not fit, logits that are not finite, or too few images or groups of a
            class for so many folds.
        ConfigError: fewer than two folds.
    """
    margins, truth = margin_vector(logits), binary_vector(labels, name="labels")
    require_equal_length(logits=margins, labels=truth)
    require_both_classes(truth, purpose="choose a calibration")
    group = np.arange(truth.size) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    require_equal_length(labels=truth, groups=group)
    losses = {method: np.empty(truth.size) for method in METHODS}
    parts = split_folds(truth, group, folds=folds, seed=seed, purpose="the choice of a calibrator")
    for fitting, judging in parts:
        for method in METHODS:
            calibrator = FITS[method](margins[fitting], truth[fitting])
            losses[method][judging] = log_losses(calibrator.apply(margins[judging]), truth[judging])
    judged = _judge(losses, group)
    simplest = next(one.method for one in judged if one.excess <= one.standard_error)
    return CalibratorChoice(FITS[simplest](margins, truth), judged)


def _judge(losses: dict[str, Floats], group: npt.NDArray[np.intp]) -> tuple[CrossValidated, ...]:
    best = min(losses.values(), key=np.mean)
    return tuple(
        CrossValidated(
            method=method,
            nll=float(loss.mean()),
            excess=float(loss.mean() - best.mean()),
            standard_error=_standard_error(loss - best, group),
        )
        for method, loss in losses.items()
    )


def _standard_error(differences: Floats, group: npt.NDArray[np.intp]) -> float:
    """Standard error of the mean of differences [N] whose groups are independent of each other."""
    sums = np.bincount(group, weights=differences - differences.mean())
    return math.sqrt(float(np.sum(sums**2)) * sums.size / max(sums.size - 1, 1)) / differences.size
