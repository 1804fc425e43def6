"""A 95 % interval holds the truth as often as it says, on tables whose true MCC is known.

Tables are multinomial draws from four known cell probabilities, of independent images or of groups whose
frames resemble each other. Seeds are fixed. The targets for independent images are those of issue 4: at least
.93 at n=1000, and at least .88 at n=100 and MCC .98.
"""

import math

import numpy as np
import pytest
from scipy.stats import binom

from streetvision_core.eval.intervals import (
    clopper_pearson_interval,
    difference_interval,
    mcc_group_interval,
    mcc_interval,
    rate_interval,
)
from streetvision_core.eval.metrics import Confusion, mcc_of_counts
from streetvision_core.eval.paired import compare_decisions
from streetvision_core.eval.reliability import (
    expected_calibration_error,
    perfect_calibration_errors,
    reliability_bins,
)

PREVALENCES = (0.1, 0.3, 0.5)


def cells(mcc, prevalence):
    """The shares of the four outcomes with as many misses as false alarms: MCC = 1 - q / (p (1 - p))."""
    q = (1 - mcc) * prevalence * (1 - prevalence)
    return np.array([prevalence - q, 1 - prevalence - q, q, q])


def tables(mcc, prevalence, *, n, trials, seed=0):
    return np.random.default_rng(seed).multinomial(n, cells(mcc, prevalence), size=trials)


def coverage(interval_of, drawn, truth):
    """The share of drawn tables whose interval holds the truth; equal tables are computed once."""
    kinds, counted = np.unique(drawn, axis=0, return_counts=True)
    intervals = [interval_of(kind) for kind in kinds]
    return np.average([low <= truth <= high for low, high in intervals], weights=counted)


def fisher_z(table):
    interval = mcc_interval(Confusion(*table.tolist()))
    return interval.low, interval.high


def bivariate_normal(table):
    """The textbook's Fisher-z, whose standard error is that of two normal variables."""
    z = math.atanh(mcc_of_counts(2 * table + 1))
    half = 1.96 / math.sqrt(table.sum() - 3)
    return math.tanh(z - half), math.tanh(z + half)


def resampled(counts, *, seed=0):
    """The percentile bootstrap over groups: what a reader may expect, and what has length 0 near 1."""
    chosen = np.random.default_rng(seed).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), 400)
    return np.quantile(mcc_of_counts(chosen @ counts), [0.025, 0.975])


@pytest.mark.parametrize("prevalence", PREVALENCES)
@pytest.mark.parametrize("mcc", [0.3, 0.6, 0.8, 0.9, 0.95, 0.98])
def test_the_interval_of_an_mcc_covers_93_percent_at_1000_images(mcc, prevalence, trials):
    assert coverage(fisher_z, tables(mcc, prevalence, n=1000, trials=trials), mcc) >= 0.93


@pytest.mark.parametrize("prevalence", PREVALENCES)
@pytest.mark.parametrize("mcc", [0.3, 0.8, 0.95, 0.98])
def test_the_interval_of_an_mcc_covers_88_percent_at_100_images(mcc, prevalence, trials):
    assert coverage(fisher_z, tables(mcc, prevalence, n=100, trials=trials), mcc) >= 0.88


def test_what_the_interval_of_an_mcc_is_there_for_fails_without_it(trials):
    """The normal standard error covers a third."""
    drawn = tables(0.98, 0.3, n=1000, trials=trials)
    assert coverage(bivariate_normal, drawn, 0.98) < 0.5


def group_sizes(rng, groups, size):
    """Groups of one size, or lognormal ones; with `size` None a few long videos and many short ones."""
    return np.full(groups, size) if size else np.ceil(np.exp(rng.normal(1.8, 1, groups))).astype(int)


def grouped_counts(rng, *, groups, size, mcc=0.8, correlation=0.6, prevalence=0.3):
    """Tables of groups whose frames repeat the first one of their group, so that pairs correlate."""
    sizes = group_sizes(rng, groups, size)
    group = np.repeat(np.arange(groups), sizes)
    kinds, first = (rng.choice(4, number, p=cells(mcc, prevalence)) for number in (group.size, groups))
    kinds = np.where(rng.random(group.size) < math.sqrt(correlation), first[group], kinds)
    return np.bincount(group * 4 + kinds, minlength=4 * groups).reshape(groups, 4)


def held(intervals, worlds, truth):
    """The share of the worlds in which each of the named intervals holds the truth."""
    inside = dict.fromkeys(intervals, 0)
    for counts in worlds:
        for name, interval_of in intervals.items():
            low, high = interval_of(counts)
            inside[name] += low <= truth <= high
    return {name: number / len(worlds) for name, number in inside.items()}


def group_ends(counts):
    interval = mcc_group_interval(counts)
    return interval.low, interval.high


def worlds_of(rounds, **how):
    rng = np.random.default_rng(0)
    return [grouped_counts(rng, **how) for _ in range(rounds)]


@pytest.mark.parametrize("size", [10, None], ids=["equal", "lognormal"])
@pytest.mark.parametrize("mcc", [0.8, 0.95])
@pytest.mark.parametrize("groups", [20, 50, 100])
def test_the_interval_of_an_mcc_over_groups_covers_where_frames_resemble_each_other(
    groups, mcc, size, trials
):
    """At a correlation of .6 at least .93 less three standard errors; by image it covers about .7."""
    rounds = trials // 10
    ways = {"groups": group_ends, "images": lambda counts: fisher_z(counts.sum(axis=0))}
    covered = held(ways, worlds_of(rounds, groups=groups, size=size, mcc=mcc), mcc)
    assert covered["groups"] >= 0.93 - 3 * math.sqrt(0.93 * 0.07 / rounds)
    if mcc == 0.8:
        assert covered["images"] < 0.85


