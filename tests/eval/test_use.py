"""Figures at other prevalences and the net benefit of decisions, against their definitions."""

import numpy as np
import pytest

from streetvision_core.errors import ConfigError
from streetvision_core.eval.metrics import count_confusion
from streetvision_core.eval.objectives import AtPrevalence, Cost, FBeta, Mcc
from streetvision_core.eval.thresholds import scan_margins
from streetvision_core.eval.use.net_benefit import decision_curve
from streetvision_core.eval.use.prevalence import Rate, expected_figures, prevalence_rows


def draw(seed, *, roadwork, none):
    random = np.random.default_rng(seed)
    labels = np.repeat([1, 0], [roadwork, none])
    return random.normal(0, 1, labels.size) + 2 * labels, labels


def test_the_expected_figures_are_those_of_images_in_that_proportion():
    margins, labels = draw(0, roadwork=400, none=600)
    at = count_confusion(labels, margins > 1).metrics()
    # Nine times each image without roadwork: 400 of 5,800 show roadwork.
    more = np.where(labels == 1, 1, 9)
    wanted = count_confusion(np.repeat(labels, more), np.repeat(margins > 1, more))
    figures = expected_figures(400 / 5800, fnr=at["fnr"], fpr=at["fpr"])
    assert figures["mcc"] == pytest.approx(wanted.mcc)
    assert figures["precision"] == pytest.approx(wanted.metrics()["precision"])
    assert figures["alarm_rate"] == pytest.approx((wanted.tp + wanted.fp) / wanted.total)


def test_an_interval_holds_what_every_pair_of_rates_inside_gives():
    random = np.random.default_rng(1)
    for _ in range(200):
        fnr, fpr = (Rate(*np.sort(random.random(3))[[1, 0, 2]].tolist()) for _ in range(2))
        prevalence = float(random.uniform(0.01, 0.99))
        (row,) = prevalence_rows(fnr, fpr, prevalences=[prevalence])
        inside = [random.uniform(interval.low, interval.high, 50) for interval in (fnr, fpr)]
        figures = [
            expected_figures([prevalence], fnr=misses, fpr=alarms)
            for misses, alarms in [(fnr.value, fpr.value), *zip(*inside, strict=True)]
        ]
        for name in ("mcc", "precision", "alarm_rate"):
            values = np.array([columns[name][0] for columns in figures])
            assert row[name] == values[0]
            assert row[f"{name}_low"] - 1e-12 <= values.min() <= values.max() <= row[f"{name}_high"] + 1e-12


@pytest.mark.parametrize("objective", [Mcc(), FBeta(2.0), Cost(5, 1)], ids=str)
def test_a_threshold_for_another_prevalence_is_the_best_of_images_in_that_proportion(objective):
    margins, labels = draw(2, roadwork=300, none=300)
    more = np.where(labels == 1, 1, 19)
    there = scan_margins(np.repeat(margins, more), np.repeat(labels, more), objective=objective)
    chosen = scan_margins(margins, labels, objective=AtPrevalence(objective, 0.05))
    here = scan_margins(margins, labels, objective=objective)
    assert (chosen.threshold, chosen.score) == (there.threshold, pytest.approx(there.score))
    assert chosen.threshold > here.threshold
    # Where as many show roadwork as do here, nothing changes.
    assert scan_margins(margins, labels, objective=AtPrevalence(objective, 0.5)) == here


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, float("nan")])
def test_a_prevalence_that_leaves_no_image_of_a_label_is_refused(bad):
    with pytest.raises(ConfigError, match="strictly between 0 and 1"):
        expected_figures(bad, fnr=0.1, fpr=0.1)


def test_the_net_benefit_is_that_of_its_definition():
    """Vickers and Elkin: TP / n - FP / n * t / (1 - t); acting always calls everything roadwork."""
    random = np.random.default_rng(3)
    p = np.round(random.random(200), 2)  # many on a threshold, where there is no action
    labels = random.random(200) < p
    for row in decision_curve(p, labels):
        t = row["threshold"]
        at = count_confusion(labels, p > t)
        assert row["net_benefit"] == pytest.approx((at.tp - at.fp * t / (1 - t)) / 200)
        assert row["act_always"] == pytest.approx(labels.mean() - (1 - labels.mean()) * t / (1 - t))
