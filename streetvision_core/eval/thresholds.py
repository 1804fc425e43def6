"""The threshold on the probability of roadwork that is best by an objective, MCC unless told otherwise.

The rule everywhere: an image is called roadwork if and only if its probability is strictly greater
than the threshold.

Every objective is a function of the four counts, and the counts are a step function of the threshold: for
every threshold in [one distinct score, the next) the decisions are the same. The end below every score, all
roadwork, is a step like the others, and so is the last score, above which all is none. One sort (`Order`) and
two cumulative counts, one of each class, give every step (`Steps`), in O(n log n). A grid of K thresholds
reads the same step function in O(K log n).

Weights turn the same steps into those of a resample: an image counts as often as it was drawn. A score
that nobody drew leaves an edge between two steps of equal counts, which the plateau rule joins, so that the
best threshold is that of a scan over the resample alone.

The choice among several best thresholds: neighbouring best steps are joined to a plateau; the widest plateau
is taken, of equally wide ones the lowest, and its middle is the threshold. On a grid, where a plateau
is a run of grid points, it is the middle point of the run (the lower of two).

Not promised: the score it returns was reached on the very samples that chose the threshold and is optimistic;
`optimism` estimates by how much. A best MCC of 0 means that no threshold beats answering one class
throughout.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from streetvision_core.errors import ConfigError
from streetvision_core.eval.inputs import (
    binary_vector,
    margin_vector,
    probability_vector,
    require_both_classes,
    require_equal_length,
)
from streetvision_core.eval.metrics import mcc_from_counts
from streetvision_core.eval.objectives import Mcc

if TYPE_CHECKING:
    from streetvision_core.eval.inputs import Bools, Floats, Values
    from streetvision_core.eval.objectives import Objective

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """Images by rising score: `edges` [S] begin the steps, `last` [S] is the last image of each.

    `order` [N] sorts the images and `labels` [N] are theirs in that order. Where a step begins below
    every score, `last` is -1 for it. `highest` ends the last step.
    """

    edges: Floats
    last: npt.NDArray[np.intp]
    order: npt.NDArray[np.intp]
    labels: Bools
    highest: float

    @property
    def highs(self) -> Floats:
        """The end of each step, float64 [S]."""
        return np.append(self.edges[1:], self.highest)


@dataclass(frozen=True)
class Steps:
    """False and true negatives at each step, int64 [S], or [R, S] for R resamples."""

    fn: Ints
    tn: Ints
    positives: Ints
    negatives: Ints

    def at(self, steps: npt.NDArray[np.intp] | int) -> Steps:
        """Return these steps alone, by index."""
        return replace(self, fn=self.fn[..., steps], tn=self.tn[..., steps])

    def rows(self, chosen: Bools) -> Steps:
        """Return the chosen ones of R resamples."""
        return Steps(self.fn[chosen], self.tn[chosen], self.positives[chosen], self.negatives[chosen])

    def of_each_row(self, steps: npt.NDArray[np.intp]) -> Steps:
        """Return one step of each of R resamples, by its index: counts [R]."""
        row = np.arange(steps.size)
        return Steps(self.fn[row, steps], self.tn[row, steps], self.positives[:, 0], self.negatives[:, 0])

    def counts(self) -> dict[str, Ints]:
        """Return the four counts by name, as an objective takes them."""
        return {"tp": self.positives - self.fn, "tn": self.tn, "fp": self.negatives - self.tn, "fn": self.fn}


def order_scores(scores: Floats, labels: Bools, *, lowest: float, highest: float) -> Order:
    """Sort finite scores [N] once; thresholds begin at `lowest`, below or at the smallest score."""
    order = np.argsort(scores)
    ordered = scores[order]
    # Equal scores fall on the same side of every threshold: only the last of each run is a step.
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], [True]))
    edges = ordered[last]
    if edges[0] > lowest:
        # Thresholds below every score call everything roadwork.
        edges, last = np.append(lowest, edges), np.append(-1, last)
    return Order(edges=edges, last=last, order=order, labels=labels[order], highest=highest)


def count_steps(order: Order, weights: npt.NDArray[np.integer] | None = None) -> Steps:
    """Count each step; `weights` [R, N], in the order of `order`, count each image as often as drawn."""
    if weights is None:
        fn = _cumulated(order.labels, order.last)
        both = order.last + 1
        positives, images = np.count_nonzero(order.labels), order.labels.size
        return Steps(fn, both - fn, np.asarray(positives), np.asarray(images - positives))
    fn = _cumulated(weights * order.labels, order.last)
    tn = _cumulated(weights * ~order.labels, order.last)
    return Steps(fn, tn, fn[:, -1:], tn[:, -1:])


def widest_plateaus(
    preference: Floats, *, lows: Floats, highs: Floats
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First and last index of the widest run of best steps of each row of [R, S]; of ties the lowest."""
    best = preference == preference.max(axis=1, keepdims=True)
    change = np.diff(best.astype(np.int8), axis=1, prepend=0, append=0)
    row, first = np.nonzero(change == 1)
    last = np.nonzero(change == -1)[1] - 1
    # Rows stay together, the widest run of each first; the sort is stable, so of ties the lowest.
    ranked = np.lexsort((lows[first] - highs[last], row))
    chosen = ranked[np.flatnonzero(np.diff(row[ranked], prepend=-1))]
    return first[chosen], last[chosen]


