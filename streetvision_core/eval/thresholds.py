"""The threshold on the probability of roadwork that maximises MCC.

The rule everywhere: a picture is called roadwork if and only if its probability is strictly greater
than the threshold.

MCC as a function of the threshold is a step function which changes only at the scores themselves: for
any threshold in [one distinct score, the next) the decisions are the same. One sort and two cumulative
counts give every step, in O(n log n); the ends, all roadwork and all none, are steps like the others.
A grid of K thresholds reads the same step function in O(K log n).

Which of several best thresholds: neighbouring best steps are joined to a plateau; the widest plateau
is taken, of equally wide ones the lowest, and its middle is the threshold. On a grid, where a plateau
is a run of grid points, it is the middle point of the run (the lower of two).

What this does not promise: the MCC it returns was reached on the very samples that chose the threshold
and is optimistic. A best MCC of 0 means that no threshold beats answering one class throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.errors import ConfigError
from streetvision_core.eval.inputs import (
    binary_vector,
    margin_vector,
    probability_vector,
    require_both_classes,
    require_equal_length,
)
from streetvision_core.eval.metrics import mcc_from_counts

if TYPE_CHECKING:
    from streetvision_core.eval.inputs import Bools, Floats, Values


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold, the MCC it has on its own samples, and the plateau it is the middle of.

    Every threshold in [plateau_low, plateau_high) has the same MCC on these samples; for a grid both
    are grid points and belong to the plateau.
    """

    threshold: float
    mcc: float
    plateau_low: float
    plateau_high: float


def positive_probability(logits: Values) -> Floats:
    """Probability of roadwork, float64 [N]: softmax of logits [N, 2], or the sigmoid of logits [N].

    No exponential overflows, whatever the logits. Above a margin of 36.7 the result is exactly 1.

    Raises:
        DataError: another shape, empty, or not finite.
    """
    margins = margin_vector(logits)
    small = np.exp(-np.abs(margins))
    return np.where(margins >= 0, 1.0, small) / (1.0 + small)


def select_threshold_max_mcc(
    logits: Values, labels: Values, *, n_thresholds: int | None = None
) -> tuple[float, float]:
    """Choose the threshold on the probability of roadwork with the largest MCC: (threshold, MCC).

    Takes logits (not probabilities) [N, 2] or [N] and labels [N] of 0/1. Exact, O(n log n); with
    `n_thresholds=K` the best of K evenly spaced thresholds from 0 to 1. Ties: see the module.

    Raises:
        DataError: wrong shapes, nothing, NaN or infinity, or labels of one class only.
        ConfigError: fewer than two thresholds.
    """
    scores = positive_probability(logits)
    if n_thresholds is None:
        choice = scan_thresholds(scores, labels)
    else:
        choice = scan_grid(scores, labels, n_thresholds=n_thresholds)
    return choice.threshold, choice.mcc


def scan_thresholds(scores: Values, labels: Values) -> ThresholdChoice:
    """Find the exact maximiser of MCC for probabilities [N] in [0, 1] and labels [N] of 0/1.

    Raises:
        DataError: as `select_threshold_max_mcc`, or a score outside [0, 1].
    """
    return _exact(_mcc_steps(scores, labels))


def scan_margins(logits: Values, labels: Values) -> ThresholdChoice:
    """Find the exact maximiser of MCC for the margins of logits [N, 2] or [N]: roadwork above it.

    Threshold and plateau are margins, not probabilities. Nothing saturates here: margins of 40 and 60
    are told apart, which as probabilities are both 1. Above and below all margins the plateau ends 1
    beyond the last one.

    Raises:
        DataError: as `select_threshold_max_mcc`.
    """
    margins = margin_vector(logits)
    truth = binary_vector(labels, name="labels")
    require_equal_length(logits=margins, labels=truth)
    require_both_classes(truth, purpose="choose a threshold by MCC")
    steps = _steps_of(margins, truth, lowest=float(margins.min()) - 1.0)
    return _exact(steps, highest=float(margins.max()) + 1.0)


