"""The figures of a report beside its eleven metrics: how sure they are, how well it ranks and is calibrated.

Intervals of MCC are given twice. Fisher-z takes the images as independent, and so do the Clopper-Pearson
intervals of the rates; the bootstrap (BCa, seed and number recorded) resamples whole groups, and is missing
where all images are of one group. Of decisions without an error the bootstrap has no length, which says
nothing; Fisher-z then says something.

Images are ranked by the margin, answers by the confidence of the policy. Without both classes there is no
AUROC and no average precision.

Calibration is told of two probabilities. The shipped one has the threshold folded in, so that 0.5 is the
operating point: this moves it away from frequencies on purpose. The calibrated one is meant to be a
frequency.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from streetvision_core.eval.bootstrap import (
    RESAMPLES,
    bootstrap_counts,
    confusion_by_group,
    mcc_of_counts,
)
from streetvision_core.eval.calibration import negative_log_likelihood
from streetvision_core.eval.intervals import clopper_pearson_interval, mcc_interval
from streetvision_core.eval.metrics import Confusion
from streetvision_core.eval.ranking import auroc, average_precision, risk_coverage_curve
from streetvision_core.eval.reliability import (
    brier_score,
    expected_calibration_error,
    log_losses,
    maximum_calibration_error,
    reliability_bins,
)
from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.io.records import Record

if TYPE_CHECKING:
    from streetvision_core.eval.bootstrap import Groups
    from streetvision_core.eval.inputs import Bools, Floats
    from streetvision_core.eval.intervals import Interval

SEED = 0
_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class Range(Record):
    """A two-sided confidence interval, and by which method."""

    low: FiniteFloat
    high: FiniteFloat
    level: Annotated[FiniteFloat, Field(gt=0, lt=1)]
    method: Literal["fisher-z", "clopper-pearson", "bootstrap-bca"]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"{self.low} is above {self.high}")
        return self


class Bootstrap(Record):
    """The settings of a bootstrap: the number of groups and resamples, and the seed that reproduces them."""

    groups: int
    resamples: int
    seed: int


class Intervals(Record):
    """Intervals of the metrics of the same names, and of the MCC by resampling groups."""

    mcc: Range
    mcc_by_group: Range | None
    accuracy: Range
    fnr: Range
    fpr: Range
    bootstrap: Bootstrap


class Ranking(Record):
    """Figures of how well margins order images, and confidence the right answers before the wrong ones."""

    auroc: _Share | None
    average_precision: _Share | None
    aurc: _Share
    e_aurc: FiniteFloat
    augrc: _Share


class Calibration(Record):
    """Figures of how far probabilities are from frequencies; `nll` is in nats per image."""

    brier: _Share
    nll: FiniteFloat
    ece_equal_width: _Share
    ece_equal_mass: _Share
    mce_equal_width: _Share


class Calibrations(Record):
    """The calibration of the bundle's probability, and of the one that the policy takes for a frequency."""

    shipped: Calibration
    calibrated: Calibration


def intervals_of(labels: Bools, decisions: Bools, groups: Groups) -> Intervals:
    """Intervals of the decisions [N] on images with these labels [N] and groups [N].

    Raises:
        DataError: shapes that do not fit, or nothing.
    """
    counts = confusion_by_group(labels, decisions, groups)
    total = Confusion(*counts.sum(axis=0).tolist())
    misses, alarms = (total.fn, total.fn + total.tp), (total.fp, total.fp + total.tn)
    by_group = bootstrap_counts(counts, mcc_of_counts, seed=SEED) if len(counts) > 1 else None
    return Intervals(
        mcc=range_of(mcc_interval(total)),
        mcc_by_group=None if by_group is None else range_of(by_group),
        accuracy=range_of(clopper_pearson_interval(total.tp + total.tn, total.total)),
        fnr=range_of(clopper_pearson_interval(*misses)),
        fpr=range_of(clopper_pearson_interval(*alarms)),
        bootstrap=Bootstrap(groups=len(counts), resamples=RESAMPLES, seed=SEED),
    )


def ranking_of(labels: Bools, margins: Floats, *, confidence: Floats) -> Ranking:
    """Rank images with these labels [N] by margins [N], roadwork above 0, and answers by confidence [N].

    Raises:
        DataError: shapes that do not fit, nothing, or margins that are not finite.
    """
    curve = risk_coverage_curve(confidence, (margins > 0) != labels)
    both = bool(labels.any() and not labels.all())
    return Ranking(
        auroc=auroc(margins, labels) if both else None,
        average_precision=average_precision(margins, labels) if both else None,
        aurc=curve.aurc,
        e_aurc=curve.e_aurc,
        augrc=curve.augrc,
    )


def calibrations_of(labels: Bools, margins: Floats, *, calibrated: Floats) -> Calibrations:
    """Calibration of margins [N] from the operating point, and of calibrated probabilities [N].

    Raises:
        DataError: shapes that do not fit, nothing, or margins that are not finite.
    """
    return Calibrations(
        shipped=_calibration(
            labels, positive_probability(margins), nll=negative_log_likelihood(margins, labels)
        ),
        calibrated=_calibration(labels, calibrated, nll=float(log_losses(calibrated, labels).mean())),
    )


def range_of(interval: Interval) -> Range:
    """Return an interval as a record."""
    return Range.model_validate(asdict(interval))


def _calibration(labels: Bools, p: Floats, *, nll: float) -> Calibration:
    wide = reliability_bins(p, labels, binning="equal_width")
    return Calibration(
        brier=brier_score(p, labels),
        nll=nll,
        ece_equal_width=expected_calibration_error(wide),
        ece_equal_mass=expected_calibration_error(reliability_bins(p, labels, binning="equal_mass")),
        mce_equal_width=maximum_calibration_error(wide),
    )
