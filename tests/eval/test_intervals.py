"""Intervals agree with SciPy where it has them; those over groups with resamples of whole groups."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from streetvision_core.errors import DataError
from streetvision_core.eval.intervals import (
    Interval,
    clopper_pearson_interval,
    difference_interval,
    mcc_group_interval,
    mcc_interval,
    rate_interval,
)
from streetvision_core.eval.metrics import Confusion, confusion_by_group, count_confusion, mcc_of_counts

RATES = st.integers(1, 400).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))
COUNT = st.integers(0, 500)


def sample(seed=0, size=200):
    random = np.random.default_rng(seed)
    labels = random.random(size) < 0.4
    decisions = labels ^ (random.random(size) < 0.15)
    return labels, decisions, random.integers(0, 25, size).astype(str)


@given(rate=RATES, level=st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_the_interval_of_a_rate_is_that_of_scipy(rate, level):
    interval = clopper_pearson_interval(*rate, level=level)
    expected = stats.binomtest(*rate).proportion_ci(level, method="exact")
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= interval.low <= rate[0] / rate[1] <= interval.high <= 1
    assert interval.level == level


def test_of_no_images_a_rate_can_be_anything():
    assert (clopper_pearson_interval(0, 0).low, clopper_pearson_interval(0, 0).high) == (0.0, 1.0)


def test_never_and_always_end_exactly_at_0_and_at_1():
    for n in range(1, 300):
        assert (clopper_pearson_interval(0, n).low, clopper_pearson_interval(n, n).high) == (0.0, 1.0)


@pytest.mark.parametrize("counts", [(3, 2), (-1, 5), (0, -1)])
def test_counts_that_are_no_rate_are_refused(counts):
    with pytest.raises(DataError, match="as many events as trials"):
        clopper_pearson_interval(*counts)
    with pytest.raises(DataError, match="as many events as trials"):
        rate_interval([1, counts[0]], [1, counts[1]])


def ends(interval):
    return interval.low, interval.high


def test_where_every_group_is_one_image_the_intervals_are_those_of_independent_images():
    labels, decisions, _ = sample()
    counts = confusion_by_group(labels, decisions)
    total = Confusion(*counts.sum(axis=0).tolist())
    assert mcc_group_interval(counts) == mcc_interval(total)
    right = counts[:, 0] + counts[:, 1]
    assert rate_interval(right, np.ones_like(right)) == clopper_pearson_interval(right.sum(), right.size)


@pytest.mark.parametrize("copies", [2, 10])
def test_copies_of_every_image_tell_nothing_new(copies):
    """The interval of copied images is nearly that of the images, a little longer for Student's t."""
    labels, decisions, _ = sample()
    counts = confusion_by_group(labels, decisions)
    for interval in (
        mcc_group_interval,
        lambda cells: rate_interval(cells[:, 0] + cells[:, 1], cells.sum(axis=1)),
    ):
        alone, copied = interval(counts), interval(counts * copies)
        length = alone.high - alone.low
        assert length <= copied.high - copied.low <= 1.25 * length


def test_the_length_of_a_group_interval_is_that_of_resamples_of_whole_groups():
    random = np.random.default_rng(5)
    groups, labels = np.repeat(np.arange(400), 6), random.random(2400) < 0.4
    wrong = (random.random(400) < 0.15)[groups] & (random.random(2400) < 0.7)
    counts = confusion_by_group(labels, labels ^ wrong, groups)
    sums = counts[random.integers(0, 400, (4000, 400))].sum(axis=1)
    right, tried = counts[:, 0] + counts[:, 1], counts.sum(axis=1)
    resampled = {"mcc": mcc_of_counts(sums), "accuracy": sums[:, :2].sum(axis=1) / sums.sum(axis=1)}
    intervals = {"mcc": mcc_group_interval(counts), "accuracy": rate_interval(right, tried)}
    for name, drawn in resampled.items():
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert intervals[name].high - intervals[name].low == pytest.approx(high - low, rel=0.1)
        assert ends(intervals[name]) == pytest.approx((low, high), abs=0.2 * (high - low))


@given(
    st.lists(st.tuples(*[st.integers(0, 20)] * 4), min_size=1, max_size=40),
    st.sampled_from([0.5, 0.95, 0.999]),
)
def test_group_intervals_hold_the_figure_stay_in_range_and_have_a_length(rows, level):
    counts = np.array(rows)
    mcc = mcc_group_interval(counts, level=level)
    assert -1 <= mcc.low <= float(mcc_of_counts(counts.sum(axis=0))) + 1e-9
    assert float(mcc_of_counts(counts.sum(axis=0))) - 1e-9 <= mcc.high <= 1
    assert mcc.low < mcc.high
    events, trials = counts[:, 0], counts[:, 0] + counts[:, 3]
    rate = rate_interval(events, trials, level=level)
    assert 0 <= rate.low < rate.high <= 1
    if trials.sum():
        assert rate.low - 1e-9 <= events.sum() / trials.sum() <= rate.high + 1e-9


