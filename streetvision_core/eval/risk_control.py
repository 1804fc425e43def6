"""A promise about images that nobody has labelled yet: the error among those that are answered.

The promise of `certify_selective_risk`: with probability at least 1 - delta over the calibration
images, P(wrong | confidence >= threshold) <= alpha. It is Learn-then-Test with fixed-sequence testing.
The thresholds, strict to loose, are frozen before the calibration images are looked at. For each, m
images are accepted and k of them are wrong; under the hypothesis that the risk is above alpha, k is at
least as large as a Binomial(m, alpha), so P(Binomial(m, alpha) <= k) is a valid p-value. The first
threshold whose p-value is above delta ends the sequence; the one before it is certified. One wrong
rejection needs the first true hypothesis of the sequence to be rejected, which happens with probability
at most delta: no correction for the number of thresholds is needed.

If not even the first is certified, everything is deferred, and the certificate says how many accepted
images without an error would be needed: alpha and delta alone decide it.

Conditions. The calibration images are independent of each other and of everything that chose model,
temperature, confidence and thresholds, and the images to come are drawn as they were. Frames of one
video are not independent: `one_per_group` leaves one of each. A shift of domain, base rate or
preprocessing voids the promise.

Another promise, about the mean and not about this calibration set, is `control_expected_risk`.

Sources: Angelopoulos et al., Learn then Test (arXiv 2110.01052); Geifman and El-Yaniv, Selective
Classification (1705.08500); Angelopoulos et al., Conformal Risk Control (2208.02814); Clopper and Pearson,
Biometrika 26 (1934), 404-413.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.errors import ConfigError, DataError
from streetvision_core.eval.inputs import binary_vector, finite_vector, require_equal_length

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from streetvision_core.eval.inputs import Floats, Values

COVERAGE_LEVEL = 0.95
# Confidences this close (relatively) are one: two ways to compute the same number differ by less.
_TIE = 1e-12
# How far (relatively) the loosest threshold may lie below the lowest confidence: rounding is far smaller.
_EDGE = 1e-3

# How far a frozen threshold lies between its two neighbours among the scores, from the lower one. Coarse
# margins, of an int8 model for instance, fall on every simple fraction of the way, the middle above all, and
# there rounding would decide. No fraction is farther from all simple ones than that of the golden ratio.
BETWEEN, MIDDLE = (3 - 5**0.5) / 2, 0.5


@dataclass(frozen=True)
class Certificate:
    """A certificate from the calibration images; `threshold` None means that everything is deferred.

    Accepted is every image with a confidence of at least `threshold`. `accepted` (m) and `errors` (k)
    count the calibration images at that threshold. `upper_bound` is the Clopper-Pearson bound of the risk
    at level 1 - delta, 1.0 where nothing is accepted; without a delta the promise is about the mean, and it
    is the corrected mean (errors + 1) / (images + 1). `coverage_low` and `coverage_high` hold the
    share of images that will be answered, with 95 % confidence. `tested` counts the thresholds that were
    looked at, `needed` the accepted images without an error that the smallest certificate takes.
    """

    threshold: float | None
    alpha: float
    delta: float | None
    pictures: int
    accepted: int
    errors: int
    upper_bound: float
    coverage_low: float
    coverage_high: float
    tested: int
    needed: int

    @property
    def feasible(self) -> bool:
        """True if any image may be answered."""
        return self.threshold is not None


def certify_selective_risk(
    confidence: Values, wrong: Values, *, thresholds: Sequence[float], alpha: float, delta: float
) -> Certificate:
    """Certify the loosest threshold that the fixed sequence reaches.

    Args:
        confidence: How sure the answer to each calibration image is, [N], finite.
        wrong: Whether that answer is wrong, [N] of 0/1 or bool.
        thresholds: The frozen sequence, strictly falling: strict to loose. See `risk_grid`.
        alpha: The largest share of wrong answers among the accepted images, in (0, 1).
        delta: The probability with which the promise may fail, in (0, 1).

    Raises:
        DataError: arrays that do not fit, or hold what they may not.
        ConfigError: alpha or delta outside (0, 1), or thresholds that do not fall.
    """
    _require_levels(alpha=alpha, delta=delta)
    grid, sure, mistaken = _checked(confidence, wrong, thresholds)
    accepted, errors = count_accepted(sure, mistaken, grid)
    stopped = (accepted == 0) | (risk_p_value(errors, accepted, alpha=alpha) > delta)
    passed = int(np.argmax(stopped)) if stopped.any() else grid.size
    tested = min(passed + 1, grid.size)
    if passed == 0:
        return no_certificate(images=sure.size, alpha=alpha, delta=delta, tested=tested)
    best = passed - 1
    return certificate_of(
        float(grid[best]),
        int(accepted[best]),
        int(errors[best]),
        images=sure.size,
        alpha=alpha,
        delta=delta,
        tested=tested,
    )


def no_certificate(*, images: int, alpha: float, delta: float | None, tested: int) -> Certificate:
    """Return the certificate that defers everything; `tested` thresholds were looked at."""
    return certificate_of(None, 0, 0, images=images, alpha=alpha, delta=delta, tested=tested)


def certificate_of(
    threshold: float | None,
    accepted: int,
    errors: int,
    *,
    images: int,
    alpha: float,
    delta: float | None,
    tested: int,
) -> Certificate:
    """Return the certificate that follows from its counts at a threshold; see `Certificate`."""
    side = (1 - COVERAGE_LEVEL) / 2
    return Certificate(
        threshold=threshold,
        alpha=alpha,
        delta=delta,
        pictures=images,
        accepted=accepted,
        errors=errors,
        upper_bound=risk_bound(errors, accepted, images=images, delta=delta),
        coverage_low=1 - float(upper_risk_bound(images - accepted, images, delta=side)),
        coverage_high=float(upper_risk_bound(accepted, images, delta=side)),
        tested=tested,
        needed=needed_without_error(alpha=alpha, delta=delta),
    )


def risk_p_value(errors: npt.ArrayLike, accepted: npt.ArrayLike, *, alpha: float) -> Floats:
    """P(Binomial(accepted, alpha) <= errors), elementwise: small where few errors speak for a low risk."""
    from scipy.stats import binom

    p_value: Floats = np.asarray(binom.cdf(errors, accepted, alpha))
    return p_value


def upper_risk_bound(errors: npt.ArrayLike, accepted: npt.ArrayLike, *, delta: float) -> Floats:
    """Clopper-Pearson upper bound of a rate at level 1 - delta, elementwise; 1 where all are errors."""
    from scipy.special import betaincinv  # scipy.stats takes most of a second to load, and gives the same

    wrong, total = np.asarray(errors, dtype=np.float64), np.asarray(accepted, dtype=np.float64)
    every = wrong >= total
    bound: Floats = np.where(
        every, 1.0, betaincinv(wrong + 1, np.where(every, 1.0, total - wrong), 1 - delta)
    )
    return bound


def risk_bound(errors: int, accepted: int, *, images: int, delta: float | None) -> float:
    """Return what a certificate holds against alpha; see `Certificate`."""
    if delta is None:
        return (errors + 1) / (images + 1)
    return float(upper_risk_bound(errors, accepted, delta=delta))


def needed_without_error(*, alpha: float, delta: float | None) -> int:
    """Return how many accepted images, none wrong, certify alpha: the least m with (1 - alpha)^m <= delta.

    Without a delta all images count, accepted or not: the least n with 1 / (n + 1) <= alpha.
    """
    if delta is None:
        _require_levels(alpha=alpha)
        return math.ceil(1 / alpha - 1 - 1e-9)
    _require_levels(alpha=alpha, delta=delta)
    return math.ceil(math.log(delta) / math.log1p(-alpha) - 1e-9)


def risk_grid(
    confidence: Values,
    *,
    calibration_size: int,
    alpha: float,
    delta: float | None,
    steps: int = 15,
    between: float = BETWEEN,
) -> tuple[float, ...]:
    """Freeze the sequence of thresholds from confidences [N] on val_select, strict to loose.

    It starts where twice the smallest certifiable number of calibration images is expected to be accepted
    (1.2 times where there are few), since a stricter one would mostly fail for want of images, and goes in
    even steps of coverage to accepting everything; a single step is the start alone. A promise about the mean
    (no delta) begins at the first step: it cannot fail for want of accepted images. Each threshold lies
    well between the last confidence that it accepts and the next below (`between` of the way up), so that
    rounding moves no image with a confidence of val_select across it, nor one on a simple fraction.

    Raises:
        DataError: confidence that is not [N] or not finite.
        ConfigError: alpha or delta outside (0, 1).
    """
    sure = finite_vector(confidence, name="confidence")
    needed = needed_without_error(alpha=alpha, delta=delta)
    # Twice outlives an early error. Of few images less is taken, two thirds of them, so that there is a
    # sequence at all.
    times = min(2.0, max(1.2, calibration_size / needed / 1.5))
    first = 1 / steps if delta is None else min(1.0, times * needed / calibration_size)
    coverages = np.linspace(first, 1.0, steps)
    quantiles = np.quantile(sure, 1 - coverages, method="inverted_cdf")
    return tuple(float(value) for value in np.unique(_below(quantiles, sure, between))[::-1])


def control_expected_risk(
    confidence: Values, wrong: Values, *, thresholds: Sequence[float], alpha: float
) -> Certificate:
    """Choose the loosest threshold whose expected loss is at most alpha: conformal risk control.

    The promise is another one: E[wrong and accepted] <= alpha, the mean over calibration sets and new
    images, of all images and not of the accepted ones. The loss of an image, 1 if it is accepted and
    answered wrongly, never rises as the threshold does, so the rule (n R + 1) / (n + 1) <= alpha holds.

    Returns:
        A certificate without a delta; its threshold is None where even the strictest is too loose.

    Raises:
        DataError: arrays that do not fit, or hold what they may not.
        ConfigError: alpha outside (0, 1), or thresholds that do not fall.
    """
    _require_levels(alpha=alpha)
    grid, sure, mistaken = _checked(confidence, wrong, thresholds)
    accepted, errors = count_accepted(sure, mistaken, grid)
    holds = (errors + 1) / (sure.size + 1) <= alpha
    if not holds.any():
        return no_certificate(images=sure.size, alpha=alpha, delta=None, tested=grid.size)
    best = int(np.flatnonzero(holds)[-1])
    return certificate_of(
        float(grid[best]),
        int(accepted[best]),
        int(errors[best]),
        images=sure.size,
        alpha=alpha,
        delta=None,
        tested=grid.size,
    )


def one_per_group(groups: Sequence[str], *, seed: int, cap: int = 1) -> npt.NDArray[np.intp]:
    """Return the positions of one member of each kept group, drawn at random and the same for the same seed.

    A group of s members is kept with probability min(s, cap) / cap: all of them by default. Where the groups
    are independent draws, what is left are independent draws of a member, a group weighing min(s, cap).
    Nothing but groups and seed decides; labels have no part in it.

    Raises:
        DataError: there are no groups.
    """
    if not len(groups):
        raise DataError("the group of each image", "none", "the groups", "Pass one name an image.")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(groups))
    _, first, sizes = np.unique(np.asarray(groups)[order], return_index=True, return_counts=True)
    kept = rng.random(first.size) * cap < np.minimum(sizes, cap)
    return np.sort(order[first[kept]])


def count_accepted(
    sure: Floats, mistaken: npt.NDArray[np.bool_], grid: Floats
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Count, for each threshold of a grid, the accepted images and the wrong ones among them, int [K] each.

    Takes finite confidences [N], whether the answers are wrong, bool [N], and a falling grid [K].
    """
    # How many of the thresholds each image reaches; nothing is sorted, since K is far below N.
    reached = np.searchsorted(grid[::-1], sure, side="right")
    accepted, errors = (
        np.cumsum(np.bincount(some, minlength=grid.size + 1)[:0:-1]) for some in (reached, reached[mistaken])
    )
    return accepted, errors


