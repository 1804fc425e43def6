"""The fit of selective conformal risk control: frozen on val_select, then certified on val_calib.

The order is the promise. Calibrator, operating point and the sequence of thresholds follow from val_select
and the number of calibration images alone; only then is val_calib looked at, and once. What is promised is
told in `scrc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.eval.calibration import fit_temperature_scaling, negative_log_likelihood
from streetvision_core.eval.calibrator_choice import FITS, CalibratorChoice, CrossValidated, choose_calibrator
from streetvision_core.eval.calibrators import RETIRED, calibrator_from_json
from streetvision_core.eval.curves import curve_files, curve_problems
from streetvision_core.eval.decisions import answers, differences, freeze_operating_point
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.risk_control import (
    certify_selective_risk,
    control_expected_risk,
    count_accepted,
    no_certificate,
    one_per_group,
    risk_bound,
    risk_grid,
    risk_p_value,
)
from streetvision_core.policies.config import ScrcConfig
from streetvision_core.policies.scrc import (
    SCRC_NAME,
    Certified,
    Judged,
    Scrc,
    ScrcPolicy,
    SelectFreeze,
    Side,
    digests,
    has_answer,
    sides_of,
    words_of,
)
from streetvision_core.policies.threshold import FittedOn

if TYPE_CHECKING:
    from streetvision_core.eval.calibrators import Calibrator
    from streetvision_core.eval.decisions import LabelledLogits, OperatingPoint
    from streetvision_core.eval.inputs import Bools, Floats
    from streetvision_core.eval.risk_control import Certificate

DEFAULTS = ScrcConfig()
# How far a minimum that a search has found may lie from the one that it finds on another machine.
REFITTED = 1e-7


def fit_scrc(
    select: LabelledLogits,
    calib: LabelledLogits,
    *,
    checkpoint_version: str,
    logits_version: str,
    config: ScrcConfig = DEFAULTS,
    groups_known: bool | None = None,
) -> Scrc:
    """Freeze on val_select, then certify on val_calib.

    Args:
        select: Logits of val_select, which the checkpoint holds.
        calib: Logits of val_calib.
        checkpoint_version: The data version of the checkpoint that gave both.
        logits_version: The data version of the artifact that holds `calib`.
        config: The promise and how it is certified; recorded in the policy.
        groups_known: Whether the data names groups; the words of the guarantee say so. None: not recorded.

    Raises:
        DataError: logits that are not finite, one class only, or no threshold that answers both classes.
    """
    fitted_on = FittedOn(phase1_checkpoint=checkpoint_version, val_calib_logits=logits_version)
    policy = _freeze_and_certify(
        select,
        calib,
        _choose_calibrator(select, config),
        fitted_on=fitted_on,
        config=config,
        groups_known=groups_known,
    )
    return Scrc(policy, _curves(policy, calib))


def _freeze_and_certify(
    select: LabelledLogits,
    calib: LabelledLogits,
    chosen: CalibratorChoice,
    *,
    fitted_on: FittedOn,
    config: ScrcConfig,
    groups_known: bool | None,
) -> ScrcPolicy:
    point = freeze_operating_point(select)
    units = _units(calib, config)
    seen, new = (_side(pictures, point, chosen.calibrator) for pictures in (select, units))
    certificates = tuple(_certify(side, seen, new, config) for side in sides_of(config))
    calibrator = chosen.calibrator.to_json()
    return ScrcPolicy(
        promised=config.promise.kind,
        point=point,
        calibrator=calibrator,
        certificates=certificates,
        units="groups" if config.one_per_group else "pictures",
        frozen=digests(point, calibrator, certificates),
        # A step's configuration holds more than the recipe of the policy.
        chosen_by=ScrcConfig(**config.model_dump(include=set(ScrcConfig.model_fields))),
        fitted_on=fitted_on,
        val_select=SelectFreeze(
            n=len(select.labels),
            nll_before=negative_log_likelihood(select.logits, select.labels),
            judged=tuple(Judged(**vars(one)) for one in chosen.judged),
        ),
        groups_known=groups_known,
        guarantee=words_of(config, groups_known),
    )


def verify_scrc(
    scrc: Scrc, select: LabelledLogits, calib: LabelledLogits, *, groups_known: bool | None = None
) -> list[str]:
    """Freeze and certify again on the same logits; return what differs, one sentence a difference.

    `groups_known` is what the data says; it is held against the record of a policy that has one.
    """
    policy = scrc.policy
    fitted = _freeze_and_certify(
        select,
        calib,
        _choose_again(policy, select),
        fitted_on=policy.fitted_on,
        config=policy.chosen_by,
        groups_known=None if policy.groups_known is None else groups_known,
    )
    if policy.frozen != fitted.frozen:
        # Digests tell last digits apart, which another machine rounds otherwise; they must fit their record.
        own = digests(policy.point, policy.calibrator, policy.certificates)
        fitted = fitted.model_copy(update={"frozen": own})
    return [
        *differences(policy, fitted, tolerance=REFITTED),
        *curve_problems(scrc.curves, _curves(policy, calib)),
    ]


def _choose_again(policy: ScrcPolicy, select: LabelledLogits) -> CalibratorChoice:
    """Choose a calibrator again, among the methods that the record judged.

    Of a method that only earlier versions compute the likelihood is taken from the record, and then the
    standard errors as well: they belong to the difference from the best method, which may be that one.
    """
    choice = _choose_calibrator(select, policy.chosen_by)
    recorded = {one.method: one for one in policy.val_select.judged}
    if not RETIRED & recorded.keys():
        return choice
    losses = {name: one.nll for name, one in recorded.items()} | {
        one.method: one.nll for one in choice.judged
    }
    judged = tuple(
        CrossValidated(name, losses[name], losses[name] - min(losses.values()), one.standard_error)
        for name, one in recorded.items()
    )
    simplest = next((one.method for one in judged if one.excess <= one.standard_error), "")
    if simplest not in FITS:
        return choice
    return CalibratorChoice(FITS[simplest](select.logits, select.labels), judged)


def _curves(policy: ScrcPolicy, calib: LabelledLogits) -> dict[str, bytes]:
    return curve_files({"risk_by_confidence": sequence_table(policy, calib)})


def sequence_table(policy: ScrcPolicy, calib: LabelledLogits) -> list[dict[str, object]]:
    """Return a row for each threshold of the sequences: its counts on val_calib, and how far it holds.

    `p_value` is that of the hypothesis that the risk is above alpha, None for a promise in expectation;
    certified is the last row before the first that does not hold.
    """
    units = _units(calib, policy.chosen_by)
    calibrator = calibrator_from_json(policy.calibrator, where=SCRC_NAME)
    roadwork, sure, wrong = _side(units, policy.point, calibrator)
    rows: list[dict[str, object]] = []
    for one in policy.certificates:
        chosen = has_answer(roadwork, one.answers)
        counted = count_accepted(sure[chosen], wrong[chosen], np.array(one.thresholds))
        for threshold, m, k in zip(one.thresholds, *(part.tolist() for part in counted), strict=True):
            p_value = None if one.delta is None else float(risk_p_value(k, m, alpha=one.alpha))
            rows.append(
                {
                    "answers": " or ".join(one.answers),
                    "confidence": threshold,
                    "accepted": m,
                    "wrong": k,
                    "upper_bound": risk_bound(k, m, pictures=one.n, delta=one.delta),
                    "alpha": one.alpha,
                    "p_value": "" if p_value is None else p_value,
                    "certified": "yes" if threshold == one.threshold else "",
                }
            )
    return rows


def _choose_calibrator(select: LabelledLogits, config: ScrcConfig) -> CalibratorChoice:
    """Choose by cross-validation; where val_select is too small for that, take the temperature."""
    groups, truth = np.asarray(select.groups), np.asarray(select.labels) == 1
    if min(np.unique(groups[truth]).size, np.unique(groups[~truth]).size) < config.folds:
        return CalibratorChoice(fit_temperature_scaling(select.logits, select.labels), ())
    return choose_calibrator(
        select.logits, select.labels, groups=select.groups, folds=config.folds, seed=config.seed
    )


@dataclass(frozen=True)
class _Units:
    """The images of val_calib that are counted."""

    logits: Any
    labels: Any


def _units(calib: LabelledLogits, config: ScrcConfig) -> _Units:
    if not config.one_per_group:
        return _Units(calib.logits, calib.labels)
    chosen = one_per_group(calib.groups, seed=config.seed)
    return _Units(calib.logits[chosen], calib.labels[chosen])


def _side(pictures: Any, point: OperatingPoint, calibrator: Calibrator) -> tuple[Bools, Floats, Bools]:
    """Say of each image whether its answer is roadwork, how sure it is, and whether it is wrong."""
    margins = margin_vector(pictures.logits)
    roadwork = answers(point.fold(pictures.logits))
    p = calibrator.apply(margins)
    return roadwork, np.where(roadwork, p, 1 - p), roadwork != (np.asarray(pictures.labels) == 1)


def _certify(
    side: Side,
    select: tuple[Bools, Floats, Bools],
    calib: tuple[Bools, Floats, Bools],
    config: ScrcConfig,
) -> Certified:
    """Freeze the sequence on val_select, then certify on the units of val_calib."""
    alpha, delta = side.alpha, side.delta
    frozen = has_answer(select[0], side.answers)
    # How many units will have these answers is told by val_select: val_calib is not looked at yet.
    expected = max(1, round(calib[0].size * float(frozen.mean())))
    grid: tuple[float, ...] = (1.0,)
    if frozen.any():
        grid = risk_grid(
            select[1][frozen], calibration_size=expected, alpha=alpha, delta=delta, steps=config.steps
        )
    chosen = has_answer(calib[0], side.answers)
    certificate = _certificate(calib[1][chosen], calib[2][chosen], grid, alpha=alpha, delta=delta)
    return Certified(
        answers=side.answers,
        alpha=alpha,
        delta=delta,
        K=len(grid),
        start=float(np.mean(select[1][frozen] >= grid[0])) if frozen.any() else 0.0,
        thresholds=grid,
        threshold=certificate.threshold,
        n=certificate.pictures,
        m=certificate.accepted,
        k=certificate.errors,
        upper_bound=certificate.upper_bound,
        coverage_low=certificate.coverage_low,
        coverage_high=certificate.coverage_high,
        tested=certificate.tested,
        needed=certificate.needed,
    )


def _certificate(
    sure: Floats, wrong: Bools, grid: tuple[float, ...], *, alpha: float, delta: float | None
) -> Certificate:
    if not sure.size:
        return no_certificate(pictures=0, alpha=alpha, delta=delta, tested=0)
    if delta is None:
        return control_expected_risk(sure, wrong, thresholds=grid, alpha=alpha)
    return certify_selective_risk(sure, wrong, thresholds=grid, alpha=alpha, delta=delta)
