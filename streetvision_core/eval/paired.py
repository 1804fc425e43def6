"""The comparison of two deciders on the very same images, and a test that these suffice to tell them apart.

Both have decided the same images, so that what is hard for one is hard for the other: the images on which
they differ carry the whole difference, and paired figures see smaller differences than two intervals side by
side. An image that either of them defers says nothing about who is right; only images that both answer are
compared. How many only one of them answers is reported beside it.

- The test swaps the two deciders by whole groups. If they are equally good, nothing changes when what A and
  what B decided of a group is exchanged; p is the share of such exchanges whose MCCs differ by at least as
  much as they do. Images of one group are exchanged together, however much they resemble each other. All
  exchanges are counted where they are few, else they are drawn, with the observed one among them. Two
  deciders that differ in k groups cannot have a p below 2 / 2^k: five groups never suffice at 5 %. In
  simulation (20 to 100 groups, 300 trials each) equals had a p below .05 in .00 to .07 of the trials.
- The interval is of B - A, from the influence of each image on both MCCs, summed within its group, with
  Student's quantile for the groups of the rarer label. An MCC that is undefined is 0, as everywhere here.

Sources: Fisher, The Design of Experiments (1935), chapter 3; Phipson and Smyth, Statistical Applications in
Genetics and Molecular Biology 9 (2010), 39 (the observed exchange counts).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from streetvision_core.errors import DataError
from streetvision_core.eval.inputs import binary_vector, require_equal_length
from streetvision_core.eval.intervals import (
    ADDED,
    LEVEL,
    Interval,
    fewest_groups,
    mcc_group_interval,
    mcc_influence,
    student_quantile,
    typical_size,
)
from streetvision_core.eval.metrics import cells_by_group, mcc_of_counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from streetvision_core.eval.decisions import Decision
    from streetvision_core.eval.inputs import Bools, Values
    from streetvision_core.eval.metrics import Groups, Integers

_WORDS = ("none", "roadwork", "defer")
# Which of the cells, label * 4 + answer of A * 2 + answer of B, are tp, tn, fp and fn of A, and of B.
_OF_A = ((6, 7), (0, 1), (2, 3), (4, 5))
_OF_B = ((5, 7), (0, 2), (1, 3), (4, 6))
SWAPS = 10_000
_CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class PairedComparison:
    """Two deciders on the same images; what is right and wrong is counted where both answer.

    Of `pictures` both answer `n`, and `only_a_answers` and `only_b_answers` are answered by one of them. Of
    the n they differ in `differing_groups` groups. `p_value` is that of exchanging the two by whole groups.
    `interval_a` and `interval_b` are of the MCCs over groups, `interval` is of `mcc_difference`, all at
    `level`; None where they differ in too few groups to have one.
    """

    pictures: int
    n: int
    only_a_answers: int
    only_b_answers: int
    only_a_right: int
    only_b_right: int
    differing_groups: int
    p_value: float
    level: float
    accuracy_difference: float
    mcc_a: float
    mcc_b: float
    interval_a: Interval
    interval_b: Interval
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
        """True if A and B differ in too few groups for any p below 1 - level."""
        return _too_few(self.differing_groups, self.level)

    @property
    def better(self) -> Literal["A", "B"] | None:
        """The one with the larger MCC, where exchanges seldom do as much and the interval excludes 0."""
        if self.p_value > 1 - self.level or self.interval is None:
            return None
        if self.interval.low <= 0 <= self.interval.high:
            return None
        return "B" if self.mcc_difference > 0 else "A"


def compare_decisions(
    labels: Values,
    a: Sequence[Decision],
    b: Sequence[Decision],
    groups: Groups,
    *,
    seed: int,
    level: float = LEVEL,
    swaps: int = SWAPS,
) -> PairedComparison:
    """Compare two deciders on the images that both answer.

    Args:
        labels: Labels [N] of 0/1 or bool.
        a: What A decided, [N] of "none", "roadwork" or "defer".
        b: What B decided, likewise.
        groups: The group of each image, [N].
        seed: Of the exchanges.
        level: What the interval aims to cover, and the test's confidence.
        swaps: How many exchanges are drawn where there are more.

    Raises:
        DataError: another word, lengths that differ, or no images.
    """
    truth = binary_vector(labels, name="labels")
    said_a, said_b, group = _codes(a, name="a"), _codes(b, name="b"), np.asarray(groups)
    require_equal_length(labels=truth, a=said_a, b=said_b, groups=group)
    answers_a, answers_b = said_a != 2, said_b != 2
    both = answers_a & answers_b
    cell = (truth * 4 + said_a * 2 + said_b)[both]
    counts = cells_by_group(cell, 8, group[both])
    only_a, only_b = _only_one_right(truth[both], said_a[both], said_b[both])
    of_a, of_b = (_tables(counts, cells) for cells in (_OF_A, _OF_B))
    differing = int(np.count_nonzero(counts[:, [1, 2, 5, 6]].any(axis=1)))
    return PairedComparison(
        pictures=truth.size,
        n=cell.size,
        only_a_answers=int(np.count_nonzero(answers_a & ~both)),
        only_b_answers=int(np.count_nonzero(answers_b & ~both)),
        only_a_right=only_a,
        only_b_right=only_b,
        differing_groups=differing,
        p_value=exchange_p_value(of_a, of_b, seed=seed, swaps=swaps),
        level=level,
        accuracy_difference=(only_b - only_a) / max(1, cell.size),
        mcc_a=float(mcc_of_counts(of_a.sum(axis=0))),
        mcc_b=float(mcc_of_counts(of_b.sum(axis=0))),
        interval_a=mcc_group_interval(of_a, level=level),
        interval_b=mcc_group_interval(of_b, level=level),
        interval=None if _too_few(differing, level) else _interval(counts, level=level),
    )


def exchange_p_value(a: Integers, b: Integers, *, seed: int, swaps: int = SWAPS) -> float:
    """Two-sided p-value of equal MCCs, by exchanging tables [G, 4] of tp, tn, fp and fn of whole groups."""
    total_a, total_b = a.sum(axis=0), b.sum(axis=0)
    change = (b - a)[(a != b).any(axis=1)]
    # What differs only by rounding is no smaller than what was seen.
    seen = abs(float(mcc_of_counts(total_b) - mcc_of_counts(total_a))) - 1e-12
    reached = tried = 0
    for moved in _exchanged(change, seed=seed, swaps=swaps):
        differences = np.abs(mcc_of_counts(total_b - moved) - mcc_of_counts(total_a + moved))
        reached, tried = reached + int(np.count_nonzero(differences >= seen)), tried + len(moved)
    return reached / tried


def _exchanged(change: Integers, *, seed: int, swaps: int) -> Iterator[Integers]:
    """Yield what moves from B to A in each exchange, [some, 4]: all, or the observed and some drawn."""
    groups = len(change)
    if 2**groups <= swaps:
        yield (np.arange(2**groups)[:, None] >> np.arange(groups) & 1) @ change
        return
    yield np.zeros((1, 4), np.int64)
    # Groups that change alike are interchangeable: how many of them are exchanged is one binomial draw.
    kinds, members = np.unique(change, axis=0, return_counts=True)
    random, at_once = np.random.default_rng(seed), max(1, _CELLS_AT_ONCE // len(members))
    for start in range(0, swaps, at_once):
        yield random.binomial(members, 0.5, (min(at_once, swaps - start), len(members))) @ kinds


def _interval(counts: Integers, *, level: float) -> Interval | None:
    """Interval of the MCC of B minus that of A, of `counts` [G, 8]; None with a label in one group only."""
    sizes = counts.sum(axis=1)
    groups, images = fewest_groups(_tables(counts, _OF_A)), int(sizes.sum())
    if groups < 2:
        return None
    influence = np.zeros(8)
    for sign, cells in ((-1, _OF_A), (1, _OF_B)):
        padded = _tables(counts, cells).sum(axis=0) + max(ADDED * typical_size(sizes), 0.5)
        influence[np.array(cells)] += sign * mcc_influence(padded / padded.sum())[:, None]
    squares = float(np.sum((counts @ influence) ** 2))
    # A quarter of a typical group more of each way to differ, so that a way which was not seen counts.
    squares += ADDED * typical_size(sizes) ** 2 * float(influence @ influence)
    half = student_quantile(groups, level) * math.sqrt(squares * len(counts) / (len(counts) - 1)) / images
    total = counts.sum(axis=0)
    difference = float(mcc_of_counts(total[..., _OF_B].sum(-1)) - mcc_of_counts(total[..., _OF_A].sum(-1)))
    return Interval(difference - half, difference + half, level, "influence-groups")


def _tables(counts: Integers, cells: tuple[tuple[int, int], ...]) -> Integers:
    """Return tp, tn, fp and fn of one decider, [G, 4], of the counts [G, 8] of both."""
    tables: Integers = counts[:, cells].sum(axis=-1)
    return tables


def _too_few(differing_groups: int, level: float) -> bool:
    return 2.0 * 0.5**differing_groups > 1 - level


def _only_one_right(truth: Bools, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> tuple[int, int]:
    differ = a != b
    only_b = int(np.count_nonzero(differ & (b == truth)))
    return int(np.count_nonzero(differ)) - only_b, only_b


def _codes(decisions: Sequence[Decision], *, name: str) -> npt.NDArray[np.int64]:
    """Turn none, roadwork and defer into 0, 1 and 2."""
    words = np.asarray(decisions, dtype=np.str_)
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
