"""The figures of a report beside its metrics: how sure they are, how well it ranks and is calibrated.

Intervals are over groups of images that belong together (`eval/intervals.py`); where every group is a single
image they are those over images as well. Reports of before 2026-11-29 have intervals over images and a
bootstrap over groups for the MCC alone; they have no `groups`.

Images are ranked by the margin, answers by the confidence of the policy. Without both classes there is no
AUROC and no average precision.

Calibration is measured for two probabilities. The shipped one has the threshold folded in, so that 0.5 is the
operating point: this moves it away from frequencies on purpose. The calibrated one is meant to be a
frequency, and beside its ECE stands the one that a perfectly calibrated model would have on so few images.
MCE is the error of one bin, often of a few images: below 1,000 images there is none.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from streetvision_core.eval.calibration import negative_log_likelihood
from streetvision_core.eval.decisions import Metrics
from streetvision_core.eval.folds import units_of_classes
from streetvision_core.eval.intervals import FEW_GROUPS, metric_interval
from streetvision_core.eval.metrics import BRIEF, COUNTS, METRICS, NO_ANSWERS
from streetvision_core.eval.ranking import auroc, auroc_interval, average_precision, risk_coverage_curve
from streetvision_core.eval.reliability import (
    brier_score,
    expected_calibration_error,
    log_losses,
    maximum_calibration_error,
    perfect_calibration_errors,
    reliability_bins,
)
from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.io.records import Record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import numpy.typing as npt

    from streetvision_core.eval.inputs import Bools, Floats
    from streetvision_core.eval.intervals import Interval
    from streetvision_core.eval.metrics import Integers

SEED = 0
FEWEST_FOR_MCE = 1000
_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class Range(Record):
    """A two-sided confidence interval, and by which method."""

    low: FiniteFloat
    high: FiniteFloat
    level: Annotated[FiniteFloat, Field(gt=0, lt=1)]
    method: Literal[
        "fisher-z", "fisher-z-groups", "clopper-pearson", "korn-graubard", "zou-donner", "obuchowski",
        "bootstrap-bca",
    ]  # fmt: skip

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"{self.low} is above {self.high}")
        return self

    def __str__(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"


class Groups(Record):
    """The groups that figures are of: all of them, and those with an image of either label."""

    n: int
    roadwork: int
    none: int

    @property
    def few(self) -> str:
        """The warning that intervals of so few groups are rough; empty where they are enough."""
        if min(self.roadwork, self.none) >= FEW_GROUPS:
            return ""
        return (
            f"Few groups: {self.n}, of which {self.roadwork} hold roadwork and {self.none} hold none. Below"
            f" {FEW_GROUPS} of either an interval is rough, and new places may lie outside it."
        )


class Bootstrap(Record):
    """The settings of a bootstrap of an older report."""

    groups: int
    resamples: int
    seed: int


class Intervals(Record, extra="allow"):
    """Intervals over `groups` of the metrics of the same names.

    Fields are those of the first schema; a metric that was added to `eval.metrics.METRICS` later is an extra.
    Without `groups` an older version wrote them: they take images as independent, those of precision, recall
    and F1 were not recorded, and `mcc_by_group` is a bootstrap.
    """

    __pydantic_extra__: dict[str, Range] = Field(init=False)
    mcc: Range
    mcc_by_group: Range | None = None
    accuracy: Range
    precision: Range | None = None
    recall: Range | None = None
    f1: Range | None = None
    fnr: Range
    fpr: Range
    groups: Groups | None = None
    bootstrap: Bootstrap | None = None

    def of(self, name: str) -> Range | None:
        """Return the interval over groups of a metric; None where it was not recorded."""
        if self.groups is None:
            return self.mcc_by_group if name == "mcc" else None
        interval: Range | None = getattr(self, name, None)
        return interval


class Figures(Record):
    """Metrics of the answered images, as they are shown; where none is answered they are recorded as 0."""

    metrics: Metrics

    @abstractmethod
    def interval(self, name: str) -> Range | None:
        """Return the interval over groups of a metric; None where none was recorded."""

    def metric(self, name: str) -> float | None:
        """Return a metric; None where no image was answered, or the version that wrote it did not know it."""
        return self.metrics.get(name) if self._has_answers else None

    def number(self, name: str) -> str:
        """Return a metric in words, to three decimals."""
        if (value := self.metric(name)) is not None:
            return f"{value:.3f}"
        return "not recorded" if self._has_answers else NO_ANSWERS

    def text(self, name: str) -> str:
        """Return a metric in words, with its interval over groups."""
        number = self.number(name)
        return number if self.metric(name) is None else with_interval(number, self.interval(name))

    def cells(self) -> dict[str, str]:
        """Return the brief metrics as cells of a table, by their labels."""
        return {metric.label: self.text(metric.name) for metric in BRIEF}

    @property
    def _has_answers(self) -> bool:
        return any(self.metrics[cell] for cell in COUNTS)


def require_metrics(intervals: Mapping[str, Any] | None, metrics: Mapping[str, float]) -> None:
    """Raise ValueError where an interval is of no metric that is recorded beside it."""
    if strange := sorted((intervals or {}).keys() - metrics.keys()):
        raise ValueError(f"intervals of {', '.join(strange)}, which no metric here is called")


class Ranking(Record):
    """Figures of how well margins order images, and confidence the right answers before the wrong ones."""

    auroc: _Share | None
    average_precision: _Share | None
    aurc: _Share
    e_aurc: FiniteFloat
    augrc: _Share
    auroc_interval: Range | None = None


class Calibration(Record):
    """Figures of how far probabilities are from frequencies; `nll` is in nats per image."""

    brier: _Share
    nll: FiniteFloat
    ece_equal_width: _Share
    ece_equal_mass: _Share
    mce_equal_width: _Share | None = None


class PerfectCalibration(Record):
    """The ECE, equal mass, of labels drawn by the very probabilities: its mean and 95 % point."""

    mean: _Share
    high: _Share


class Calibrations(Record):
    """The calibration of the bundle's probability, and of the one that the policy takes for a frequency."""

    shipped: Calibration
    calibrated: Calibration
    perfect: PerfectCalibration | None = None