def _below(values: Floats, sure: Floats, between: float) -> Floats:
    """Return what lies between values among the confidences and the next ones below them."""
    ordered, tied = np.unique(sure), values - _TIE * np.abs(values)
    smaller = np.searchsorted(ordered, tied)
    if between == MIDDLE:  # a hair below the lowest, as the first schema had it
        middles: Floats = (values + np.where(smaller > 0, ordered[smaller - 1], 2 * tied - values)) / 2
        return middles
    following = np.where(smaller > 0, ordered[smaller - 1], values - _EDGE * np.abs(values))
    thresholds: Floats = following + between * (values - following)
    return thresholds


def _checked(
    confidence: Values, wrong: Values, thresholds: Sequence[float]
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    grid = _falling(thresholds)
    sure, mistaken = finite_vector(confidence, name="confidence"), binary_vector(wrong, name="wrong")
    require_equal_length(confidence=sure, wrong=mistaken)
    return grid, sure, mistaken


def _falling(thresholds: Sequence[float]) -> Floats:
    grid = np.asarray(thresholds, dtype=np.float64)
    if grid.ndim != 1 or not grid.size or not np.isfinite(grid).all() or (np.diff(grid) >= 0).any():
        raise ConfigError(
            "finite thresholds that fall, strict to loose",
            f"{list(thresholds)[:5]}",
            "the sequence of risk control",
            "Freeze them on val_select with risk_grid, before the calibration images are looked at.",
        )
    return grid


def _require_levels(**levels: float) -> None:
    for name, value in levels.items():
        if not 0 < value < 1:
            raise ConfigError(
                f"{name} strictly between 0 and 1",
                f"{value}",
                "risk control",
                "Give a share such as 0.05 for alpha and 0.10 for delta.",
            )
