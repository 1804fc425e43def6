"""Confidence intervals of rates and of MCC over groups of images that belong together.

Frames of one video resemble each other, so ten of them say less than ten videos. How much less is the design
effect: the variance of a figure over groups, divided by what it would be if images were independent. All
counts are divided by it, and the interval for independent images is taken of what is left:

- A rate (accuracy, FNR, FPR, precision, coverage) has Clopper and Pearson's exact interval of the effective
  counts, as Korn and Graubard do it.
- MCC has a Fisher-z interval of the effective table; its variance over groups is that of its influence
  function summed within each group.

Few groups show little of how they differ: the effective counts are made smaller by the square of the normal
quantile over Student's. A figure that no group contradicts, such as the MCC of decisions without an error,
shows nothing at all, and a bootstrap of it has length 0. So a quarter of a group of each kind, as large as
the group of a typical image, is added before the variance is taken. In simulation (5 to 100 groups, equal or
lognormal sizes, correlations of 0 to .6) a rate was covered by .92 or more, MCC from 20 groups on by .92 to
1, where the bootstrap (BCa) over groups covered .61 to .97. Of one group a rate can be anything, and so can
the MCC where either label is in one group only. Else, where every group is a single image, the design effect
is 1 and the intervals are exactly those for independent images.

The Fisher-z interval is arctanh(MCC) plus and minus a normal quantile times its standard error, taken back by
tanh. The standard error is that of a correlation of two 0/1 variables with the frequencies of the four cells,
not the 1 / sqrt(n - 3) of two normal variables, which covers .28 instead of .95 at MCC .98. Half an image is
added to each cell, so that a perfect table has an interval too. That pulls a large MCC towards 0, so each end
is measured from whichever of the two, with or without the halves, is farther out; without this the interval
covers .74 at MCC .98, n=100, prevalence .1.

Sources: Clopper and Pearson, Biometrika 26 (1934), 404-413; Korn and Graubard, Survey Methodology 24 (1998),
193-201; Fisher, Metron 1 (1921), 3-32; Devlin, Gnanadesikan and Kettenring, Biometrika 62 (1975), 531-545
(influence function).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.errors import DataError
from streetvision_core.eval.metrics import COUNTS, mcc_from_counts
from streetvision_core.eval.risk_control import upper_risk_bound

if TYPE_CHECKING:
    import numpy.typing as npt

    from streetvision_core.eval.inputs import Floats
    from streetvision_core.eval.metrics import Confusion, Integers, Metric

LEVEL = 0.95
# Below this number of groups an interval is rough, and whoever prints one says so.
FEW_GROUPS = 30
# How much of a typical group of each kind is added before a variance is taken.
ADDED = 0.25


@dataclass(frozen=True, order=True)
class Interval:
    """A two-sided confidence interval; `level` is what it aims to cover, in (0, 1)."""

    low: float
    high: float
    level: float
    method: str


def clopper_pearson_interval(events: float, trials: float, *, level: float = LEVEL) -> Interval:
    """Interval of a rate with `events` among `trials` independent images; it covers at least `level`.

    Counts need not be whole: effective ones are not.

    Raises:
        DataError: counts that are negative, or more events than trials.
    """
    _require_counts(events, trials)
    side = (1 - level) / 2
    low = 1 - float(upper_risk_bound(trials - events, trials, delta=side))
    return Interval(low, float(upper_risk_bound(events, trials, delta=side)), level, "clopper-pearson")


def rate_interval(events: npt.ArrayLike, trials: npt.ArrayLike, *, level: float = LEVEL) -> Interval:
    """Interval over groups of a rate, of the `events` [G] among the `trials` [G] of each group.

    Groups without a trial say nothing and are left out. Of one group, or none, the interval is [0, 1].

    Raises:
        DataError: counts that are negative, or more events than trials.
    """
    kept = np.asarray(trials) != 0
    hits, sizes = (np.asarray(counts, np.float64)[kept] for counts in (events, trials))
    if ((hits < 0) | (hits > sizes)).any():
        _require_counts(*next((e, n) for e, n in zip(hits, sizes, strict=True) if not 0 <= e <= n))
    if sizes.size < 2:
        return Interval(0.0, 1.0, level, "korn-graubard")
    if sizes.max() == 1:
        return clopper_pearson_interval(float(hits.sum()), float(sizes.sum()), level=level)
    effect = _rate_effect(hits, sizes) * _few_groups_factor(sizes.size, level)
    exact = clopper_pearson_interval(float(hits.sum()) / effect, float(sizes.sum()) / effect, level=level)
    return Interval(exact.low, exact.high, level, "korn-graubard")


def mcc_interval(confusion: Confusion, *, level: float = LEVEL) -> Interval:
    """Fisher-z interval of the MCC of independent images with these counts; it always holds the MCC itself.

    Raises:
        DataError: no images were counted.
    """
    return _fisher_z(np.array([confusion.tp, confusion.tn, confusion.fp, confusion.fn], np.float64), level)


def mcc_group_interval(counts: npt.ArrayLike, *, level: float = LEVEL) -> Interval:
    """Interval over groups of the MCC of `counts` [G, 4]: tp, tn, fp and fn of each group.

    Where either label is in one group only, or in none, the interval is [-1, 1].

    """
    table = np.asarray(counts, np.float64)
    table = table[table.any(axis=1)]
    total, groups, method = table.sum(axis=0), fewest_groups(table), "fisher-z-groups"
    if groups < 2:
        return Interval(-1.0, 1.0, level, method)
    if table.sum(axis=1).max() == 1:
        return _fisher_z(total, level)
    effect = _mcc_effect(table) * _few_groups_factor(groups, level)
    exact = _fisher_z(total / effect, level)
    return Interval(exact.low, exact.high, level, method)


def f1_group_interval(counts: Integers) -> Interval:
    """Interval over groups of the F1 of `counts` [G, 4]: tp, tn, fp and fn of each group."""
    tp, _, fp, fn = counts.T
    jaccard = rate_interval(tp, tp + fp + fn)
    # F1 rises with the Jaccard index, which is a rate: F1 = 2 J / (1 + J).
    low, high = (2 * end / (1 + end) for end in (jaccard.low, jaccard.high))
    return replace(jaccard, low=low, high=high)


# Of the metrics that are no shares of images.
_INTERVALS = {"mcc": mcc_group_interval, "f1": f1_group_interval}


def metric_interval(metric: Metric, counts: Integers) -> Interval | None:
    """Interval over groups of a metric of `counts` [G, 4], as above; None where none is known of it."""
    if not metric.trials:
        return _INTERVALS[metric.name](counts) if metric.name in _INTERVALS else None
    by_name = dict(zip(COUNTS, counts.T, strict=True))
    events, trials = (sum(by_name[cell] for cell in cells) for cells in (metric.events, metric.trials))
    return rate_interval(events, trials)


def fewest_groups(counts: npt.ArrayLike) -> int:
    """Return in how many groups the label lies that is in fewer of them; `counts` [G, 4] as above."""
    table = np.asarray(counts)
    return min(int(table[:, cells].any(axis=1).sum()) for cells in ([0, 3], [1, 2]))


def difference_interval(first: tuple[float, Interval], second: tuple[float, Interval]) -> Interval:
    """Interval of the second of two independent figures minus the first, each given with its own interval.

    Each end is as far from the difference as the two ends that make it are from their figures, squared,
    summed and rooted (Zou and Donner, Statistics in Medicine 27 (2008), 1693-1702).
    """
    (before, interval), (after, other) = first, second
    difference = after - before
    below = math.hypot(after - other.low, interval.high - before)
    above = math.hypot(other.high - after, before - interval.low)
    return Interval(difference - below, difference + above, interval.level, "zou-donner")


def mcc_influence(shares: npt.ArrayLike) -> Floats:
    """Influence on the MCC of one image in each of the cells [4], whose shares, all positive, add up to 1.

    An image whose label and decision, brought to mean 0 and deviation 1, are x and y changes a correlation r
    by (x y - r (x^2 + y^2) / 2) / n.
    """
    tp, tn, fp, fn = np.asarray(shares, np.float64)
    label, decision = np.array([1.0, 0, 0, 1]) - (tp + fn), np.array([1.0, 0, 1, 0]) - (tp + fp)
    x = label / math.sqrt((tp + fn) * (tn + fp))
    y = decision / math.sqrt((tp + fp) * (tn + fn))
    mcc = (tp * tn - fp * fn) / math.sqrt((tp + fn) * (tn + fp) * (tp + fp) * (tn + fn))
    influence: Floats = x * y - mcc * (x**2 + y**2) / 2
    return influence


def typical_size(sizes: npt.NDArray[Any]) -> float:
    """Return the mean size of an image's group, of the sizes [G] of the groups."""
    return float(sizes @ sizes) / float(sizes.sum())