def best_plateau(steps: Steps, *, objective: Objective, lows: Floats, highs: Floats) -> tuple[int, int]:
    """First and last index of the plateau that `objective` prefers, for steps without resamples."""
    preference = objective.preference(**steps.counts())[None]
    first, last = widest_plateaus(preference, lows=lows, highs=highs)
    return int(first[0]), int(last[0])


def middles(low: Floats | float, high: Floats | float) -> Floats:
    """Middle of each [low, high), which belongs to it."""
    middle = low + (high - low) / 2
    # Between two neighbouring floats the middle rounds to one of them; at `high` the decision is another.
    return np.where(middle < high, middle, low)


def _cumulated(counted: npt.NDArray[np.generic], last: npt.NDArray[np.intp]) -> Ints:
    sums = np.cumsum(counted, axis=-1, dtype=np.int64)[..., last]
    sums[..., last < 0] = 0
    return sums


MCC = Mcc()
_MOST_POINTS = 1_000_000  # of a grid: the exact scan is finer, and costs less


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold, what it reaches on its own samples, and the plateau it lies in.

    Every threshold in [plateau_low, plateau_high) has the same `score`, that of the objective, on these
    samples; for a grid both are grid points and belong to the plateau. `mcc` is the MCC at the threshold,
    whatever the objective.
    """

    threshold: float
    mcc: float
    score: float
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
        ConfigError: fewer than two thresholds, or more than a million.
    """
    scores = positive_probability(logits)
    if n_thresholds is None:
        choice = scan_thresholds(scores, labels)
    else:
        choice = scan_grid(scores, labels, n_thresholds=n_thresholds)
    return choice.threshold, choice.mcc


def scan_thresholds(scores: Values, labels: Values, *, objective: Objective = MCC) -> ThresholdChoice:
    """Find the exact best threshold for probabilities [N] in [0, 1] and labels [N] of 0/1.

    Raises:
        DataError: as `select_threshold_max_mcc`, or a score outside [0, 1].
    """
    return scan(_ordered_probabilities(scores, labels), objective=objective)


def scan_margins(logits: Values, labels: Values, *, objective: Objective = MCC) -> ThresholdChoice:
    """Find the exact best threshold for the margins of logits [N, 2] or [N]: roadwork above it.

    Threshold and plateau are margins, not probabilities. Nothing saturates here: margins of 40 and 60
    are told apart, which as probabilities are both 1. Above and below all margins the plateau ends 1
    beyond the last one.

    Raises:
        DataError: as `select_threshold_max_mcc`.
    """
    return scan(ordered_margins(logits, labels), objective=objective)


