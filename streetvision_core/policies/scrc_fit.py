"""The fit of selective conformal risk control: frozen on val_select, then certified on val_calib.

The order is the promise. Calibrator, operating point and the sequence of thresholds follow from val_select
and the number of calibration images alone; only then is val_calib looked at, and once. `scrc` says what is
promised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.eval import risk_control
from streetvision_core.eval.calibration import (
    FITS,
    CalibratorChoice,
    CrossValidated,
    choose_calibrator,
    fit_temperature_scaling,
    negative_log_likelihood,
)
from streetvision_core.eval.calibrators import RETIRED, calibrator_from_json
from streetvision_core.eval.curves import curve_files, curve_problems
from streetvision_core.eval.decisions import answers, differences, freeze_operating_point
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.intervals import clopper_pearson_interval
from streetvision_core.eval.ranking import rising_p_value
from streetvision_core.policies import scrc as record
from streetvision_core.policies.config import EveryImage, ImageUnit, RecordedScrc, ScrcConfig, as_recorded
from streetvision_core.policies.guarantee import FIRST_SCHEMA, SCHEMA, Schema, words_of
from streetvision_core.policies.threshold import FittedOn

if TYPE_CHECKING:
    from streetvision_core.eval.calibrators import Calibrator
    from streetvision_core.eval.decisions import LabelledLogits, OperatingPoint
    from streetvision_core.eval.inputs import Bools, Floats, Values

DEFAULTS = ScrcConfig()
# How far a minimum that a search has found may lie from the one that it finds on another machine.
REFITTED = 1e-7
GROUP_SIZES = (
    ("1 image", 1, 1),
    ("2 to 5 images", 2, 5),
    ("6 to 20 images", 6, 20),
    ("more than 20 images", 21, np.inf),
)


def fit_scrc(
    select: LabelledLogits,
    calib: LabelledLogits,
    *,
    checkpoint_version: str,
    logits_version: str,
    config: ScrcConfig | RecordedScrc = DEFAULTS,
    groups_known: bool | None = None,
) -> record.Scrc:
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
    recipe = as_recorded(RecordedScrc, config)
    policy = _freeze_and_certify(
        select,
        calib,
        _choose_calibrator(select, recipe),
        fitted_on=fitted_on,
        config=recipe,
        groups_known=groups_known,
    )
    return record.Scrc(policy, _curves(policy, calib))


def _freeze_and_certify(
    select: LabelledLogits,
    calib: LabelledLogits,
    chosen: CalibratorChoice,
    *,
    fitted_on: FittedOn,
    config: RecordedScrc,
    groups_known: bool | None,
    schema: Schema = SCHEMA,
) -> record.ScrcPolicy:
    between = risk_control.MIDDLE if schema == FIRST_SCHEMA else risk_control.BETWEEN
    point = freeze_operating_point(select, between=between)
    units = _units(calib, config, groups_known)
    seen = _side(select, point, chosen.calibrator, folded=False)
    new = _side(units, point, chosen.calibrator, folded=schema > FIRST_SCHEMA)
    certificates = tuple(
        _certify(side, seen, new, config, between=between) for side in record.sides_of(config)
    )
    calibrator = chosen.calibrator.to_json()
    return record.ScrcPolicy(
        schema_version=schema,
        promised=config.promise.kind,
        point=point,
        calibrator=calibrator,
        certificates=certificates,
        units=record.UNITS[config.unit.kind],
        frozen=record.digests(point, calibrator, certificates),
        chosen_by=config,
        fitted_on=fitted_on,
        val_select=record.SelectFreeze(
            n=len(select.labels),
            nll_before=negative_log_likelihood(select.logits, select.labels),
            judged=tuple(record.Judged(**vars(candidate)) for candidate in chosen.judged),
        ),
        val_calib=None if schema == FIRST_SCHEMA else _count_units(calib, units, new, config),
        groups_known=groups_known,
        guarantee=words_of(config, groups_known, schema=schema),
    )


def verify_scrc(
    scrc: record.Scrc, select: LabelledLogits, calib: LabelledLogits, *, groups_known: bool | None = None
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
        schema=policy.schema_version,
    )
    if policy.frozen != fitted.frozen:
        # Digests tell last digits apart, which another machine rounds otherwise; they must fit their record.
        own = record.digests(policy.point, policy.calibrator, policy.certificates)
        fitted = fitted.model_copy(update={"frozen": own})
    return [
        *differences(policy, fitted, tolerance=REFITTED),
        *curve_problems(scrc.curves, _curves(policy, calib)),
    ]


def _choose_again(policy: record.ScrcPolicy, select: LabelledLogits) -> CalibratorChoice:
    """Choose a calibrator again, among the methods that the record judged.

    Of a method that only earlier versions compute the likelihood is taken from the record, and then the
    standard errors as well: they belong to the difference from the best method, which may be that one.
    """
    choice = _choose_calibrator(select, policy.chosen_by)
    recorded = {candidate.method: candidate for candidate in policy.val_select.judged}
    if not RETIRED & recorded.keys():
        return choice
    losses = {name: candidate.nll for name, candidate in recorded.items()} | {
        candidate.method: candidate.nll for candidate in choice.judged
    }
    judged = tuple(
        CrossValidated(name, losses[name], losses[name] - min(losses.values()), candidate.standard_error)
        for name, candidate in recorded.items()
    )
    simplest = next(
        (candidate.method for candidate in judged if candidate.excess <= candidate.standard_error), ""
    )
    if simplest not in FITS:
        return choice
    return CalibratorChoice(FITS[simplest](select.logits, select.labels), judged)


def _curves(policy: record.ScrcPolicy, calib: LabelledLogits) -> dict[str, bytes]:
    curves = {"risk_by_confidence": sequence_table(policy, calib)}
    if policy.schema_version > FIRST_SCHEMA:
        curves["risk_by_group_size"] = size_table(policy, calib)
    return curve_files(curves)


def sequence_table(policy: record.ScrcPolicy, calib: LabelledLogits) -> list[dict[str, object]]:
    """Return a row for each threshold of the sequences: its counts on val_calib, and how far it holds.

    `p_value` is that of the hypothesis that the risk is above alpha, None for a promise in expectation;
    certified is the last row before the first that does not hold.
    """
    units = _units(calib, policy.chosen_by, policy.groups_known)
    calibrator = calibrator_from_json(policy.calibrator, where=record.SCRC_NAME)
    folded = policy.schema_version > FIRST_SCHEMA
    roadwork, sure, wrong = _side(units, policy.point, calibrator, folded=folded)
    rows: list[dict[str, object]] = []
    for certificate in policy.certificates:
        chosen = record.has_answer(roadwork, certificate.answers)
        counted = risk_control.count_accepted(sure[chosen], wrong[chosen], np.array(certificate.thresholds))
        for threshold, m, k in zip(certificate.thresholds, *(part.tolist() for part in counted), strict=True):
            p_value = risk_control.risk_p_value(k, m, alpha=certificate.alpha)
            rows.append(
                {
                    "answers": " or ".join(certificate.answers),
                    "confidence": threshold,
                    "accepted": m,
                    "wrong": k,
                    "upper_bound": risk_control.risk_bound(
                        k, m, images=certificate.n, delta=certificate.delta
                    ),
                    "alpha": certificate.alpha,
                    "p_value": "" if certificate.delta is None else float(p_value),
                    "certified": "yes" if threshold == certificate.threshold else "",
                }
            )
    return rows


def size_table(policy: record.ScrcPolicy, calib: LabelledLogits) -> list[dict[str, object]]:
    """Return a row for each class of group sizes: how often its answers are wrong, one image of each group.

    `low` and `high` hold the risk of an answered image of such a group with 95 % confidence, and
    `risk_of_all` is the share of wrong answers if none were deferred.
    """
    sizes = np.unique(np.asarray(calib.groups), return_inverse=True, return_counts=True)[1:]
    chosen = risk_control.one_per_group(calib.groups, seed=policy.chosen_by.seed)
    size, images = sizes[1][sizes[0]][chosen], np.asarray(calib.labels)[chosen] == 1
    margins = _folded(calib.logits[chosen], policy.point)
    answered, wrong = np.array(policy.decide(margins)) != "defer", answers(margins) != images
    rows: list[dict[str, object]] = []
    for name, low, high in GROUP_SIZES:
        own = (size >= low) & (size <= high)
        m, k = int((own & answered).sum()), int((own & answered & wrong).sum())
        interval = clopper_pearson_interval(k, m) if m else None
        rows.append(
            {
                "group_size": name,
                "groups": int(own.sum()),
                "images": int(size[own].sum()),
                "answered": m,
                "wrong": k,
                "risk": k / m if m else "",
                "low": interval.low if interval else "",
                "high": interval.high if interval else "",
                "risk_of_all": float(wrong[own].mean()) if own.any() else "",
            }
        )
    return [row for row in rows if row["groups"]]


def _choose_calibrator(select: LabelledLogits, config: RecordedScrc) -> CalibratorChoice:
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


def _units(calib: LabelledLogits, config: RecordedScrc, groups_known: bool | None) -> _Units:
    """Draw the units, before a label is read: groups, cap and seed alone decide which they are."""
    if isinstance(config.unit, EveryImage):
        return _Units(calib.logits, calib.labels)
    # Where no groups are known every image is a group, and thinning would only lose some.
    cap = config.unit.cap if isinstance(config.unit, ImageUnit) and groups_known is not False else 1
    chosen = risk_control.one_per_group(calib.groups, seed=config.seed, cap=cap)
    return _Units(calib.logits[chosen], calib.labels[chosen])


def _count_units(
    calib: LabelledLogits, units: _Units, side: tuple[Bools, Floats, Bools], config: RecordedScrc
) -> record.CalibUnits:
    return record.CalibUnits(
        groups=len(set(calib.groups)),
        units=len(units.labels),
        roadwork=int(np.count_nonzero(units.labels == 1)),
        rising=rising_p_value(side[1], side[2], seed=config.seed),
    )


def _folded(logits: Values, point: OperatingPoint) -> Floats:
    """Return the margins [N] of logits [N, 2] at the operating point, as float32 weights give them."""
    return margin_vector(point.fold(logits).astype(np.float32))


def _side(
    images: Any, point: OperatingPoint, calibrator: Calibrator, *, folded: bool
) -> tuple[Bools, Floats, Bools]:
    """Say of each image whether its answer is roadwork, how sure it is, and whether it is wrong.

    Folded margins are those that decide in use: float32 at the operating point, unfolded again.
    """
    if not len(images.labels):
        nothing = np.zeros(0)
        return nothing > 0, nothing, nothing > 0
    margins = margin_vector(images.logits)
    roadwork = answers(point.fold(images.logits))
    if folded:
        margins = _folded(images.logits, point)
        roadwork, margins = answers(margins), record.unfold(point, margins)
    p = calibrator.apply(margins)
    return roadwork, np.where(roadwork, p, 1 - p), roadwork != (np.asarray(images.labels) == 1)


def _certify(
    side: record.Side,
    select: tuple[Bools, Floats, Bools],
    calib: tuple[Bools, Floats, Bools],
    config: RecordedScrc,
    *,
    between: float,
) -> record.Certified:
    """Freeze the sequence on val_select, then certify on the units of val_calib."""
    alpha, delta = side.alpha, side.delta
    frozen = record.has_answer(select[0], side.answers)
    # val_select estimates how many units will have these answers: val_calib is not looked at yet.
    expected = max(1, round(calib[0].size * float(frozen.mean())))
    grid: tuple[float, ...] = (1.0,)
    if frozen.any():
        grid = risk_control.risk_grid(
            select[1][frozen],
            calibration_size=expected,
            alpha=alpha,
            delta=delta,
            steps=config.steps,
            between=between,
        )
    chosen = record.has_answer(calib[0], side.answers)
    certificate = _certificate(calib[1][chosen], calib[2][chosen], grid, alpha=alpha, delta=delta)
    return record.Certified(
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
        **{name: getattr(certificate, name) for name in record.FOLLOWING},
        tested=certificate.tested,
    )


def _certificate(
    sure: Floats, wrong: Bools, grid: tuple[float, ...], *, alpha: float, delta: float | None
) -> risk_control.Certificate:
    if not sure.size:
        return risk_control.no_certificate(images=0, alpha=alpha, delta=delta, tested=0)
    if delta is None:
        return risk_control.control_expected_risk(sure, wrong, thresholds=grid, alpha=alpha)
    return risk_control.certify_selective_risk(sure, wrong, thresholds=grid, alpha=alpha, delta=delta)
