"""The pooling of the logits of many views of an image into the logits of the image.

With the margin of a view, roadwork - none:

- mean: the mean of the logits of all views;
- top_k: the mean of the logits of the k views with the largest margins; of equal ones the earlier view;
- max: the logits of the view with the largest margin, which is top_k with k = 1;
- attention: the mean of the logits, weighted by the softmax over the views of a learned linear score of
  each view's features (what goes into the classifier layer).

Each of them is a weighted mean of the views' logits, with weights that sum to 1 and depend on the order of
the margins or on the features. Folding an operating point into the last layer divides every margin by a
temperature and shifts all of them by the same number: order and features stay, so pooling and folding
commute, and one half of the pooled, folded views is the tuned decision.

Everything here is computed image by image, in an order that the number of images does not change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import nn

from streetvision_core.errors import ConfigError
from streetvision_core.models.head import head_layers
from streetvision_core.models.views import ATTENTION, MAX, MEAN, Views

if TYPE_CHECKING:
    from collections.abc import Sequence


def pool_logits(logits: torch.Tensor, features: torch.Tensor | None, *, views: Views | None) -> torch.Tensor:
    """Return the logits of images, float32 [N, 2], from those of their views, float32 [N, V, 2].

    Args:
        logits: Of each view.
        features: Of each view, float32 [N, V, D]; only the pooling "attention" looks at them.
        views: The pooling, and for "attention" its parameters; None where V is 1.
    """
    if views is None:
        return logits[:, 0]
    if views.pooling == MEAN:
        return logits.mean(dim=1)
    if views.pooling == ATTENTION:
        assert features is not None
        return _weigh(logits, attention_weights(features, views.attention or ()))
    return _mean_of_largest(logits, 1 if views.pooling == MAX else views.top_k or 1)


def pool_features(features: torch.Tensor, *, views: Views | None) -> torch.Tensor:
    """Return the features of images, [N, D], from [N, V, D]: weighed by the attention, or their mean."""
    if views is None:
        return features[:, 0]
    if views.pooling == ATTENTION:
        return _weigh(features, attention_weights(features, views.attention or ()))
    return features.mean(dim=1)


def attention_weights(features: torch.Tensor, parameters: Sequence[float]) -> torch.Tensor:
    """Return the weights of the views, [N, V], from their features [N, V, D] and the D + 1 parameters."""
    given = torch.tensor(parameters, dtype=features.dtype, device=features.device)
    return _attend(features, given[:-1], given[-1])


def check_attention(views: Views | None, classifier: nn.Module) -> None:
    """Prove that the attention, where there is one, takes the features of this classifier layer.

    Raises:
        ConfigError: it takes another number of features, or the layer has none.
    """
    if views is None or views.attention is None:
        return
    layers = head_layers(classifier)
    width = layers[0].in_features if layers else None
    if width != len(views.attention) - 1:
        expected = f"an attention over the {width} features of the classifier"
        action = "Take the config.json that belongs to these weights."
        raise ConfigError(expected, f"one over {len(views.attention) - 1}", "views in config.json", action)


class ViewPooling(nn.Module):
    """Pooling as a module, for a training that learns how to weigh the views.

    With the pooling "attention" its parameters are `attention.weight` [1, D] and `attention.bias` [1], zero
    at first: every view then counts the same. Other poolings have no parameters.

    Round trip: `ViewPooling.from_views(pooling.to_views())` pools as `pooling` does, bit for bit.
    """

    def __init__(self, views: Views, *, num_features: int) -> None:
        super().__init__()
        self._views = views
        if views.pooling == ATTENTION:
            self.attention = nn.Linear(num_features, 1)
            nn.init.zeros_(self.attention.weight)
            nn.init.zeros_(self.attention.bias)

    def forward(self, logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return the logits of images, [N, 2], from logits [N, V, 2] and features [N, V, D] of views."""
        if self._views.pooling != ATTENTION:
            return pool_logits(logits, None, views=self._views)
        return _weigh(logits, _attend(features, self.attention.weight[0], self.attention.bias[0]))

    def to_views(self) -> Views:
        """Return the views with the parameters as they are now, for `hub_config`.

        Raises:
            ConfigError: the parameters are not finite.
        """
        if self._views.pooling != ATTENTION:
            return self._views
        learned = torch.cat([self.attention.weight[0], self.attention.bias]).detach().float().cpu()
        settings = {**self._views.to_config(), "attention": learned.tolist()}
        return Views.from_config(settings, where="the learned attention")

    @classmethod
    def from_views(cls, views: Views) -> Self:
        """Return the module with the parameters of `views`."""
        pooling = cls(views, num_features=len(views.attention or ()) - 1)
        if views.attention is not None:
            given = torch.tensor(views.attention)
            pooling.attention.load_state_dict({"weight": given[None, :-1], "bias": given[-1:]})
        return pooling


def _attend(features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    # A matrix product would choose its order of summation by the number of images.
    return torch.softmax((features * weight).sum(dim=-1) + bias, dim=1)


def _weigh(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (values * weights[:, :, None]).sum(dim=1)


def _mean_of_largest(logits: torch.Tensor, number: int) -> torch.Tensor:
    margins = logits[:, :, 1].double() - logits[:, :, 0].double()
    order = margins.argsort(dim=1, descending=True, stable=True)[:, :number]
    return logits.gather(1, order[:, :, None].expand(-1, -1, logits.shape[2])).mean(dim=1)
