"""The objectives of a threshold, each against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streetvision_core.eval.metrics import count_confusion
from streetvision_core.eval.objectives import Cost, FBeta, Mcc, RecallAtLeast
from streetvision_core.eval.thresholds import scan_margins, scan_thresholds

OBJECTIVES = [Mcc(), FBeta(), FBeta(2.0), Cost(miss=5, false_alarm=1), Cost(2.5, 4), RecallAtLeast(0.7)]
SCORES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1))
SAMPLES = st.lists(st.tuples(SCORES, st.integers(0, 1)), min_size=2, max_size=30).filter(
    lambda rows: 0 < sum(label for _, label in rows) < len(rows)
)


def counts(scores, labels, threshold):
    at = count_confusion(labels, scores > threshold)
    return {"tp": at.tp, "tn": at.tn, "fp": at.fp, "fn": at.fn}


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_f_beta_is_that_of_scikit_learn(beta):
    from sklearn.metrics import fbeta_score

    random = np.random.default_rng(0)
    for _ in range(50):
        labels, called = random.integers(0, 2, (2, 8)).astype(bool)
        score = FBeta(beta).score(**counts(called, labels, 0))
        assert score == pytest.approx(fbeta_score(labels, called, beta=beta, zero_division=0))


def test_the_cost_is_the_mean_price_of_the_mistakes():
    labels, called = np.array([1, 1, 1, 0, 0]), np.array([0, 0, 1, 1, 0])
    assert Cost(miss=10, false_alarm=3).score(**counts(called, labels, 0)) == -(2 * 10 + 1 * 3) / 5


def test_the_prices_move_the_threshold_where_they_should():
    scores, labels = [0.1, 0.3, 0.5, 0.7], [0, 1, 0, 1]
    assert scan_thresholds(scores, labels, objective=Cost(miss=5, false_alarm=1)).threshold < 0.3
    assert scan_thresholds(scores, labels, objective=Cost(miss=1, false_alarm=5)).threshold >= 0.5


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@given(SAMPLES)
def test_no_threshold_is_preferred_to_the_scanned_one(objective, samples):
    scores, labels = (np.array(column) for column in zip(*samples, strict=True))
    choice = scan_thresholds(scores, labels, objective=objective)
    reached = counts(scores, labels, choice.threshold)
    assert choice.score == objective.score(**reached)
    best = objective.preference(**reached)
    for threshold in [0.0, *scores]:
        assert objective.preference(**counts(scores, labels, threshold)) <= best
    for threshold in (choice.plateau_low, max(choice.plateau_low, np.nextafter(choice.plateau_high, 0))):
        assert objective.preference(**counts(scores, labels, threshold)) == best


@given(SAMPLES, st.floats(0.01, 1))
def test_recall_at_least_takes_the_largest_threshold_that_reaches_it(samples, wanted):
    scores, labels = (np.array(column) for column in zip(*samples, strict=True))
    choice = scan_thresholds(scores, labels, objective=RecallAtLeast(wanted))
    # No threshold is below a probability of 0, so such roadwork is never found.
    assert choice.score >= min(wanted, 1 - np.mean(scores[labels == 1] == 0) - 1e-12)
    if choice.score >= wanted and choice.plateau_high < 1:
        above = counts(scores, labels, choice.plateau_high)
        assert above["tp"] / (above["tp"] + above["fn"]) < wanted


def test_of_thresholds_with_equal_recall_the_one_with_the_fewest_false_alarms_is_taken():
    choice = scan_margins([-3.0, -2, -1, 1, 2], [1, 0, 0, 1, 1], objective=RecallAtLeast(0.6))
    assert (choice.plateau_low, choice.plateau_high) == (-1.0, 1.0)
    assert choice.score == pytest.approx(2 / 3)


def test_a_recall_that_is_reached_exactly_is_reached():
    labels = np.ones(11, int)
    labels[0] = 0
    choice = scan_margins(np.arange(11.0), labels, objective=RecallAtLeast(0.7))
    assert choice.score == 0.7


def test_the_mcc_of_the_threshold_is_told_whatever_the_objective():
    scores, labels = np.array([0.1, 0.4, 0.6, 0.9]), np.array([0, 1, 0, 1])
    choice = scan_thresholds(scores, labels, objective=Cost(5, 1))
    assert choice.mcc == count_confusion(labels, scores > choice.threshold).mcc
    assert choice.score == -0.25
