"""The exact scan finds what brute force finds, and what it returns is what the decision rule reaches."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streetvision_core.errors import ConfigError, DataError
from streetvision_core.eval import compute_mcc, select_threshold_max_mcc
from streetvision_core.eval.metrics import count_confusion
from streetvision_core.eval.thresholds import mcc_curve, positive_probability, scan_grid, scan_thresholds

# Few values, so that scores repeat; neighbouring floats; and everything between.
SCORES = st.one_of(
    st.sampled_from([0.0, 5e-324, 0.25, 0.5, math.nextafter(0.5, 1), 0.75, math.nextafter(1, 0), 1.0]),
    st.floats(0, 1),
)
MARGINS = st.one_of(
    st.sampled_from([-800.0, -50.0, -37.0, -1.0, 0.0, 1.0, 36.0, 37.0, 50.0, 800.0]), st.floats(-60, 60)
)


def samples_of(values):
    return st.lists(st.tuples(values, st.integers(0, 1)), min_size=2, max_size=40)


def both_classes(samples):
    values, labels = np.array([v for v, _ in samples]), np.array([label for _, label in samples])
    assume(0 < labels.sum() < labels.size)
    return values, labels


def exact_mcc(tp, tn, fp, fn):
    """MCC from Python's integers, which cannot overflow."""
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / math.sqrt(product) if product else 0.0


def brute_force_best(scores, labels):
    """The largest MCC over one threshold on each score, and one below all of them."""
    best = -1.0
    for threshold in [-1.0, *np.unique(scores)]:
        called, truth = scores > threshold, labels.astype(bool)
        counts = [called & truth, ~called & ~truth, called & ~truth, ~called & truth]
        best = max(best, exact_mcc(*(int(np.count_nonzero(which)) for which in counts)))
    return best


@given(samples_of(SCORES))
def test_the_exact_scan_finds_the_best_of_all_thresholds(samples):
    scores, labels = both_classes(samples)
    assert scan_thresholds(scores, labels).mcc == pytest.approx(brute_force_best(scores, labels), abs=1e-12)


@given(samples_of(SCORES))
def test_the_rule_at_the_returned_threshold_reaches_exactly_the_returned_mcc(samples):
    scores, labels = both_classes(samples)
    choice = scan_thresholds(scores, labels)
    assert compute_mcc(labels, scores > choice.threshold) == choice.mcc


@given(samples_of(MARGINS), st.booleans())
def test_saturated_logits_change_nothing_about_that(samples, as_columns):
    margins, labels = both_classes(samples)
    logits = np.stack([-margins / 2, margins / 2], axis=1) if as_columns else margins
    threshold, best = select_threshold_max_mcc(logits, labels)
    probability = positive_probability(logits)
    assert compute_mcc(labels, probability > threshold) == best
    assert best == pytest.approx(brute_force_best(probability, labels), abs=1e-12)


@given(samples_of(SCORES), st.integers(2, 300))
def test_no_grid_beats_the_exact_threshold(samples, n_thresholds):
    scores, labels = both_classes(samples)
    grid = scan_grid(scores, labels, n_thresholds=n_thresholds)
    assert scan_thresholds(scores, labels).mcc >= grid.mcc
    assert compute_mcc(labels, scores > grid.threshold) == grid.mcc


@given(samples_of(SCORES), st.integers(2, 50))
def test_a_grid_finds_the_best_of_its_thresholds_and_stays_on_it(samples, n_thresholds):
    scores, labels = both_classes(samples)
    thresholds = np.linspace(0, 1, n_thresholds)
    grid = scan_grid(scores, labels, n_thresholds=n_thresholds)
    assert grid.mcc == max(compute_mcc(labels, scores > threshold) for threshold in thresholds)
    assert grid.threshold in thresholds


@given(samples_of(SCORES))
def test_the_plateau_is_as_far_as_the_best_mcc_reaches(samples):
    scores, labels = both_classes(samples)
    choice = scan_thresholds(scores, labels)
    low, high = choice.plateau_low, choice.plateau_high
    assert 0 <= low <= choice.threshold <= high <= 1
    inside = [low, *(s for s in scores if low <= s < high)]
    assert {compute_mcc(labels, scores > threshold) for threshold in inside} == {choice.mcc}
    if low > 0:
        assert compute_mcc(labels, scores > math.nextafter(low, 0)) < choice.mcc
    if high < 1:
        assert compute_mcc(labels, scores > high) < choice.mcc


