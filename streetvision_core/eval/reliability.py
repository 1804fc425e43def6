"""The reliability of probabilities: of the images called 0.8, about 80 % should be roadwork.

All figures are of the probability of roadwork p against the label, over all of [0, 1]; they are not of the
confidence of the decision. A calibration error is a statement about bins: images are put into bins by p,
and the gap of a bin is |mean p - share of roadwork|. ECE is the mean gap, each bin weighted by its images;
MCE is the largest. Bins of equal width are (low, high], the first one holds 0 too. Bins of equal mass share
out the ranks, so that they differ by one image at most; equal probabilities stay together in the bin of the
lowest of them, so that with ties bins can be uneven. Empty bins are left out.

ECE is biased upwards where bins hold few images, and changes with the number of bins: compare only like
with like, and with what a perfectly calibrated model has at the same size (`perfect_calibration_errors`): of
300 images .022 in the mean. Brier (mean squared error of p) and the NLL need no bins.

Sources: Brier, Monthly Weather Review 78 (1950), 1-3; Naeini, Cooper and Hauskrecht, AAAI 2015 (ECE, MCE);
Nguyen and O'Connor, EMNLP 2015 (equal mass).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from streetvision_core.eval.inputs import binary_vector, probability_vector, require_equal_length

if TYPE_CHECKING:
    import numpy.typing as npt

    from streetvision_core.eval.inputs import Bools, Floats, Values

BINS = 15
_LEAST = 2.0**-53
Binning: TypeAlias = Literal["equal_width", "equal_mass"]


@dataclass(frozen=True, order=True)
class ReliabilityBin:
    """Images with probabilities from `low` to `high`: how many, their mean, and the share of roadwork.

    Of equal width these are the edges, of equal mass the smallest and the largest probability.
    """

    low: float
    high: float
    n: int
    probability: float
    roadwork: float

    @property
    def gap(self) -> float:
        """The distance between the mean probability and the share of roadwork."""
        return abs(self.probability - self.roadwork)


def brier_score(probabilities: Values, labels: Values) -> float:
    """Mean squared difference of probabilities of roadwork [N] and labels [N], in [0, 1].

    Raises:
        DataError: shapes that do not fit, nothing, or values outside [0, 1].
    """
    p, truth = _pair(probabilities, labels)
    return float(np.mean((p - truth) ** 2))


def log_losses(probabilities: Values, labels: Values) -> Floats:
    """NLL of each image in nats, float64 [N], of probabilities of roadwork [N] and labels [N].

    A probability is taken to be at least 2^-53 away from 0 and 1, so that a margin that saturates in float64
    costs at most 37 nats.

    Raises:
        DataError: shapes that do not fit, nothing, or values outside [0, 1].
    """
    p, truth = _pair(probabilities, labels)
    losses: Floats = -np.log(np.maximum(np.where(truth, p, 1 - p), _LEAST))
    return losses


def reliability_bins(
    probabilities: Values, labels: Values, *, binning: Binning = "equal_width", bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """Put images into bins by their probability of roadwork [N], rising; empty bins are left out.

    Raises:
        DataError: shapes that do not fit, nothing, or values outside [0, 1].
    """
    p, truth = _pair(probabilities, labels)
    place, low, high = (_equal_width if binning == "equal_width" else _equal_mass)(p, bins)
    full, size = np.unique(place, return_counts=True)
    mean_p, share = (np.bincount(place, weights=values)[full] / size for values in (p, truth))
    columns = (low[full], high[full], size, mean_p, share)
    return tuple(ReliabilityBin(*row) for row in zip(*(column.tolist() for column in columns), strict=True))


def expected_calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """ECE: the mean gap of the bins, weighted by their images, in [0, 1]."""
    return sum(bin_.n * bin_.gap for bin_ in bins) / sum(bin_.n for bin_ in bins)


def maximum_calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """MCE: the largest gap of any bin, in [0, 1], whatever its size."""
    return max(bin_.gap for bin_ in bins)


def perfect_calibration_errors(
    probabilities: Values, groups: npt.NDArray[np.intp], *, seed: int, draws: int = 200, bins: int = BINS
) -> Floats:
    """ECE, equal mass, of labels that are drawn by the probabilities [N] themselves, float64 [draws].

    Images of a group share one draw, so their labels agree as far as their probabilities allow. That is what
    frames of one place do, and it makes the error as large as perfect calibration can have it.

    Args:
        probabilities: Probabilities of roadwork [N].
        groups: The number of each image's group, [N], from 0.
        seed: Of the draws.
        draws: How many.
        bins: As in `reliability_bins`.

    Raises:
        DataError: shapes that do not fit, nothing, or values outside [0, 1].
    """
    p = probability_vector(probabilities, name="probabilities")
    require_equal_length(probabilities=p, groups=groups)
    place, random, units = _equal_mass(p, bins)[0], np.random.default_rng(seed), int(groups.max()) + 1
    expected = np.bincount(place, weights=p, minlength=bins)
    drawn = [
        np.bincount(place, weights=random.random(units)[groups] < p, minlength=bins) for _ in range(draws)
    ]
    errors: Floats = np.abs(np.array(drawn) - expected).sum(axis=1) / p.size
    return errors


def _equal_width(p: Floats, bins: int) -> tuple[npt.NDArray[np.intp], Floats, Floats]:
    """Return the bin of each image, and the lower and upper edge of each bin."""
    edges = np.linspace(0, 1, bins + 1)
    return np.searchsorted(edges[1:-1], p, side="left"), edges[:-1], edges[1:]


def _equal_mass(p: Floats, bins: int) -> tuple[npt.NDArray[np.intp], Floats, Floats]:
    """Return the bin of each image, and the smallest and largest probability of each bin."""
    ordered = np.sort(p)
    # Whole numbers: an interpolated quantile can round to either side of the images it was taken from.
    place = np.searchsorted(ordered, p, side="left") * bins // p.size
    low, high = np.full(bins, np.inf), np.full(bins, -np.inf)
    np.minimum.at(low, place, p)
    np.maximum.at(high, place, p)
    return place, low, high


def _pair(probabilities: Values, labels: Values) -> tuple[Floats, Bools]:
    p, truth = probability_vector(probabilities, name="probabilities"), binary_vector(labels, name="labels")
    require_equal_length(probabilities=p, labels=truth)
    return p, truth
