"""A promised recall in the threshold policy: recorded with its count, told with its unit, and verified."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import beta, binom

from streetvision_core.errors import SchemaError
from streetvision_core.eval.use.recall import allowed_misses, needed_units, roadwork_units
from streetvision_core.policies.config import EnoughRecall, RecordedThresholds
from streetvision_core.policies.threshold import ThresholdPolicy, fit_threshold_policy, verify_thresholds

VERSIONS = {"checkpoint_version": "c" * 64, "logits_version": "d" * 64}
PROMISED = RecordedThresholds(objective=EnoughRecall(), resamples=10)
AS_ON_CALIB = RecordedThresholds(objective=EnoughRecall(delta=None), resamples=10)


@dataclass(frozen=True)
class Labelled:
    logits: np.ndarray
    labels: np.ndarray
    groups: tuple[str, ...]


def draw(seed, groups, *, images=3):
    """Groups of as many images, of roadwork by turns."""
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), images)
    labels = group % 2
    margins = 6 * (labels - 0.5) + random.normal(0, 1.5, group.size)
    logits = np.stack([-margins / 2, margins / 2], axis=1).astype(np.float32)
    return Labelled(logits, labels, tuple(f"sequence {number}" for number in group.tolist()))


def fit(calib, config=PROMISED, **known):
    return fit_threshold_policy(draw(1, 60), calib, **VERSIONS, config=config, **known)


@pytest.fixture(scope="module")
def fitted():
    calib = draw(2, 200)
    return fit(calib, groups_known=True), calib


def test_the_count_is_of_one_roadwork_image_of_each_group(fitted):
    thresholds, calib = fitted
    policy = thresholds.policy
    units = roadwork_units(calib.labels == 1, calib.groups, seed=0)
    assert {calib.groups[unit] for unit in units} == {f"sequence {number}" for number in range(1, 200, 2)}
    margins = calib.logits[units, 1] - calib.logits[units, 0]
    assert policy.recall.units == 100
    assert policy.recall.missed == np.sum(margins <= policy.margin) == 1  # with 2 the bound is below 0.95
    assert policy.recall.lower_bound == pytest.approx(beta.ppf(0.1, 99, 2))


def test_the_promise_tells_recall_probability_and_unit(fitted):
    promise = fitted[0].policy.promise()
    assert "probability at least 90%" in promise
    assert "called so with probability at least 95%" in promise
    assert "a roadwork image drawn from a randomly drawn group that holds any" in promise
    assert "images taken as independent" in fit(fitted[1], groups_known=False).policy.promise()
    assert fitted[0].policy.degeneracies() == []


def test_where_groups_are_too_few_the_policy_says_how_many_it_takes_and_is_degenerate():
    policy = fit(draw(3, 60)).policy
    assert (policy.recall.units, policy.recall.needed, policy.recall.feasible) == (30, 45, False)
    assert policy.decide(policy.point.fold(draw(3, 60).logits)) == ("roadwork",) * 180
    assert policy.infeasible() == policy.degeneracies()
    for text in (*policy.degeneracies(), policy.promise()):
        assert "at least 45 groups with roadwork" in text
        assert "there are 30, which allow 92.6%" in text


def test_what_was_promised_verifies_and_another_count_is_found(fitted):
    thresholds, calib = fitted
    assert verify_thresholds(thresholds, draw(1, 60), calib, groups_known=True) == []
    assert verify_thresholds(thresholds, draw(1, 60), calib, groups_known=False)
    recall = thresholds.policy.recall.model_copy(update={"missed": 0})
    changed = replace(thresholds, policy=thresholds.policy.model_copy(update={"recall": recall}))
    assert verify_thresholds(changed, draw(1, 60), calib, groups_known=True)


def written(policy):
    return json.loads(policy.model_dump_json())


@pytest.mark.parametrize(
    ("name", "value"), [("missed", 0), ("lower_bound", 0.99), ("needed", 44), ("recall", 0.9), ("units", 0)]
)
def test_a_promise_that_does_not_follow_from_its_counts_is_refused(fitted, name, value):
    content = written(fitted[0].policy)
    content["recall"][name] = value
    with pytest.raises(SchemaError, match="recall"):
        ThresholdPolicy.from_json(content, where="thresholds.json")


def test_a_promise_that_was_taken_out_of_the_record_is_missed(fitted):
    content = written(fitted[0].policy)
    for changed in ({**content, "recall": None}, {k: v for k, v in content.items() if k != "recall"}):
        with pytest.raises(SchemaError, match="recall"):
            ThresholdPolicy.from_json(changed, where="thresholds.json")


@pytest.mark.parametrize("flat", [True, False])
def test_the_recall_of_an_older_version_is_read_as_no_promise_and_comes_out_the_same(fitted, flat):
    calib = fitted[1]
    now = fit(calib, AS_ON_CALIB)
    content = written(now.policy)
    del content["recall"], content["chosen_by"]["objective"]["delta"]
    if flat:
        content["chosen_by"] |= {"objective": "recall_at_least", "min_recall": 0.95, "beta": 1.0}
    older = ThresholdPolicy.from_json(content, where="thresholds.json")
    assert older == now.policy
    assert "promises nothing" in older.promise()
    assert verify_thresholds(replace(now, policy=older), draw(1, 60), calib) == []


def test_the_allowed_misses_are_those_of_the_binomial_distribution():
    units = np.arange(600)
    for recall, delta in ((0.95, 0.1), (0.9, 0.1), (0.5, 0.25), (0.9, 0.81), (0.99, 0.01)):
        allowed = allowed_misses(units, recall=recall, delta=delta)
        assert (binom.cdf(allowed, units, 1 - recall) <= delta * (1 + 1e-9)).all()
        assert (binom.cdf(allowed + 1, units, 1 - recall) > delta * (1 - 1e-9)).all()
        assert np.argmax(allowed >= 0) == needed_units(recall=recall, delta=delta)
    assert needed_units(recall=0.95, delta=0.1) == 45