def scan_grid(scores: Values, labels: Values, *, n_thresholds: int) -> ThresholdChoice:
    """Find the best of `n_thresholds` evenly spaced thresholds from 0 to 1, in O(n log n + K log n).

    Raises:
        DataError: as `scan_thresholds`.
        ConfigError: fewer than two thresholds.
    """
    grid = _grid(n_thresholds)
    mcc = _mcc_steps(scores, labels).at(grid)
    first, last = _widest_plateau(mcc, lows=grid, highs=grid)
    middle = (first + last) // 2
    return ThresholdChoice(float(grid[middle]), float(mcc[first]), float(grid[first]), float(grid[last]))


def mcc_curve(scores: Values, labels: Values, *, points: int = 512) -> tuple[Floats, Floats]:
    """MCC against threshold for a plot: (thresholds, MCC), float64, thresholds rising from 0 to 1.

    `points` evenly spaced thresholds, and the exact maximiser among them, so that the highest point
    drawn is the true maximum.

    Raises:
        DataError: as `scan_thresholds`.
        ConfigError: fewer than two points.
    """
    steps = _mcc_steps(scores, labels)
    thresholds = np.union1d(_grid(points), [_exact(steps).threshold])
    return thresholds, steps.at(thresholds)


@dataclass(frozen=True)
class _Steps:
    """MCC is mcc[i] for every threshold from edges[i] (which is included) to edges[i + 1]."""

    edges: Floats
    mcc: Floats

    def at(self, thresholds: Floats) -> Floats:
        return self.mcc[np.searchsorted(self.edges, thresholds, side="right") - 1]


def _mcc_steps(scores: Values, labels: Values) -> _Steps:
    probabilities = probability_vector(scores, name="scores")
    truth = binary_vector(labels, name="labels")
    require_equal_length(scores=probabilities, labels=truth)
    require_both_classes(truth, purpose="choose a threshold by MCC")
    # A score of 0 leaves no threshold below every score.
    return _steps_of(probabilities, truth, lowest=0.0)


def _steps_of(scores: Floats, labels: Bools, *, lowest: float) -> _Steps:
    order = np.argsort(scores)
    ordered = scores[order]
    # Equal scores fall on the same side of every threshold: only the last of each run is a step.
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], [True]))
    edges = ordered[last]
    fn = np.cumsum(labels[order], dtype=np.int64)[last]
    tn = last + 1 - fn
    if edges[0] > lowest:
        # Thresholds below every score call everything roadwork.
        edges, fn, tn = np.append(lowest, edges), np.append(0, fn), np.append(0, tn)
    return _Steps(edges, mcc_from_counts(tp=fn[-1] - fn, tn=tn, fp=tn[-1] - tn, fn=fn))


def _exact(steps: _Steps, *, highest: float = 1.0) -> ThresholdChoice:
    highs = np.append(steps.edges[1:], highest)
    first, last = _widest_plateau(steps.mcc, lows=steps.edges, highs=highs)
    low, high = float(steps.edges[first]), float(highs[last])
    return ThresholdChoice(_middle(low, high), float(steps.mcc[first]), low, high)


def _widest_plateau(mcc: Floats, *, lows: Floats, highs: Floats) -> tuple[int, int]:
    """First and last index of the widest run of best steps; of equally wide runs the lowest."""
    change = np.diff((mcc == mcc.max()).astype(np.int8), prepend=0, append=0)
    first, last = np.flatnonzero(change == 1), np.flatnonzero(change == -1) - 1
    widest = np.argmax(highs[last] - lows[first])
    return int(first[widest]), int(last[widest])


def _middle(low: float, high: float) -> float:
    middle = low + (high - low) / 2
    # Between two neighbouring floats the middle rounds to one of them; at `high` the decision is another.
    return middle if middle < high else low


def _grid(points: int) -> Floats:
    if points < 2:
        raise ConfigError(
            "at least 2 thresholds, 0 and 1",
            f"{points}",
            "the number of evenly spaced thresholds",
            "Leave it out for the exact maximum, or ask for a few hundred.",
        )
    return np.linspace(0.0, 1.0, points)
