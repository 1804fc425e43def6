"""Intervals agree with SciPy where it has them, and the bootstrap with SciPy's and with brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from streetvision_core.errors import ConfigError, DataError
from streetvision_core.eval import (
    Confusion,
    Interval,
    auroc,
    bootstrap_counts,
    bootstrap_positions,
    clopper_pearson_interval,
    confusion_by_group,
    count_confusion,
    mcc_interval,
    mcc_of_counts,
    wilson_interval,
)

RATES = st.integers(1, 400).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))
COUNT = st.integers(0, 500)


def share_of_first(counts):
    return counts[..., 0] / counts.sum(axis=-1)


def sample(seed=0, size=200):
    random = np.random.default_rng(seed)
    labels = random.random(size) < 0.4
    decisions = labels ^ (random.random(size) < 0.15)
    return labels, decisions, random.integers(0, 25, size).astype(str)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(clopper_pearson_interval, "exact"), (wilson_interval, "wilson")]
)
@given(rate=RATES, level=st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_the_intervals_of_a_rate_are_those_of_scipy(ours, theirs, rate, level):
    found = ours(*rate, level=level)
    expected = stats.binomtest(*rate).proportion_ci(level, method=theirs)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= found.low <= rate[0] / rate[1] <= found.high <= 1
    assert found.level == level


@pytest.mark.parametrize("interval", [clopper_pearson_interval, wilson_interval])
def test_of_no_images_a_rate_can_be_anything(interval):
    assert (interval(0, 0).low, interval(0, 0).high) == (0.0, 1.0)


@pytest.mark.parametrize("interval", [clopper_pearson_interval, wilson_interval])
def test_never_and_always_end_exactly_at_0_and_at_1(interval):
    for n in range(1, 300):
        assert (interval(0, n).low, interval(n, n).high) == (0.0, 1.0)


@pytest.mark.parametrize("interval", [clopper_pearson_interval, wilson_interval])
@pytest.mark.parametrize("counts", [(3, 2), (-1, 5), (0, -1)])
def test_counts_that_are_no_rate_are_refused(interval, counts):
    with pytest.raises(DataError, match="as many events as trials"):
        interval(*counts)


@given(COUNT, COUNT, COUNT, COUNT)
def test_the_interval_of_an_mcc_holds_it_and_stays_in_its_range(tp, tn, fp, fn):
    if tp + tn + fp + fn:
        confusion = Confusion(tp=tp, tn=tn, fp=fp, fn=fn)
        found = mcc_interval(confusion)
        assert -1 <= found.low <= confusion.mcc <= found.high <= 1
        assert found.low < found.high


@given(COUNT, COUNT, COUNT, COUNT)
def test_opposite_decisions_turn_the_interval_of_the_mcc_round(tp, tn, fp, fn):
    if tp + tn + fp + fn:
        found = mcc_interval(Confusion(tp=tp, tn=tn, fp=fp, fn=fn))
        turned = mcc_interval(Confusion(tp=fn, tn=fp, fp=tn, fn=tp))
        assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-12)


def test_the_standard_error_of_an_mcc_is_that_of_many_samples():
    cells = np.array([0.26, 0.62, 0.08, 0.04])
    drawn = mcc_of_counts(np.random.default_rng(0).multinomial(5000, cells, size=4000))
    found = mcc_interval(Confusion(*(int(5000 * cell) for cell in cells)))
    half = (math.atanh(found.high) - math.atanh(found.low)) / 2
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


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_bootstrap_of_counts_is_that_of_scipy(method):
    """A share has an interval in SciPy too; the seeds differ, so the resamples do."""
    values = np.arange(60) < 9
    counts = np.column_stack([values, ~values]).astype(np.int64)
    found = bootstrap_counts(counts, share_of_first, seed=1, method=method, resamples=40_000)
    expected = stats.bootstrap(
        (values.astype(float),), np.mean, method=method, n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    # One image more or less moves a quantile by 1/60.
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.017)
    assert found.method == f"bootstrap-{method}"


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_bootstrap_of_a_skewed_figure_is_that_of_scipy(method):
    """Counts of many values stand for a skewed sample, where BCa and percentile differ."""
    values = np.random.default_rng(3).geometric(0.05, 80)
    counts = np.column_stack([values, np.ones_like(values)])
    found = bootstrap_counts(counts, lambda c: c[..., 0] / c[..., 1], seed=1, method=method, resamples=40_000)
    expected = stats.bootstrap(
        (values.astype(float),), np.mean, method=method, n_resamples=40_000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.12)
    assert values.mean() - found.low > 2  # so 0.12 is little


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_fast_way_by_counts_and_the_general_way_by_positions_agree(method, grouped):
    labels, decisions, groups = sample()
    chosen = groups if grouped else None
    fast = bootstrap_counts(
        confusion_by_group(labels, decisions, chosen), mcc_of_counts, seed=0, method=method, resamples=20_000
    )
    general = bootstrap_positions(
        lambda at: count_confusion(labels[at], decisions[at]).mcc,
        pictures=labels.size, groups=chosen, seed=1, method=method, resamples=4_000,
    )  # fmt: skip
    assert (fast.low, fast.high) == pytest.approx((general.low, general.high), abs=0.012)


def test_a_resample_draws_whole_groups():
    """Groups of one class each: every resample has them whole, so each group's images come together."""
    groups = np.repeat(["a", "b", "c", "d"], [1, 2, 3, 4])
    seen = []
    bootstrap_positions(
        lambda at: float(seen.append(at.tolist()) or 0), pictures=10, groups=groups, seed=0,
        method="percentile", resamples=50,
    )  # fmt: skip
    for positions in seen[:-1]:
        drawn = np.bincount(positions, minlength=10)
        assert sum(len(set(drawn[groups == name].tolist())) for name in "abcd") == 4
        assert sum(drawn[groups == name][0] for name in "abcd") == 4
    assert sorted(seen[-1]) == list(range(10))


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    counts = confusion_by_group(*sample())
    first, again, other = (bootstrap_counts(counts, mcc_of_counts, seed=seed) for seed in (4, 4, 5))
    assert first == again
    assert first != other