@given(samples_of(SCORES), st.randoms())
def test_the_order_of_the_samples_does_not_matter(samples, random):
    shuffled = random.sample(samples, len(samples))
    assert scan_thresholds(*both_classes(samples)) == scan_thresholds(*both_classes(shuffled))


def test_the_threshold_is_the_midpoint_between_the_neighbouring_scores():
    choice = scan_thresholds([0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1])
    assert (choice.threshold, choice.mcc) == (pytest.approx(0.4), 1.0)
    assert (choice.plateau_low, choice.plateau_high) == (0.2, 0.6)


def test_of_equally_good_thresholds_the_widest_plateau_wins():
    """Cutting after the first or before the last is equally good; the second gap is wider."""
    choice = scan_thresholds([0.1, 0.3, 0.35, 0.8], [0, 1, 0, 1])
    assert (choice.plateau_low, choice.plateau_high) == (0.35, 0.8)


def test_of_equally_wide_plateaus_the_lowest_wins():
    choice = scan_thresholds([0.25, 0.5, 0.5625, 0.8125], [0, 1, 0, 1])
    assert (choice.plateau_low, choice.plateau_high) == (0.25, 0.5)


def test_between_neighbouring_floats_the_threshold_stays_below_the_upper_one():
    """Here the midpoint rounds up to 0.75 exactly, where the decision would be another."""
    high = 0.75
    low = math.nextafter(high, 0)
    assert low + (high - low) / 2 == high
    choice = scan_thresholds([low, high], [0, 1])
    assert (choice.threshold, choice.mcc) == (low, 1.0)


def test_a_grid_takes_the_middle_of_its_best_run():
    choice = scan_grid([0.1, 0.75], [0, 1], n_thresholds=11)
    assert choice.threshold == pytest.approx(0.4)
    assert (choice.plateau_low, choice.plateau_high) == (pytest.approx(0.1), pytest.approx(0.7))


def test_equal_scores_of_both_classes_cannot_be_separated():
    choice = scan_thresholds([0.5, 0.5, 0.5], [0, 1, 1])
    assert (choice.mcc, choice.plateau_low, choice.plateau_high) == (0.0, 0.0, 1.0)


def test_a_model_that_is_always_wrong_gets_mcc_zero_not_a_negative_one():
    assert scan_thresholds([0.9, 0.1], [0, 1]).mcc == 0.0


def test_the_scan_is_right_where_the_product_of_four_counts_overflows_int64():
    """250,000 samples on 1,000 levels, against Python's exact integers."""
    random = np.random.default_rng(5)
    labels = random.random(250_000) < 0.3
    scores = np.clip(np.round(0.5 + 0.12 * labels + 0.2 * random.normal(size=labels.size), 3), 0, 1)
    choice = scan_thresholds(scores, labels)
    at = count_confusion(labels, scores > choice.threshold)
    assert (at.tp + at.fp) * (at.tp + at.fn) * (at.tn + at.fp) * (at.tn + at.fn) > 2**63
    assert choice.mcc == pytest.approx(brute_force_best(scores, labels), rel=1e-13)
    assert compute_mcc(labels, scores > choice.threshold) == choice.mcc


@pytest.mark.parametrize("n_thresholds", [None, 5000])
def test_a_million_samples_need_less_than_200_megabytes(n_thresholds):
    random = np.random.default_rng(0)
    labels = random.random(1_000_000) < 0.2
    logits = random.normal(size=(1_000_000, 2))
    tracemalloc.start()
    try:
        select_threshold_max_mcc(logits, labels, n_thresholds=n_thresholds)
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()


