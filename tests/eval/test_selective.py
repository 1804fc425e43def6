"""The selective sweep accepts the surest images, ties together, and counts what is wrong among them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streetvision_core.errors import DataError
from streetvision_core.eval.selective import COVERAGES, SweepRow, margin_confidence, selective_sweep
from streetvision_core.eval.thresholds import positive_probability

SAMPLES = st.lists(
    st.tuples(st.one_of(st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]), st.floats(0, 1)), st.integers(0, 1)),
    min_size=1,
    max_size=60,
)


@given(SAMPLES, st.floats(0.01, 0.99))
def test_every_row_is_what_counting_by_hand_gives(samples, threshold):
    probabilities, labels = np.array([p for p, _ in samples]), np.array([label for _, label in samples])
    confidence = margin_confidence(probabilities, threshold=threshold)
    wrong = (probabilities > threshold) != labels
    for row in selective_sweep(probabilities, labels, threshold=threshold):
        accepted = confidence >= row.confidence_bound
        assert row.num_accepted == accepted.sum()
        assert row.coverage == accepted.mean()
        assert row.selective_risk == pytest.approx(wrong[accepted].mean())
        assert row.selective_accuracy == pytest.approx(1 - wrong[accepted].mean())
        # The bound is as strict as the coverage allows: without its own tie it would be missed.
        assert row.coverage >= row.coverage_asked - 1e-12
        assert (confidence > row.confidence_bound).mean() < row.coverage_asked


def test_the_default_coverages_are_five_to_ninety_five_percent():
    rows = selective_sweep(np.linspace(0.001, 0.999, 100), np.arange(100) >= 50, threshold=0.5)
    assert [row.coverage_asked for row in rows] == list(COVERAGES)
    assert COVERAGES[0] == 0.05
    assert COVERAGES[-1] == 0.95
    assert len(COVERAGES) == 19


def test_a_coverage_that_is_not_exact_in_binary_still_asks_for_whole_images():
    """0.55 * 100 is a little more than 55 in floats."""
    assert math.ceil(0.55 * 100) == 56
    rows = selective_sweep(np.linspace(0.51, 0.99, 100), np.ones(100, int), threshold=0.5, coverages=[0.55])
    assert rows[0].num_accepted == 55


def test_equally_confident_images_are_accepted_together():
    rows = selective_sweep([0.9, 0.9, 0.9, 0.6], [1, 0, 1, 1], threshold=0.5, coverages=[0.25, 1.0])
    assert [(row.coverage, row.num_accepted) for row in rows] == [(0.75, 3), (1.0, 4)]
    assert rows[0].selective_risk == pytest.approx(1 / 3)


def test_confidence_is_the_distance_from_the_operating_point_in_logits():
    margins = np.array([-3.0, -1.0, 0.5, 1.0, 4.0])
    threshold = float(positive_probability([1.0])[0])
    confidence = margin_confidence(positive_probability(margins), threshold=threshold)
    np.testing.assert_allclose(confidence, np.abs(margins - 1.0), atol=1e-9)


def test_saturated_images_of_both_classes_are_equally_sure_and_finite():
    confidence = margin_confidence(positive_probability([-60.0, 60.0, -800.0, 800.0]), threshold=0.5)
    assert np.isfinite(confidence).all()
    np.testing.assert_allclose(confidence, confidence[0], rtol=1e-12)


def test_rows_are_frozen_and_ordered_by_coverage():
    rows = selective_sweep([0.1, 0.4, 0.6, 0.9], [0, 1, 1, 1], threshold=0.5)
    assert list(rows) == sorted(rows)
    assert isinstance(rows[0], SweepRow)
    with pytest.raises(AttributeError):
        rows[0].num_accepted = 3


@pytest.mark.parametrize(
    ("probabilities", "labels", "fragment"),
    [
        ([0.1, 1.2], [0, 1], "in [0, 1]"),
        ([0.1, float("nan")], [0, 1], "finite"),
        ([], [], "at least one image"),
        ([0.1], [0, 1], "1 probabilities and 2 labels"),
    ],
)
def test_what_is_not_a_set_of_probabilities_and_labels_is_refused(probabilities, labels, fragment):
    with pytest.raises(DataError) as caught:
        selective_sweep(probabilities, labels, threshold=0.5)
    assert fragment in str(caught.value)