def test_near_1_the_group_bootstrap_has_no_length_and_the_exact_bound_stands(trials):
    """50 single images at MCC .95: half of the resamples' intervals have length 0, none of ours has."""
    rounds = trials // 10
    worlds = worlds_of(rounds, groups=50, size=1, mcc=0.95)
    covered = held({"ours": group_ends, "bootstrap": resampled}, worlds, 0.95)
    assert covered["ours"] >= 0.95 - 0.02 - 3 * math.sqrt(0.05 * 0.95 / rounds)
    assert covered["bootstrap"] < 0.75
    assert sum(np.ptp(resampled(counts)) == 0 for counts in worlds) > 0.3 * rounds
    assert all(np.ptp(group_ends(counts)) > 0.05 for counts in worlds)


@pytest.mark.parametrize("size", [1, 10, None], ids=["single", "equal", "lognormal"])
@pytest.mark.parametrize("groups", [5, 30, 100])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
def test_the_interval_of_a_rate_over_groups_covers_as_often_as_it_says(rate, groups, size, trials):
    """Correlation .6, and rates near 0: .95 less three standard errors; by image it covers .67 to .77."""
    rng, rounds, inside, by_image = np.random.default_rng(1), trials // 10, 0, 0
    for _ in range(rounds):
        sizes = group_sizes(rng, groups, size)
        events = rng.binomial(sizes, rng.beta(rate * 2 / 3, (1 - rate) * 2 / 3, groups))
        interval, alone = rate_interval(events, sizes), clopper_pearson_interval(events.sum(), sizes.sum())
        inside += interval.low <= rate <= interval.high
        by_image += alone.low <= rate <= alone.high
    assert inside / rounds >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / rounds)
    if size != 1 and groups == 100 and rate == 0.3:
        assert by_image / rounds < 0.85


def equal_deciders(rng, *, groups, size, error, correlation=0.6):
    """Labels and answers of two equally good deciders whose mistakes come in groups."""
    group = np.repeat(np.arange(groups), group_sizes(rng, groups, size))
    labels = (rng.random(groups) < 0.3)[group]
    answers = []
    for _ in range(2):
        together = rng.random(group.size) < math.sqrt(correlation)
        wrong = np.where(together, rng.random(groups)[group], rng.random(group.size)) < error
        answers.append(labels ^ wrong)
    return labels, *answers, group


def mcnemar(labels, a, b):
    only_a, only_b = np.sum((a == labels) & (b != labels)), np.sum((a != labels) & (b == labels))
    return 1.0 if only_a == only_b else min(1.0, 2 * binom.cdf(min(only_a, only_b), only_a + only_b, 0.5))


@pytest.mark.parametrize(("groups", "size"), [(20, None), (50, 10), (100, None)])
def test_equal_models_are_called_different_in_at_most_5_percent(groups, size, trials):
    """Exchanging whole groups keeps the level; McNemar's test by image calls three times as many."""
    rng, rounds, called, by_image = np.random.default_rng(2), trials // 10, 0, 0
    words = np.array(["none", "roadwork"])
    for trial in range(rounds):
        labels, a, b, group = equal_deciders(rng, groups=groups, size=size, error=0.15)
        comparison = compare_decisions(
            labels, words[a.astype(int)], words[b.astype(int)], group, seed=trial, swaps=500
        )
        called += comparison.p_value <= 0.05
        by_image += mcnemar(labels, a, b) <= 0.05
    assert called / rounds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / rounds)
    assert by_image / rounds > 0.15


def test_the_interval_of_val_calib_minus_val_test_covers_the_difference_of_equals(trials):
    """Two roles of 60 groups of the same world: their true difference is 0."""
    rng, rounds, inside = np.random.default_rng(3), trials // 10, 0
    for _ in range(rounds):
        both = [grouped_counts(rng, groups=60, size=8) for _ in range(2)]
        first, second = (
            (float(mcc_of_counts(counts.sum(axis=0))), mcc_group_interval(counts)) for counts in both
        )
        interval = difference_interval(first, second)
        inside += interval.low <= 0 <= interval.high
    assert inside / rounds >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / rounds)


@pytest.mark.parametrize("size", [1, 10])
def test_the_error_of_a_perfectly_calibrated_model_is_below_its_point_in_95_percent(size, trials):
    """The ECE of 300 images is .02 and looks like a fault, so it stands beside what is unavoidable."""
    rng, rounds, below, errors = np.random.default_rng(4), trials // 10, 0, []
    group = np.repeat(np.arange(300 // size), size)
    for trial in range(rounds):
        p = rng.beta(0.4, 0.6, 300 // size)[group]
        labels = rng.random(300 // size)[group] < p
        error = expected_calibration_error(reliability_bins(p, labels, binning="equal_mass"))
        below += error <= np.quantile(perfect_calibration_errors(p, group, seed=trial, draws=100), 0.95)
        errors.append(error)
    assert below / rounds >= 0.95 - 0.01 - 3 * math.sqrt(0.05 * 0.95 / rounds)
    assert np.mean(errors) > 0.015


@pytest.mark.parametrize("rate", [0.005, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("n", [30, 100, 1000])
def test_clopper_pearson_never_covers_less_than_it_says(rate, n):
    """Exact, not simulated: every possible count with its probability."""
    events = np.arange(n + 1)
    mass = binom.pmf(events, n, rate)
    likely = events[mass > 1e-12]
    intervals = [clopper_pearson_interval(int(k), n) for k in likely]
    assert mass[likely] @ [interval.low <= rate <= interval.high for interval in intervals] >= 0.95
