"""The temperature is the maximum-likelihood one, wherever the logits come from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streetvision_core.errors import DataError
from streetvision_core.eval.calibration import TEMPERATURE_BOUNDS, fit_temperature, negative_log_likelihood


def drawn(*, pictures, temperature, seed):
    """Logits [N, 2] whose labels follow softmax(logits / temperature)."""
    random = np.random.default_rng(seed)
    margins = random.normal(0, 3 * temperature, pictures)
    labels = random.random(pictures) < 1 / (1 + np.exp(-margins / temperature))
    offset = random.normal(size=pictures)
    return np.stack([offset - margins / 2, offset + margins / 2], axis=1), labels.astype(int)


def test_the_likelihood_is_the_log_loss_of_scikit_learn():
    from scipy.special import softmax
    from sklearn.metrics import log_loss

    logits, labels = drawn(pictures=300, temperature=2.0, seed=0)
    for temperature in (0.5, 1.0, 3.0):
        expected = log_loss(labels, softmax(logits / temperature, axis=1))
        assert negative_log_likelihood(logits, labels, temperature) == pytest.approx(expected, rel=1e-9)


def test_one_logit_an_image_means_the_same_as_two():
    logits, labels = drawn(pictures=200, temperature=1.5, seed=1)
    margins = logits[:, 1] - logits[:, 0]
    assert negative_log_likelihood(margins, labels) == negative_log_likelihood(logits, labels)
    assert fit_temperature(margins, labels) == fit_temperature(logits, labels)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_is_that_of_a_logistic_regression_without_intercept(temperature):
    from sklearn.linear_model import LogisticRegression

    logits, labels = drawn(pictures=2000, temperature=temperature, seed=2)
    margins = (logits[:, 1] - logits[:, 0]).reshape(-1, 1)
    oracle = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(margins, labels)
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(1 / oracle.coef_[0, 0], rel=1e-5)
    assert fitted == pytest.approx(temperature, rel=0.15)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.2, 6))
def test_no_other_temperature_is_more_likely(seed, temperature):
    logits, labels = drawn(pictures=150, temperature=temperature, seed=seed)
    best = negative_log_likelihood(logits, labels, fit_temperature(logits, labels))
    for other in np.geomspace(*TEMPERATURE_BOUNDS, 200):
        assert best <= negative_log_likelihood(logits, labels, other) + 1e-12


def test_separated_images_end_at_the_lower_bound_and_a_useless_model_at_the_upper():
    assert fit_temperature([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1]) == TEMPERATURE_BOUNDS[0]
    assert fit_temperature([-2.0, -1.0, 1.0, 2.0], [1, 1, 0, 0]) == TEMPERATURE_BOUNDS[1]


def test_huge_logits_neither_overflow_nor_warn():
    assert negative_log_likelihood([1e4, -1e4], [0, 1]) == pytest.approx(1e4)
    assert math.isfinite(fit_temperature([-1e4, 1e4, -1e4], [0, 1, 1]))


def test_torch_tensors_give_the_same_temperature():
    import torch

    logits, labels = drawn(pictures=200, temperature=2.0, seed=3)
    assert fit_temperature(torch.tensor(logits), torch.tensor(labels)) == fit_temperature(logits, labels)


@pytest.mark.parametrize(
    ("logits", "labels", "fragment"),
    [
        ([1.0, 2.0], [1, 1], "both classes to fit a temperature"),
        ([1.0, float("nan")], [0, 1], "finite"),
        ([1.0, 2.0, 3.0], [0, 1], "3 logits and 2 labels"),
        ([], [], "at least one image"),
    ],
)
def test_what_has_no_temperature_is_refused(logits, labels, fragment):
    with pytest.raises(DataError) as caught:
        fit_temperature(logits, labels)
    assert fragment in str(caught.value)
