"""Views become one answer as a plain loop would do it, and folding an operating point does not notice."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from streetvision_core.errors import ConfigError
from streetvision_core.models import fold_operating_point
from streetvision_core.models.pooling import (
    ViewPooling,
    attention_weights,
    check_attention,
    pool_features,
    pool_logits,
)
from streetvision_core.models.views import Views

WIDTH = 5
PARAMETERS = (0.7, -1.2, 0.4, 2.0, -0.3, 0.9)
POOLINGS = {
    "mean": Views(grid=2, overlap=0.15, pooling="mean"),
    "top_k": Views(grid=2, overlap=0.15, pooling="top_k", top_k=3),
    "max": Views(grid=2, overlap=0.15, pooling="max"),
    "attention": Views(grid=2, overlap=0.15, pooling="attention", attention=PARAMETERS),
}


def draw(seed, number=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, 5, 2, generator=generator), torch.randn(number, 5, WIDTH, generator=generator)


def by_hand(logits, features, views):
    """One image, in float64: which views count, and how much."""
    logits, features = (np.asarray(values, dtype=np.float64) for values in (logits, features))
    if views.pooling == "attention":
        scores = np.array([view @ PARAMETERS[:-1] + PARAMETERS[-1] for view in features])
        weights = np.exp(scores) / np.exp(scores).sum()
    else:
        counted = {"mean": 5, "top_k": 3, "max": 1}[views.pooling]
        loudest = sorted(range(5), key=lambda view: (logits[view, 0] - logits[view, 1], view))[:counted]
        weights = np.isin(range(5), loudest) / counted
    mean = weights if views.pooling == "attention" else np.full(5, 1 / 5)
    return weights @ logits, mean @ features


@pytest.mark.parametrize("pooling", POOLINGS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_pooling_is_what_a_plain_loop_gives(pooling, seed):
    logits, features = draw(seed)
    views = POOLINGS[pooling]
    expected = [by_hand(*pair, views) for pair in zip(logits, features, strict=True)]
    pooled = pool_logits(logits, features, views=views)
    assert pooled.dtype == torch.float32
    np.testing.assert_allclose(pooled, [row for row, _ in expected], atol=1e-5)
    np.testing.assert_allclose(pool_features(features, views=views), [row for _, row in expected], atol=1e-5)


class Head(nn.Module):
    """The part of a classifier that `fold_operating_point` sees: its last layer."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.fc = nn.Linear(WIDTH, 2)
        with torch.no_grad():
            self.fc.weight.copy_(torch.randn(2, WIDTH, generator=generator))
            self.fc.bias.copy_(torch.randn(2, generator=generator))

    def get_classifier(self):
        return self.fc


@pytest.mark.parametrize("pooling", POOLINGS)
@given(seed=st.integers(0, 2**32 - 1), temperature=st.floats(0.2, 5), threshold=st.floats(0.01, 0.99))
@settings(max_examples=40)
def test_pooling_folded_views_is_folding_pooled_views(pooling, seed, temperature, threshold):
    """So 0.5 of what is pooled is the tuned decision, whatever the views were pooled by."""
    model, views = Head(seed), POOLINGS[pooling]
    folded = fold_operating_point(model, temperature=temperature, threshold=threshold)
    _, features = draw(seed, number=20)
    with torch.inference_mode():
        pooled = pool_logits(model.fc(features), features, views=views).double()
        tuned = pool_logits(folded.fc(features), features, views=views).double()
    half = math.log(threshold / (1 - threshold)) / 2
    expected = pooled / temperature + torch.tensor([half, -half], dtype=torch.float64)
    np.testing.assert_allclose(tuned, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_is_pooled_of_an_image_does_not_depend_on_how_many_there_are(pooling):
    logits, features = draw(0, number=33)
    views = POOLINGS[pooling]
    whole = pool_logits(logits, features, views=views)
    for number in (1, 2, 32):
        assert torch.equal(pool_logits(logits[:number], features[:number], views=views), whole[:number])


def test_of_equal_margins_the_earlier_views_count():
    tied = torch.tensor([[[4.0, 5.0], [1.0, 2.0], [0.0, 3.0], [2.0, 3.0], [9.0, 9.0]]])
    assert pool_logits(tied, None, views=POOLINGS["max"]).tolist() == [[0, 3]]
    pooled = pool_logits(tied, None, views=POOLINGS["top_k"])[0].tolist()
    assert pooled == pytest.approx([(0 + 4 + 1) / 3, (3 + 5 + 2) / 3])
    alike = torch.arange(37.0)[None, :, None].expand(3, 37, 2)  # so many that sorting might mix them up
    assert pool_logits(alike, None, views=Views(grid=6, overlap=0.15, pooling="max")).tolist() == [[0, 0]] * 3


def test_one_view_is_left_as_it_is():
    logits, features = draw(1)
    assert torch.equal(pool_logits(logits[:, :1], None, views=None), logits[:, 0])
    assert torch.equal(pool_features(features[:, :1], views=None), features[:, 0])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_module_pools_as_the_functions_do_and_comes_back_from_its_record(pooling):
    views = POOLINGS[pooling]
    logits, features = draw(2)
    module = ViewPooling.from_views(views)
    expected = pool_logits(logits, features, views=views)
    with torch.inference_mode():
        assert torch.equal(module(logits, features), expected)
        again = ViewPooling.from_views(Views.from_config(module.to_views().to_config()))
        assert torch.equal(again(logits, features), expected)
    assert module.to_views() == views or np.allclose(module.to_views().attention, PARAMETERS)


def test_attention_begins_with_every_view_alike_and_learns_from_its_gradient():
    # Which view is right can be told from its first feature alone.
    module = ViewPooling(POOLINGS["attention"], num_features=WIDTH)
    assert {name: tuple(parameter.shape) for name, parameter in module.named_parameters()} == {
        "attention.weight": (1, WIDTH),
        "attention.bias": (1,),
    }
    logits, features = draw(3, number=64)
    with torch.inference_mode():
        np.testing.assert_allclose(module(logits, features), logits.mean(dim=1), atol=1e-6)
    right = features[:, :, 0].argmax(dim=1)
    wanted = logits[torch.arange(64), right]
    optimizer = torch.optim.Adam(module.parameters(), lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        ((module(logits, features) - wanted) ** 2).mean().backward()
        optimizer.step()
    weights = attention_weights(features, module.to_views().attention)
    assert (weights.argmax(dim=1) == right).float().mean() > 0.9


def test_attention_that_is_not_finite_is_not_written():
    module = ViewPooling(POOLINGS["attention"], num_features=WIDTH)
    nn.init.constant_(module.attention.weight, math.nan)
    with pytest.raises(ConfigError, match="learned attention"):
        module.to_views()


def test_attention_over_other_features_than_the_classifiers_is_refused():
    check_attention(POOLINGS["attention"], nn.Linear(WIDTH, 2))
    check_attention(POOLINGS["mean"], nn.Linear(3, 2))
    for classifier in (nn.Linear(3, 2), nn.Identity()):
        with pytest.raises(ConfigError, match="attention over the"):
            check_attention(POOLINGS["attention"], classifier)
