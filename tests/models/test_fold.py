"""Temperature and threshold in the last layer: 0.5 of the folded model is the tuned decision."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from streetvision_core.errors import ConfigError
from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.models import fold_operating_point

ARCHITECTURES = ("mobilenetv3_small_050", "test_vit", "test_resnet")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request):
    """A real timm model whose random head is wide enough to give probabilities of every size."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        size = {"img_size": 32} if request.param == "test_vit" else {}
        built = timm.create_model(request.param, num_classes=2, **size).eval()
        nn.init.normal_(built.get_classifier().weight, std=0.5)
        nn.init.normal_(built.get_classifier().bias, std=1.0)
    return built


@pytest.fixture(scope="module")
def pictures():
    return torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 3


def logits_of(model, pictures):
    with torch.inference_mode():
        return model(pictures).double().numpy()


@settings(max_examples=12)
@given(temperature=st.floats(0.2, 5), threshold=st.floats(0.01, 0.99), spread=st.floats(0.1, 8))
def test_the_folded_model_decides_at_half_what_the_original_decides_at_its_threshold(
    model, pictures, temperature, threshold, spread
):
    original = logits_of(model, pictures * spread)
    folded = fold_operating_point(model, temperature=temperature, threshold=threshold)
    calibrated = positive_probability(original / temperature)
    tuned = positive_probability(logits_of(folded, pictures * spread))
    # Within float32's rounding of the threshold both answers are right.
    margin = (original[:, 1] - original[:, 0]) / temperature
    clear = np.abs(margin - math.log(threshold / (1 - threshold))) > 1e-4 * (1 + np.abs(margin))
    assert clear.sum() >= len(pictures) - 2
    assert ((tuned > 0.5) == (calibrated > threshold))[clear].all()


@given(temperature=st.floats(0.2, 5), threshold=st.floats(0.01, 0.99))
@settings(max_examples=5)
def test_folding_shifts_the_calibrated_log_odds_by_those_of_the_threshold(
    model, pictures, temperature, threshold
):
    original = logits_of(model, pictures)
    folded = logits_of(fold_operating_point(model, temperature=temperature, threshold=threshold), pictures)
    expected = (original[:, 1] - original[:, 0]) / temperature - math.log(threshold / (1 - threshold))
    np.testing.assert_allclose(folded[:, 1] - folded[:, 0], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(folded.sum(axis=1), original.sum(axis=1) / temperature, rtol=1e-4, atol=1e-4)


def test_folding_leaves_the_original_untouched(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fold_operating_point(model, temperature=2.0, threshold=0.2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("temperature", "threshold"),
    [(0, 0.5), (-1, 0.5), (math.inf, 0.5), (math.nan, 0.5), (1, 0), (1, 1), (1, 2)],
)
def test_numbers_that_are_no_operating_point_are_refused(temperature, threshold):
    with pytest.raises(ConfigError, match="operating point"):
        fold_operating_point(nn.Linear(2, 2), temperature=temperature, threshold=threshold)


def test_a_model_without_a_linear_head_is_refused_readably():
    import timm

    for model in (
        nn.Linear(2, 2),
        timm.create_model("test_resnet", num_classes=0),
        timm.create_model("test_resnet", num_classes=3),
    ):
        with pytest.raises(ConfigError, match="ends in one linear layer"):
            fold_operating_point(model, temperature=1, threshold=0.5)
