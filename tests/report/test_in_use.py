"""The section on use: what is expected at other prevalences follows from the rates that the report tells."""

import csv
import io

import numpy as np
import pytest

from streetvision_core.graph import POLICIES
from streetvision_core.report.in_use import expected_rows, tabulate_use
from streetvision_core.report.report import report_of
from tests.bundle.made import decide_all, make_policies, make_tested


@pytest.fixture(scope="module")
def reported():
    tested = make_tested(groups=[f"drive {number // 2}" for number in range(120)], attributes={})
    decided = decide_all(make_policies(), tested)
    return tested, decided, report_of(tested, decided)


def test_the_row_of_val_test_is_what_val_test_gave(reported):
    for policy in reported[2].policies.values():
        (here,) = [row for row in expected_rows(policy) if row["here"]]
        assert here["mcc"] == pytest.approx(policy.metrics["mcc"])
        assert here["precision"] == pytest.approx(policy.metrics["precision"])
        assert here["precision_low"] < here["precision"] < here["precision_high"]


def test_precision_falls_where_roadwork_is_rarer(reported):
    rows = expected_rows(reported[2].lead)
    assert [row["prevalence"] for row in rows][:3] == [0.01, 0.02, 0.05]
    assert (np.diff([row["precision"] for row in rows]) > 0).all()


def test_both_curves_are_tables_with_a_row_a_policy_and_point(reported):
    files = tabulate_use(*reported)
    rows = {name: list(csv.DictReader(io.StringIO(data.decode()))) for name, data in files.items()}
    assert set(rows) == {"curves/prevalence.csv", "curves/net_benefit.csv"}
    for own in rows.values():
        assert {row["policy"] for row in own} == POLICIES.keys()
    assert len(rows["curves/net_benefit.csv"]) == len(POLICIES) * 99
