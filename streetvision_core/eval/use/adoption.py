"""The gain of a tuned threshold over 0.5 on images that did not choose it, with an interval over groups.

Whole groups are dealt to folds, the threshold is chosen on the others, and its answers are held against those
at 0.5, which on the margins is 0. Judged on the images that chose it, a threshold that is no better than 0.5
has a bootstrap interval above 0 in .05 to .17 of the trials where .025 is meant; cross-fitted it is at most
.04 (`tests/claims/test_adoption.py`).

The interval is the jackknife over groups with Student's quantile for the groups of the rarer label. It knows
any objective of the four counts, needs no seed, and stays wide where there are few groups, where a percentile
bootstrap is too short. That the folds share images and the thresholds vary with them is not in it.

Source: Efron and Stein, Annals of Statistics 9 (1981), 586-596 (the jackknife's variance is not too small).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.eval.folds import deal_folds, out_of_fold, units_of_classes
from streetvision_core.eval.inputs import binary_vector, margin_vector
from streetvision_core.eval.intervals import LEVEL, Interval, fewest_groups, student_quantile
from streetvision_core.eval.metrics import confusion_by_group

if TYPE_CHECKING:
    from streetvision_core.eval.folds import Choose
    from streetvision_core.eval.inputs import Floats, Values
    from streetvision_core.eval.metrics import Groups, Integers
    from streetvision_core.eval.objectives import Objective

FOLDS = 5
_PURPOSE = "the comparison of a tuned threshold with 0.5"


@dataclass(frozen=True)
class Gain:
    """An objective's score of cross-fitted answers minus that at 0.5, its interval, and how many folds."""

    difference: float
    interval: Interval
    folds: int

    @property
    def proven(self) -> bool:
        """True where the interval lies above 0."""
        return self.interval.low > 0


def cross_fitted_gain(
    logits: Values, labels: Values, groups: Groups, *, objective: Objective, choose: Choose, seed: int
) -> Gain:
    """Hold a way to choose a threshold on the margin against 0.5, on images that did not choose.

    Args:
        logits: Logits [N, 2] or margins [N].
        labels: Labels [N] of 0/1 or bool.
        groups: The group of each image, [N].
        objective: What both are scored by.
        choose: Returns the threshold on the margin that the images with these flags, bool [N], choose.
        seed: Of the folds.

    Raises:
        TooThinError: fewer than two groups of a class, or one class only outside a fold.
        DataError: logits that are not finite, or lengths that differ.
    """
    margins, truth = margin_vector(logits), binary_vector(labels, name="labels")
    group = np.unique(np.asarray(groups), return_inverse=True)[1]
    folds = max(2, min(FOLDS, *units_of_classes(truth, group).values()))
    fold = deal_folds(truth, group, folds=folds, seed=seed, purpose=_PURPOSE)
    everything = np.ones(truth.size, dtype=np.bool_)
    shifted = out_of_fold(margins, truth, fold, within=everything, choose=choose, purpose=_PURPOSE)
    default, tuned = (confusion_by_group(truth, scores > 0, group) for scores in (margins, shifted))
    return Gain(*jackknife_difference(default, tuned, objective=objective), folds)


def jackknife_difference(a: Integers, b: Integers, *, objective: Objective) -> tuple[float, Interval]:
    """Return the score of B minus that of A, and its interval over groups, of tp, tn, fp and fn [G, 4] each.

    Each label has to be in two groups at least.
    """
    groups, total_a, total_b = len(a), a.sum(axis=0), b.sum(axis=0)
    difference = float(_score(objective, total_b) - _score(objective, total_a))
    without = _score(objective, total_b - b) - _score(objective, total_a - a)
    deviation = math.sqrt((groups - 1) / groups * float(np.sum((without - without.mean()) ** 2)))
    half = student_quantile(fewest_groups(a), LEVEL) * deviation
    return difference, Interval(difference - half, difference + half, LEVEL, "jackknife-groups")


def _score(objective: Objective, counts: Integers) -> Floats:
    tp, tn, fp, fn = np.moveaxis(counts, -1, 0)
    return objective.score(tp=tp, tn=tn, fp=fp, fn=fn)