def student_quantile(groups: int, level: float) -> float:
    """Return the two-sided quantile of Student's t for a figure over so many groups, at least two."""
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, groups - 1))


def normal_quantile(level: float) -> float:
    """Return the z with P(-z <= Z <= z) = level for a standard normal Z."""
    return NormalDist().inv_cdf((1 + level) / 2)


def _rate_effect(events: Floats, sizes: Floats) -> float:
    """Design effect of a rate: at least 1, since correlated images never say more than independent ones."""
    added = ADDED * typical_size(sizes)
    total = float(sizes.sum()) + 2 * added
    rate = (float(events.sum()) + added) / total
    squares = float(np.sum((events - rate * sizes) ** 2))
    squares += added * typical_size(sizes) * (rate**2 + (1 - rate) ** 2)
    return _effect(squares / total**2, rate * (1 - rate), sizes)


def _mcc_effect(counts: Floats) -> float:
    sizes = counts.sum(axis=1)
    # The halves of the Fisher-z interval are the least that is added; shares must not be 0.
    added = max(ADDED * typical_size(sizes), 0.5)
    padded = counts.sum(axis=0) + added
    shares = padded / padded.sum()
    influence = mcc_influence(shares)
    squares = float(np.sum((counts @ influence) ** 2) + added * typical_size(sizes) * influence @ influence)
    return _effect(squares / float(padded.sum()) ** 2, float(shares @ influence**2), sizes)


