"""The comparison of two deciders on the very same images, and a test that these suffice to tell them apart.

Both have decided the same images, so that what is hard for one is hard for the other: the images on which
they differ carry the whole difference, and paired figures see smaller differences than two intervals side by
side. An image that either of them defers says nothing about who is right; only images that both answer are
compared, and how many only one of them answers is said beside it.

- McNemar's exact test: of the images that exactly one of them gets right, is each as often the right one?
  p = min(1, 2 P(X <= the smaller count)), X binomial with probability 1/2. It is about accuracy, and takes
  the images as independent of each other, whatever their groups.
- The difference of the two MCCs, B - A, with a bootstrap interval (BCa) over groups. Label, answer of A and
  answer of B make eight cells; a resample is a sum of the groups' counts of them, so both MCCs are of the
  same resample. An MCC that is undefined is 0, as everywhere here.

Where the two differ in few groups, resamples leave most of these out or none, and the interval is too short.
Even if all of k such groups speak for one side, an exact sign test says p = 2 / 2^k, so below the k that this
takes under 1 - level (six at 95 %) nothing is told, whatever the interval says.

Sources: McNemar, Psychometrika 12 (1947), 153-157; Fagerland, Lydersen and Laake, BMC Medical Research
Methodology 13 (2013), 91 (the exact test); Efron and Tibshirani, An Introduction to the Bootstrap (1993).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from streetvision_core.errors import DataError
from streetvision_core.eval.bootstrap import (
    RESAMPLES,
    bootstrap_counts,
    cells_by_group,
    mcc_of_counts,
)
from streetvision_core.eval.inputs import binary_vector, require_equal_length
from streetvision_core.eval.intervals import LEVEL, Interval, require_level

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from streetvision_core.eval.bootstrap import Groups, Integers
    from streetvision_core.eval.decisions import Decision
    from streetvision_core.eval.inputs import Bools, Floats, Values

_WORDS = ("none", "roadwork", "defer")
# Which of the cells, label * 4 + answer of A * 2 + answer of B, are tp, tn, fp and fn of A, and of B.
_OF_A = ((6, 7), (0, 1), (2, 3), (4, 5))
_OF_B = ((5, 7), (0, 2), (1, 3), (4, 6))


@dataclass(frozen=True)
class PairedComparison:
    """Two deciders on the same images; what is right and wrong is counted where both answer.

    Of `pictures` both answer `n`, and `only_a_answers` and `only_b_answers` are answered by one of them. Of
    the n they differ in `differing_groups` groups. `interval` is of `mcc_difference`; None where fewer than
    two groups hold an image that both answer.
    """

    pictures: int
    n: int
    only_a_answers: int
    only_b_answers: int
    only_a_right: int
    only_b_right: int
    differing_groups: int
    p_value: float
    accuracy_difference: float
    mcc_a: float
    mcc_b: float
    interval: Interval | None

    @property
    def coverage_a(self) -> float:
        """Share of all images that A answers, whatever B does."""
        return (self.n + self.only_a_answers) / self.pictures

    @property
    def coverage_b(self) -> float:
        """Share of all images that B answers, whatever A does."""
        return (self.n + self.only_b_answers) / self.pictures

    @property
    def mcc_difference(self) -> float:
        """The MCC of B minus that of A."""
        return self.mcc_b - self.mcc_a

    @property
    def too_few(self) -> bool:
        """True if A and B differ in too few groups to tell them apart, whatever the interval says."""
        return self.interval is None or 2.0 * 0.5**self.differing_groups > 1 - self.interval.level

    @property
    def better(self) -> Literal["A", "B"] | None:
        """The one with the larger MCC, where the interval excludes 0 and they differ in enough groups."""
        if self.interval is None or self.too_few or self.interval.low <= 0 <= self.interval.high:
            return None
        return "B" if self.interval.low > 0 else "A"


def compare_decisions(
    labels: Values,
    a: Sequence[Decision],
    b: Sequence[Decision],
    groups: Groups,
    *,
    seed: int,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> PairedComparison:
    """Compare two deciders on the images that both answer.

    Args:
        labels: Labels [N] of 0/1 or bool.
        a: What A decided, [N] of "none", "roadwork" or "defer".
        b: What B decided, likewise.
        groups: The group of each image, [N].
        seed: Of the resamples.
        level: What the interval aims to cover.
        resamples: How many.

    Raises:
        DataError: another word, lengths that differ, or no images.
        ConfigError: no resamples, or a level outside (0, 1).
    """
    truth = binary_vector(labels, name="labels")
    said_a, said_b, group = _codes(a, name="a"), _codes(b, name="b"), np.asarray(groups)
    require_equal_length(labels=truth, a=said_a, b=said_b, groups=group)
    require_level(level)
    answers_a, answers_b = said_a != 2, said_b != 2
    both = answers_a & answers_b
    cell = (truth * 4 + said_a * 2 + said_b)[both]
    counts = cells_by_group(cell, 8, group[both])
    only_a, only_b = _only_one_right(truth[both], said_a[both], said_b[both])
    total = counts.sum(axis=0)
    enough = len(counts) >= 2
    return PairedComparison(
        pictures=truth.size,
        n=cell.size,
        only_a_answers=int(np.count_nonzero(answers_a & ~both)),
        only_b_answers=int(np.count_nonzero(answers_b & ~both)),
        only_a_right=only_a,
        only_b_right=only_b,
        differing_groups=int(np.count_nonzero(counts[:, [1, 2, 5, 6]].any(axis=1))),
        p_value=mcnemar_p_value(only_a, only_b),
        accuracy_difference=(only_b - only_a) / max(1, cell.size),
        mcc_a=float(_mcc(total, _OF_A)),
        mcc_b=float(_mcc(total, _OF_B)),
        interval=bootstrap_counts(counts, _difference, seed=seed, level=level, resamples=resamples)
        if enough
        else None,
    )


def mcnemar_p_value(only_a_right: int, only_b_right: int) -> float:
    """Exact two-sided p-value that each is as often the right one, of the images one of them gets right.

    Raises:
        DataError: a negative count.
    """
    from scipy.special import bdtr

    fewer, both = min(only_a_right, only_b_right), only_a_right + only_b_right
    if fewer < 0:
        raise DataError(
            "counts of images", f"{only_a_right} and {only_b_right}", "McNemar's test", "Count them first."
        )
    return min(1.0, 2 * float(bdtr(fewer, both, 0.5)))


def _difference(counts: Integers) -> Floats:
    return _mcc(counts, _OF_B) - _mcc(counts, _OF_A)


def _mcc(counts: Integers, cells: tuple[tuple[int, int], ...]) -> Floats:
    return mcc_of_counts(counts[..., cells].sum(axis=-1))


def _only_one_right(truth: Bools, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> tuple[int, int]:
    differ = a != b
    only_b = int(np.count_nonzero(differ & (b == truth)))
    return int(np.count_nonzero(differ)) - only_b, only_b


def _codes(said: Sequence[Decision], *, name: str) -> npt.NDArray[np.int64]:
    """Turn none, roadwork and defer into 0, 1 and 2."""
    words = np.asarray(said, dtype=np.str_)
    codes = np.full(words.shape, -1, dtype=np.int64)
    for code, word in enumerate(_WORDS):
        codes[words == word] = code
    if codes.ndim != 1 or (codes < 0).any():
        other = words[codes < 0]
        raise DataError(
            f"{name} to hold one of {', '.join(_WORDS)} an image",
            f"{str(other[0])!r}" if other.size else f"shape {list(words.shape)}",
            f"{words.size} decisions",
            "Pass what a policy's `decide` returns.",
        )
    return codes
