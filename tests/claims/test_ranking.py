"""Laws of risk-coverage curves: they hold of ours, with and without ties."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from streetvision_core.eval.ranking import risk_coverage_curve
from streetvision_core.eval.thresholds import positive_probability


def answers(seed, *, n=2000, decimals=None):
    """Margins of 2,000 images and whether the answer at 0 is wrong; rounding makes ties."""
    random = np.random.default_rng(seed)
    labels = random.random(n) < 0.4
    margins = np.where(labels, 1.5, -1.5) + random.normal(0, random.uniform(0.5, 3), n)
    if decimals is not None:
        margins = np.round(margins, decimals)
    return margins, (margins > 0) != labels


def entropy(p):
    q = 1 - p
    return -(p * np.log(p) + q * np.log(q))


@pytest.mark.parametrize("decimals", [None, 2, 0])
def test_margin_entropy_and_maximum_probability_have_the_same_risk_coverage_areas(decimals):
    """Two logits hold one number: no confidence made of them alone can rank better than another."""
    for seed in range(20):
        margins, wrong = answers(seed, decimals=decimals)
        # Of the likelier class, so that the same margin of either sign gives the same float.
        p = positive_probability(np.abs(margins))
        areas = {
            name: (curve.augrc, curve.aurc, curve.e_aurc)
            for name, curve in {
                "margin": risk_coverage_curve(np.abs(margins), wrong),
                "entropy": risk_coverage_curve(-entropy(p), wrong),
                "probability": risk_coverage_curve(p, wrong),
            }.items()
        }
        assert areas["entropy"] == pytest.approx(areas["margin"], abs=1e-12)
        assert areas["probability"] == pytest.approx(areas["margin"], abs=1e-12)


@pytest.mark.parametrize("decimals", [None, 2, 0])
def test_augrc_is_a_function_of_accuracy_and_of_the_auroc_of_failure(decimals):
    """AUGRC = (1 - AUROC_f) acc (1 - acc) + (1 - acc)^2 / 2, to 1e-9, also with ties."""
    for seed in range(20):
        margins, wrong = answers(seed, decimals=decimals)
        accuracy = 1 - wrong.mean()
        failure = roc_auc_score(~wrong, np.abs(margins))
        expected = (1 - failure) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
        assert abs(risk_coverage_curve(np.abs(margins), wrong).augrc - expected) < 1e-9


def test_rounding_a_confidence_that_says_something_does_not_make_it_better():
    """Ties are counted as random orders, so no figure improves because a confidence says less."""
    for seed in range(20):
        margins, wrong = answers(seed)
        fine, coarse = (risk_coverage_curve(np.abs(values), wrong) for values in (margins, np.round(margins)))
        assert coarse.augrc > fine.augrc
        assert coarse.aurc > fine.aurc
