"""A backbone that stays as it is, as a source of features, which are computed once and cached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.errors import ConfigError
from streetvision_core.inference.cached_features import feature_key, image_features
from streetvision_core.models import build_classifier, hub_config
from streetvision_core.models.classifier import classifier_name
from streetvision_core.models.head import head_layers
from streetvision_core.models.preprocessing import eval_transform
from streetvision_core.models.views import make_views

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.inference.cached_features import Features
    from streetvision_core.models.backbone import Backbone
    from streetvision_core.training.config import TrainingConfig

# Draws of each image of train under conditions that a probe takes in turn.
TRAIN_DRAWS = 4


class FrozenBackbone:
    """Gives features of named images; `classifier` is the name of the head that would take them.

    `views` says how many views an image is; a pooling by attention has parameters of zero in it.
    """

    def __init__(
        self, backbone: Backbone, *, config: TrainingConfig, reader: ImageReader, cache: Path
    ) -> None:
        self._model = build_classifier(backbone)
        self.classifier = classifier_name(self._model)
        layers = head_layers(self._model.get_classifier())
        if not layers:
            raise _no_features(f"a {type(self._model.get_classifier()).__name__}", backbone)
        width = layers[0].in_features
        self.views = make_views(config.views, attention=(0.0,) * (width + 1))
        self._transform = eval_transform(backbone.pretrained_cfg, views=self.views)
        self._reader = reader
        self._cache = cache
        # Once for all roles and views: it hashes the weights.
        key = feature_key(self._model, self._transform, config=hub_config(backbone))
        if key is None:
            raise _no_features("one whose features are not all that its logits are made of", backbone)
        self._key = key

    def features(self, names: Sequence[str], *, draw: int = 0) -> Features:
        """Return the features of images in their order; of many views [V, D] an image, else [D].

        Args:
            names: The images.
            draw: Which draw of each under the conditions.
        """
        return image_features(
            self._model,
            names,
            self._reader,
            transform=self._transform,
            key=self._key,
            cache=self._cache,
            draw=draw,
        )

    def train_views(self, names: Sequence[str]) -> list[Features]:
        """Return the views of train that epochs take in turn: one, or under conditions several draws."""
        conditions = self._reader.conditions
        drawn = conditions is not None and not conditions.is_as_is
        return [self.features(names, draw=draw) for draw in (range(1, TRAIN_DRAWS + 1) if drawn else [0])]


def _no_features(found: str, backbone: Backbone) -> ConfigError:
    return ConfigError(
        "an architecture whose classifier is a linear layer",
        found,
        backbone.architecture,
        "Choose another architecture for a probe, or train it with method: finetune.",
    )
