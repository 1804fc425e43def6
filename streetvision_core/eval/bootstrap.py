"""The paired bootstrap of two confidences, over groups of images that belong together.

A resample draws as many groups as there are, with replacement, whole, and both confidences are judged on the
same resample; the interval of the difference of their AUGRC is that between percentiles.

Nothing is sorted twice: with w_i copies of image i, and A_i and B_i images of the resample that are accepted
before and up to the images that are as confident as i,

    2 n^2 AUGRC = sum over the wrong i of  w_i (2 n - A_i - B_i),

since a wrong answer counts at every coverage from where it is accepted, in the middle of its ties, up to 1.
That is one cumulative sum a resample, in integers, so it is exact: 2,000 resamples of 10^4 images take about
a second. With few groups (below about 30) the interval is too short. Rates and MCC need no resamples: see
`intervals`.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; Cameron, Gelbach and
Miller, Review of Economics and Statistics 90 (2008), 414-427 (groups).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from streetvision_core.eval.inputs import binary_vector, finite_vector, require_equal_length
from streetvision_core.eval.intervals import LEVEL, Interval
from streetvision_core.eval.ranking import risk_coverage_curve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from streetvision_core.eval.inputs import Floats, Values

    Ints: TypeAlias = npt.NDArray[np.int64]

RESAMPLES = 2000
_PAIRS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class AugrcDifference:
    """AUGRC of a challenger and of a baseline, and the interval of challenger minus baseline.

    A negative difference speaks for the challenger.
    """

    challenger: float
    baseline: float
    interval: Interval

    @property
    def difference(self) -> float:
        """Challenger minus baseline."""
        return self.challenger - self.baseline


def compare_augrc(
    challenger: Values,
    baseline: Values,
    wrong: Values,
    *,
    groups: Sequence[str] | npt.NDArray[Any],
    seed: int,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> AugrcDifference:
    """Compare two confidences [N] in answers that are `wrong` [N] or right, by a bootstrap over groups [N].

    Raises:
        DataError: shapes that do not fit, a confidence that is not finite.
    """
    flags = binary_vector(wrong, name="wrong")
    scores = [finite_vector(confidence, name="confidence") for confidence in (challenger, baseline)]
    unit = np.unique(np.asarray(groups), return_inverse=True)[1]
    require_equal_length(wrong=flags, groups=unit, challenger=scores[0], baseline=scores[1])
    first, second = (_Ranking.of(score, flags) for score in scores)
    drawn = np.concatenate(
        [
            (first.doubled_area(weights) - second.doubled_area(weights)) / (2 * weights.sum(axis=1) ** 2)
            for weights in _resampled_weights(unit, resamples=resamples, seed=seed)
        ]
    )
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return AugrcDifference(
        challenger=risk_coverage_curve(scores[0], flags).augrc,
        baseline=risk_coverage_curve(scores[1], flags).augrc,
        interval=Interval(low, high, level, "bootstrap-percentile"),
    )


@dataclass(frozen=True, eq=False)
class _Ranking:
    """Images by falling confidence, and for each wrong one [K] where it and its ties begin and end."""

    order: npt.NDArray[np.intp]
    wrong: npt.NDArray[np.intp]
    begins: npt.NDArray[np.intp]
    ends: npt.NDArray[np.intp]

    @classmethod
    def of(cls, confidence: Floats, wrong: npt.NDArray[np.bool_]) -> _Ranking:
        rising, mistaken = np.sort(-confidence), np.flatnonzero(wrong)
        return cls(
            order=np.argsort(-confidence, kind="stable"),
            wrong=mistaken,
            begins=np.searchsorted(rising, -confidence[mistaken], side="left"),
            ends=np.searchsorted(rising, -confidence[mistaken], side="right"),
        )

    def doubled_area(self, weights: Ints) -> Ints:
        """2 n^2 AUGRC, int64 [R], of the images taken `weights` [R, N] times."""
        accepted = np.zeros((len(weights), weights.shape[1] + 1), dtype=np.int64)
        np.cumsum(weights[:, self.order], axis=1, out=accepted[:, 1:])
        later = 2 * accepted[:, -1:] - accepted[:, self.begins] - accepted[:, self.ends]
        area: Ints = np.sum(weights[:, self.wrong] * later, axis=1)
        return area


def _resampled_weights(unit: npt.NDArray[np.intp], *, resamples: int, seed: int) -> Iterator[Ints]:
    """Yield how often each image is in each resample, [some, N] at a time, so that memory stays small."""
    random = np.random.default_rng(seed)
    units, at_once = int(unit.max()) + 1, max(1, _PAIRS_AT_ONCE // unit.size)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        cells = random.integers(0, units, (rows, units)) + units * np.arange(rows)[:, None]
        yield np.bincount(cells.ravel(), minlength=rows * units).reshape(rows, units)[:, unit]
