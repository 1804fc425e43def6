"""Decisions as a step function of the threshold: one sort and two cumulative counts.

A picture is called roadwork where its score is strictly greater than the threshold. So for every
threshold in [one distinct score, the next) the decisions are the same, and the counts of each such step
follow from the cumulative counts of both classes. The end below every score, all roadwork, is a step like
the others, and so is the last score, above which all is none.

Weights turn the same steps into those of a resample: a picture counts as often as it was drawn. A score
that nobody drew leaves an edge between two steps of equal counts, which the plateau rule joins, so that the
best threshold is that of a scan over the resample alone.

Which of several best steps: neighbouring ones are joined to a plateau, the widest plateau is taken, of
equally wide ones the lowest, and its middle is the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from streetvision_core.eval.inputs import Bools, Floats
    from streetvision_core.eval.objectives import Objective

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """Pictures by rising score: `edges` [S] begin the steps, `last` [S] is the last picture of each.

    `order` [N] sorts the pictures and `labels` [N] are theirs in that order. Where a step begins below
    every score, `last` is -1 for it. `highest` ends the last step.
    """

    edges: Floats
    last: npt.NDArray[np.intp]
    order: npt.NDArray[np.intp]
    labels: Bools
    highest: float

    @property
    def highs(self) -> Floats:
        """Where each step ends, float64 [S]."""
        return np.append(self.edges[1:], self.highest)


@dataclass(frozen=True)
class Steps:
    """Missed roadwork and right silence for each step, int64 [S], or [R, S] for R resamples."""

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
        return {
            "tp": self.positives - self.fn,
            "tn": self.tn,
            "fp": self.negatives - self.tn,
            "fn": self.fn,
        }


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
    """Count each step; `weights` [R, N], in the order of `order`, count each picture as often as drawn."""
    if weights is None:
        fn = _cumulated(order.labels, order.last)
        both = order.last + 1
        positives, pictures = np.count_nonzero(order.labels), order.labels.size
        return Steps(fn, both - fn, np.asarray(positives), np.asarray(pictures - positives))
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
