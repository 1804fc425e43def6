"""A report that does not follow from its own decisions is found."""

from dataclasses import replace

import pytest

from streetvision_core.bundle import Evaluation
from streetvision_core.graph import POLICIES
from streetvision_core.report.recount import recount_problems
from tests.bundle.made import ANSWERING


@pytest.fixture
def evaluation(chain):
    return Evaluation.from_artifact(chain.upstream["evaluation"])


def recount(evaluation, chain):
    return recount_problems(evaluation, names=chain.splits.roles["val_test"], index=chain.index)


def test_what_was_evaluated_counts_to_the_same(evaluation, chain):
    assert recount(evaluation, chain) == []


@pytest.mark.parametrize("kind", list(POLICIES))
def test_one_changed_decision_is_found(evaluation, chain, kind):
    first = evaluation.tested[0]
    other = {"none": "roadwork", "roadwork": "defer", "defer": "none"}[first.decisions[kind]]
    changed = replace(first, decisions={**first.decisions, kind: other})
    faults = recount(replace(evaluation, tested=(changed, *evaluation.tested[1:])), chain)
    assert faults
    assert all(kind in fault for fault in faults)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"label": 1}, "index"),
        ({"sha256": "e" * 64}, "index"),
        ({"group": "elsewhere"}, "index"),
        ({"name": "stranger.jpg"}, "not exactly those of val_test"),
    ],
)
def test_an_image_that_is_not_the_one_of_the_role_is_found(evaluation, chain, change, fault):
    position = next(place for place, image in enumerate(evaluation.tested) if image.label == 0)
    tested = list(evaluation.tested)
    tested[position] = replace(tested[position], **change)
    assert any(fault in problem for problem in recount(replace(evaluation, tested=tuple(tested)), chain))


def test_an_embellished_metric_is_found(evaluation, chain):
    report = evaluation.report
    threshold = report.policies["threshold"]
    better = threshold.model_copy(update={"metrics": {**threshold.metrics, "mcc": 0.99}})
    claimed = report.model_copy(update={"policies": {**report.policies, "threshold": better}})
    problems = recount(replace(evaluation, report=claimed), chain)
    assert any("of threshold, metrics" in problem for problem in problems)


@pytest.mark.parametrize("kind", ANSWERING)
@pytest.mark.parametrize("part", ["coverage", "intervals", "ranking", "calibration", "slices"])
def test_every_other_figure_that_was_embellished_is_found(evaluation, chain, kind, part):
    policies = evaluation.report.policies
    was = policies[kind]
    better = {
        "coverage": was.coverage.model_copy(update={"share": 0.999}),
        "intervals": was.intervals.model_copy(
            update={"accuracy": was.intervals.accuracy.model_copy(update={"low": 0.99, "high": 1.0})}
        ),
        "ranking": was.ranking.model_copy(update={"auroc": 0.5}),
        "calibration": was.calibration.model_copy(
            update={"shipped": was.calibration.shipped.model_copy(update={"brier": 0.0})}
        ),
        "slices": was.slices[1:],
    }[part]
    claimed = evaluation.report.model_copy(
        update={"policies": {**policies, kind: was.model_copy(update={part: better})}}
    )
    faults = recount(replace(evaluation, report=claimed), chain)
    assert any(f"of {kind}, {part} is recorded as" in fault for fault in faults)


def test_two_exchanged_deferrals_are_found(evaluation, chain):
    """The counts stay the same."""
    rows = list(evaluation.tested)
    deferred = next(place for place, row in enumerate(rows) if row.decisions["scrc"] == "defer")
    twin = next(
        place
        for place, row in enumerate(rows)
        if row.decisions["scrc"] != "defer" and row.label == rows[deferred].label
    )
    for place, decision in ((deferred, rows[twin].decisions["scrc"]), (twin, "defer")):
        rows[place] = replace(rows[place], decisions={**rows[place].decisions, "scrc": decision})
    problems = recount(replace(evaluation, tested=tuple(rows)), chain)
    assert any("decided 2 images otherwise" in problem for problem in problems)


def test_a_report_that_knows_groups_which_the_data_does_not_name_is_found(evaluation, chain):
    report = evaluation.report
    for known, faults in ((not report.groups_known, 1), (None, 0)):  # None: an older version
        other = replace(evaluation, report=report.model_copy(update={"groups_known": known}))
        assert sum("groups_known is recorded" in problem for problem in recount(other, chain)) == faults
