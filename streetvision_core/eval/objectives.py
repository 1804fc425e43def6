"""The four objectives that a threshold is chosen by, computed from the four counts of a decision.

`AtPrevalence` has one of them for another share of roadwork than that of the images at hand.

An objective answers two questions about counts, elementwise on arrays, so that one call judges every step
of the scan. `score` is the number that is reported and whose optimism is estimated; larger is better.
`preference` is what the scan maximises: the score itself, but for `RecallAtLeast`, where the score is the
recall and the preference is to call as few images roadwork as that recall allows. So it prefers the
largest threshold whose recall is still reached; of thresholds with equal recall that is the one with the
fewest false alarms, hence with the best precision and MCC.

Ties are compared exactly. MCC, F-beta and recall of equal counts are equal; costs of different counts
that are equal on paper may differ by rounding where the prices are not whole numbers, and so may anything at
another prevalence.

What cannot be meant (a price of 0, a recall above 1) is refused by the settings that make an objective.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from streetvision_core.eval.metrics import mcc_from_counts
from streetvision_core.eval.use.prevalence import weigh_classes
from streetvision_core.eval.use.recall import allowed_misses

if TYPE_CHECKING:
    from streetvision_core.eval.inputs import Floats
    from streetvision_core.eval.metrics import Counts


class Objective(Protocol):
    """The interface that the scan needs of an objective; counts are integers or arrays of one shape."""

    def score(self, *, tp: Counts, tn: Counts, fp: Counts, fn: Counts) -> Floats:
        """Return the number to report, float64, larger is better."""

    def preference(self, *, tp: Counts, tn: Counts, fp: Counts, fn: Counts) -> Floats:
        """Return what the scan maximises, float64: the score, unless an objective says otherwise."""
        return self.score(tp=tp, tn=tn, fp=fp, fn=fn)


@dataclass(frozen=True)
class Mcc(Objective):
    """The Matthews correlation, in [-1, 1]; 0 where it is undefined."""

    def score(self, *, tp: Counts, tn: Counts, fp: Counts, fn: Counts) -> Floats:
        """Return MCC."""
        return mcc_from_counts(tp=tp, tn=tn, fp=fp, fn=fn)


@dataclass(frozen=True)
class FBeta(Objective):
    """The weighted harmonic mean of precision and recall: recall counts beta times as much.

    In [0, 1], 0 without a hit. Source: C. J. van Rijsbergen, Information Retrieval (1979), chapter 7.
    """

    beta: float = 1.0

    def score(self, *, tp: Counts, tn: Counts, fp: Counts, fn: Counts) -> Floats:  # noqa: ARG002 - one signature for every objective
        """Return (1 + beta^2) tp / ((1 + beta^2) tp + beta^2 fn + fp)."""
        squared = self.beta**2
        hits = np.multiply(1 + squared, tp, dtype=np.float64)
        return _share(hits, hits + np.multiply(squared, fn, dtype=np.float64) + fp)


@dataclass(frozen=True)
class Cost(Objective):
    """The price of being wrong: `miss` for a missed roadwork, `false_alarm` for a false alarm.

    The score is the mean cost of an image with a minus sign, at most 0. Only the ratio of the prices
    decides the threshold.
    """

    miss: float = 1.0
    false_alarm: float = 1.0

    def score(self, *, tp: Counts, tn: Counts, fp: Counts, fn: Counts) -> Floats:
        """Return -(miss fn + false_alarm fp) / n."""
        missed = np.multiply(self.miss, fn, dtype=np.float64)
        alarmed = np.multiply(self.false_alarm, fp, dtype=np.float64)
        return -(missed + alarmed) / np.add(np.add(tp, tn), np.add(fp, fn))


@dataclass(frozen=True)
class RecallAtLeast:
    """The largest threshold that detects at least this share of the roadwork.

    Without a `delta` the recall is that of the images which choose the threshold; on others it is missed
    about as often as not. With one the recall holds with probability 1 - delta over the images that choose,
    which must be independent of each other; `recall` says why, and which images to count.
    """

    recall: float = 0.95
    delta: float | None = None

    def score(self, *, tp: Counts, tn: Counts, fp: Counts, fn: Counts) -> Floats:  # noqa: ARG002 - one signature for every objective
        """Return the recall tp / (tp + fn)."""
        return _share(np.asarray(tp, dtype=np.float64), np.add(tp, fn, dtype=np.float64))

    def preference(self, *, tp: Counts, tn: Counts, fp: Counts, fn: Counts) -> Floats:
        """Return the share of images called none where the recall is reached, and below 0 elsewhere.

        Probabilities of exactly 0 can keep it out of reach; then the largest recall is preferred. A recall
        that too few images prove is out of reach everywhere; then calling everything roadwork is preferred.
        """
        recall = self.score(tp=tp, tn=tn, fp=fp, fn=fn)
        silent = np.add(tn, fn, dtype=np.float64)
        silence = silent / (silent + tp + fp)
        if self.delta is None:
            return np.where(recall >= self.recall, silence, recall - 2)
        allowed = allowed_misses(np.add(tp, fn), recall=self.recall, delta=self.delta)
        return np.where(fn <= allowed, silence, -1 - silence)


@dataclass(frozen=True)
class AtPrevalence(Objective):
    """An objective for another share of roadwork: each label weighs as much as it would there."""

    objective: Objective
    prevalence: float

    def score(self, *, tp: Counts, tn: Counts, fp: Counts, fn: Counts) -> Floats:
        """Return the objective's score of the weighed counts."""
        return self.objective.score(**weigh_classes(self.prevalence, tp=tp, tn=tn, fp=fp, fn=fn))

    def preference(self, *, tp: Counts, tn: Counts, fp: Counts, fn: Counts) -> Floats:
        """Return the objective's preference among the weighed counts."""
        return self.objective.preference(**weigh_classes(self.prevalence, tp=tp, tn=tn, fp=fp, fn=fn))


def _share(part: Floats, whole: Floats) -> Floats:
    share: Floats = np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
    return share
