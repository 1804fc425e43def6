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
from streetvision_core.eval.decisions import differences, same_numbers
from streetvision_core.io import json_bytes
from streetvision_core.report.evaluation import attributes_of
from streetvision_core.report.report import Decided, Levels, Tested, group_sizes, report_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from streetvision_core.data.index import ImageIndex
    from streetvision_core.report.evaluation import Evaluation, TestedImage
    from streetvision_core.report.report import PolicyReport


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


def _strangers(tested: Sequence[TestedImage], *, names: Sequence[str], index: ImageIndex) -> Iterator[str]:
    if sorted(one.name for one in tested) != sorted(names):
        yield "the images are not exactly those of val_test"
    known = {image.name: (image.sha256, image.group, image.label) for image in index.pictures}
    for one in tested:
        if known.get(one.name) != (one.sha256, one.group, one.label):
            yield f"{one.name} is not the image, group and label of the index"


def _strange_levels(evaluation: Evaluation) -> Iterator[str]:
    """Give a sentence for each level that is not told of, or is not of the same images in their order."""
    recorded = evaluation.report.conditions
    told = {level.value for one in recorded.policies.values() for level in one} if recorded else set()
    plain = set() if recorded is None or recorded.tuned else {AS_IT_IS}
    for name in sorted(told - plain ^ evaluation.levels.keys()):
        yield f"of the level {name} there are decisions or figures, and not both"
    images = [(one.name, one.sha256, one.group, one.label) for one in evaluation.tested]
    for name, rows in evaluation.levels.items():
        if [(one.name, one.sha256, one.group, one.label) for one in rows] != images:
            yield f"the images of the level {name} are not those of val_test"


def _miscounted(evaluation: Evaluation, index: ImageIndex) -> Iterator[str]:
    pictures = {image.name: image for image in index.pictures}
    chosen = [pictures[one.name] for one in evaluation.tested]
    tested = Tested(
        logits=_logits(evaluation.tested),
        labels=np.array([one.label == 1 for one in evaluation.tested]),
        groups=[one.group for one in evaluation.tested],
        attributes=attributes_of(chosen),
        groups_known=None if evaluation.report.groups_known is None else groups_known(chosen),
    )
    recorded = evaluation.report.policies
    decided = {kind: _decide(evaluation.tested, tested, one) for kind, one in recorded.items()}
    older = any(one.coverage.groups is None for one in recorded.values())
    levels = _levels(evaluation, tested, decided)
    again = report_of(_ungrouped(tested) if older else tested, decided, levels=levels)
    yield from _otherwise(evaluation.tested, decided)
    for name, (_, said) in (levels.at if levels else {}).items():
        rows = evaluation.levels.get(name, evaluation.tested)
        yield from (f"at the level {name}, {fault}" for fault in _otherwise(rows, said))
    for kind, one in recorded.items():
        counted = again.policies[kind]
        if one.policy.extras:  # the ranking is by a confidence that nobody can compute without images
            counted = counted.model_copy(update={"ranking": one.ranking})
        if older:
            fields = _shared(one.model_dump(mode="json"), counted.model_dump(mode="json"))
            counted = type(one).model_validate_json(json_bytes(fields))
        yield from (f"of {kind}, {fault}" for fault in differences(one, counted))
    difference = again.calib_minus_test.difference if again.calib_minus_test and older else None
    again = again.model_copy(update={"optimism": difference} | ({"calib_minus_test": None} if older else {}))
    for name in ("counts", "not_sliced", "optimism", "calib_minus_test", "groups_known", "conditions"):
        was, now = (report.model_dump(mode="json")[name] for report in (evaluation.report, again))
        if not same_numbers(was, now):
            yield f"{name} is recorded as {was}, but is {now} when counted again"


def _otherwise(rows: Sequence[TestedImage], decided: Mapping[str, Decided]) -> Iterator[str]:
    """Give a sentence for each policy that is recorded to have decided an image otherwise."""
    for kind, one in decided.items():
        pairs = zip(rows, one.decisions, strict=True)
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
        at[name] = (seen, {kind: _decide(rows, seen, one) for kind, one in policies.items()})
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