def scan_grid(
    scores: Values, labels: Values, *, n_thresholds: int, objective: Objective = MCC
) -> ThresholdChoice:
    """Find the best of `n_thresholds` evenly spaced thresholds from 0 to 1, in O(n log n + K log n).

    Raises:
        DataError: as `scan_thresholds`.
        ConfigError: fewer than two thresholds, or more than a million.
    """
    grid = _grid(n_thresholds)
    order = _ordered_probabilities(scores, labels)
    steps = count_steps(order).at(step_of(order, grid))
    first, last = best_plateau(steps, objective=objective, lows=grid, highs=grid)
    middle = (first + last) // 2
    return choice_at(
        steps,
        middle,
        threshold=float(grid[middle]),
        plateau=(float(grid[first]), float(grid[last])),
        objective=objective,
    )


def mcc_curve(scores: Values, labels: Values, *, points: int = 512) -> tuple[Floats, Floats]:
    """MCC against threshold for a plot: (thresholds, MCC), float64, thresholds rising from 0 to 1.

    `points` evenly spaced thresholds, and the exact maximiser among them, so that the highest point
    drawn is the true maximum.

    Raises:
        DataError: as `scan_thresholds`.
        ConfigError: fewer than two points.
    """
    order = _ordered_probabilities(scores, labels)
    thresholds = np.union1d(_grid(points), [scan(order, objective=MCC).threshold])
    return thresholds, mcc_from_counts(**count_steps(order).at(step_of(order, thresholds)).counts())


def ordered_margins(logits: Values, labels: Values) -> Order:
    """Order the margins of logits [N, 2] or [N] for a scan.

    Raises:
        DataError: as `select_threshold_max_mcc`.
    """
    margins = margin_vector(logits)
    return _ordered(margins, labels, lowest=float(margins.min()) - 1.0, highest=float(margins.max()) + 1.0)


def scan(order: Order, *, objective: Objective) -> ThresholdChoice:
    """Find the exact best threshold of ordered scores."""
    steps, highs = count_steps(order), order.highs
    first, last = best_plateau(steps, objective=objective, lows=order.edges, highs=highs)
    low, high = float(order.edges[first]), float(highs[last])
    threshold = float(middles(low, high))
    return choice_at(
        steps, int(step_of(order, threshold)), threshold=threshold, plateau=(low, high), objective=objective
    )


def choice_at(
    steps: Steps, index: int, *, threshold: float, plateau: tuple[float, float], objective: Objective
) -> ThresholdChoice:
    """Say what the threshold in step `index` reaches."""
    reached = steps.at(index).counts()
    return ThresholdChoice(
        threshold=threshold,
        mcc=float(mcc_from_counts(**reached)),
        score=float(objective.score(**reached)),
        plateau_low=plateau[0],
        plateau_high=plateau[1],
    )


def step_of(order: Order, thresholds: Floats | float) -> npt.NDArray[np.intp]:
    """Index of the step that each threshold lies in; below the first edge there is none."""
    return np.searchsorted(order.edges, thresholds, side="right") - 1


def _ordered_probabilities(scores: Values, labels: Values) -> Order:
    # A score of 0 leaves no threshold below every score.
    return _ordered(probability_vector(scores, name="scores"), labels, lowest=0.0, highest=1.0)


def _ordered(scores: Floats, labels: Values, *, lowest: float, highest: float) -> Order:
    truth = binary_vector(labels, name="labels")
    require_equal_length(scores=scores, labels=truth)
    require_both_classes(truth, purpose="choose a threshold")
    return order_scores(scores, truth, lowest=lowest, highest=highest)


def _grid(points: int) -> Floats:
    if not 2 <= points <= _MOST_POINTS:
        raise ConfigError(
            f"2 thresholds, 0 and 1, or more, up to {_MOST_POINTS:,}",
            f"{points}",
            "the number of evenly spaced thresholds",
            "Leave it out for the exact maximum, or ask for a few hundred.",
        )
    return np.linspace(0.0, 1.0, points)
