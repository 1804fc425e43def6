"""Confidence intervals of rates and of MCC, from counts alone.

- A rate (FNR, FPR, accuracy) has the Clopper-Pearson interval, which covers at least as often as it says,
  or Wilson's, which is narrower and covers about as often as it says. Of no images both are [0, 1].
- MCC has a Fisher-z interval: arctanh(MCC) plus and minus a normal quantile times its standard error, taken
  back by tanh. The standard error is that of a correlation of two 0/1 variables with the frequencies of the
  four cells (its influence function), not the 1 / sqrt(n - 3) of two normal variables, which covers .28
  instead of .95 at MCC .98. Half an image is added to each cell, so that a perfect table has an interval
  too. That pulls a large MCC towards 0, so each end is measured from whichever of the two, with or
  without the halves, is farther out; without this the interval covers .74 at MCC .98, n=100, prevalence .1.

All of them take the images as independent of each other. Frames of one video are not: resample groups
(:mod:`streetvision_core.eval.bootstrap`).

Sources: Clopper and Pearson, Biometrika 26 (1934), 404-413; Wilson, JASA 22 (1927), 209-212; Fisher, Metron
1 (1921), 3-32; Devlin, Gnanadesikan and Kettenring, Biometrika 62 (1975), 531-545 (influence function).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.errors import ConfigError, DataError
from streetvision_core.eval.metrics import mcc_from_counts
from streetvision_core.eval.risk_control import upper_risk_bound

if TYPE_CHECKING:
    from streetvision_core.eval.metrics import Confusion

LEVEL = 0.95


@dataclass(frozen=True, order=True)
class Interval:
    """A two-sided confidence interval; `level` is what it aims to cover, in (0, 1)."""

    low: float
    high: float
    level: float
    method: str


def clopper_pearson_interval(events: int, trials: int, *, level: float = LEVEL) -> Interval:
    """Interval of a rate with `events` among `trials` images; it covers at least `level`.

    Raises:
        DataError: counts that are negative, or more events than trials.
        ConfigError: a level outside (0, 1).
    """
    _require_counts(events, trials)
    side = (1 - require_level(level)) / 2
    low = 1 - float(upper_risk_bound(trials - events, trials, delta=side))
    return Interval(low, float(upper_risk_bound(events, trials, delta=side)), level, "clopper-pearson")


def wilson_interval(events: int, trials: int, *, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a rate with `events` among `trials` images.

    Raises:
        DataError: counts that are negative, or more events than trials.
        ConfigError: a level outside (0, 1).
    """
    _require_counts(events, trials)
    squared = normal_quantile(level) ** 2
    if trials == 0:
        return Interval(0.0, 1.0, level, "wilson")
    rate, total = events / trials, trials + squared
    centre = (events + squared / 2) / total
    half = math.sqrt(squared * (trials * rate * (1 - rate) + squared / 4)) / total
    # With every image an event the sum is 1, and in floats it may be a hair more.
    return Interval(centre - half, centre + half if events < trials else 1.0, level, "wilson")


def mcc_interval(confusion: Confusion, *, level: float = LEVEL) -> Interval:
    """Fisher-z interval of the MCC of these counts; it always holds the MCC itself.

    Raises:
        DataError: no images were counted.
        ConfigError: a level outside (0, 1).
    """
    if not confusion.total:
        raise DataError(
            "at least one counted image", "none", "the interval of the MCC", "Count decisions first."
        )
    # MCC does not change when all counts are doubled, and twice a half is a whole.
    cells = 2 * np.array([confusion.tp, confusion.tn, confusion.fp, confusion.fn]) + 1
    padded = float(mcc_from_counts(**dict(zip(("tp", "tn", "fp", "fn"), cells, strict=True))))
    half = normal_quantile(level) * _deviation(cells / 2, padded) / (1 - padded**2)
    with np.errstate(divide="ignore"):  # arctanh(1) is infinite, and tanh takes it back to 1
        near, far = sorted((float(np.arctanh(padded)), float(np.arctanh(confusion.mcc))))
    return Interval(math.tanh(near - half), math.tanh(far + half), level, "fisher-z")


def normal_quantile(level: float) -> float:
    """Return the z with P(-z <= Z <= z) = level for a standard normal Z.

    Raises:
        ConfigError: a level outside (0, 1).
    """
    return NormalDist().inv_cdf((1 + require_level(level)) / 2)


def require_level(level: float) -> float:
    """Return the level of an interval, or refuse it.

    Raises:
        ConfigError: it is not strictly between 0 and 1.
    """
    if not 0 < level < 1:
        raise ConfigError(
            "a level strictly between 0 and 1", f"{level}", "a confidence interval", "Give 0.95, for example."
        )
    return level


def _deviation(cells: np.ndarray[tuple[int, ...], np.dtype[np.float64]], mcc: float) -> float:
    """Standard error of the MCC of tp, tn, fp, fn, all positive: the deviation of its influence function.

    An image whose label and decision, brought to mean 0 and deviation 1, are x and y changes a
    correlation r by (x y - r (x^2 + y^2) / 2) / n.
    """
    share = cells / cells.sum()
    tp, _, fp, fn = share
    label, decision = np.array([1.0, 0, 0, 1]) - (tp + fn), np.array([1.0, 0, 1, 0]) - (tp + fp)
    x = label / math.sqrt((tp + fn) * (1 - tp - fn))
    y = decision / math.sqrt((tp + fp) * (1 - tp - fp))
    influence = x * y - mcc * (x**2 + y**2) / 2
    return math.sqrt(float(share @ influence**2) / float(cells.sum()))


def _require_counts(events: int, trials: int) -> None:
    if not 0 <= events <= trials:
        raise DataError(
            "between 0 and as many events as trials",
            f"{events} events in {trials} trials",
            "the interval of a rate",
            "Count both on the same images.",
        )
