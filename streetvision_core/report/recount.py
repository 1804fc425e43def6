"""The test that a report follows from the logits and decisions beside it, by deciding and counting again.

A gate with a learned head decides by more than logits, and its extras are not kept. Its decisions are taken
as they are recorded and only counted; that the bundle gives them again is proved with the images.

A report of before intervals over groups is counted again with images taken as independent, as it was then,
and held against what both versions record. Its bootstrap of the MCC over groups is not repeated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.data.conditions.profile import AS_IT_IS
from streetvision_core.data.groups import groups_known
from streetvision_core.eval.decisions import ROUNDING, differences, same_numbers
from streetvision_core.eval.metrics import COUNTS
from streetvision_core.io import json_bytes
from streetvision_core.report.evaluation import attributes_of
from streetvision_core.report.figures import Range
from streetvision_core.report.report import (
    Decided,
    Levels,
    Tested,
    calib_minus_test_of,
    group_sizes,
    report_of,
)
from streetvision_core.report.slices import SMALLEST_SLICE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from streetvision_core.data.index import ImageIndex
    from streetvision_core.report.evaluation import Evaluation, TestedImage
    from streetvision_core.report.report import Counts, PolicyReport, Report
    from streetvision_core.report.slices import Slice


def recount_problems(evaluation: Evaluation, *, names: Sequence[str], index: ImageIndex) -> list[str]:
    """Decide and count again; return what differs from the report, one sentence each.

    Args:
        evaluation: Report and decisions.
        names: The images of val_test.
        index: Their labels, groups, digests and attributes.
    """
    problems = list(_strangers(evaluation.tested, names=names, index=index))
    problems += _strange_levels(evaluation)
    return problems or list(_miscounted(evaluation, index))


def report_problems(report: Report) -> Iterator[str]:
    """Check sizes, counts and intervals of a report against each other, without logits or images."""
    if report.counts.roadwork + report.counts.none != report.counts.n:
        yield f"the report has {report.counts.n} images, which are not those of its two labels"
    for kind, result in report.policies.items():
        where = f"the report of {kind}"
        yield from _size_problems(where, result, report.counts)
        yield from _interval_problems(where, result)
        for attribute in sorted({part.attribute for part in result.slices}):
            yield from _slice_problems(f"{where} by {attribute}", result, attribute, images=report.counts.n)
    sliced_by = {
        tuple((part.attribute, part.value, part.n) for part in sorted(result.slices, key=_place))
        for result in report.policies.values()
    }
    if len(sliced_by) > 1:
        yield "the policies of the report are not sliced alike"
    if sliced := sorted({part.attribute for part in report.lead.slices} & set(report.not_sliced)):
        yield f"the report is said not to be sliced by {', '.join(sliced)}, and is"
    difference = report.calib_minus_test.difference if report.calib_minus_test else report.optimism
    again = calib_minus_test_of(report.policies.get("threshold"))
    if again is not None and not same_numbers(difference, again.difference):
        yield f"calib_minus_test is {difference}, and the two MCC differ by {again.difference}"
    recorded = report.calib_minus_test.interval if report.calib_minus_test else None
    now = again.interval if again else None
    if recorded and now and not same_numbers(recorded.model_dump(), now.model_dump()):
        yield f"calib_minus_test has the interval {recorded}, and the two MCC give {now}"


def _place(part: Slice) -> tuple[str, str]:
    return part.attribute, part.value


def _size_problems(where: str, result: PolicyReport, counts: Counts) -> Iterator[str]:
    coverage, metrics = result.coverage, result.metrics
    sizes = {"roadwork": metrics["tp"] + metrics["fn"], "none": metrics["tn"] + metrics["fp"]}
    answered = sum(sizes.values())
    if coverage.answered != answered or not same_numbers(coverage.share, answered / max(counts.n, 1)):
        yield (
            f"{where} answers {coverage.answered}, a share of {coverage.share:g}, and counts {answered} of"
            f" {counts.n}"
        )
    if sizes["roadwork"] > counts.roadwork or sizes["none"] > counts.none:
        yield f"{where} counts more answers than there are images: {sizes}"
    if not result.policy.defers and answered != counts.n:
        yield f"{where} answers {answered} of {counts.n} images, and its policy defers none"
    groups = result.intervals.groups if result.intervals else None
    if coverage.groups is not None and coverage.groups > counts.n:
        yield f"{where} has {coverage.groups} groups of {counts.n} images"
    if groups and (
        groups.n > (coverage.groups or groups.n)
        or groups.roadwork > sizes["roadwork"]
        or groups.none > sizes["none"]
    ):
        yield f"{where} has intervals over more groups than there are images or groups: {groups}"


def _interval_problems(where: str, result: PolicyReport) -> Iterator[str]:
    """Yield intervals that do not hold their own figure; only those of a bootstrap may lie beside it."""
    shown: list[tuple[str, float | None, Range | None]] = [
        ("the coverage", result.coverage.share, result.coverage.interval),
        ("the AUROC", result.ranking.auroc, result.ranking.auroc_interval),
    ]
    holders: list[tuple[str, Any, Any]] = [("", result.metrics, result.intervals or ())]
    holders += [(f" where {part.attribute} is {part.value}", part.metrics, part) for part in result.slices]
    for which, metrics, holder in holders:
        shown += [(f"{name}{which}", metrics.get(name), of) for name, of in holder if isinstance(of, Range)]
    for name, value, interval in shown:
        if value is None or interval is None or interval.method == "bootstrap-bca":
            continue
        if not interval.low - ROUNDING <= value <= interval.high + ROUNDING:
            yield f"{where} has {name} {value:g} outside its interval [{interval.low:g}, {interval.high:g}]"


def _slice_problems(where: str, result: PolicyReport, attribute: str, *, images: int) -> Iterator[str]:
    """Require that the slices by an attribute are all images, and their counts those of the policy."""
    parts = [part for part in result.slices if part.attribute == attribute]
    for part in parts:
        answered = sum(part.metrics[name] for name in COUNTS)
        if part.answered != answered or answered > part.n or part.too_small != (answered < SMALLEST_SLICE):
            yield (
                f"{where}: {part.value} has {part.n} images and {part.answered} answers, and counts"
                f" {answered}"
            )
    if len({part.value for part in parts}) != len(parts) or sum(part.n for part in parts) != images:
        yield f"{where} is not of each of the {images} images once"
    for name in COUNTS:
        if (total := sum(part.metrics[name] for part in parts)) != result.metrics[name]:
            yield f"{where} counts {name} {total} together, and {result.metrics[name]} in all"


def _strangers(tested: Sequence[TestedImage], *, names: Sequence[str], index: ImageIndex) -> Iterator[str]:
    if sorted(image.name for image in tested) != sorted(names):
        yield "the images are not exactly those of val_test"
    known = {image.name: (image.sha256, image.group, image.label) for image in index.pictures}
    for image in tested:
        if known.get(image.name) != (image.sha256, image.group, image.label):
            yield f"{image.name} is not the image, group and label of the index"


def _strange_levels(evaluation: Evaluation) -> Iterator[str]:
    """Yield a sentence for each level that lacks figures or decisions, or is not of the same images."""
    recorded = evaluation.report.conditions
    reported = (
        {level.value for levels in recorded.policies.values() for level in levels} if recorded else set()
    )
    plain = set() if recorded is None or recorded.tuned else {AS_IT_IS}
    for name in sorted(reported - plain ^ evaluation.levels.keys()):
        yield f"of the level {name} there are decisions or figures, and not both"
    images = [(image.name, image.sha256, image.group, image.label) for image in evaluation.tested]
    for name, rows in evaluation.levels.items():
        if [(image.name, image.sha256, image.group, image.label) for image in rows] != images:
            yield f"the images of the level {name} are not those of val_test"


def _miscounted(evaluation: Evaluation, index: ImageIndex) -> Iterator[str]:
    images = {image.name: image for image in index.pictures}
    chosen = [images[image.name] for image in evaluation.tested]
    tested = Tested(
        logits=_logits(evaluation.tested),
        labels=np.array([image.label == 1 for image in evaluation.tested]),
        groups=[image.group for image in evaluation.tested],
        attributes=attributes_of(chosen),
        groups_known=None if evaluation.report.groups_known is None else groups_known(chosen),
    )
    recorded = evaluation.report.policies
    decided = {kind: _decide(evaluation.tested, tested, result) for kind, result in recorded.items()}
    older = any(result.coverage.groups is None for result in recorded.values())
    levels = _levels(evaluation, tested, decided)
    again = report_of(_ungrouped(tested) if older else tested, decided, levels=levels)
    yield from _otherwise(evaluation.tested, decided)
    for name, (_, outcomes) in (levels.at if levels else {}).items():
        rows = evaluation.levels.get(name, evaluation.tested)
        yield from (f"at the level {name}, {fault}" for fault in _otherwise(rows, outcomes))
    for kind, result in recorded.items():
        counted = again.policies[kind]
        if result.policy.extras:  # the ranking is by a confidence that nobody can compute without images
            counted = counted.model_copy(update={"ranking": result.ranking})
        if older:
            fields = _shared(result.model_dump(mode="json"), counted.model_dump(mode="json"))
            counted = type(result).model_validate_json(json_bytes(fields))
        yield from (f"of {kind}, {fault}" for fault in differences(result, counted))
    difference = again.calib_minus_test.difference if again.calib_minus_test and older else None
    again = again.model_copy(update={"optimism": difference} | ({"calib_minus_test": None} if older else {}))
    for name in ("counts", "not_sliced", "optimism", "calib_minus_test", "groups_known", "conditions"):
        was, now = (report.model_dump(mode="json")[name] for report in (evaluation.report, again))
        if not same_numbers(was, now):
            yield f"{name} is recorded as {was}, but is {now} when counted again"


def _otherwise(rows: Sequence[TestedImage], decided: Mapping[str, Decided]) -> Iterator[str]:
    """Yield a sentence for each policy whose recorded decisions differ from these."""
    for kind, outcome in decided.items():
        pairs = zip(rows, outcome.decisions, strict=True)
        wrong = [row.name for row, decision in pairs if row.decisions[kind] != decision]
        if wrong:
            yield f"{kind} is said to have decided {len(wrong)} images otherwise, {wrong[0]} for instance"


def _levels(evaluation: Evaluation, tested: Tested, decided: Mapping[str, Decided]) -> Levels | None:
    """Decide at each level again; None where levels were not measured."""
    recorded = evaluation.report.conditions
    if recorded is None:
        return None
    at = {} if recorded.tuned else {AS_IT_IS: (tested, decided)}
    names = [level.value for level in next(iter(recorded.policies.values()))]
    for name in names[len(at) :]:
        rows = evaluation.levels[name]
        seen = replace(tested, logits=_logits(rows))
        policies = evaluation.report.policies
        at[name] = (seen, {kind: _decide(rows, seen, result) for kind, result in policies.items()})
    return Levels(recorded.profile, recorded.tuned, at)


def _logits(rows: Sequence[TestedImage]) -> npt.NDArray[np.float64]:
    return np.array([[row.logit_none, row.logit_roadwork] for row in rows])


def _ungrouped(tested: Tested) -> Tested:
    """Return the same images as groups of their own, sliced by the sizes of the groups that they had."""
    attributes = {"group size": group_sizes(tested.groups), **tested.attributes}
    alone = [str(number) for number in range(len(tested.groups))]
    return replace(tested, groups=alone, attributes=attributes)


def _shared(was: Any, now: Any) -> Any:
    """Return what was counted now, but as recorded wherever one of the two has nothing."""
    if isinstance(was, dict) and isinstance(now, dict):
        if was.get("method") != now.get("method"):  # of one image, where images are taken as independent
            return was
        return {name: _shared(was[name], now[name]) if name in was else now[name] for name in now}
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        return [_shared(*pair) for pair in zip(was, now, strict=True)]
    return was if was is None or now is None else now


def _decide(rows: Sequence[TestedImage], tested: Tested, report: PolicyReport) -> Decided:
    policy = report.policy
    folded = policy.point.fold(tested.logits)
    if policy.extras:
        return Decided(policy, [row.decisions[policy.type] for row in rows], np.abs(np.diff(folded)[:, 0]))
    return Decided(policy, policy.decide(folded), policy.confidence(folded))