def _effect(variance: float, of_an_image: float, sizes: Floats) -> float:
    groups = sizes.size
    return max(1.0, variance * groups / (groups - 1) * float(sizes.sum()) / of_an_image)


def _few_groups_factor(groups: int, level: float) -> float:
    return (student_quantile(groups, level) / normal_quantile(level)) ** 2


def _fisher_z(cells: Floats, level: float) -> Interval:
    """Fisher-z interval of tp, tn, fp and fn [4], whole or effective."""
    if not cells.any():
        raise DataError(
            "at least one counted image", "none", "the interval of the MCC", "Count decisions first."
        )
    halves = cells + 0.5
    shares = halves / halves.sum()
    deviation = math.sqrt(float(shares @ mcc_influence(shares) ** 2) / float(halves.sum()))
    # MCC does not change when all counts are doubled, and twice a half is a whole.
    padded, plain = _mcc(2 * halves), _mcc(cells)
    half = normal_quantile(level) * deviation / (1 - padded**2)
    with np.errstate(divide="ignore"):  # arctanh(1) is infinite, and tanh takes it back to 1
        near, far = sorted((float(np.arctanh(padded)), float(np.arctanh(plain))))
    return Interval(math.tanh(near - half), math.tanh(far + half), level, "fisher-z")


def _mcc(cells: Floats) -> float:
    mcc = float(mcc_from_counts(**dict(zip(COUNTS, cells, strict=True))))
    # Products of counts that are no whole numbers may be a hair too large.
    return min(1.0, max(-1.0, mcc))


def _require_counts(events: float, trials: float) -> None:
    if not 0 <= events <= trials:
        raise DataError(
            "between 0 and as many events as trials",
            f"{events:g} events in {trials:g} trials",
            "the interval of a rate",
            "Count both on the same images.",
        )
