"""The threshold: exact against brute force, and what choosing it costs, on scores whose truth is known.

Roadwork scores are N(2, 1), plain streets N(0, 1), prevalence 0.1, so the true score of any threshold is
known. Regret is the best true score minus that of the chosen threshold. Seeds are fixed.
"""

import numpy as np
import pytest
from scipy.stats import norm

from streetvision_core.eval.objectives import Cost, FBeta, Mcc, RecallAtLeast
from streetvision_core.eval.optimism import choose_margin
from streetvision_core.eval.thresholds import scan_grid, scan_thresholds

OBJECTIVES = [Mcc(), FBeta(1.0), FBeta(2.0), Cost(5, 1), RecallAtLeast(0.9)]
PREVALENCE, DISTANCE = 0.1, 2.0
MILLIARD = 1e9

every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=str)


def cases(count):
    """Labelled scores with ties: few levels, many, or none at all."""
    random = np.random.default_rng(20)
    for case in range(count):
        size = int(random.integers(2, 60))
        labels = random.random(size) < random.uniform(0.05, 0.95)
        labels[:2] = [False, True]
        scores = 1 / (1 + np.exp(-random.normal(0, 1.5, size) - labels))
        levels = (2, 5, 20, None)[case % 4]
        yield (scores if levels is None else np.round(scores * levels) / levels), labels


def count(scores, labels, thresholds):
    called = scores > np.reshape(thresholds, (-1, 1))
    tp, fp = (called & labels).sum(axis=1), (called & ~labels).sum(axis=1)
    return {"tp": tp, "fp": fp, "fn": labels.sum() - tp, "tn": (~labels).sum() - fp}


@every_objective
def test_the_exact_threshold_equals_brute_force_in_1000_cases_with_ties(objective):
    for scores, labels in cases(1000):
        tried = objective.preference(**count(scores, labels, [0.0, *scores]))
        threshold = scan_thresholds(scores, labels, objective=objective).threshold
        (reached,) = objective.preference(**count(scores, labels, [threshold]))
        assert reached == tried.max()


@every_objective
def test_the_exact_threshold_is_never_below_any_grid(objective):
    sizes = np.random.default_rng(21).integers(2, 5000, 1000)
    for (scores, labels), size in zip(cases(1000), sizes, strict=True):
        exact = scan_thresholds(scores, labels, objective=objective).threshold
        grid = scan_grid(scores, labels, n_thresholds=int(size), objective=objective).threshold
        best, other = objective.preference(**count(scores, labels, [exact, grid]))
        assert best >= other


def true_score(objective, threshold):
    tp = PREVALENCE * norm.sf(threshold - DISTANCE)
    fp = (1 - PREVALENCE) * norm.sf(threshold)
    shares = {"tp": tp, "fp": fp, "fn": PREVALENCE - tp, "tn": 1 - PREVALENCE - fp}
    return objective.score(**{name: share * MILLIARD for name, share in shares.items()})


def simulate(objective, *, pictures, trials, at="midpoint", resamples=100, seed=22):
    """In-sample score, true score and estimated optimism of each trial, [trials, 3]."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(trials):
        labels = random.random(pictures) < PREVALENCE
        labels[:2] = [False, True]
        margins = random.normal(size=pictures) + DISTANCE * labels
        chosen = choose_margin(margins, labels, objective=objective, at=at, resamples=resamples)
        truth = true_score(objective, chosen.choice.threshold)
        rows.append((chosen.choice.score, truth, chosen.optimism))
    return np.array(rows)


def standard_error(values):
    return values.std(ddof=1) / np.sqrt(values.size)


@pytest.mark.parametrize("objective", [Mcc(), FBeta(1.0), Cost(5, 1)], ids=str)
def test_the_bootstrap_median_has_less_regret_than_the_midpoint(objective, trials):
    """200 images, prevalence 0.1, the same images for both; the gain is beyond 3 standard errors."""
    some = trials // 4
    midpoint, median = (
        simulate(objective, pictures=200, trials=some, at=at)[:, 1] for at in ("midpoint", "bootstrap_median")
    )
    gain = median - midpoint
    assert gain.mean() > 3 * standard_error(gain)


@pytest.mark.parametrize("at", ["midpoint", "bootstrap_median"])
@pytest.mark.parametrize(
    ("objective", "tolerance"),
    [(Mcc(), 0.035), (FBeta(1.0), 0.03), (Cost(5, 1), 0.015), (RecallAtLeast(0.9), 0.02)],
    ids=str,
)
def test_the_estimated_optimism_is_near_the_true_one_in_the_mean(objective, tolerance, at, trials):
    """200 images, 20 of roadwork: the mean estimate is off by no more than this, either way."""
    rows = simulate(objective, pictures=200, trials=trials // 10, at=at)
    truth = rows[:, 0] - rows[:, 1]
    estimated = rows[:, 2]
    assert truth.mean() > 0
    assert estimated.mean() > 0
    assert abs(estimated.mean() - truth.mean()) <= tolerance + 3 * standard_error(truth)


def test_with_2000_images_the_estimated_optimism_of_mcc_is_within_one_hundredth(trials):
    rows = simulate(Mcc(), pictures=2000, trials=trials // 20, resamples=50)
    truth = rows[:, 0] - rows[:, 1]
    assert abs(rows[:, 2].mean() - truth.mean()) <= 0.01 + 3 * standard_error(truth)
    assert 0.4 * truth.mean() <= rows[:, 2].mean() <= 1.2 * truth.mean()
