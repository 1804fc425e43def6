"""The final report as numbers: every policy side by side on val_test.

What a policy answers is counted, what it defers is not: metrics are of the answered images, and stand
beside the coverage, the share that is answered. Ranking and calibration are of all images.

Slices are the values of every attribute of the index, and the size of the group that an image belongs to.
A slice of fewer than 30 answered images is marked as too small to read; the worst readable one comes
first. An attribute with more than 20 values is no way to slice and is only named.

`calib_minus_test` is the MCC of the threshold policy on val_calib, whose images chose the threshold, minus
its MCC here, with an interval. It holds what choosing cost, and chance. It is not the optimism of the policy,
which is estimated on val_calib alone (`eval/optimism.py`).

A report is a function of logits, labels, groups and attributes: `report_of` needs no image.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat, field_validator, model_validator

from streetvision_core.data.conditions.profile import AS_IT_IS
from streetvision_core.data.groups import count_groups
from streetvision_core.errors import BundleError
from streetvision_core.eval.decisions import answers
from streetvision_core.eval.intervals import LEVEL, Interval, difference_interval, rate_interval
from streetvision_core.eval.metrics import COUNTS, Confusion
from streetvision_core.graph import POLICIES
from streetvision_core.io.records import Record
from streetvision_core.policies.registry import AnyPolicy
from streetvision_core.policies.threshold import ThresholdPolicy, one_class_only
from streetvision_core.recorded import reworded
from streetvision_core.report.figures import (
    Calibrations,
    Figures,
    Intervals,
    Range,
    Ranking,
    calibrations_of,
    intervals_of,
    range_of,
    ranking_of,
    require_metrics,
)
from streetvision_core.report.slices import LevelsReport, Slice, group_counts, slice_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from streetvision_core.eval.decisions import Decision, Policy
    from streetvision_core.eval.inputs import Bools, Floats
    from streetvision_core.report.slices import Units

MOST_SLICES = 20
SCHEMA_VERSION: Literal[3] = 3
_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class Counts(Record):
    """The number of tested images, in all and of each label."""

    n: int
    roadwork: int
    none: int


class Coverage(Record):
    """The number of answered images, their share, and the 95 % interval of that share over `groups`.

    Without `groups` an older version wrote it, and took images as independent.
    """

    answered: int
    share: _Share
    interval: Range
    groups: int | None = None

    @property
    def over_groups(self) -> Range | None:
        """The interval over groups; None where none was recorded."""
        return self.interval if self.groups else None


class MccDifference(Record):
    """MCC on val_calib minus MCC on val_test, and its interval; None where val_calib's was not recorded."""

    difference: FiniteFloat
    interval: Range | None


class PolicyReport(Figures):
    """The report on one policy; where it answers nothing, `intervals` are None."""

    policy: AnyPolicy
    promise: str
    coverage: Coverage
    intervals: Intervals | None
    ranking: Ranking
    calibration: Calibrations
    slices: tuple[Slice, ...]

    @model_validator(mode="after")
    def _promises_what_its_policy_does(self) -> Self:
        if reworded(self.promise) != reworded(self.policy.promise()):
            raise ValueError(f"it promises {self.promise!r}, and its policy {self.policy.promise()!r}")
        return self

    @model_validator(mode="after")
    def _extra_intervals_are_of_metrics(self) -> Self:
        require_metrics(self.intervals.model_extra if self.intervals else None, self.metrics)
        return self

    def interval(self, name: str) -> Range | None:
        """Return the interval over groups of a metric; None where none was recorded."""
        return self.intervals.of(name) if self.intervals else None

    def figures(self) -> dict[str, int | float]:
        """Return the metrics and the ends of the MCC's interval to be shown; of no answers the counts."""
        mcc = self.interval("mcc")
        shown = self.metrics if self.coverage.answered else {name: self.metrics[name] for name in COUNTS}
        return {**shown, **({"mcc_low": mcc.low, "mcc_high": mcc.high} if mcc else {})}

    def degeneracies(self) -> list[str]:
        """Say why the policy decides nothing on val_test: one sentence a reason, none for a useful one."""
        if not self.coverage.answered:
            return ["it answers no image of val_test"]
        return one_class_only(self.metrics, role="val_test")


