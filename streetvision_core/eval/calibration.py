"""The calibration of a model's logits on held-out images.

With two classes everything depends on the margin m = logit(Roadwork) - logit(None), so a calibrator is
a rising function of m, fitted by minimising the negative log-likelihood of the labels. Temperature scaling
is m / T with one parameter; it changes no ranking and no exact MCC threshold's decisions. The records that
the fits return are in `calibrators`.

Perfectly separated images have no most likely Platt calibration: its slope would grow without
end. So it is fitted to Platt's targets, (n1 + 1) / (n1 + 2) for the n1 images of Roadwork and
1 / (n0 + 2) for the n0 of None, instead of 1 and 0. For the same reason an isotonic fit of n images stays
between 1 / (n + 2) and 1 - 1 / (n + 2). All scores equal give the base rate.

Source: Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks (arXiv 1706.04599);
J. Platt, Probabilistic Outputs for Support Vector Machines (1999); the others stand in `calibrators`.

The choice of a calibrator: the simplest that is about as good as the best, by cross-validated likelihood.

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

from streetvision_core.eval.calibrators import METHODS, Isotonic, Platt, Temperature
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
    from streetvision_core.eval.inputs import Bools, Floats, Values

TEMPERATURE_BOUNDS = (0.05, 20.0)


def negative_log_likelihood(logits: Values, labels: Values, temperature: float = 1.0) -> float:
    """Mean NLL in nats of labels [N] under softmax(logits / temperature), logits [N, 2] or [N].

    Raises:
        DataError: shapes that do not fit, nothing, or logits that are not finite.
    """
    return float(np.logaddexp(0.0, -_signed_margins(logits, labels) / temperature).mean())


def fit_temperature(logits: Values, labels: Values) -> float:
    """Fit the temperature T that minimises the NLL of softmax(logits / T), logits [N, 2] or [N].

    NLL is convex in 1 / T, so the root of its derivative is the minimum. T is sought in
    `TEMPERATURE_BOUNDS`; a value on a bound says that the data do not determine one: perfectly
    separated images end at the lower bound, a model no better than chance at the upper.

    Raises:
        DataError: shapes that do not fit, nothing, logits that are not finite, or one class only.
    """
    from scipy.optimize import brentq

    require_both_classes(binary_vector(labels, name="labels"), purpose="fit a temperature")
    margins = _signed_margins(logits, labels)
    low, high = (1 / bound for bound in reversed(TEMPERATURE_BOUNDS))
    if _slope(low, margins) >= 0:
        return TEMPERATURE_BOUNDS[1]
    if _slope(high, margins) <= 0:
        return TEMPERATURE_BOUNDS[0]
    return 1 / float(brentq(_slope, low, high, args=(margins,), xtol=1e-12))


def fit_temperature_scaling(logits: Values, labels: Values) -> Temperature:
    """Fit a temperature as `fit_temperature`, and keep 1 where the images do not determine one.

    Raises:
        DataError: as `fit_temperature`.
    """
    temperature = fit_temperature(logits, labels)
    return Temperature(1.0 if temperature in TEMPERATURE_BOUNDS else temperature)


def fit_platt(logits: Values, labels: Values) -> Platt:
    """Fit slope and intercept on logits [N, 2] or [N] and labels [N]; a useless model gets slope 0.

    Raises:
        DataError: as `fit_temperature`.
    """
    margins, truth = _fitting(logits, labels)
    return Platt(*_fit_logistic(margins, truth))


def fit_isotonic(logits: Values, labels: Values) -> Isotonic:
    """Fit the rising line of least squares through logits [N, 2] or [N] and labels [N].

    Raises:
        DataError: as `fit_temperature`.
    """
    from sklearn.isotonic import IsotonicRegression

    margins, truth = _fitting(logits, labels)
    least = 1 / (truth.size + 2)
    fitted = IsotonicRegression(y_min=least, y_max=1 - least).fit(margins, truth.astype(np.float64))
    return Isotonic(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))


def _fitting(logits: Values, labels: Values) -> tuple[Floats, Bools]:
    margins, truth = margin_vector(logits), binary_vector(labels, name="labels")
    require_equal_length(logits=margins, labels=truth)
    require_both_classes(truth, purpose="fit a calibration")
    return margins, truth


def _fit_logistic(margins: Floats, truth: Bools) -> tuple[float, float]:
    """Fit a slope of at least 0 and an intercept to Platt's targets: the minimum of a convex NLL."""
    from scipy.optimize import minimize

    center, spread = float(margins.mean()), float(margins.std())
    # Margins that do not vary say nothing, and the slope stays 0.
    scale = spread if spread > 1e-6 * abs(center) else math.inf
    design = np.column_stack([(margins - center) / scale, np.ones(truth.size)])
    roadwork = np.count_nonzero(truth)
    targets = np.where(truth, (roadwork + 1) / (roadwork + 2), 1 / (truth.size - roadwork + 2))

    def loss_and_slope(weights: Floats) -> tuple[float, Floats]:
        fitted = design @ weights
        excess = 0.5 * (1 + np.tanh(fitted / 2)) - targets
        loss = np.mean(np.logaddexp(0.0, fitted) - targets * fitted)
        return float(loss), design.T @ excess / truth.size

    minimum = minimize(
        loss_and_slope,
        np.zeros(2),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None), (None, None)],
        options={"ftol": 0.0, "gtol": 1e-10, "maxiter": 1000},
    )
    slope = float(minimum.x[0]) / scale
    return slope, float(minimum.x[1]) - slope * center


def _signed_margins(logits: Values, labels: Values) -> Floats:
    """Margins towards the true class, float64 [N]: positive where the likelier class is right."""
    margins = margin_vector(logits)
    truth = binary_vector(labels, name="labels")
    require_equal_length(logits=margins, labels=truth)
    return np.where(truth, margins, -margins)


def _slope(inverse: float, margins: Floats) -> float:
    """Compute d NLL / d(1 / T) at `inverse` = 1 / T, which rises with it."""
    # 1 / (1 + exp(x)) as tanh, which cannot overflow.
    return float(np.mean(-margins * 0.5 * (1 - np.tanh(inverse * margins / 2))))


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
    logits: Values, labels: Values, *, groups: Sequence[str] | None = None, folds: int = 5, seed: int = 0
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
    simplest = next(candidate.method for candidate in judged if candidate.excess <= candidate.standard_error)
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
