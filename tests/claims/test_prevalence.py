"""Other shares of roadwork: what is expected there covers the truth, and a threshold for it is better there.

Margins are N(1.5, 1) for roadwork and N(-1.5, 1) without, so the MCC of every threshold at every prevalence
is known, and so is the net benefit of acting on the true probability. Seeds are fixed.
"""

import numpy as np
import pytest
from scipy.stats import norm

from streetvision_core.eval.metrics import confusion_by_group, count_confusion
from streetvision_core.eval.objectives import AtPrevalence, Mcc
from streetvision_core.eval.thresholds import scan_margins
from streetvision_core.eval.use.net_benefit import decision_curve
from streetvision_core.eval.use.prevalence import Rate, expected_figures, prevalence_rows
from streetvision_core.report.figures import intervals_of

THERE, HERE, IMAGES = 0.05, 0.4, 400


def draw(random, frames=1):
    """Margins, labels and groups of `frames` images, which have a label and .6 of their noise in common."""
    groups = np.repeat(np.arange(IMAGES // frames), frames)
    labels = (random.random(IMAGES // frames) < HERE)[groups]
    shared, own = random.normal(0, 1, IMAGES // frames)[groups], random.normal(0, 1, IMAGES)
    noise = own if frames == 1 else np.sqrt(0.6) * shared + np.sqrt(0.4) * own
    return noise + np.where(labels, 1.5, -1.5), labels, groups


def true_figures(threshold, prevalence):
    return expected_figures(prevalence, fnr=norm.cdf(threshold - 1.5), fpr=norm.sf(threshold + 1.5))


def covered_at(truth, labels, decisions, groups):
    """True for each expected figure whose interval holds the truth."""
    at, intervals = (
        count_confusion(labels, decisions).metrics(),
        intervals_of(confusion_by_group(labels, decisions, groups)),
    )
    rates = [
        Rate(at[name], own.low, own.high) for name, own in (("fnr", intervals.fnr), ("fpr", intervals.fpr))
    ]
    (row,) = prevalence_rows(*rates, prevalences=[THERE])
    return [row[f"{name}_low"] <= true <= row[f"{name}_high"] for name, true in truth.items()]


@pytest.mark.parametrize("frames", [1, 5])
def test_the_expected_figures_cover_the_truth_and_those_of_the_images_at_hand_do_not(frames, trials):
    random, some = np.random.default_rng(41), trials // 10
    truth = {name: float(value) for name, value in true_figures(0.0, THERE).items()}
    covered, alone, as_at_hand = [], [], []
    for _ in range(some):
        margins, labels, groups = draw(random, frames)
        covered.append(covered_at(truth, labels, margins > 0, groups))
        alone.append(covered_at(truth, labels, margins > 0, np.arange(IMAGES)))
        mcc = intervals_of(confusion_by_group(labels, margins > 0, groups)).mcc
        as_at_hand.append(mcc.low <= truth["mcc"] <= mcc.high)
    slack = 2 * np.sqrt(0.95 * 0.05 / some)
    assert np.mean(covered, axis=0).min() >= 0.95 - slack
    # The report's MCC of images of which 40 % show roadwork; wider intervals hold the truth a little oftener.
    assert np.mean(as_at_hand) < 0.1 * frames
    if frames > 1:  # as if the images of a group were independent: MCC .91, the others less (10,000 trials)
        assert np.mean(alone, axis=0).min() < 0.9


def test_a_threshold_for_the_declared_prevalence_is_better_there(trials):
    """The gain in true MCC is beyond 3 standard errors, and more than half of the possible one."""
    random = np.random.default_rng(42)
    grid = np.linspace(-3, 4, 2000)
    best = true_figures(grid, THERE)["mcc"].max()
    reached = []
    for _ in range(trials // 10):
        margins, labels, _ = draw(random)
        chosen = (
            scan_margins(margins, labels, objective=objective).threshold
            for objective in (Mcc(), AtPrevalence(Mcc(), THERE))
        )
        reached.append([float(true_figures(threshold, THERE)["mcc"]) for threshold in chosen])
    plain, weighed = np.array(reached).T
    gain = weighed - plain
    assert gain.mean() > 3 * gain.std(ddof=1) / np.sqrt(gain.size)
    assert best - weighed.mean() < (best - plain.mean()) / 2


def test_the_decision_curve_of_true_probabilities_is_unbiased_and_above_acting_always_and_never(trials):
    random = np.random.default_rng(43)
    curves = []
    for _ in range(trials // 10):
        margins, labels, _ = draw(random)
        # The log odds of these two normal distributions, at this share of roadwork.
        odds = 3 * margins + np.log(HERE / (1 - HERE))
        curves.append([row["net_benefit"] for row in decision_curve(1 / (1 + np.exp(-odds)), labels)])
    t = np.array([row["threshold"] for row in decision_curve([0.5, 0.5], [0, 1])])
    cut = (np.log(t / (1 - t)) - np.log(HERE / (1 - HERE))) / 3
    hits, alarms = HERE * norm.sf(cut - 1.5), (1 - HERE) * norm.sf(cut + 1.5)
    truth = hits - alarms * t / (1 - t)
    error = np.array(curves).mean(axis=0) - truth
    assert (np.abs(error) <= 4 * np.array(curves).std(axis=0, ddof=1) / np.sqrt(len(curves)) + 1e-3).all()
    assert (truth > np.maximum(0, HERE - (1 - HERE) * t / (1 - t))).all()
