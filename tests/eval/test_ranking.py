"""AUROC, average precision and calibration are scikit-learn's; the risk-coverage areas are brute force's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve

from streetvision_core.errors import DataError
from streetvision_core.eval.ranking import auroc, average_precision, risk_coverage_curve
from streetvision_core.eval.reliability import (
    brier_score,
    expected_calibration_error,
    maximum_calibration_error,
    reliability_bins,
)
from streetvision_core.eval.selective import margin_confidence, selective_sweep

SCORES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1))
SAMPLES = st.lists(st.tuples(SCORES, st.integers(0, 1)), min_size=1, max_size=60)
BOTH = SAMPLES.filter(lambda pairs: len({label for _, label in pairs}) == 2)


def columns(pairs):
    return np.array([score for score, _ in pairs]), np.array([label for _, label in pairs])


@given(BOTH)
def test_auroc_and_average_precision_are_those_of_scikit_learn(pairs):
    scores, labels = columns(pairs)
    assert auroc(scores, labels) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    expected = metrics.average_precision_score(labels, scores)
    assert average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)


@given(BOTH, st.randoms(use_true_random=False))
def test_no_figure_depends_on_the_order_of_the_images(pairs, random):
    scores, labels = columns(pairs)
    order = random.sample(range(len(pairs)), len(pairs))
    for figure in (auroc, average_precision, lambda s, w: risk_coverage_curve(s, w).aurc,
                   lambda s, w: risk_coverage_curve(s, w).augrc):  # fmt: skip
        assert figure(scores[order], labels[order]) == figure(scores, labels)


@pytest.mark.parametrize("figure", [auroc, average_precision])
def test_one_class_has_no_ranking(figure):
    with pytest.raises(DataError, match="images of both classes"):
        figure([0.1, 0.2], [1, 1])


@given(SAMPLES)
def test_every_point_of_the_curve_is_what_counting_by_hand_gives(pairs):
    confidence, wrong = columns(pairs)
    curve = risk_coverage_curve(confidence, wrong)
    assert curve.thresholds.tolist() == sorted(set(confidence.tolist()), reverse=True)
    for at, threshold in enumerate(curve.thresholds):
        accepted = confidence >= threshold
        assert curve.coverage[at] == accepted.mean()
        assert curve.selective_risk[at] == pytest.approx(wrong[accepted].mean())
        assert curve.generalized_risk[at] == pytest.approx((wrong * accepted).mean())


TIED = st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 1)), min_size=1, max_size=7)


def over_all_orders(pairs):
    """AURC and AUGRC of every order of the images in which confidence does not rise, averaged."""
    aurc, augrc = [], []
    for order in itertools.permutations(pairs):
        confidence, wrong = columns(order)
        if (np.diff(confidence) <= 0).all():
            n, errors = len(order), np.cumsum(wrong)
            aurc.append(np.mean(errors / np.arange(1, n + 1)))
            before = np.append(0, errors[:-1])
            augrc.append(np.mean((errors + before) / 2) / n)
    return np.mean(aurc), np.mean(augrc)


@given(TIED)
def test_aurc_and_augrc_are_the_means_over_all_orders_of_equally_confident_images(pairs):
    curve = risk_coverage_curve(*columns(pairs))
    assert (curve.aurc, curve.augrc) == pytest.approx(over_all_orders(pairs), abs=1e-12)


@given(TIED)
def test_e_aurc_is_aurc_above_the_best_order_of_the_same_answers(pairs):
    wrong = sorted(label for _, label in pairs)
    best = risk_coverage_curve(-np.arange(len(wrong)), wrong)
    curve = risk_coverage_curve(*columns(pairs))
    assert curve.e_aurc == pytest.approx(curve.aurc - best.aurc, abs=1e-12)
    assert curve.e_aurc >= -1e-12
    assert best.e_aurc == pytest.approx(0, abs=1e-12)
    assert best.augrc == pytest.approx(np.mean(wrong) ** 2 / 2, abs=1e-12)
    assert curve.augrc >= best.augrc - 1e-12


def test_a_confidence_that_tells_nothing_has_the_risk_of_all_answers():
    curve = risk_coverage_curve([0.3] * 8, [1, 0, 0, 0, 1, 0, 0, 0])
    assert curve.aurc == pytest.approx(0.25)
    assert curve.augrc == pytest.approx(0.25 / 2)
    assert curve.coverage.tolist() == [1.0]


def test_the_curve_and_the_selective_sweep_count_the_same():
    random = np.random.default_rng(0)
    labels = random.random(500) < 0.3
    p = np.round(np.clip(labels * 0.4 + random.random(500) * 0.6, 0, 1), 2)
    curve = risk_coverage_curve(margin_confidence(p, threshold=0.4), (p > 0.4) != labels)
    for row in selective_sweep(p, labels, threshold=0.4):
        at = int(np.searchsorted(curve.accepted, row.num_accepted))
        assert (curve.accepted[at], curve.thresholds[at]) == (row.num_accepted, row.confidence_bound)
        assert curve.selective_risk[at] == pytest.approx(row.selective_risk)


@given(SAMPLES)
def test_brier_is_that_of_scikit_learn(pairs):
    p, labels = columns(pairs)
    expected = metrics.brier_score_loss(labels, p, pos_label=1)
    assert brier_score(p, labels) == pytest.approx(expected, abs=1e-12)


@given(pairs=SAMPLES, bins=st.integers(1, 20))
def test_bins_of_equal_width_are_those_of_scikit_learn(pairs, bins):
    p, labels = columns(pairs)
    diagram = reliability_bins(p, labels, bins=bins)
    share, mean = calibration_curve(labels, p, n_bins=bins, strategy="uniform", pos_label=1)
    assert [bin_.probability for bin_ in diagram] == pytest.approx(mean.tolist(), abs=1e-12)
    assert [bin_.roadwork for bin_ in diagram] == pytest.approx(share.tolist(), abs=1e-12)
    for bin_ in diagram:
        inside = (p > bin_.low) & (p <= bin_.high) if bin_.low > 0 else p <= bin_.high
        assert inside.sum() == bin_.n


@given(pairs=SAMPLES, bins=st.integers(1, 20))
@example(pairs=[(0.0, 0)] * 4 + [(0.25, 0)] * 2 + [(0.5, 0)], bins=3)
def test_bins_of_equal_mass_share_out_the_ranks_and_keep_ties_together(pairs, bins):
    p, labels = columns(pairs)
    ordered = sorted(p.tolist())
    place = np.array([ordered.index(probability) * bins // p.size for probability in p.tolist()])
    diagram = reliability_bins(p, labels, binning="equal_mass", bins=bins)
    assert len(diagram) == len(set(place.tolist()))
    for bin_, number in zip(diagram, sorted(set(place.tolist())), strict=True):
        inside = place == number
        assert (bin_.low, bin_.high, bin_.n) == (p[inside].min(), p[inside].max(), inside.sum())
        assert bin_.probability == pytest.approx(p[inside].mean(), abs=1e-12)
        assert bin_.roadwork == pytest.approx(labels[inside].mean(), abs=1e-12)


@pytest.mark.parametrize("binning", ["equal_width", "equal_mass"])
@given(pairs=SAMPLES)
def test_calibration_errors_are_the_mean_and_the_largest_gap_of_the_bins(binning, pairs):
    p, labels = columns(pairs)
    bins = reliability_bins(p, labels, binning=binning)
    gaps = [abs(bin_.probability - bin_.roadwork) for bin_ in bins]
    sizes = [bin_.n for bin_ in bins]
    assert sum(sizes) == p.size
    assert expected_calibration_error(bins) == pytest.approx(np.average(gaps, weights=sizes), abs=1e-12)
    assert maximum_calibration_error(bins) == pytest.approx(max(gaps), abs=1e-12)


def test_bins_of_equal_mass_are_equally_full_without_ties():
    for n in (150, 157):
        bins = reliability_bins(np.linspace(0.4, 0.6, n), np.arange(n) % 2, binning="equal_mass", bins=15)
        assert {bin_.n for bin_ in bins} == ({10} if n == 150 else {10, 11})
        assert len(bins) == 15


def test_too_sure_is_a_calibration_error_of_how_much_too_sure():
    labels = np.arange(1000) % 10 < 7
    bins = reliability_bins(np.full(1000, 0.9), labels)
    assert expected_calibration_error(bins) == pytest.approx(0.2)
    assert maximum_calibration_error(bins) == pytest.approx(0.2)


@pytest.mark.parametrize("figure", [auroc, average_precision, risk_coverage_curve])
@pytest.mark.parametrize(
    ("scores", "flags", "fragment"),
    [
        ([0.1, float("nan")], [0, 1], "to be finite"),
        ([0.1, 0.2, 0.3], [0, 1], "3 "),
        ([0.1, 0.2], [0, 2], "to hold only 0"),
        ([], [], "at least one image"),
    ],
)
def test_what_is_not_scores_and_flags_of_the_same_images_is_refused(figure, scores, flags, fragment):
    with pytest.raises(DataError) as caught:
        figure(scores, flags)
    assert fragment in str(caught.value)


@pytest.mark.parametrize("figure", [brier_score, reliability_bins])
def test_what_is_no_probability_is_refused(figure):
    with pytest.raises(DataError, match="to lie in"):
        figure([0.1, 1.2], [0, 1])
