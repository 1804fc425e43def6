"""Folds for cross-validation: both classes as evenly as may be, and no group in two folds.

The folds are scikit-learn's `StratifiedKFold` and `StratifiedGroupKFold`, image for image, because what was
published was fitted on them. The latter is dealt here: scikit-learn asks NumPy five times a group and fold,
which takes 16 s for 50,000 groups of two images; plain floats take a second.

`out_of_fold` answers images by thresholds that their groups had no part in. Where the images do not carry
that, `TooThinError` says why, and the caller does without the comparison.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from streetvision_core.eval.inputs import Bools, Floats

    Folds = npt.NDArray[np.intp]
    # Returns the threshold that the images with these flags, [N], choose.
    Choose = Callable[[Bools], float]


class TooThinError(DataError):
    """The images do not carry a cross-fitted comparison; what needs none does without one."""


def split_folds(
    truth: Bools, group: npt.NDArray[np.intp], *, folds: int, seed: int, purpose: str
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Yield the positions of (fitting, judging) images of each fold, for labels [N] and group numbers [N].

    `purpose` names what the folds are for in an error.

    Raises:
        TooThinError: fewer images or groups of a class than folds.
        ConfigError: fewer than two folds.
    """
    _require_enough(truth, group, folds=folds, purpose=purpose)
    if np.unique(group).size == group.size:
        from sklearn.model_selection import StratifiedKFold

        yield from StratifiedKFold(folds, shuffle=True, random_state=seed).split(truth, truth)
        return
    fold = _deal_groups(truth, group, folds=folds, seed=seed)
    for number in range(folds):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def deal_folds(
    truth: Bools, group: npt.NDArray[np.intp], *, folds: int, seed: int, purpose: str
) -> npt.NDArray[np.intp]:
    """Return the fold of each image, [N], as `split_folds` deals them, whose errors it raises."""
    fold = np.empty(truth.size, dtype=np.intp)
    parts = split_folds(truth, group, folds=folds, seed=seed, purpose=purpose)
    for number, (_, judging) in enumerate(parts):
        fold[judging] = number
    return fold


def out_of_fold(
    margins: Floats, truth: Bools, fold: Folds, *, within: Bools, choose: Choose, purpose: str
) -> Floats:
    """Return margins minus the threshold of the other folds, of the images `within` alone: [N], else NaN.

    Above 0 the answer is roadwork.

    Raises:
        TooThinError: outside a fold all images are of one class.
    """
    shifted = np.full(truth.size, np.nan)
    for number in np.unique(fold[within]):
        judged, fitting = within & (fold == number), within & (fold != number)
        if truth[fitting].all() or not truth[fitting].any():
            raise TooThinError(
                "images of both classes outside each fold", "one class only", purpose, "Use fewer folds."
            )
        shifted[judged] = margins[judged] - choose(fitting)
    return shifted


def _deal_groups(truth: Bools, group: npt.NDArray[np.intp], *, folds: int, seed: int) -> npt.NDArray[np.intp]:
    """Return the fold of each image, [N], as `StratifiedGroupKFold` deals it.

    Groups come in a shuffled order, the most one-sided first, and each goes where it leaves the shares of
    both classes most even over the folds.
    """
    member = np.unique(group, return_inverse=True)[1]
    count = member.max() + 1
    counts = np.stack([np.bincount(member[flags], minlength=count) for flags in (~truth, truth)], axis=1)
    shuffled = np.arange(count)
    np.random.RandomState(seed).shuffle(shuffled)
    order = shuffled[np.argsort(-np.std(counts[shuffled].astype(float), axis=1), kind="stable")]
    totals = counts.sum(axis=0).tolist()
    filled = [[0.0, 0.0] for _ in range(folds)]
    fold = np.empty(count, dtype=np.intp)
    for number, own in zip(order.tolist(), counts[order].tolist(), strict=True):
        fold[number] = best = _best_fold(filled, own, totals)
        filled[best] = [filled[best][0] + own[0], filled[best][1] + own[1]]
    return fold[member]


def _best_fold(filled: Sequence[Sequence[float]], own: Sequence[int], totals: Sequence[int]) -> int:
    """Return the fold that a group of so many images of each class leaves most even, else the emptiest."""
    shares = [[fold[of] / totals[of] for fold in filled] for of in (0, 1)]
    best, least, emptiest = 0, math.inf, math.inf
    for number, (none, roadwork) in enumerate(filled):
        spread = 0.0
        for of, held in enumerate((none, roadwork)):
            moved = shares[of].copy()
            moved[number] = (held + own[of]) / totals[of]
            spread += _deviation(moved)
        spread /= 2
        # As np.isclose(spread, least): two spreads that differ by rounding are a tie.
        tied = abs(spread - least) <= 1e-8 + 1e-5 * least
        if spread < least or (tied and none + roadwork < emptiest):
            best, least, emptiest = number, spread, none + roadwork
    return best


def _deviation(values: Sequence[float]) -> float:
    """Return the standard deviation, rounded as np.std rounds it over the rows of a matrix."""
    total = square = 0.0  # added one by one: from Python 3.12 on sum() rounds otherwise
    for value in values:
        total += value
    mean = total / len(values)
    for value in values:
        square += (value - mean) * (value - mean)
    return math.sqrt(square / len(values))


def units_of_classes(truth: Bools, group: npt.NDArray[np.intp]) -> dict[str, int]:
    """Count the groups that hold images of each class."""
    return {name: np.unique(group[members]).size for name, members in (("Roadwork", truth), ("None", ~truth))}


def _require_enough(truth: Bools, group: npt.NDArray[np.intp], *, folds: int, purpose: str) -> None:
    if folds < 2:
        raise ConfigError("at least 2 folds", f"{folds}", purpose, "Use 5.")
    for name, units in units_of_classes(truth, group).items():
        if units < folds:
            raise TooThinError(
                f"at least {folds} images or groups of {name} for {folds} folds",
                f"{units}",
                f"{purpose} by cross-validation",
                "Use fewer folds or more images, or a fit that needs no cross-validation.",
            )
