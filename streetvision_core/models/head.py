"""The head of a classifier: what turns the features of a backbone into the logits of None and Roadwork.

A linear layer, or one with a hidden layer before it. It takes the place of the linear layer in which a timm
model ends, under the same name. Only a linear head opens in timm and transformers.

The last layer starts at zero and says 0.5 of every image: the first loss is ln 2 whatever the features
are, where timm's random head can start at a loss of 4 and spend the first epochs unlearning it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.errors import ConfigError


def make_head(width: int, *, hidden: int = 0, seed: int = 0) -> nn.Module:
    """Return a head for features [N, width]; `hidden` is the width of its hidden layer, 0 for none."""
    out = nn.Linear(hidden or width, len(LABEL_NAMES))
    nn.init.zeros_(out.weight)
    nn.init.zeros_(out.bias)
    if not hidden:
        return out
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        first = nn.Linear(width, hidden)
    return nn.Sequential(OrderedDict(hidden=first, activation=nn.GELU(), out=out))


def head_layers(head: Any) -> list[nn.Linear]:
    """Return the linear layers of a head in their order; one or two."""
    return [module for module in head.modules() if isinstance(module, nn.Linear)]


def deepen_head(model: Any, *, name: str, hidden: int, seed: int = 0) -> None:
    """Give a timm model a head with a hidden layer in the place of its classifier, which has that `name`.

    Raises:
        ConfigError: the model does not end in one linear layer.
    """
    classifier = model.get_submodule(name)
    if not isinstance(classifier, nn.Linear):
        expected = "an architecture that ends in one linear layer"
        action = "Leave head_hidden at 0, or choose another architecture."
        raise ConfigError(expected, f"a {type(classifier).__name__}", type(model).__name__, action)
    parent, _, last = name.rpartition(".")
    head = make_head(classifier.in_features, hidden=hidden, seed=seed)
    setattr(model.get_submodule(parent), last, head)
