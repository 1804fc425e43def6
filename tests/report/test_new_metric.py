"""A metric that is added to the one table is shown everywhere, and condemns nothing that is older."""

import sys
from dataclasses import replace

import pytest
from sklearn.metrics import precision_score

from streetvision_core.bundle import Evaluation, evaluate, verify_bundle
from streetvision_core.bundle.card import CardFacts, card_metrics, readme
from streetvision_core.eval.metrics import BRIEF, METRICS, Metric
from streetvision_core.io import json_bytes
from streetvision_core.io.records import read_record
from streetvision_core.policies.registry import published_policies
from streetvision_core.report.conditions import level_rows
from streetvision_core.report.pages import PAGE_NAME, policy_rows, slice_rows
from streetvision_core.report.recount import recount_problems
from streetvision_core.report.report import Report
from tests.attacks.test_text import card
from tests.bundle.chain import checkpoint_of

ADDED = Metric("npv", "right when none (NPV)", ("tn",), ("tn", "fn"), brief=True)


@pytest.fixture
def added(monkeypatch):
    """Add the metric to the table, for every module that has read it."""
    own = [module for name, module in sys.modules.items() if name.startswith("streetvision_")]
    for name, table in (("METRICS", METRICS), ("BRIEF", BRIEF)):
        for module in own:
            if vars(module).get(name) is table:
                monkeypatch.setattr(module, name, (*table, ADDED))


@pytest.fixture(scope="module")
def older(chain):
    return Evaluation.from_artifact(chain.upstream["evaluation"])


@pytest.fixture
def evaluation(added, chain):
    return evaluate(
        checkpoint_of(chain),
        published_policies(chain.upstream),
        chain.splits.roles["val_test"],
        index=chain.index,
        images=chain.pictures("val_test"),
    )


def recount(evaluation, chain):
    return recount_problems(evaluation, names=chain.splits.roles["val_test"], index=chain.index)


def test_it_is_in_the_report_with_its_interval_and_in_every_table(evaluation, chain):
    report = read_record(Report, json_bytes(evaluation.report.model_dump(mode="json")), where="")
    assert report == evaluation.report
    policy = report.of("threshold")
    labels = [row.label for row in evaluation.tested]
    decisions = [int(row.decisions["threshold"] == "roadwork") for row in evaluation.tested]
    assert policy.metrics["npv"] == pytest.approx(precision_score(labels, decisions, pos_label=0))
    interval = policy.interval("npv")
    assert interval.low <= policy.metrics["npv"] <= interval.high
    for rows in (policy_rows(report), slice_rows(report), level_rows(report)):
        assert all(ADDED.label in row for row in rows)
    assert level_rows(report)[0][ADDED.label] == policy.text("npv")
    page = evaluation.pages[PAGE_NAME].decode()
    assert page.count(f"{ADDED.label}</th>") == 3
    assert recount(evaluation, chain) == []


def test_it_is_on_the_card_and_in_the_front_matter(evaluation):
    facts = card("plain")
    assert isinstance(facts, CardFacts)
    text = readme(replace(facts, evaluation=evaluation)).decode()
    policy = evaluation.report.of("threshold")
    value, interval = policy.metrics["npv"], policy.interval("npv")
    assert f"| npv | {value:.3f} | {interval} |" in text
    assert "type: npv" in text
    assert "name: Npv" in text
    assert f"| as_is | {' | '.join(policy.cells().values())} |" in text
    assert card_metrics(policy)["npv"] == value


def test_a_report_that_claims_more_of_it_is_found(evaluation, chain):
    report = evaluation.report
    policy = report.of("threshold")
    better = policy.intervals.model_copy(update={"npv": policy.intervals.mcc})
    for update in ({"metrics": {**policy.metrics, "npv": 0.123}}, {"intervals": better}):
        policies = {**report.policies, "threshold": policy.model_copy(update=update)}
        forged = replace(evaluation, report=report.model_copy(update={"policies": policies}))
        assert any("of threshold, " in fault for fault in recount(forged, chain))


def test_what_was_written_before_it_verifies_and_says_that_it_was_not_recorded(older, chain, bundle, added):
    assert "npv" not in older.report.of("threshold").metrics
    assert recount(older, chain) == []
    assert "MCC" in verify_bundle(bundle).summary()
    assert policy_rows(older.report)[0][ADDED.label] == "not recorded"


def test_what_was_written_with_it_is_read_without_it(chain, evaluation, monkeypatch):
    monkeypatch.undo()
    assert recount(evaluation, chain) == []
    assert read_record(Report, json_bytes(evaluation.report.model_dump(mode="json")), where="") == (
        evaluation.report
    )
