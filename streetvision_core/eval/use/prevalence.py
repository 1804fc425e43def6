"""Figures of the same decisions where roadwork is rarer, or more frequent, than among the images at hand.

FNR and FPR are shares of one label's images, so another share of roadwork leaves them as they are, as long as
roadwork and streets without it look the same there. MCC, precision and the share of images called roadwork
then follow:

    tp = p (1 - FNR),  fn = p FNR,  fp = (1 - p) FPR,  tn = (1 - p) (1 - FPR).

MCC and precision fall as either rate rises; the share called roadwork falls as FNR rises and rises with FPR.
So their intervals have the ends of the two rates' intervals at their own ends. Where both rates are nearly
normal that covers at least as often as they do, however the two are correlated: the deviation of a sum is at
most the sum of the deviations. A shift of what roadwork looks like is another matter, and nothing here tells
of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streetvision_core.errors import ConfigError
from streetvision_core.eval.metrics import mcc_from_counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from streetvision_core.eval.inputs import Floats
    from streetvision_core.eval.metrics import Counts

PREVALENCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


class Rate(NamedTuple):
    """A rate and the ends of its interval, all in [0, 1]."""

    value: float
    low: float
    high: float


def weigh_classes(
    prevalence: float, *, tp: Counts, tn: Counts, fp: Counts, fn: Counts
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the four counts as they would be at another prevalence, of as many images, elementwise.

    Every element needs images of both labels.
    """
    roadwork, none = np.add(tp, fn, dtype=np.float64), np.add(tn, fp, dtype=np.float64)
    of_roadwork = prevalence * (roadwork + none) / roadwork
    of_none = (1 - prevalence) * (roadwork + none) / none
    return {"tp": tp * of_roadwork, "tn": tn * of_none, "fp": fp * of_none, "fn": fn * of_roadwork}


def expected_figures(prevalence: npt.ArrayLike, *, fnr: float, fpr: float) -> dict[str, Floats]:
    """Return MCC, precision and the share called roadwork at each prevalence [K] in (0, 1), float64 [K].

    Precision is 0 where nothing is called roadwork.

    Raises:
        ConfigError: a prevalence outside (0, 1).
    """
    p = np.asarray(prevalence, dtype=np.float64)
    if not ((p > 0) & (p < 1)).all():
        raise ConfigError(
            "prevalences strictly between 0 and 1",
            f"{p}",
            "the figures at other prevalences",
            "Give 0.05, say.",
        )
    tp, fp = p * (1 - fnr), (1 - p) * fpr
    alarms = tp + fp
    return {
        "mcc": mcc_from_counts(tp=tp, tn=(1 - p) * (1 - fpr), fp=fp, fn=p * fnr),
        "precision": np.divide(tp, alarms, out=np.zeros_like(alarms), where=alarms > 0),
        "alarm_rate": alarms,
    }


def prevalence_rows(
    fnr: Rate, fpr: Rate, *, prevalences: Sequence[float] = PREVALENCES
) -> list[dict[str, object]]:
    """Return a row for each prevalence: the expected figures, each with the ends of its interval.

    Raises:
        ConfigError: a prevalence outside (0, 1).
    """
    value, best, worst, fewest, most = (
        expected_figures(prevalences, fnr=misses, fpr=alarms)
        for misses, alarms in (
            (fnr.value, fpr.value), (fnr.low, fpr.low), (fnr.high, fpr.high), (fnr.high, fpr.low),
            (fnr.low, fpr.high),
        )
    )  # fmt: skip
    ends = {"mcc": (worst, best), "precision": (worst, best), "alarm_rate": (fewest, most)}
    columns: dict[str, Floats] = {"prevalence": np.asarray(prevalences, dtype=np.float64)}
    for name, (low, high) in ends.items():
        columns |= {name: value[name], f"{name}_low": low[name], f"{name}_high": high[name]}
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]
