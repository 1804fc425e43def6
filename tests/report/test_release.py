"""A policy is released by the bad ends of its intervals, under the conditions that it was tuned for."""

import pytest

from streetvision_core.data.conditions.profile import AS_IT_IS
from streetvision_core.io import json_bytes
from streetvision_core.io.records import read_record
from streetvision_core.report.release import Release, ReleaseRules, judge
from streetvision_core.report.report import report_of
from tests.bundle.made import decide_all, make_policies, make_tested


@pytest.fixture(scope="module")
def report():
    tested = make_tested(groups=[f"g{number // 2}" for number in range(400)], attributes={})
    return report_of(tested, decide_all(make_policies(), tested))


def rules(**limits):
    return ReleaseRules.model_validate(limits)


def around(report, metric, side):
    """Return a limit between the figure and the bad end of its interval."""
    policy = report.of("threshold")
    return (policy.metrics[metric] + getattr(policy.intervals.of(metric), side)) / 2


def test_without_rules_it_has_to_be_better_than_chance(report):
    verdict = judge(rules(), report, "threshold", degenerate=False)
    assert verdict.releasable
    assert verdict.text().startswith("releasable: MCC 0.")
    policy = report.of("threshold")
    guessing = policy.model_copy(
        update={
            "intervals": policy.intervals.model_copy(
                update={"mcc": policy.intervals.mcc.model_copy(update={"low": -0.1})}
            )
        }
    )
    worse = report.model_copy(update={"policies": {"threshold": guessing}})
    verdict = judge(rules(), worse, "threshold", degenerate=False)
    assert not verdict.releasable
    assert "(-0.100 to " in verdict.problems[0]
    assert "has to be above 0:" in verdict.problems[0]


@pytest.mark.parametrize(
    ("setting", "metric", "bad"),
    [("min_mcc", "mcc", "low"), ("max_fnr", "fnr", "high"), ("max_fpr", "fpr", "high")],
)
def test_the_bad_end_is_judged_and_not_the_figure(report, setting, metric, bad):
    limit = around(report, metric, bad)
    (problem,) = judge(rules(**{setting: limit}), report, "threshold", degenerate=False).problems
    assert problem.startswith(f"{setting} {limit:g}: ")
    assert "More test images from more groups shorten it" in problem
    interval = report.of("threshold").intervals.of(metric)
    assert f"({interval})" in problem
    beyond = {"low": interval.low - 0.01, "high": interval.high + 0.01}[bad]
    assert judge(rules(**{setting: beyond}), report, "threshold", degenerate=False).releasable


def test_every_rule_that_fails_is_named_with_advice_of_its_own(report):
    verdict = judge(rules(min_mcc=0.99, max_fnr=0.001, max_fpr=0.9), report, "threshold", degenerate=False)
    assert [problem.partition(" ")[0] for problem in verdict.problems] == ["min_mcc", "max_fnr"]
    assert all("weakest slices" in problem for problem in verdict.problems)


def test_what_nobody_judged_is_not_releasable():
    (problem,) = judge(rules(), None, "threshold", degenerate=False).problems
    assert "no evaluation judged this policy. Materialize evaluation, then bundle" in problem


def test_a_degenerate_policy_is_never_releasable(report):
    (problem,) = judge(rules(), report, "threshold", degenerate=True).problems
    assert "degenerate" in problem


def test_an_older_report_without_intervals_over_groups_releases_nothing(report):
    policy = report.of("threshold")
    older = policy.model_copy(update={"intervals": policy.intervals.model_copy(update={"groups": None})})
    verdict = judge(
        rules(), report.model_copy(update={"policies": {"threshold": older}}), "threshold", degenerate=False
    )
    assert "has no interval over groups" in verdict.problems[0]


def test_the_figures_are_those_of_the_policy_and_of_its_conditions(report):
    gate = judge(rules(), report, "gate", degenerate=False)
    assert gate.rules["min_mcc"].value == report.of("gate").metrics["mcc"]
    assert gate.conditions == AS_IT_IS


def test_the_record_reads_back_and_its_verdict_follows_from_it(report):
    verdict = judge(rules(max_fnr=0.5), report, "threshold", degenerate=False)
    content = verdict.model_dump(mode="json")
    assert read_record(Release, json_bytes(content), where="") == verdict
    with pytest.raises(ValueError, match="which its rules do not give"):
        Release.model_validate({**content, "releasable": False})
    with pytest.raises(ValueError, match="no rule min_mcc"):
        Release.model_validate({**content, "rules": {}})


@pytest.mark.parametrize(
    "limits",
    [
        {"min_mcc": 1},
        {"min_mcc": -0.1},
        {"max_fnr": 0},
        {"max_fpr": 1},
        {"min_mcc": float("nan")},
        {"mcc": 0.5},
    ],
)
def test_rules_that_nothing_or_everything_keeps_are_refused(limits):
    with pytest.raises(ValueError, match="ReleaseRules"):
        rules(**limits)