def test_logits_of_torch_numpy_and_lists_give_the_same_threshold():
    import torch

    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 200)
    logits = (random.normal(size=(200, 2)) + labels[:, None] * [0, 2]).astype(np.float32)
    expected = select_threshold_max_mcc(logits, labels)
    assert select_threshold_max_mcc(logits.tolist(), labels.tolist()) == expected
    tensor = torch.tensor(logits, requires_grad=True)
    assert select_threshold_max_mcc(tensor, torch.tensor(labels)) == expected
    half = tensor.bfloat16()
    assert select_threshold_max_mcc(half, labels) == select_threshold_max_mcc(half.float(), labels)


@given(st.lists(st.tuples(st.floats(-700, 700), st.floats(-700, 700)), min_size=1, max_size=20))
def test_the_probability_is_the_softmax_and_the_sigmoid_of_the_margin(rows):
    from scipy.special import expit, softmax

    logits = np.array(rows)
    probability = positive_probability(logits)
    assert probability.dtype == np.float64
    np.testing.assert_allclose(probability, softmax(logits, axis=1)[:, 1], rtol=1e-12)
    np.testing.assert_allclose(positive_probability(logits[:, 0]), expit(logits[:, 0]), rtol=1e-12)


def test_the_probability_of_huge_logits_is_finite_and_without_a_warning():
    assert positive_probability([-1e6, -750.0, 0.0, 1e6]).tolist() == [0.0, 0.0, 0.5, 1.0]
    assert positive_probability(np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)).tolist() == [0.0, 1.0]


def test_the_curve_holds_the_exact_maximum_and_stays_small():
    random = np.random.default_rng(2)
    labels = random.random(20_000) < 0.4
    scores = positive_probability(random.normal(size=labels.size) + 2.0 * labels - 1)
    thresholds, mcc = mcc_curve(scores, labels, points=64)
    assert thresholds.size <= 65
    assert np.all(np.diff(thresholds) > 0)
    assert (thresholds[0], thresholds[-1]) == (0, 1)
    assert mcc.max() == scan_thresholds(scores, labels).mcc
    assert mcc.tolist() == [compute_mcc(labels, scores > threshold) for threshold in thresholds]


@pytest.mark.parametrize(
    ("logits", "labels", "fragments"),
    [
        ([], [], ["at least one image in logits"]),
        (np.zeros((0, 2)), [], ["at least one image in logits"]),
        ([0.1, 0.2], [1, 1], ["both classes to choose a threshold", "2 of Roadwork and 0 of None"]),
        ([0.1, 0.2], [0, 0], ["0 of Roadwork and 2 of None"]),
        ([0.1, float("nan")], [0, 1], ["logits to be finite", "1 that are NaN", "image 1 of 2"]),
        ([[0.0, float("inf")], [0.0, 1.0]], [0, 1], ["logits to be finite", "image 0 of 2"]),
        ([[float("inf"), float("inf")], [0.0, 1.0]], [0, 1], ["logits to be finite"]),
        (np.zeros((4, 3)), [0, 1, 0, 1], ["of shape [N, 2] or [N]", "shape [4, 3]"]),
        (np.zeros((2, 2, 1)), [0, 1], ["shape [2, 2, 1]"]),
        ([0.1, 0.2, 0.3], [0, 1], ["3 scores and 2 labels"]),
        ([0.1, 0.2], [0, 2], ["the value 2"]),
        (["a", "b"], [0, 1], ["logits to be numbers"]),
    ],
)
@pytest.mark.parametrize("n_thresholds", [None, 10])
def test_what_has_no_best_threshold_is_refused_in_one_paragraph(logits, labels, fragments, n_thresholds):
    with pytest.raises(DataError) as caught:
        select_threshold_max_mcc(logits, labels, n_thresholds=n_thresholds)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_logits_in_place_of_probabilities_are_refused():
    with pytest.raises(DataError, match=r"scores to lie in \[0, 1\].*positive_probability"):
        scan_thresholds([-2.0, 3.0], [0, 1])


@pytest.mark.parametrize("n_thresholds", [1, 0, -5, 10**9])
def test_a_grid_of_too_few_thresholds_or_too_many_is_refused(n_thresholds):
    with pytest.raises(ConfigError, match=r"2 thresholds, 0 and 1, or more, up to 1,000,000"):
        select_threshold_max_mcc([0.1, 0.2], [0, 1], n_thresholds=n_thresholds)
