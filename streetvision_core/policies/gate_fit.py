"""The gate, fitted: margin or learned head, and the bound on confidence, all of it on val_select.

The margin is hard to beat, so the head has to prove itself:

1. Temperature and threshold are frozen (`freeze_operating_point`).
2. Fewer than `min_errors` errors: no head is trained.
3. Else the head is cross-fitted (`gate_head`), and its AUGRC is compared with the margin's on the same
   out-of-fold errors, by a paired bootstrap over groups. It is adopted only if the whole interval of the
   difference lies below 0; where nothing can be compared, it is not.
4. The bound is set so that the wished share of val_select is answered, by cross-fitted confidences where
   the head is adopted. Equally confident images are answered together, and the bound lies in the middle
   between the last one answered and the first deferred.

`train_gate` measures what the head learns from: where the features of train lie, and how far from it those of
val_select are; no other role is read, and where the errors are too few no image is. What was measured is
recorded, so `verify_gate` fits again without a network and compares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.errors import DataError
from streetvision_core.eval.bootstrap import compare_augrc
from streetvision_core.eval.decisions import answers, differences, freeze_operating_point
from streetvision_core.eval.folds import TooThinError
from streetvision_core.eval.inputs import binary_vector, margin_vector
from streetvision_core.inference.logits import labels_of
from streetvision_core.policies.config import GateConfig, RecordedGate, as_recorded
from streetvision_core.policies.gate import (
    AugrcComparison,
    Gate,
    GateFittedOn,
    GateMeasured,
    GatePolicy,
    GateSelect,
)
from streetvision_core.policies.gate_head import FeatureReference, GateHead, cross_fit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from streetvision_core.data import ImageIndex
    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.data.splits import Splits
    from streetvision_core.eval.decisions import LabelledLogits, OperatingPoint
    from streetvision_core.eval.inputs import Bools, Floats
    from streetvision_core.inference.logits import TrainedClassifier
    from streetvision_core.policies.gate_head import CrossFit

DEFAULTS = RecordedGate()
# What an older gate can be held against where its measurements were not recorded.
_WITHOUT_MEASUREMENTS = {"point", "fitted_on", "chosen_by"}
_OF_THE_MARGIN = {*_WITHOUT_MEASUREMENTS, "bound", "val_select"}


def count_errors(select: LabelledLogits, point: OperatingPoint) -> int:
    """Count the wrong answers on val_select if every image were answered.

    Raises:
        DataError: logits that are not finite, or labels that are not 0 or 1.
    """
    return int(np.count_nonzero(_wrong(select, point)))


def needs_measuring(select: LabelledLogits, config: RecordedGate = DEFAULTS) -> bool:
    """Tell whether there are errors enough to learn from, so that images are worth measuring.

    Raises:
        DataError: as `freeze_operating_point`.
    """
    return count_errors(select, freeze_operating_point(select)) >= config.min_errors


def train_gate(
    checkpoint: TrainedClassifier,
    *,
    index: ImageIndex,
    splits: Splits,
    images: ImageReader,
    config: GateConfig,
    checkpoint_version: str,
    cache: Path | None = None,
) -> Gate:
    """Measure where there are errors enough to learn from, and fit the gate policy of a checkpoint.

    Args:
        checkpoint: The classifier.
        index: Labels and digests of at least the images of train and val_select.
        splits: Which image plays which role.
        images: Reads the images of train and val_select.
        config: Recorded in the policy.
        checkpoint_version: The data version of the checkpoint.
        cache: Where features of images are kept (`cached_features`): one that is there is not computed
            again, and its image not read. The gate is the same.

    Raises:
        ConfigError: the classifier is not one layer that takes features [N, D].
        DataError: val_select is of one class, or an image is not in the index.
        IntegrityError: the weights or an image are not what they were.
    """
    select, measured = checkpoint.val_select, None
    if needs_measuring(select, as_recorded(RecordedGate, config)):
        from streetvision_core.inference.cached_features import measure_images

        train = splits.roles["train"]
        names = [*train, *select.ids]
        features = measure_images(checkpoint, names, images, cache=cache, features=True).extras["features"]
        measured = measure_gate(features[: len(train)], labels_of(train, index), features[len(train) :])
    return fit_gate(select, checkpoint_version=checkpoint_version, config=config, measured=measured)


def measure_gate(
    training: npt.NDArray[Any], labels: Sequence[int] | npt.NDArray[Any], features: npt.NDArray[Any]
) -> GateMeasured:
    """Describe features [M, D] of train with their labels, and how far those of val_select [N, D] are.

    Raises:
        DataError: shapes that do not fit, features that are not finite, or one class only.
    """
    reference = FeatureReference.of(training, np.asarray(labels))
    return GateMeasured(reference=reference, distance=tuple(reference.distance(features).tolist()))


def fit_gate(
    select: LabelledLogits,
    *,
    checkpoint_version: str,
    config: GateConfig = DEFAULTS,
    measured: GateMeasured | None = None,
) -> Gate:
    """Freeze the operating point, choose between margin and gate, and set the bound; all on val_select.

    Args:
        select: Logits of val_select, which the checkpoint holds.
        checkpoint_version: The data version of that checkpoint.
        config: Recorded in the policy.
        measured: What a head learns from; not looked at where `needs_measuring` says no.

    Raises:
        DataError: as `freeze_operating_point`, or measurements that are needed and missing or do not fit.
    """
    point, recipe = freeze_operating_point(select), as_recorded(RecordedGate, config)
    choice = _choose(select, point, config=recipe, measured=measured)
    bound = _bound(choice.confidence, coverage=recipe.coverage)
    policy = GatePolicy(
        point=point,
        confidence_by="margin" if choice.head is None else "gate",
        reason=choice.reason,
        head=choice.head,
        compared=choice.compared,
        bound=bound,
        chosen_by=recipe,
        fitted_on=GateFittedOn(phase1_checkpoint=checkpoint_version),
        val_select=_count(select, point, answered=choice.confidence >= bound),
    )
    return Gate(policy, measured)


def is_fully_recorded(gate: Gate, select: LabelledLogits) -> bool:
    """Tell whether all that the gate was fitted on was recorded; older versions kept no measurements."""
    return gate.measured is not None or not needs_measuring(select, gate.policy.chosen_by)


def verify_gate(gate: Gate, select: LabelledLogits) -> list[str]:
    """Fit again from recorded numbers, and return what differs: one sentence a difference, or none.

    Where the measurements were not recorded, only what does without them is compared.

    Raises:
        DataError: as `fit_gate`.
    """
    policy, config = gate.policy, gate.policy.chosen_by
    fit = partial(fit_gate, select, checkpoint_version=policy.fitted_on.phase1_checkpoint)
    if is_fully_recorded(gate, select):
        again = fit(config=config, measured=gate.measured).policy
        if policy.compared is not None and again.compared is not None:
            # The reason is the comparison in words, whose last digits may be others on another machine.
            again = again.model_copy(update={"reason": policy.compared.in_words()})
        return differences(policy, again)
    by_margin = fit(config=config.model_copy(update={"min_errors": len(select.labels) + 1})).policy
    comparable = _OF_THE_MARGIN if policy.head is None else _WITHOUT_MEASUREMENTS
    kept = {name: getattr(policy, name) for name in GatePolicy.model_fields if name not in comparable}
    return differences(policy, by_margin.model_copy(update={**kept, "chosen_by": config}))


@dataclass(frozen=True, eq=False)
class _Choice:
    """The confidence [N] that sets the bound on val_select, and how it came to be chosen."""

    confidence: Floats
    reason: str
    compared: AugrcComparison | None = None
    head: GateHead | None = None


def _choose(
    select: LabelledLogits, point: OperatingPoint, *, config: RecordedGate, measured: GateMeasured | None
) -> _Choice:
    margins, errors = margin_vector(point.fold(select.logits)), count_errors(select, point)
    if errors < config.min_errors:
        reason = f"{errors} errors on val_select, at least {config.min_errors} needed to learn from"
        return _Choice(np.abs(margins), reason)
    distance = _require_distance(measured, images=margins.size)
    group = np.unique(np.asarray(select.groups), return_inverse=True)[1]
    try:
        fitted = cross_fit(
            margins,
            binary_vector(select.labels, name="labels"),
            group=group,
            distance=distance,
            folds=config.folds,
            seed=config.seed,
            min_errors=config.min_errors,
        )
    except TooThinError as error:
        return _Choice(np.abs(margins), f"{error.found} on val_select, {error.expected} needed to compare")
    compared = _compare(fitted, group, config=config)
    if compared.favours_gate and measured is not None:
        head = GateHead(reference=measured.reference, odds=fitted.odds)
        return _Choice(fitted.by_gate, compared.in_words(), compared, head)
    return _Choice(np.abs(margins), compared.in_words(), compared)


def _compare(fitted: CrossFit, group: npt.NDArray[np.intp], *, config: RecordedGate) -> AugrcComparison:
    result = compare_augrc(
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
        margin=result.baseline,
        gate=result.challenger,
        difference=result.difference,
        low=result.interval.low,
        high=result.interval.high,
        level=result.interval.level,
    )


def _require_distance(measured: GateMeasured | None, *, images: int) -> Floats:
    if measured is None or len(measured.distance) != images:
        raise DataError(
            f"the feature distances of {images} images of val_select",
            "none" if measured is None else f"those of {len(measured.distance)}",
            "the gate",
            "Measure these images; there are errors enough to train a gate.",
        )
    return np.array(measured.distance)


def _bound(confidence: Floats, *, coverage: float) -> float:
    """Return the bound on confidences [N] at which at least the wished share is accepted, ties together."""
    ranked = np.sort(confidence)[::-1]
    # 0.55 * 100 is 55.00000000000001 in floats, and 55 images are asked for, not 56.
    wanted = max(1, math.ceil(coverage * ranked.size - 1e-9))
    last = float(ranked[wanted - 1])
    below = ranked[ranked < last]
    # In the middle, so that rounding on another machine moves no image of val_select across it.
    middle = (last + float(below[0])) / 2 if below.size else last - 1.0
    return middle if not below.size or middle > below[0] else last


def _wrong(select: LabelledLogits, point: OperatingPoint) -> Bools:
    wrong: Bools = answers(point.fold(select.logits)) != binary_vector(select.labels, name="labels")
    return wrong


def _count(select: LabelledLogits, point: OperatingPoint, *, answered: Bools) -> GateSelect:
    roadwork, wrong = answers(point.fold(select.logits)), _wrong(select, point)
    return GateSelect(
        n=roadwork.size,
        errors=int(np.count_nonzero(wrong)),
        answered=int(np.count_nonzero(answered)),
        errors_answered=int(np.count_nonzero(wrong & answered)),
        roadwork=int(np.count_nonzero(roadwork & answered)),
        none=int(np.count_nonzero(~roadwork & answered)),
    )