class Report(Record):
    """`evaluation.json`; `policies` are by type, `calib_minus_test` is of the threshold policy, if any.

    `optimism` is the same difference as an older version recorded it, without an interval. `groups_known`
    says whether the data names groups, None where an older version did not record it. `conditions` is what
    the policies do at each level of the conditions of use, None where that was not measured.
    """

    schema_version: Literal[3] = SCHEMA_VERSION
    counts: Counts
    policies: dict[str, PolicyReport]
    not_sliced: tuple[str, ...] = ()
    optimism: FiniteFloat | None = None
    calib_minus_test: MccDifference | None = None
    groups_known: bool | None = None
    conditions: LevelsReport | None = None

    @field_validator("schema_version", mode="before")
    @classmethod
    def _check_version(cls, value: object) -> object:
        # It is the first field, so this stands before what another version has or lacks.
        if value != SCHEMA_VERSION:
            raise ValueError(
                f"it is {value}, where this version reads {SCHEMA_VERSION};"
                " materialize evaluation and bundle again, or use the version that wrote it"
            )
        return value

    @field_validator("policies")
    @classmethod
    def _check_policies(cls, value: dict[str, PolicyReport]) -> dict[str, PolicyReport]:
        wrong = {name: result.policy.type for name, result in value.items() if result.policy.type != name}
        if wrong or not value:
            raise ValueError(f"at least one policy, each under its type, not {wrong or 'none'}")
        # JSON sorts names; a reader wants the same order everywhere.
        return {kind: value[kind] for kind in POLICIES if kind in value}

    @model_validator(mode="after")
    def _the_difference_is_of_the_threshold(self) -> Self:
        recorded = [figure for figure in (self.optimism, self.calib_minus_test) if figure is not None]
        if len(recorded) != ("threshold" in self.policies):
            raise ValueError(f"optimism or calib_minus_test {recorded} beside {', '.join(self.policies)}")
        return self

    @model_validator(mode="after")
    def _levels_are_of_the_same_policies(self) -> Self:
        levels = self.conditions
        if levels is None:
            return self
        if levels.policies.keys() != self.policies.keys():
            raise ValueError(f"levels of {', '.join(levels.policies)} beside {', '.join(self.policies)}")
        for kind, result in self.policies.items():
            if not levels.tuned and levels.policies[kind][0].metrics != result.metrics:
                raise ValueError(f"the level {AS_IT_IS} of {kind} is not what its report counts")
        return self

    def groups_of(self, result: PolicyReport) -> str:
        """Return in words how many groups the answers of a policy are of.

        In an older report groups count as known where there are not as many of them as answers.
        """
        answered, intervals = result.coverage.answered, result.intervals
        groups = 0
        if intervals is not None and intervals.groups is not None:
            groups = intervals.groups.n
        elif intervals is not None and intervals.bootstrap is not None:
            groups = intervals.bootstrap.groups
        known = groups != answered if self.groups_known is None else self.groups_known
        return count_groups(groups, answered, known=known)

    def reading_of(self, result: PolicyReport) -> str:
        """Say what the intervals of a policy are over, and what to think of them."""
        groups = result.intervals.groups if result.intervals else None
        if groups is None:
            return (
                "Intervals over groups were not recorded by the version that evaluated this: those shown take"
                " images as independent and are too short where images of a group resemble each other."
            )
        if self.groups_known is False:
            over = (
                f"Intervals are over {result.coverage.answered} images, taken as independent: the data names"
                " no groups. Frames of one video or place would make them too short."
            )
        elif groups.n == result.coverage.answered:
            over = (
                f"Intervals are over {groups.n} groups of one image each, so over images they are the same."
            )
        else:
            over = f"Intervals are over {self.groups_of(result)}: images of a group are not independent."
        return f"{over} {groups.few}".strip()

    def deferral_of(self, result: PolicyReport) -> str:
        """Say how many images of each label a policy answers and defers; one without images is left out."""
        parts = (("with", ("tp", "fn"), self.counts.roadwork), ("without", ("tn", "fp"), self.counts.none))
        answered = [(which, sum(result.metrics[cell] for cell in cells), n) for which, cells, n in parts if n]
        return " ".join(
            f"Of {n} images {which} roadwork it answers {count} ({count / n:.1%}) and defers {n - count}."
            for which, count, n in answered
        )

    def figures(self) -> dict[str, int | float]:
        """Return what its step shows: the lead's figures, and of policies that defer what they answer."""
        shown = dict(self.lead.figures())
        if self.calib_minus_test is not None:
            shown["mcc_calib_minus_test"] = self.calib_minus_test.difference
        for kind, result in self.policies.items():
            if result.policy.defers:
                shown[f"{kind}_coverage"] = result.coverage.share
                shown |= {f"{kind}_accuracy": result.metrics["accuracy"]} if result.coverage.answered else {}
        return shown

    @property
    def lead(self) -> PolicyReport:
        """The policy whose figures are the headline: the threshold policy where there is one."""
        return next(iter(self.policies.values()))

    def of(self, kind: str) -> PolicyReport:
        """Return the report of one policy.

        Raises:
            BundleError: it was not evaluated.
        """
        if kind not in self.policies:
            raise BundleError(
                f"an evaluation of the policy {kind}",
                f"one of {', '.join(self.policies)}",
                "evaluation.json",
                "Materialize evaluation again, with this policy.",
            )
        return self.policies[kind]


