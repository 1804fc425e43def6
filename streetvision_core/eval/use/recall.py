"""A promise of recall: with probability 1 - delta over the calibration images, new roadwork is called so.

The promise is about one roadwork image drawn at random from a randomly drawn group that holds any. Groups
are independent of each other, the images of a group are not: so `roadwork_units` draws one roadwork image
from each such group, by a seed, without a look at scores. A long video then counts as much as a short one. To
count every image instead would need a bound for clusters, which holds only with many groups; drawing is exact
with any number of them.

Of n units at most `allowed_misses` lie at or below the threshold: the largest m with
P(Binomial(n, 1 - recall) <= m) <= delta, which is where the Clopper-Pearson bound of the recall is still at
least the recall. That one bound serves every threshold, without a correction for how many there are: recall
falls as the threshold rises, so a threshold below the (m + 1)-th smallest score misses no more than that
score itself, and the share of all scores below an order statistic has a beta distribution whatever the scores
are. Ties only lower the threshold. It is a one-sided tolerance limit.

Fewer than `needed_units` support no threshold: ln(delta) / ln(recall), rounded up.

Sources: Wilks, Annals of Mathematical Statistics 12 (1941), 91-96 (tolerance limits); Clopper and Pearson,
Biometrika 26 (1934), 404-413.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.eval.risk_control import needed_without_error, one_per_group, upper_risk_bound

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from streetvision_core.eval.inputs import Bools

_ROUNDING = 1e-9


def roadwork_units(truth: Bools, groups: Sequence[str], *, seed: int) -> npt.NDArray[np.intp]:
    """Return the positions of one roadwork image of each group that holds any.

    Args:
        truth: True for roadwork, [N].
        groups: The group of each image, [N].
        seed: Of the draws.
    """
    roadwork = np.flatnonzero(truth)
    if not roadwork.size:
        return roadwork
    return roadwork[one_per_group([groups[image] for image in roadwork.tolist()], seed=seed)]


def allowed_misses(units: npt.ArrayLike, *, recall: float, delta: float) -> npt.NDArray[np.int64]:
    """Return how many of so many units may be missed, int64, elementwise; -1 where none proves the recall."""
    from scipy.stats import binom

    counts, where = np.unique(np.asarray(units), return_inverse=True)
    # The quantile reaches delta, and what does not exceed it lies at most one below. On paper the two may be
    # equal, as `needed_without_error` takes them to be.
    misses = binom.ppf(delta, counts, 1 - recall).astype(np.int64)
    misses -= binom.cdf(misses, counts, 1 - recall) > delta * (1 + _ROUNDING)
    allowed: npt.NDArray[np.int64] = misses[where].reshape(np.shape(units))
    return allowed


def needed_units(*, recall: float, delta: float) -> int:
    """Return how many units the recall takes, with none of them missed."""
    return needed_without_error(alpha=1 - recall, delta=delta)


def recall_bound(missed: int, units: int, *, delta: float) -> float:
    """Clopper-Pearson lower bound of the recall at level 1 - delta, with so many of so many units missed."""
    return 1 - float(upper_risk_bound(missed, units, delta=delta))
