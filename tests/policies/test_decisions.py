"""The common parts of all policies: the operating point, its decisions, and the reading of its record."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from pydantic import FiniteFloat

from streetvision_core.errors import DataError, SchemaError
from streetvision_core.eval.calibration import fit_temperature
from streetvision_core.eval.decisions import (
    OperatingPoint,
    answers,
    decisions,
    differences,
    freeze_operating_point,
    read_policy,
    threshold_between,
)
from streetvision_core.eval.metrics import METRICS_OF_FIRST_SCHEMA, Confusion
from streetvision_core.eval.risk_control import BETWEEN
from streetvision_core.eval.thresholds import positive_probability, scan_margins
from streetvision_core.io.records import Record
from streetvision_core.policies.scrc_fit import fit_scrc
from streetvision_core.policies.threshold import ThresholdPolicy, fit_threshold_policy, verify_thresholds

POINTS = st.builds(
    OperatingPoint,
    temperature=st.floats(0.05, 20),
    threshold=st.floats(1e-6, 1 - 1e-6),
)
LOGITS = npst.arrays(np.float64, st.tuples(st.integers(1, 8), st.just(2)), elements=st.floats(-80, 80))


@dataclass(frozen=True)
class Labelled:
    logits: np.ndarray
    labels: np.ndarray
    groups: tuple[str, ...]


def draw(seed, n=300):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    margins = 3 * (labels - 0.5) + 1 + random.normal(0, 1.5, n)
    logits = np.stack([-margins / 2, margins / 2], axis=1).astype(np.float32)
    return Labelled(logits, labels, tuple(map(str, range(n))))


class Small(Record):
    """A policy of two fields."""

    schema_version: Literal[1] = 1
    bound: FiniteFloat
    parts: tuple[float, ...] = ()
    perhaps: float | None = None


@given(POINTS, LOGITS)
def test_a_folded_margin_is_above_0_where_the_probability_is_above_the_threshold(point, logits):
    folded = point.fold(logits)
    p = positive_probability(logits / point.temperature)
    clear = np.abs(p - point.threshold) > 1e-9 * point.threshold
    np.testing.assert_array_equal(answers(folded)[clear], (p > point.threshold)[clear])
    margins = folded[:, 1] - folded[:, 0]
    expected = (logits[:, 1] - logits[:, 0]) / point.temperature - point.shift
    np.testing.assert_allclose(margins, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("temperature", "threshold"), [(1.0, 0.5), (0.3, 0.92), (7.5, 0.004)])
def test_logits_are_folded_as_the_weights_of_a_bundle_are(temperature, threshold):
    import torch
    from torch import nn

    from streetvision_core.models.fold import fold_operating_point

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(5, 2)

        def get_classifier(self):
            return self.last

        def forward(self, values):
            return self.last(values)

    torch.manual_seed(0)
    model, values = Head().double(), torch.randn(64, 5, dtype=torch.float64)
    folded = fold_operating_point(model, temperature=temperature, threshold=threshold)
    with torch.no_grad():
        by_weights, logits = folded(values).numpy(), model(values).numpy()
    point = OperatingPoint(temperature=temperature, threshold=threshold)
    np.testing.assert_allclose(point.fold(logits), by_weights, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("logits", [[1.0, 2.0], [[1.0, 2.0, 3.0]], [[1.0, math.nan]], [[1.0, math.inf]], []])
def test_only_finite_pairs_are_folded(logits):
    point = OperatingPoint(temperature=2.0, threshold=0.3)
    with pytest.raises(DataError):
        point.fold(logits)


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": 0.0}, {"temperature": math.inf}, {"threshold": 0.0}, {"threshold": 1.0},
     {"threshold": math.nan}, {"threshold": "0.5"}, {"more": 1}],
)  # fmt: skip
def test_an_impossible_operating_point_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OperatingPoint(**{"temperature": 1.0, "threshold": 0.5} | wrong)


@given(st.lists(st.tuples(st.floats(-9, 9), st.booleans()), min_size=1, max_size=30))
def test_decisions_are_answers_where_accepted_and_defer_elsewhere(rows):
    margins, accepted = np.array([m for m, _ in rows]), np.array([a for _, a in rows])
    plain = ["roadwork" if margin > 0 else "none" for margin, _ in rows]
    assert decisions(margins) == tuple(plain)
    assert decisions(np.stack([np.zeros(margins.size), margins], axis=1)) == tuple(plain)
    expected = [word if taken else "defer" for word, (_, taken) in zip(plain, rows, strict=True)]
    assert decisions(margins, accepted=accepted) == tuple(expected)


def test_a_margin_of_0_is_none():
    assert decisions([0.0, -0.0, 5e-324]) == ("none", "none", "roadwork")


def test_decisions_refuse_what_is_not_finite():
    with pytest.raises(DataError, match="finite"):
        decisions([0.0, math.nan])


def test_the_operating_point_is_the_nll_s_temperature_and_then_mcc_s_threshold():
    select = draw(0)
    point = freeze_operating_point(select)
    assert point.temperature == fit_temperature(select.logits, select.labels)
    best = scan_margins(select.logits, select.labels)
    assert point.threshold == positive_probability([best.threshold / point.temperature])[0]
    decisions = answers(point.fold(select.logits))
    np.testing.assert_array_equal(decisions, np.diff(select.logits.astype(float))[:, 0] > best.threshold)


class Untouchable:
    """A role whose logits and labels may not be read."""

    groups = tuple(map(str, range(300)))

    def __getattr__(self, name):
        raise AssertionError(f"{name} of val_calib was read")


def test_freezing_never_looks_beyond_val_select():
    """It is not even given another role; scrc, which is given two, freezes the same with any val_calib."""
    select, versions = draw(0), {"checkpoint_version": "c" * 64, "logits_version": "d" * 64}
    point = freeze_operating_point(select, between=BETWEEN)
    turned = replace(draw(1), labels=1 - draw(1).labels)
    assert {fit_scrc(select, calib, **versions).policy.point for calib in (draw(1), turned)} == {point}
    with pytest.raises(AssertionError, match="of val_calib was read"):
        fit_scrc(select, Untouchable(), **versions)
    # The threshold policy is the one that may look.
    moved = [fit_threshold_policy(select, calib, **versions).policy.point for calib in (draw(1), turned)]
    assert moved[0] != moved[1]


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_operating_point(label):
    with pytest.raises(DataError, match="both classes"):
        freeze_operating_point(replace(draw(0), labels=np.full(300, label)))


@pytest.mark.parametrize("margin", [800.0, -800.0])
def test_a_threshold_that_saturates_is_refused_with_its_role(margin):
    with pytest.raises(DataError, match=r"with an MCC of 0\.250 \(the logits of val_select\)"):
        threshold_between(margin, mcc=0.25, role="val_select")


def test_a_policy_is_read_as_it_was_written():
    for policy in (Small(bound=0.1), Small(bound=-1e-300, parts=(0.1, 1 / 3), perhaps=2.0)):
        assert read_policy(Small, policy.model_dump(mode="json"), where="here") == policy


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"bound": math.nan}, "JSON"),
        ({"bound": math.inf}, "JSON"),
        ({"bound": 1.0, "parts": [0.5, math.nan]}, "JSON"),
        ({"bound": 1.0, "more": 2}, "more"),
        ({"bound": 1.0, "schema_version": 2}, "schema_version"),
        ({"bound": 1.0, "schema_version": 0}, "schema_version"),
        ({"bound": 1.0, "schema_version": "1"}, "schema_version"),
        ({"bound": "1.0"}, "bound"),
        ({"bound": True}, "bound"),
        ({"bound": None}, "bound"),
        ({"bound": 1.0, "parts": 3.0}, "parts"),
        ({}, "bound: Field required"),
        ([], "Small"),
        (None, "Small"),
        ("bound", "Small"),
    ],
)
def test_another_record_than_a_policy_of_this_version_is_refused_in_one_paragraph(content, text):
    with pytest.raises(SchemaError) as caught:
        read_policy(Small, content, where="small.json")
    message = str(caught.value)
    assert text in message
    assert message.startswith("Expected a Small of this schema version, but found ")
    assert message.endswith(
        "(small.json). Materialize the policy again with this version, or update this installation."
    )


def test_what_differs_is_told_one_sentence_a_field():
    first = Small(bound=1.0, parts=(0.5, 0.25))
    assert differences(first, first) == []
    assert differences(first, first.model_copy(update={"bound": 1.0 + 1e-12})) == []
    assert differences(first, first.model_copy(update={"bound": 1.01}), tolerance=0.1) == []
    problems = differences(first, Small(bound=2.0, parts=(0.5,)))
    assert problems == [
        "bound is recorded as 1.0, but is 2.0 when fitted again",
        "parts is recorded as [0.5, 0.25], but is [0.5] when fitted again",
    ]


@pytest.mark.parametrize(("was", "is_now"), [(None, 0.5), (0.5, None)])
def test_a_number_that_is_none_when_fitted_again_is_a_difference(was, is_now):
    """As a certified threshold is where certification fails the second time."""
    (problem,) = differences(Small(bound=1.0, perhaps=was), Small(bound=1.0, perhaps=is_now))
    assert problem == f"perhaps is recorded as {was}, but is {is_now} when fitted again"


def fitted_policy():
    return fit_threshold_policy(draw(0), draw(1), checkpoint_version="c" * 64, logits_version="d" * 64)


def test_a_metric_that_was_added_later_makes_no_older_policy_differ(monkeypatch):
    """A missing figure was not recorded then; no other difference is let through by that."""
    older, metrics = fitted_policy(), Confusion.metrics
    monkeypatch.setattr(Confusion, "metrics", lambda self: metrics(self) | {"balanced_accuracy": 0.5})
    assert "balanced_accuracy" in fitted_policy().policy.val_calib.metrics
    assert verify_thresholds(older, draw(0), draw(1)) == []
    content = older.policy.model_dump(mode="json")
    content["val_calib"]["metrics"]["mcc"] += 0.01
    forged = replace(older, policy=ThresholdPolicy.from_json(content, where="here"))
    (problem,) = verify_thresholds(forged, draw(0), draw(1))
    assert problem.startswith("val_calib is recorded as")


def test_a_metric_that_is_not_known_any_more_is_kept():
    content = fitted_policy().policy.model_dump(mode="json")
    content["val_calib"]["metrics"]["npv"] = 0.25
    newer = ThresholdPolicy.from_json(content, where="here")
    assert newer.val_calib.metrics["npv"] == 0.25
    assert verify_thresholds(replace(fitted_policy(), policy=newer), draw(0), draw(1)) == []


@pytest.mark.parametrize("name", METRICS_OF_FIRST_SCHEMA)
def test_a_metric_of_the_first_schema_is_never_missing(name):
    content = fitted_policy().policy.model_dump(mode="json")
    del content["val_calib"]["metrics"][name]
    with pytest.raises(SchemaError, match=rf"no {name}\b"):
        ThresholdPolicy.from_json(content, where="here")


def test_the_metrics_of_the_first_schema_are_those_that_705fcbb_wrote():
    assert set(METRICS_OF_FIRST_SCHEMA) <= Confusion(1, 1, 1, 1).metrics().keys()
    assert METRICS_OF_FIRST_SCHEMA == (
        "mcc", "accuracy", "precision", "recall", "f1", "fnr", "fpr", "tp", "tn", "fp", "fn"
    )  # fmt: skip