def test_what_no_group_contradicts_has_an_interval_by_its_groups_and_not_by_its_images():
    """30 groups of 100 images without an error say about as much as 30 images, not as 3,000."""
    counts = np.array([[100, 0, 0, 0], [0, 100, 0, 0]] * 15)
    accuracy = rate_interval(counts.sum(axis=1), counts.sum(axis=1))
    assert accuracy.high == 1
    assert 0.7 < accuracy.low <= clopper_pearson_interval(30, 30).low + 0.01
    assert mcc_group_interval(counts).low < 0.9
    assert mcc_group_interval(counts).high == 1


def test_of_one_group_nothing_is_known():
    assert ends(rate_interval([90], [100])) == (0.0, 1.0)
    assert ends(rate_interval([0, 90], [0, 100])) == (0.0, 1.0)
    assert ends(mcc_group_interval([[40, 50, 5, 5]])) == (-1.0, 1.0)
    assert ends(mcc_group_interval([[40, 0, 0, 5], [0, 9, 1, 0], [0, 9, 0, 0]])) == (-1.0, 1.0)


def test_groups_without_a_trial_change_nothing():
    assert rate_interval([1, 0, 4, 0], [5, 0, 6, 0]) == rate_interval([1, 4], [5, 6])


def test_the_difference_of_two_independent_figures_is_that_of_their_variances():
    """Of two shares of independent images, drawn 4,000 times; each has a symmetric interval."""
    first, second = clopper_pearson_interval(4000, 10_000), clopper_pearson_interval(2000, 5_000)
    interval = difference_interval((0.4, first), (0.4, second))
    deviation = math.sqrt(0.24 / 10_000 + 0.24 / 5_000)
    assert ends(interval) == pytest.approx((-1.96 * deviation, 1.96 * deviation), rel=0.03)


@given(COUNT, COUNT, COUNT, COUNT)
def test_the_interval_of_an_mcc_holds_it_and_stays_in_its_range(tp, tn, fp, fn):
    if tp + tn + fp + fn:
        confusion = Confusion(tp=tp, tn=tn, fp=fp, fn=fn)
        interval = mcc_interval(confusion)
        assert -1 <= interval.low <= confusion.mcc <= interval.high <= 1
        assert interval.low < interval.high


@given(COUNT, COUNT, COUNT, COUNT)
def test_opposite_decisions_turn_the_interval_of_the_mcc_round(tp, tn, fp, fn):
    if tp + tn + fp + fn:
        interval = mcc_interval(Confusion(tp=tp, tn=tn, fp=fp, fn=fn))
        turned = mcc_interval(Confusion(tp=fn, tn=fp, fp=tn, fn=tp))
        assert (turned.low, turned.high) == pytest.approx((-interval.high, -interval.low), abs=1e-12)


def test_the_standard_error_of_an_mcc_is_that_of_many_samples():
    cells = np.array([0.26, 0.62, 0.08, 0.04])
    drawn = mcc_of_counts(np.random.default_rng(0).multinomial(5000, cells, size=4000))
    interval = mcc_interval(Confusion(*(int(5000 * cell) for cell in cells)))
    half = (math.atanh(interval.high) - math.atanh(interval.low)) / 2
    assert half == pytest.approx(1.96 * np.arctanh(drawn).std(), rel=0.04)


def test_perfect_decisions_have_an_interval_that_shrinks_with_their_number():
    few, many = (mcc_interval(Confusion(tp=n, tn=n, fp=0, fn=0)) for n in (10, 1000))
    assert few.low < many.low < few.high == many.high == 1.0


def test_an_mcc_of_no_images_has_no_interval():
    with pytest.raises(DataError, match="at least one counted image"):
        mcc_interval(Confusion(0, 0, 0, 0))


def test_groups_are_counted_whole_and_every_image_once():
    labels, decisions, groups = sample()
    counted = confusion_by_group(labels, decisions, groups)
    names = np.unique(groups)
    for name, row in zip(names, counted.tolist(), strict=True):
        assert Confusion(*row) == count_confusion(labels[groups == name], decisions[groups == name])
    assert Confusion(*counted.sum(axis=0).tolist()) == count_confusion(labels, decisions)
    assert confusion_by_group(labels, decisions).shape == (labels.size, 4)
    assert mcc_of_counts(counted.sum(axis=0)) == count_confusion(labels, decisions).mcc


def test_groups_that_are_not_one_an_image_are_refused():
    labels, decisions, _ = sample()
    with pytest.raises(DataError, match="200 images and 3 groups"):
        confusion_by_group(labels, decisions, ["a", "b", "c"])


def test_intervals_are_frozen_records_in_order():
    assert Interval(0.1, 0.2, 0.95, "clopper-pearson") < Interval(0.1, 0.3, 0.95, "clopper-pearson")
    with pytest.raises(AttributeError):
        Interval(0.1, 0.2, 0.95, "clopper-pearson").low = 0.0
