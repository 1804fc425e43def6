"""The gate judged on images that had no part in it: cross-fitted errors and confidences.

Groups are dealt to folds, and none is split. For each fold

1. the decision threshold is fitted on the other folds, and answers the images of this one: their answers
   and errors are out-of-fold;
2. a head learns on the other folds from errors that are out-of-fold as well: those of fold j by a threshold
   that saw neither j nor this fold;
3. the head states its confidence in the answers of step 1.

So every image has a margin, an error and a confidence by fits that did not see its group, and the two
confidences are judged on the same errors. The head that is shipped learns from the errors of step 1, of all
folds. A temperature scales all margins alike and is standardised away, so one for all is no leak.

The heads of step 2 see fewer errors than the shipped one, which can only speak against the gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.eval.folds import TooThinError, deal_folds, out_of_fold
from streetvision_core.eval.thresholds import scan_margins
from streetvision_core.policies.gate_head import ErrorOdds

if TYPE_CHECKING:
    import numpy.typing as npt

    from streetvision_core.eval.folds import Folds
    from streetvision_core.eval.inputs import Bools, Floats

_PURPOSE = "val_select, the cross-fit of the gate"
_ADVICE = "Use a larger val_select; until then the margin decides what is deferred."


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Both confidences in each answer and whether it is wrong, [N] each, and the head to be shipped."""

    by_margin: Floats
    by_gate: Floats
    wrong: Bools
    odds: ErrorOdds


def cross_fit(
    margins: Floats,
    truth: Bools,
    *,
    group: npt.NDArray[np.intp],
    distance: Floats,
    folds: int,
    seed: int,
    min_errors: int,
) -> CrossFit:
    """Cross-fit the gate to margins [N] after the temperature, labels, group numbers and feature distances.

    Raises:
        TooThinError: fewer than `min_errors` out-of-fold errors, or too few groups, images of a class or
            errors in some fold.
    """
    fold = deal_folds(truth, group, folds=folds, seed=seed, purpose=_PURPOSE)
    everything = np.ones(truth.size, dtype=bool)
    shifted = _out_of_fold(margins, truth, fold, within=everything)
    errors = int(np.count_nonzero((shifted > 0) != truth))
    if errors < min_errors:
        raise _too_thin(f"at least {min_errors} out-of-fold errors", f"{errors}")
    by_gate = np.empty(truth.size)
    for judged in (fold == one for one in range(folds)):
        within = _out_of_fold(margins, truth, fold, within=~judged)
        odds = _fit_odds(within, truth, distance, ~judged)
        by_gate[judged] = -odds.log_odds(_design(shifted, distance, judged))
    return CrossFit(
        by_margin=np.abs(shifted),
        by_gate=by_gate,
        wrong=(shifted > 0) != truth,
        odds=_fit_odds(shifted, truth, distance, everything),
    )


def _out_of_fold(margins: Floats, truth: Bools, fold: Folds, *, within: Bools) -> Floats:
    """Return margins minus the threshold of the other folds, of the images `within` alone: [N], else NaN."""
    return out_of_fold(
        margins,
        truth,
        fold,
        within=within,
        choose=lambda fitting: scan_margins(margins[fitting], truth[fitting]).threshold,
        purpose=_PURPOSE,
    )


def _fit_odds(shifted: Floats, truth: Bools, distance: Floats, members: Bools) -> ErrorOdds:
    wrong = ((shifted > 0) != truth)[members]
    if wrong.all() or not wrong.any():
        raise _too_thin("errors and right answers outside each fold", f"{np.count_nonzero(wrong)} errors")
    return ErrorOdds.fit(_design(shifted, distance, members), wrong)


def _design(shifted: Floats, distance: Floats, members: Bools) -> Floats:
    """Return the inputs of the head, float64 [M, 2], in the order of `gate_head.INPUTS`."""
    return np.column_stack([np.abs(shifted[members]), distance[members]])


def _too_thin(expected: str, found: str) -> TooThinError:
    return TooThinError(expected, found, _PURPOSE, _ADVICE)
