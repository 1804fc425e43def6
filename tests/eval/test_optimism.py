"""The bootstrap of the threshold chooses on each resample what the exact scan chooses there."""

import tracemalloc

import numpy as np
import pytest

from streetvision_core.errors import DataError
from streetvision_core.eval import optimism
from streetvision_core.eval.objectives import Cost, FBeta, Mcc, RecallAtLeast
from streetvision_core.eval.optimism import choose_margin, resample_thresholds
from streetvision_core.eval.thresholds import order_scores, ordered_margins, scan, scan_margins

OBJECTIVES = [Mcc(), FBeta(2.0), Cost(5, 1), RecallAtLeast(0.8)]


def draw(seed, n=60, *, levels=None, prevalence=0.3):
    random = np.random.default_rng(seed)
    labels = random.random(n) < prevalence
    labels[:2] = [False, True]
    margins = random.normal(size=n) + 1.5 * labels
    return (np.round(margins * levels) / levels if levels else margins), labels


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("grouped", [False, True])
def test_every_resample_is_scanned_as_if_its_images_were_all(objective, levels, grouped):
    margins, labels = draw(1, levels=levels)
    groups = [f"g{i // 3}" for i in range(margins.size)] if grouped else None
    order = ordered_margins(margins, labels)
    drawn = resample_thresholds(order, objective=objective, resamples=40, seed=3, groups=groups)
    weights = np.concatenate(list(optimism._draw_weights(order, resamples=40, seed=3, groups=groups)))
    ordered = margins[order.order]
    assert drawn.thresholds.size == 40
    for row, threshold, score, on_all in zip(
        weights, drawn.thresholds, drawn.scores, drawn.scores_on_all, strict=True
    ):
        alone = order_scores(
            np.repeat(ordered, row), np.repeat(order.labels, row),
            lowest=order.edges[0], highest=order.highest,
        )  # fmt: skip
        expected = scan(alone, objective=objective)
        assert (threshold, score) == (expected.threshold, expected.score)
        called = margins > threshold
        tp, fp = np.sum(called & labels), np.sum(called & ~labels)
        assert on_all == objective.score(tp=tp, fp=fp, fn=labels.sum() - tp, tn=(~labels).sum() - fp)


def test_the_midpoint_is_that_of_the_scan_and_the_median_that_of_the_resamples():
    margins, labels = draw(2)
    midpoint = choose_margin(margins, labels, seed=5)
    median = choose_margin(margins, labels, at="bootstrap_median", seed=5)
    drawn = resample_thresholds(ordered_margins(margins, labels), objective=Mcc(), resamples=200, seed=5)
    assert midpoint.choice == scan_margins(margins, labels)
    assert median.choice.threshold == np.median(drawn.thresholds)
    assert median.choice.plateau_low <= median.choice.threshold < median.choice.plateau_high
    assert median.choice.score <= midpoint.choice.score
    assert midpoint.optimism == median.optimism == np.mean(drawn.scores - drawn.scores_on_all)


def test_a_seed_decides_the_resamples_and_the_order_of_grouped_images_does_not():
    margins, labels = draw(3)
    chosen = choose_margin(margins, labels, at="bootstrap_median", seed=1)
    assert choose_margin(margins, labels, at="bootstrap_median", seed=1) == chosen
    assert choose_margin(margins, labels, at="bootstrap_median", seed=2) != chosen
    groups = np.array([f"g{i // 4}" for i in range(margins.size)])
    other = np.random.default_rng(0).permutation(margins.size)
    chosen = choose_margin(margins, labels, seed=1, groups=groups)
    assert choose_margin(margins[other], labels[other], seed=1, groups=groups[other]) == chosen


def test_memory_slices_change_nothing(monkeypatch):
    margins, labels = draw(4)
    whole = choose_margin(margins, labels, at="bootstrap_median")
    monkeypatch.setattr(optimism, "_CELLS", 100)
    assert choose_margin(margins, labels, at="bootstrap_median") == whole


def test_groups_are_drawn_whole():
    margins, labels = draw(5, n=30)
    groups = [f"g{i % 5}" for i in range(30)]
    order = ordered_margins(margins, labels)
    (weights,) = optimism._draw_weights(order, resamples=50, seed=0, groups=groups)
    of_group = np.array(groups)[order.order]
    for name in set(groups):
        assert (weights[:, of_group == name] == weights[:, of_group == name][:, :1]).all()
    assert (weights.sum(axis=1) == 30).all()


def test_grouped_images_are_more_optimistic_than_they_look():
    """Ten copies of each image say no more than one of each does."""
    margins, labels = draw(6, n=80)
    copies, of = np.repeat(margins, 10), np.repeat(labels, 10)
    groups = np.repeat([f"g{i}" for i in range(80)], 10)
    assert choose_margin(copies, of, groups=groups).optimism > 2 * choose_margin(copies, of).optimism


def test_resamples_of_one_class_are_left_out():
    chosen = choose_margin([-1.0, 0.0, 2.0], [0, 0, 1], resamples=300)
    assert 150 < chosen.resamples < 260
    assert chosen.choice.mcc == 1.0


def test_where_no_resample_holds_both_classes_it_says_so():
    order = ordered_margins([-1.0, 0.0, 2.0], [0, 0, 1])
    groups = ["plain", "plain", "works"]
    weights = (next(optimism._draw_weights(order, resamples=1, seed=s, groups=groups)) for s in range(20))
    seed = next(seed for seed, drawn in enumerate(weights) if np.ptp(drawn) > 1)
    with pytest.raises(DataError, match="resamples that hold both classes"):
        resample_thresholds(order, objective=Mcc(), groups=groups, resamples=1, seed=seed)


def test_a_hundred_thousand_images_stay_below_100_megabytes():
    margins, labels = draw(7, n=100_000)
    tracemalloc.start()
    try:
        choose_margin(margins, labels, resamples=5)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_what_cannot_be_resampled_is_refused():
    margins, labels = draw(8)
    with pytest.raises(DataError, match="60 images and 2 groups"):
        choose_margin(margins, labels, groups=["a", "b"])
