"""Two deciders on the same images: exchanges of whole groups and the interval against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from streetvision_core.errors import DataError
from streetvision_core.eval.metrics import compute_mcc
from streetvision_core.eval.paired import compare_decisions

WORDS = np.array(["none", "roadwork", "defer"])


def decided(random, labels, *, wrong, deferred=0.0):
    decisions = np.where(random.random(labels.size) < wrong, 1 - labels, labels)
    return WORDS[np.where(random.random(labels.size) < deferred, 2, decisions)].tolist()


def experiment(seed=0, pictures=400, groups=150, wrong=(0.1, 0.05), deferred=(0.0, 0.0)):
    random = np.random.default_rng(seed)
    labels = (random.random(pictures) < 0.3).astype(int)
    a, b = (
        decided(random, labels, wrong=rate, deferred=share)
        for rate, share in zip(wrong, deferred, strict=True)
    )
    return labels, a, b, [f"group {number}" for number in random.integers(0, groups, pictures)]


def brute_force(labels, a, b, groups):
    """Every exchange of whole groups, one after the other, judged by scikit-learn."""
    truth, group = np.asarray(labels), np.asarray(groups)
    answers = [(np.asarray(words) == "roadwork").astype(int) for words in (a, b)]
    seen = abs(matthews_corrcoef(truth, answers[1]) - matthews_corrcoef(truth, answers[0]))
    names = np.unique(group)
    reached = []
    for exchange in itertools.product([False, True], repeat=names.size):
        moved = np.array(exchange)[np.searchsorted(names, group)]
        first, second = np.where(moved, answers[1], answers[0]), np.where(moved, answers[0], answers[1])
        difference = matthews_corrcoef(truth, second) - matthews_corrcoef(truth, first)
        reached.append(abs(difference) >= seen - 1e-12)
    return np.mean(reached)


@pytest.mark.parametrize("seed", range(4))
def test_p_is_the_share_of_exchanges_of_whole_groups_that_differ_as_much(seed):
    labels, a, b, groups = experiment(seed, pictures=40, groups=8, wrong=(0.3, 0.15))
    comparison = compare_decisions(labels, a, b, groups, seed=0)
    assert comparison.p_value == pytest.approx(brute_force(labels, a, b, groups))
    drawn = compare_decisions(labels, a, b, groups, seed=0, swaps=100).p_value
    assert drawn == pytest.approx(comparison.p_value, abs=0.15)
    assert drawn >= 1 / 101


@pytest.mark.parametrize("seed", range(20))
def test_every_figure_is_that_of_the_images_both_answer(seed):
    labels, a, b, groups = experiment(seed, deferred=(0.2, 0.3))
    comparison = compare_decisions(labels, a, b, groups, seed=0, swaps=10)
    answers_a, answers_b = (np.array(words) != "defer" for words in (a, b))
    both = np.flatnonzero(answers_a & answers_b)
    predicted_a, predicted_b = ((np.array(words)[both] == "roadwork").astype(int) for words in (a, b))
    right_a, right_b = predicted_a == labels[both], predicted_b == labels[both]
    assert (comparison.pictures, comparison.n) == (400, both.size)
    assert comparison.only_a_answers == np.sum(answers_a & ~answers_b)
    assert comparison.only_b_answers == np.sum(answers_b & ~answers_a)
    assert (comparison.coverage_a, comparison.coverage_b) == (answers_a.mean(), answers_b.mean())
    assert comparison.only_a_right == np.sum(right_a & ~right_b)
    assert comparison.only_b_right == np.sum(right_b & ~right_a)
    assert comparison.accuracy_difference == pytest.approx(right_b.mean() - right_a.mean())
    assert comparison.mcc_a == compute_mcc(labels[both], predicted_a)
    assert comparison.mcc_b == compute_mcc(labels[both], predicted_b)
    assert comparison.mcc_difference == comparison.mcc_b - comparison.mcc_a
    differing = {
        groups[place]
        for place, first, second in zip(both, predicted_a, predicted_b, strict=True)
        if first != second
    }
    assert comparison.differing_groups == len(differing)


@pytest.mark.parametrize("deferred", [(0.0, 0.0), (0.1, 0.3)])
def test_the_interval_is_as_long_as_resamples_of_whole_groups_say(deferred):
    labels, a, b, groups = experiment(3, pictures=2000, groups=600, deferred=deferred)
    comparison = compare_decisions(labels, a, b, groups, seed=1, swaps=10)
    both = np.array([i for i in range(labels.size) if "defer" not in {a[i], b[i]}])
    predicted_a, predicted_b = (np.array(words)[both] == "roadwork" for words in (a, b))
    unit = np.unique(np.array(groups)[both], return_inverse=True)[1]
    members = [np.flatnonzero(unit == number) for number in range(unit.max() + 1)]
    random = np.random.default_rng(2)
    drawn = []
    for _ in range(1000):
        chosen = np.concatenate(
            [members[number] for number in random.integers(0, len(members), len(members))]
        )
        of_a, of_b = (
            compute_mcc(labels[both][chosen], predicted[chosen]) for predicted in (predicted_a, predicted_b)
        )
        drawn.append(of_b - of_a)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert comparison.interval.high - comparison.interval.low == pytest.approx(high - low, rel=0.15)
    assert comparison.interval.low < comparison.mcc_difference < comparison.interval.high


def test_pairs_are_kept_together_so_that_equal_mistakes_do_not_widen_the_interval():
    labels, a, _, groups = experiment(0, pictures=2000, groups=2000, wrong=(0.2, 0))
    b = [*a[:1900], *WORDS[labels[1900:]]]
    comparison = compare_decisions(labels, a, b, groups, seed=0)
    assert comparison.interval.high - comparison.interval.low < 0.03
    assert comparison.better == "B"


def test_images_of_one_group_count_as_one_thing():
    labels, a, b, _ = experiment(0, pictures=300, wrong=(0.2, 0.1))
    alone = compare_decisions(labels, a, b, np.arange(300), seed=0).interval
    # The same images ten times over, the copies of each in one group, know nothing more.
    copied = compare_decisions(np.tile(labels, 10), a * 10, b * 10, np.tile(np.arange(300), 10), seed=0)
    assert (copied.interval.low, copied.interval.high) == pytest.approx((alone.low, alone.high), abs=0.01)
    assert copied.p_value == pytest.approx(compare_decisions(labels, a, b, np.arange(300), seed=0).p_value)


def test_the_two_sides_are_mirror_images():
    labels, a, b, groups = experiment(5)
    forward, backward = (compare_decisions(labels, *pair, groups, seed=0) for pair in ((a, b), (b, a)))
    assert (forward.better, backward.better) == ("B", "A")
    assert forward.mcc_difference == -backward.mcc_difference
    assert forward.p_value == pytest.approx(backward.p_value, abs=0.01)
    assert forward.interval.low == pytest.approx(-backward.interval.high, abs=0.01)


@pytest.mark.parametrize(("mended", "better"), [(0, None), (1, None), (5, None), (6, "B"), (40, "B")])
def test_a_handful_of_images_tells_no_difference_however_they_fall(mended, better):
    labels = np.arange(400) % 2
    a = WORDS[np.where(np.arange(400) < 40, 1 - labels, labels)].tolist()
    b = [*WORDS[labels[:mended]], *a[mended:]]
    comparison = compare_decisions(labels, a, b, np.arange(400), seed=0)
    assert (comparison.only_b_right, comparison.differing_groups, comparison.better) == (
        mended,
        mended,
        better,
    )
    assert comparison.too_few == (better is None)


def test_where_five_groups_differ_there_is_no_interval_and_no_verdict():
    labels = np.arange(400) % 2
    a = WORDS[np.where(np.arange(400) < 5, 1 - labels, labels)].tolist()
    comparison = compare_decisions(labels, a, WORDS[labels].tolist(), np.arange(400), seed=0)
    assert (comparison.interval, comparison.p_value, comparison.better) == (None, 2 / 2**5, None)


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
