"""The gate, fitted: margin or learned head, and the bound on confidence, all of it on val_select.

The margin is hard to beat, so the head has to prove itself:

1. Temperature and threshold are frozen (`freeze_operating_point`).
2. Fewer than `min_errors` errors: no head is trained.
3. Else the head is cross-fitted (`gate_crossfit`), and its AUGRC is compared with the margin's on the same
   out-of-fold errors, by a paired bootstrap over groups. It is adopted only if the whole interval of the
   difference lies below 0; where nothing can be compared, it is not.
4. The bound is set so that the wished share of val_select is answered, by cross-fitted confidences where
   the head is adopted. Equally confident pictures are answered together, and the bound lies in the middle
   between the last one answered and the first deferred.

`verify_gate` does it again and compares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.errors import DataError
from streetvision_core.eval.bootstrap import compare_augrc
from streetvision_core.eval.decisions import answers, differences, freeze_operating_point
from streetvision_core.eval.inputs import binary_vector, margin_vector
from streetvision_core.policies.config import GateConfig
from streetvision_core.policies.gate import AugrcComparison, Gate, GateFittedOn, GatePolicy, GateSelect
from streetvision_core.policies.gate_crossfit import TooThinError, cross_fit
from streetvision_core.policies.gate_head import FeatureReference, GateHead, view_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from streetvision_core.eval.decisions import Extras, LabelledLogits, OperatingPoint
    from streetvision_core.eval.inputs import Bools, Floats
    from streetvision_core.policies.gate_crossfit import CrossFit

    # "features" [M, D] and "labels" [M] of the training pictures.
    Reference = Mapping[str, npt.NDArray[Any]]

DEFAULTS = GateConfig()
MEASURED = 1e-4


def count_errors(select: LabelledLogits, point: OperatingPoint) -> int:
    """Count the wrong answers on val_select if every picture were answered.

    Raises:
        DataError: logits that are not finite, or labels that are not 0 or 1.
    """
    return int(np.count_nonzero(_wrong(select, point)))


def needs_extras(select: LabelledLogits, config: GateConfig = DEFAULTS) -> bool:
    """Tell whether there are errors enough to learn from, so that pictures are worth measuring.

    Raises:
        DataError: as `freeze_operating_point`.
    """
    return count_errors(select, freeze_operating_point(select)) >= config.min_errors


def fit_gate(
    select: LabelledLogits,
    *,
    checkpoint_version: str,
    config: GateConfig = DEFAULTS,
    extras: Extras | None = None,
    reference: Reference | None = None,
) -> Gate:
    """Freeze the operating point, choose between margin and gate, and set the bound; all on val_select.

    Args:
        select: Logits of val_select, which the checkpoint holds.
        checkpoint_version: The data version of that checkpoint.
        config: Recorded in the policy.
        extras: Those of val_select; not looked at where `needs_extras` says no.
        reference: "features" [M, D] and "labels" [M] of the training pictures; as extras.

    Raises:
        DataError: as `freeze_operating_point`, or extras that are needed and missing or do not fit.
    """
    point = freeze_operating_point(select)
    choice = _choose(select, point, config=config, extras=extras, reference=reference)
    bound = _bound(choice.confidence, coverage=config.coverage)
    policy = GatePolicy(
        point=point,
        confidence_by="margin" if choice.head is None else "gate",
        reason=choice.reason,
        head=choice.head,
        compared=choice.compared,
        bound=bound,
        # A step's configuration may hold more than the recipe of the gate.
        chosen_by=GateConfig(**config.model_dump(include=set(GateConfig.model_fields))),
        fitted_on=GateFittedOn(phase1_checkpoint=checkpoint_version),
        val_select=_count(select, point, answered=choice.confidence >= bound),
    )
    return Gate(policy)


def verify_gate(
    policy: GatePolicy,
    select: LabelledLogits,
    *,
    extras: Extras | None = None,
    reference: Reference | None = None,
) -> list[str]:
    """Fit again, as the policy records it, and return what differs: one sentence a difference, or none.

    `needs_extras(select, policy.chosen_by)` tells whether any extras are needed. Where they are, numbers are
    compared within 1e-4, because another device measures other last digits.

    Raises:
        DataError: as `fit_gate`.
    """
    again = fit_gate(
        select,
        checkpoint_version=policy.fitted_on.phase1_checkpoint,
        config=policy.chosen_by,
        extras=extras,
        reference=reference,
    )
    if policy.compared is None or again.policy.compared is None:
        return differences(policy, again.policy)
    # The reason is the comparison in words, whose last digits may be others on another device.
    fitted = again.policy.model_copy(update={"reason": policy.compared.in_words()})
    return differences(policy, fitted, tolerance=MEASURED)


@dataclass(frozen=True, eq=False)
class _Choice:
    """The confidence [N] that sets the bound on val_select, and how it came to be chosen."""

    confidence: Floats
    reason: str
    compared: AugrcComparison | None = None
    head: GateHead | None = None


def _choose(
    select: LabelledLogits,
    point: OperatingPoint,
    *,
    config: GateConfig,
    extras: Extras | None,
    reference: Reference | None,
) -> _Choice:
    margins, errors = margin_vector(point.fold(select.logits)), count_errors(select, point)
    if errors < config.min_errors:
        reason = f"{errors} errors on val_select, at least {config.min_errors} needed to learn from"
        return _Choice(np.abs(margins), reason)
    training = _describe(reference)
    view = view_of(extras, reference=training, pictures=margins.size)
    group = np.unique(np.asarray(select.groups), return_inverse=True)[1]
    try:
        fitted = cross_fit(
            margins,
            binary_vector(select.labels, name="labels"),
            group=group,
            view=view,
            folds=config.folds,
            seed=config.seed,
            min_errors=config.min_errors,
        )
    except TooThinError as error:
        return _Choice(np.abs(margins), f"{error.found} on val_select, {error.expected} needed to compare")
    compared = _compare(fitted, group, config=config)
    if compared.favours_gate:
        head = GateHead(reference=training, odds=fitted.odds)
        return _Choice(fitted.by_gate, compared.in_words(), compared, head)
    return _Choice(np.abs(margins), compared.in_words(), compared)


def _compare(fitted: CrossFit, group: npt.NDArray[np.intp], *, config: GateConfig) -> AugrcComparison:
    found = compare_augrc(
        fitted.by_gate,
        fitted.by_margin,
        fitted.wrong,
        groups=group,
        seed=config.seed,
        level=config.level,
        resamples=config.resamples,
    )
    return AugrcComparison(
        errors=int(np.count_nonzero(fitted.wrong)),
        margin=found.baseline,
        gate=found.challenger,
        difference=found.difference,
        low=found.interval.low,
        high=found.interval.high,
        level=found.interval.level,
    )


def _describe(reference: Reference | None) -> FeatureReference:
    given = {} if reference is None else reference
    missing = [name for name in ("features", "labels") if name not in given]
    if missing:
        raise DataError(
            "features and labels of the training pictures",
            f"no {' and no '.join(missing)}",
            "the reference of the gate",
            "Measure the training pictures; there are errors enough to train a gate.",
        )
    return FeatureReference.of(given["features"], given["labels"])


def _bound(confidence: Floats, *, coverage: float) -> float:
    """Return the bound on confidences [N] at which at least the wished share is accepted, ties together."""
    ranked = np.sort(confidence)[::-1]
    # 0.55 * 100 is 55.00000000000001 in floats, and 55 pictures are asked for, not 56.
    wanted = max(1, math.ceil(coverage * ranked.size - 1e-9))
    last = float(ranked[wanted - 1])
    below = ranked[ranked < last]
    # In the middle, so that rounding on another machine moves no picture of val_select across it.
    middle = (last + float(below[0])) / 2 if below.size else last - 1.0
    return middle if not below.size or middle > below[0] else last


def _wrong(select: LabelledLogits, point: OperatingPoint) -> Bools:
    wrong: Bools = answers(point.fold(select.logits)) != binary_vector(select.labels, name="labels")
    return wrong


def _count(select: LabelledLogits, point: OperatingPoint, *, answered: Bools) -> GateSelect:
    said, wrong = answers(point.fold(select.logits)), _wrong(select, point)
    return GateSelect(
        n=said.size,
        errors=int(np.count_nonzero(wrong)),
        answered=int(np.count_nonzero(answered)),
        errors_answered=int(np.count_nonzero(wrong & answered)),
        roadwork=int(np.count_nonzero(said & answered)),
        none=int(np.count_nonzero(~said & answered)),
    )
