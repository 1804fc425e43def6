"""The final report as numbers: every policy side by side on val_test.

What a policy answers is counted, what it defers is not: metrics are of the answered images, and stand
beside the coverage, the share that is answered. Ranking and calibration are of all images.

Slices are the values of every attribute of the index, and the size of the group that an image belongs to.
A slice of fewer than 30 answered images is marked as too small to read; the worst readable one comes
first. An attribute with more than 20 values is no way to slice and is only named. Optimism is the MCC on
val_calib, whose images chose the threshold, minus the MCC of that policy here.

A report is a function of logits, labels, groups and attributes: `report_of` needs no image.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat, field_validator, model_validator

from streetvision_core.data.groups import count_groups
from streetvision_core.errors import BundleError
from streetvision_core.eval.decisions import Metrics, answers
from streetvision_core.eval.intervals import clopper_pearson_interval
from streetvision_core.eval.metrics import Confusion, count_confusion
from streetvision_core.graph import POLICIES
from streetvision_core.io.records import Record
from streetvision_core.policies.registry import AnyPolicy
from streetvision_core.policies.threshold import ThresholdPolicy, one_class_only
from streetvision_core.recorded import reworded
from streetvision_core.report.figures import (
    Calibrations,
    Intervals,
    Range,
    Ranking,
    calibrations_of,
    intervals_of,
    range_of,
    ranking_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from streetvision_core.eval.decisions import Decision, Policy
    from streetvision_core.eval.inputs import Bools, Floats

SMALLEST_SLICE, MOST_SLICES = 30, 20
SCHEMA_VERSION: Literal[3] = 3
_Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class Counts(Record):
    """The number of tested images, in all and of each label."""

    n: int
    roadwork: int
    none: int


class Coverage(Record):
    """The number of answered images, their share, and the 95 % interval of that share."""

    answered: int
    share: _Share
    interval: Range


class Slice(Record):
    """The images with one value of one attribute; metrics are of the answered among its n images.

    `accuracy` is its interval, None where none of them is answered.
    """

    attribute: str
    value: str
    n: int
    answered: int
    too_small: bool
    metrics: Metrics
    accuracy: Range | None


class PolicyReport(Record):
    """The report on one policy; where it answers nothing, `metrics` are all 0 and `intervals` None."""

    policy: AnyPolicy
    promise: str
    coverage: Coverage
    metrics: Metrics
    intervals: Intervals | None
    ranking: Ranking
    calibration: Calibrations
    slices: tuple[Slice, ...]

    @model_validator(mode="after")
    def _promises_what_its_policy_does(self) -> Self:
        if reworded(self.promise) != reworded(self.policy.promise()):
            raise ValueError(f"it promises {self.promise!r}, and its policy {self.policy.promise()!r}")
        return self

    def degeneracies(self) -> list[str]:
        """Say why the policy decides nothing on val_test: one sentence a reason, none for a useful one."""
        if not self.coverage.answered:
            return ["it answers no image of val_test"]
        return one_class_only(self.metrics, role="val_test")


class Report(Record):
    """``evaluation.json``; ``policies`` are by type, ``optimism`` is that of the threshold policy, if any.

    ``groups_known`` says whether the data names groups, None where an older version did not record it.
    """

    schema_version: Literal[3] = SCHEMA_VERSION
    counts: Counts
    policies: dict[str, PolicyReport]
    not_sliced: tuple[str, ...] = ()
    optimism: FiniteFloat | None
    groups_known: bool | None = None

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
        wrong = {name: one.policy.type for name, one in value.items() if one.policy.type != name}
        if wrong or not value:
            raise ValueError(f"at least one policy, each under its type, not {wrong or 'none'}")
        # JSON sorts names; a reader wants the same order everywhere.
        return {kind: value[kind] for kind in POLICIES if kind in value}

    @model_validator(mode="after")
    def _optimism_is_of_the_threshold(self) -> Self:
        if (self.optimism is None) == ("threshold" in self.policies):
            raise ValueError(f"optimism {self.optimism} beside the policies {', '.join(self.policies)}")
        return self

    def groups_of(self, one: PolicyReport) -> str:
        """Return in words how many groups the answers of a policy are of; an older report tells by number."""
        answered = one.coverage.answered
        groups = one.intervals.bootstrap.groups if one.intervals else 0
        known = groups != answered if self.groups_known is None else self.groups_known
        return count_groups(groups, answered, known=known)

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

    @property
    def answered(self) -> Bools:
        """The images that were not deferred, bool [N]."""
        return np.array([one != "defer" for one in self.decisions])

    def answers(self, tested: Tested) -> Bools:
        """Return the answers, bool [N] with true for roadwork, of deferred images as well."""
        return answers(self.policy.point.fold(tested.logits))


def report_of(tested: Tested, decided: Mapping[str, Decided]) -> Report:
    """Count everything.

    Args:
        tested: The images of val_test.
        decided: What each policy made of them, by its type.

    Raises:
        DataError: shapes that do not fit, nothing, or logits that are not finite.
    """
    roadwork = int(tested.labels.sum())
    # An attribute of that name in the index is somebody's own, and stays.
    attributes = {"group size": _group_sizes(tested.groups), **tested.attributes}
    sliced = {name: values for name, values in attributes.items() if len(set(values)) <= MOST_SLICES}
    policies = {name: _policy_report(tested, one, sliced) for name, one in decided.items()}
    return Report(
        counts=Counts(n=tested.labels.size, roadwork=roadwork, none=tested.labels.size - roadwork),
        policies=policies,
        not_sliced=tuple(sorted(attributes.keys() - sliced.keys())),
        optimism=_optimism(policies.get("threshold")),
        groups_known=tested.groups_known,
    )


def _optimism(threshold: PolicyReport | None) -> float | None:
    if threshold is None:
        return None
    policy = threshold.policy
    assert isinstance(policy, ThresholdPolicy)
    return float(policy.val_calib.metrics["mcc"] - threshold.metrics["mcc"])


def _policy_report(tested: Tested, decided: Decided, sliced: Mapping[str, Sequence[str]]) -> PolicyReport:
    policy, answered, said = decided.policy, decided.answered, decided.answers(tested)
    margins = np.diff(policy.point.fold(tested.logits), axis=1)[:, 0]
    groups = np.asarray(tested.groups)
    count = int(answered.sum())
    return PolicyReport(
        policy=policy,
        promise=policy.promise(),
        coverage=Coverage(
            answered=count,
            share=count / answered.size,
            interval=range_of(clopper_pearson_interval(count, answered.size)),
        ),
        metrics=_metrics(tested.labels, said, answered),
        intervals=(
            intervals_of(tested.labels[answered], said[answered], groups[answered]) if count else None
        ),
        ranking=ranking_of(tested.labels, margins, confidence=decided.confidence),
        calibration=calibrations_of(tested.labels, margins, calibrated=policy.probabilities(margins)),
        slices=tuple(sorted(_slices(tested, said, answered, sliced), key=_worst_first)),
    )


def _slices(
    tested: Tested, said: Bools, answered: Bools, sliced: Mapping[str, Sequence[str]]
) -> Iterator[Slice]:
    for attribute, values in sliced.items():
        column = np.asarray(values, dtype=str)
        for value in np.unique(column).tolist():
            members = column == value
            taken = members & answered
            size, count = int(members.sum()), int(taken.sum())
            right = int((said == tested.labels)[taken].sum())
            yield Slice(
                attribute=attribute,
                value=value,
                n=size,
                answered=count,
                too_small=count < SMALLEST_SLICE,
                metrics=_metrics(tested.labels, said, taken),
                accuracy=range_of(clopper_pearson_interval(right, count)) if count else None,
            )


def _worst_first(part: Slice) -> tuple[bool, bool, float, int, str, str]:
    nothing = part.answered == 0
    return (part.too_small, nothing, part.metrics["accuracy"], -part.n, part.attribute, part.value)


def _metrics(labels: Bools, said: Bools, taken: Bools) -> dict[str, int | float]:
    if not taken.any():
        return dict(Confusion(0, 0, 0, 0).metrics())
    return dict(count_confusion(labels[taken], said[taken]).metrics())


def _group_sizes(groups: Sequence[str]) -> list[str]:
    """Return how many images of val_test are of each image's group, in classes that sort by size."""
    sizes = Counter(groups)
    bounds: npt.NDArray[np.int64] = np.array([1, 5, 20])
    names = ("1 image", "2 to 5 images", "6 to 20 images", "more than 20 images")
    return [names[int(np.searchsorted(bounds, sizes[group]))] for group in groups]