@dataclass(frozen=True, eq=False)
class Tested:
    """The N tested images: the checkpoint's logits [N, 2], labels [N], groups, and attributes.

    `groups_known` says whether the data names groups at all, None where that is not recorded.
    """

    logits: Floats
    labels: Bools
    groups: Sequence[str]
    attributes: Mapping[str, Sequence[str]]
    groups_known: bool | None = None


@dataclass(frozen=True, eq=False)
class Decided:
    """The decisions [N] of a policy on N images, and the confidence of each, float64 [N]."""

    policy: Policy
    decisions: Sequence[Decision]
    confidence: Floats

    def every(self, start: int, step: int) -> Decided:
        """Return the decisions on every step-th image from `start` on."""
        return Decided(self.policy, self.decisions[start::step], self.confidence[start::step])

    @property
    def answered(self) -> Bools:
        """The images that were not deferred, bool [N]."""
        return np.array([decision != "defer" for decision in self.decisions])

    def answers(self, tested: Tested) -> Bools:
        """Return the answers, bool [N] with true for roadwork, of deferred images as well."""
        return answers(self.policy.point.fold(tested.logits))


@dataclass(frozen=True, eq=False)
class Levels:
    """The same images at every level of a profile by its name, `as_is` first: images and decisions."""

    profile: str
    tuned: bool
    at: Mapping[str, tuple[Tested, Mapping[str, Decided]]]


def report_of(tested: Tested, decided: Mapping[str, Decided], *, levels: Levels | None = None) -> Report:
    """Count everything.

    Args:
        tested: The images of val_test.
        decided: What each policy made of them, by its type.
        levels: The same images at the levels of the conditions, where that was measured.

    Raises:
        DataError: shapes that do not fit, nothing, or logits that are not finite.
    """
    roadwork = int(tested.labels.sum())
    # An attribute of that name in the index is somebody's own, and stays.
    attributes = {"group size": group_sizes(tested.groups), **tested.attributes}
    sliced = {name: values for name, values in attributes.items() if len(set(values)) <= MOST_SLICES}
    # Names are numbered once: there are as many as images, and every figure asks for them.
    unit = np.unique(np.asarray(tested.groups), return_inverse=True)[1]
    policies = {name: _policy_report(tested, outcome, unit, sliced) for name, outcome in decided.items()}
    return Report(
        counts=Counts(n=tested.labels.size, roadwork=roadwork, none=tested.labels.size - roadwork),
        policies=policies,
        not_sliced=tuple(sorted(attributes.keys() - sliced.keys())),
        calib_minus_test=calib_minus_test_of(policies.get("threshold")),
        groups_known=tested.groups_known,
        conditions=_levels_report(levels, unit) if levels else None,
    )