def intervals_of(counts: Integers) -> Intervals:
    """Intervals over groups of decisions, of `counts` [G, 4]: tp, tn, fp and fn of each group."""
    counts = counts[counts.any(axis=1)]
    tp, tn, fp, fn = counts.T
    known = {metric.name: metric_interval(metric, counts) for metric in METRICS}
    groups = Groups(
        n=len(counts), roadwork=int(np.count_nonzero(tp + fn)), none=int(np.count_nonzero(tn + fp))
    )
    ranges = {name: range_of(interval) for name, interval in known.items() if interval}
    return Intervals.model_validate({**ranges, "groups": groups})


def ranking_of(
    labels: Bools, margins: Floats, *, confidence: Floats, groups: npt.NDArray[np.intp]
) -> Ranking:
    """Rank images with these labels [N] by margins [N], roadwork above 0, and answers by confidence [N].

    `groups` [N] are numbers.

    Raises:
        DataError: shapes that do not fit, nothing, or margins that are not finite.
    """
    curve = risk_coverage_curve(confidence, (margins > 0) != labels)
    both = bool(labels.any() and not labels.all())
    known = both and min(units_of_classes(labels, groups).values()) > 1
    return Ranking(
        auroc=auroc(margins, labels) if both else None,
        average_precision=average_precision(margins, labels) if both else None,
        aurc=curve.aurc,
        e_aurc=curve.e_aurc,
        augrc=curve.augrc,
        auroc_interval=range_of(auroc_interval(margins, labels, groups)) if known else None,
    )


def calibrations_of(
    labels: Bools, margins: Floats, *, calibrated: Floats, groups: npt.NDArray[np.intp]
) -> Calibrations:
    """Calibration of margins [N] from the operating point, and of calibrated probabilities [N].

    Raises:
        DataError: shapes that do not fit, nothing, or margins that are not finite.
    """
    drawn = perfect_calibration_errors(calibrated, groups, seed=SEED)
    return Calibrations(
        shipped=_calibration(
            labels, positive_probability(margins), nll=negative_log_likelihood(margins, labels)
        ),
        calibrated=_calibration(labels, calibrated, nll=float(log_losses(calibrated, labels).mean())),
        perfect=PerfectCalibration(mean=float(drawn.mean()), high=float(np.quantile(drawn, 0.95))),
    )


def with_interval(number: str, interval: Range | None) -> str:
    """Return a figure in words with its interval over groups."""
    return f"{number} ({'interval over groups not recorded' if interval is None else interval})"


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
        mce_equal_width=maximum_calibration_error(wide) if p.size >= FEWEST_FOR_MCE else None,
    )
