"""Whether a report follows from the decisions beside it: counted again from `predictions.csv`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.eval.decisions import answers, same_numbers
from streetvision_core.eval.metrics import Confusion, count_confusion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streetvision_core.bundle.evaluation import Evaluation, TestedPicture
    from streetvision_core.bundle.report import PolicyReport
    from streetvision_core.data.index import ImageIndex


def recount_problems(evaluation: Evaluation, *, names: Sequence[str], index: ImageIndex) -> list[str]:
    """Count again what every policy decided; return what differs from the report, one sentence each.

    Args:
        evaluation: Report and decisions.
        names: The pictures of val_test.
        index: Their labels, groups and digests.
    """
    problems = list(_strangers(evaluation.tested, names=names, index=index))
    for one in evaluation.report.policies.values():
        problems += _miscounted(evaluation.tested, one)
    return problems


def _strangers(tested: Sequence[TestedPicture], *, names: Sequence[str], index: ImageIndex) -> Iterator[str]:
    if sorted(one.name for one in tested) != sorted(names):
        yield "the pictures are not exactly those of val_test"
    known = {picture.name: (picture.sha256, picture.group, picture.label) for picture in index.pictures}
    for one in tested:
        if known.get(one.name) != (one.sha256, one.group, one.label):
            yield f"{one.name} is not the picture, group and label of the index"


def _miscounted(tested: Sequence[TestedPicture], report: PolicyReport) -> Iterator[str]:
    kind, point = report.policy.type, report.policy.point
    said = answers([one.folded(point) for one in tested]).tolist()
    counted = [
        (one.label, answer)
        for one, answer in zip(tested, said, strict=True)
        if one.decisions[kind] != "defer"
    ]
    contradicting = [
        one.name
        for one, answer in zip(tested, said, strict=True)
        if one.decisions[kind] not in ("defer", "roadwork" if answer else "none")
    ]
    if contradicting:
        yield (
            f"{kind} is said to have decided {len(contradicting)} pictures against their logits,"
            f" {contradicting[0]} for instance"
        )
    if report.coverage.answered != len(counted):
        yield f"{kind} is said to answer {report.coverage.answered} pictures, but answers {len(counted)}"
    confusion = count_confusion(*zip(*counted, strict=True)) if counted else Confusion(0, 0, 0, 0)
    if not same_numbers(dict(report.metrics), dict(confusion.metrics())):
        yield f"the metrics of {kind} are others when counted again: {confusion.metrics()}"