def _levels_report(levels: Levels, unit: Units) -> LevelsReport:
    kinds = next(iter(levels.at.values()))[1]
    return LevelsReport(
        profile=levels.profile,
        tuned=levels.tuned,
        policies={
            kind: tuple(
                _level_slice(name, tested, decided[kind], unit)
                for name, (tested, decided) in levels.at.items()
            )
            for kind in kinds
        },
    )


def _level_slice(name: str, tested: Tested, decided: Decided, unit: Units) -> Slice:
    counts = group_counts(tested.labels, decided.answers(tested), decided.answered, unit)
    return slice_of(counts, attribute="conditions", value=name, n=tested.labels.size)


def calib_minus_test_of(threshold: PolicyReport | None) -> MccDifference | None:
    """Return how much better the threshold policy is on val_calib, which chose it; None without one."""
    if threshold is None:
        return None
    policy, interval = threshold.policy, threshold.interval("mcc")
    assert isinstance(policy, ThresholdPolicy)
    calib, test = policy.val_calib.metrics, float(threshold.metrics["mcc"])
    difference = float(calib["mcc"]) - test
    if interval is None or "mcc_low" not in calib:
        return MccDifference(difference=difference, interval=None)
    on_calib = Interval(calib["mcc_low"], calib["mcc_high"], LEVEL, interval.method)
    on_test = Interval(interval.low, interval.high, LEVEL, interval.method)
    between = difference_interval((test, on_test), (float(calib["mcc"]), on_calib))
    return MccDifference(difference=difference, interval=range_of(between))


def _policy_report(
    tested: Tested, decided: Decided, unit: Units, sliced: Mapping[str, Sequence[str]]
) -> PolicyReport:
    policy, answered, roadwork = decided.policy, decided.answered, decided.answers(tested)
    margins = np.diff(policy.point.fold(tested.logits), axis=1)[:, 0]
    counts = group_counts(tested.labels, roadwork, answered, unit)
    sizes = np.bincount(unit)
    return PolicyReport(
        policy=policy,
        promise=policy.promise(),
        coverage=Coverage(
            answered=int(answered.sum()),
            share=int(answered.sum()) / answered.size,
            interval=range_of(rate_interval(counts.sum(axis=1), sizes)),
            groups=sizes.size,
        ),
        metrics=Confusion(*counts.sum(axis=0).tolist()).metrics(),
        intervals=intervals_of(counts) if counts.any() else None,
        ranking=ranking_of(tested.labels, margins, confidence=decided.confidence, groups=unit),
        calibration=calibrations_of(
            tested.labels, margins, calibrated=policy.probabilities(margins), groups=unit
        ),
        slices=tuple(sorted(_slices(tested, roadwork, answered, unit, sliced), key=_worst_first)),
    )


def _slices(
    tested: Tested, roadwork: Bools, answered: Bools, unit: Units, sliced: Mapping[str, Sequence[str]]
) -> Iterator[Slice]:
    for attribute, values in sliced.items():
        column = np.asarray(values, dtype=str)
        for value in np.unique(column).tolist():
            members = column == value
            counts = group_counts(tested.labels, roadwork, members & answered, unit)
            yield slice_of(counts, attribute=attribute, value=value, n=int(members.sum()))


def _worst_first(part: Slice) -> tuple[bool, bool, float, int, str, str]:
    nothing = part.answered == 0
    return (part.too_small, nothing, part.metrics["accuracy"], -part.n, part.attribute, part.value)


def group_sizes(groups: Sequence[str]) -> list[str]:
    """Return how many images of val_test are of each image's group, in classes that sort by size."""
    sizes = Counter(groups)
    bounds: npt.NDArray[np.int64] = np.array([1, 5, 20])
    names = ("1 image", "2 to 5 images", "6 to 20 images", "more than 20 images")
    return [names[int(np.searchsorted(bounds, sizes[group]))] for group in groups]