def test_memory_does_not_decide_the_resamples(monkeypatch):
    counts = confusion_by_group(*sample())
    whole = bootstrap_counts(counts, mcc_of_counts, seed=0)
    monkeypatch.setattr("streetvision_core.eval.bootstrap._CELLS_AT_ONCE", 100)
    assert bootstrap_counts(counts, mcc_of_counts, seed=0) == whole


def test_decisions_without_an_error_have_a_bootstrap_interval_of_no_length():
    found = bootstrap_counts(np.array([[3, 0, 0, 0], [0, 4, 0, 0], [2, 2, 0, 0]] * 9), mcc_of_counts, seed=0)
    assert (found.low, found.high) == (1.0, 1.0)


def test_a_paired_difference_of_two_models_is_a_statistic_like_others():
    labels, _, groups = sample()
    random = np.random.default_rng(1)
    good, bad = labels + random.normal(0, 0.4, labels.size), labels + random.normal(0, 3, labels.size)
    found = bootstrap_positions(
        lambda at: auroc(good[at], labels[at]) - auroc(bad[at], labels[at]),
        pictures=labels.size, groups=groups, seed=0, resamples=300,
    )  # fmt: skip
    assert found.low > 0


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95, float("nan")])
def test_a_level_outside_its_range_is_refused(level):
    counts = confusion_by_group(*sample())
    for interval in (
        lambda: clopper_pearson_interval(1, 9, level=level),
        lambda: wilson_interval(1, 9, level=level),
        lambda: mcc_interval(Confusion(5, 5, 1, 1), level=level),
        lambda: bootstrap_counts(counts, mcc_of_counts, seed=0, level=level),
        lambda: bootstrap_positions(np.mean, pictures=9, seed=0, level=level),
    ):
        with pytest.raises(ConfigError, match="a level strictly between 0 and 1"):
            interval()


def test_what_cannot_be_resampled_is_refused_readably():
    labels, decisions, _ = sample()
    with pytest.raises(DataError, match="at least two images or groups"):
        bootstrap_counts(confusion_by_group(labels, decisions, ["one"] * labels.size), mcc_of_counts, seed=0)
    with pytest.raises(ConfigError, match="at least one resample"):
        bootstrap_counts(confusion_by_group(labels, decisions), mcc_of_counts, seed=0, resamples=0)
    with pytest.raises(DataError, match="200 images and 3 groups"):
        confusion_by_group(labels, decisions, ["a", "b", "c"])


def test_a_figure_that_every_resample_lowers_still_has_an_interval():
    """A resample never holds more different images than there are: the bias is as large as can be said."""
    found = bootstrap_positions(lambda at: float(len(set(at.tolist()))), pictures=30, seed=0, resamples=200)
    assert 10 < found.low <= found.high <= 30


def test_an_interval_is_in_order_however_biased_and_skewed_the_figure_is():
    """One unit decides the jackknife, every resample is above the figure, and the level is extreme."""

    def figure(at):
        if at.size < 200:
            return 100.0 if 0 not in at else 0.0
        return -1.0 if (at == np.arange(200)).all() else float(at[0])

    found = bootstrap_positions(figure, pictures=200, seed=0, level=0.9999, resamples=500)
    assert 0 == found.low <= found.high < 10


def test_a_figure_that_some_resample_does_not_have_is_an_error_and_never_left_out():
    with pytest.raises(DataError, match="a figure that every resample has"):
        bootstrap_positions(
            lambda at: float("nan") if 0 not in at else 1.0, pictures=9, seed=0, method="percentile"
        )


def test_intervals_are_frozen_records_in_order():
    assert Interval(0.1, 0.2, 0.95, "wilson") < Interval(0.1, 0.3, 0.95, "wilson")
    with pytest.raises(AttributeError):
        Interval(0.1, 0.2, 0.95, "wilson").low = 0.0
