"""Two deciders on the same images: the exact test and the paired bootstrap against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from streetvision_core.errors import ConfigError, DataError
from streetvision_core.eval.bootstrap import bootstrap_positions
from streetvision_core.eval.metrics import compute_mcc
from streetvision_core.eval.paired import compare_decisions, mcnemar_p_value

WORDS = np.array(["none", "roadwork", "defer"])


def decided(random, labels, *, wrong, deferred=0.0):
    said = np.where(random.random(labels.size) < wrong, 1 - labels, labels)
    return WORDS[np.where(random.random(labels.size) < deferred, 2, said)].tolist()


def experiment(seed=0, pictures=400, groups=150, wrong=(0.1, 0.05), deferred=(0.0, 0.0)):
    random = np.random.default_rng(seed)
    labels = (random.random(pictures) < 0.3).astype(int)
    a, b = (
        decided(random, labels, wrong=rate, deferred=share)
        for rate, share in zip(wrong, deferred, strict=True)
    )
    return labels, a, b, [f"group {one}" for one in random.integers(0, groups, pictures)]


@pytest.mark.parametrize("only_a", [0, 1, 2, 5, 17, 400])
@pytest.mark.parametrize("only_b", [0, 1, 3, 5, 30, 100_000])
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    both = only_a + only_b
    expected = binomtest(only_a, both, 0.5).pvalue if both else 1.0
    assert mcnemar_p_value(only_a, only_b) == pytest.approx(expected, rel=1e-9)
    if both < 50:
        outcomes = [math.comb(both, k) / 2**both for k in range(both + 1)]
        brute = sum(one for one in outcomes if one <= outcomes[only_a] * (1 + 1e-12))
        assert mcnemar_p_value(only_a, only_b) == pytest.approx(brute)


@pytest.mark.parametrize("seed", range(20))
def test_every_figure_is_that_of_the_images_both_answer(seed):
    labels, a, b, groups = experiment(seed, deferred=(0.2, 0.3))
    found = compare_decisions(labels, a, b, groups, seed=0, resamples=10)
    answers_a, answers_b = (np.array(said) != "defer" for said in (a, b))
    both = np.flatnonzero(answers_a & answers_b)
    said_a, said_b = ((np.array(said)[both] == "roadwork").astype(int) for said in (a, b))
    right_a, right_b = said_a == labels[both], said_b == labels[both]
    assert (found.pictures, found.n) == (400, both.size)
    assert found.only_a_answers == np.sum(answers_a & ~answers_b)
    assert found.only_b_answers == np.sum(answers_b & ~answers_a)
    assert (found.coverage_a, found.coverage_b) == (answers_a.mean(), answers_b.mean())
    assert found.only_a_right == np.sum(right_a & ~right_b)
    assert found.only_b_right == np.sum(right_b & ~right_a)
    assert found.accuracy_difference == pytest.approx(right_b.mean() - right_a.mean())
    assert found.mcc_a == compute_mcc(labels[both], said_a)
    assert found.mcc_b == compute_mcc(labels[both], said_b)
    assert found.mcc_difference == found.mcc_b - found.mcc_a
    differing = {
        groups[place] for place, one, other in zip(both, said_a, said_b, strict=True) if one != other
    }
    assert found.differing_groups == len(differing)


@pytest.mark.parametrize("deferred", [(0.0, 0.0), (0.1, 0.3)])
def test_the_interval_is_that_of_a_paired_bootstrap_by_positions(deferred):
    labels, a, b, groups = experiment(3, deferred=deferred)
    found = compare_decisions(labels, a, b, groups, seed=1, resamples=8000)
    both = np.array([i for i in range(labels.size) if "defer" not in {a[i], b[i]}])
    truth = labels[both]
    said_a, said_b = (np.array(said)[both] == "roadwork" for said in (a, b))
    brute = bootstrap_positions(
        lambda chosen: (
            compute_mcc(truth[chosen], said_b[chosen]) - compute_mcc(truth[chosen], said_a[chosen])
        ),
        pictures=both.size,
        groups=np.array(groups)[both],
        seed=2,
        resamples=2000,
    )
    length = brute.high - brute.low
    assert found.interval.method == brute.method == "bootstrap-bca"
    assert found.interval.low == pytest.approx(brute.low, abs=0.08 * length)
    assert found.interval.high == pytest.approx(brute.high, abs=0.08 * length)


def test_pairs_are_kept_together_so_that_equal_mistakes_do_not_widen_the_interval():
    labels, a, _, groups = experiment(0, pictures=2000, groups=2000, wrong=(0.2, 0))
    b = [*a[:1900], *WORDS[labels[1900:]]]
    found = compare_decisions(labels, a, b, groups, seed=0)
    assert found.interval.high - found.interval.low < 0.03
    assert found.better == "B"


def test_images_of_one_group_count_as_one_thing():
    labels, a, b, _ = experiment(0, pictures=300, wrong=(0.2, 0.1))
    alone = compare_decisions(labels, a, b, np.arange(300), seed=0).interval
    # The same images ten times over, the copies of each in one group, know nothing more.
    copied = compare_decisions(np.tile(labels, 10), a * 10, b * 10, np.tile(np.arange(300), 10), seed=0)
    assert (copied.interval.low, copied.interval.high) == pytest.approx((alone.low, alone.high))
    assert copied.p_value < compare_decisions(labels, a, b, np.arange(300), seed=0).p_value


def test_the_two_sides_are_mirror_images():
    labels, a, b, groups = experiment(5)
    one, other = (compare_decisions(labels, *pair, groups, seed=0) for pair in ((a, b), (b, a)))
    assert (one.better, other.better) == ("B", "A")
    assert one.mcc_difference == -other.mcc_difference
    assert one.p_value == other.p_value
    assert one.interval.low == pytest.approx(-other.interval.high, abs=0.01)


@pytest.mark.parametrize(("mended", "better"), [(0, None), (1, None), (5, None), (6, "B"), (40, "B")])
def test_a_handful_of_images_tells_no_difference_however_they_fall(mended, better):
    labels = np.arange(400) % 2
    a = WORDS[np.where(np.arange(400) < 40, 1 - labels, labels)].tolist()
    b = [*WORDS[labels[:mended]], *a[mended:]]
    found = compare_decisions(labels, a, b, np.arange(400), seed=0)
    assert (found.only_b_right, found.differing_groups, found.better) == (mended, mended, better)
    assert found.too_few == (better is None)


def test_of_two_equals_one_is_rarely_called_better_where_the_interval_alone_says_so_too_often():
    random, called, excluded = np.random.default_rng(1), 0, 0
    for trial in range(300):
        labels = (random.random(100) < 0.3).astype(int)
        a, b = (decided(random, labels, wrong=0.02) for _ in range(2))
        found = compare_decisions(labels, a, b, np.arange(100), seed=trial, resamples=500)
        called += found.better is not None
        excluded += not found.interval.low <= 0 <= found.interval.high
    three_errors = 3 * math.sqrt(0.05 * 0.95 / 300)
    assert called / 300 <= 0.05 + three_errors
    assert excluded / 300 > 0.05 + three_errors


def test_five_images_alone_would_exclude_0():
    labels = np.arange(400) % 2
    a = WORDS[np.where(np.arange(400) < 5, 1 - labels, labels)].tolist()
    found = compare_decisions(labels, a, WORDS[labels].tolist(), np.arange(400), seed=0)
    assert found.interval.low > 0
    assert found.p_value > 0.05
    assert found.better is None


def test_what_nobody_answers_or_only_one_group_holds_has_no_interval():
    labels, a, b, _ = experiment(0, pictures=20)
    nothing = compare_decisions(labels, a, ["defer"] * 20, np.arange(20), seed=0)
    assert (nothing.n, nothing.only_a_answers, nothing.coverage_b) == (0, 20, 0)
    assert (nothing.interval, nothing.better, nothing.p_value) == (None, None, 1)
    single = compare_decisions(labels, a, b, ["video"] * 20, seed=0)
    assert (single.n, single.interval, single.better) == (20, None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": ["none", "street"]}, "a to hold one of none, roadwork, defer an image.*'street'"),
        ({"b": ["none"]}, "2 labels and 2 a and 1 b and 2 groups"),
        ({"groups": ["x"]}, "1 groups"),
        ({"labels": [0, 2]}, "labels to hold only 0"),
        ({"labels": [], "a": [], "b": [], "groups": []}, "at least one image in labels"),
    ],
)
def test_what_does_not_fit_is_a_paragraph(change, message):
    whole = {"labels": [0, 1], "a": ["none", "defer"], "b": ["none", "none"], "groups": ["x", "y"]}
    with pytest.raises(DataError, match=message):
        compare_decisions(**(whole | change), seed=0)


def test_a_level_or_a_count_that_means_nothing_is_refused():
    labels, a, b, groups = experiment()
    with pytest.raises(ConfigError, match="level"):
        compare_decisions(labels, a, b, groups, seed=0, level=1.0)
    with pytest.raises(ConfigError, match="resample"):
        compare_decisions(labels, a, b, groups, seed=0, resamples=0)
    with pytest.raises(DataError, match="McNemar"):
        mcnemar_p_value(-1, 3)
