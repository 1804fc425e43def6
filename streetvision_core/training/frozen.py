"""A backbone that stays as it is, as a source of features, which are computed once and cached."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from streetvision_core.errors import ConfigError, StreetVisionError
from streetvision_core.inference.cached_features import (
    NamedImages,
    conditioned_crop,
    conditioned_view,
    feature_key,
    image_features,
)
from streetvision_core.io import bytes_digest, json_bytes
from streetvision_core.models import build_classifier, hub_config
from streetvision_core.models.classifier import classifier_name
from streetvision_core.models.head import head_layers
from streetvision_core.models.preprocessing import eval_transform
from streetvision_core.models.views import make_views
from streetvision_core.training import augmentation, seeds
from streetvision_core.training.seeds import Purpose, derive_seed, isolated_random, seed_transforms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from PIL.Image import Image

    from streetvision_core.data.conditions import Conditions
    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.inference.cached_features import Crop, Features
    from streetvision_core.models.backbone import Backbone
    from streetvision_core.training.config import TrainingConfig
    from streetvision_core.training.data import Unreadable

    # The name of a view and its crop.
    Augmented: TypeAlias = tuple[str, Crop]

# Draws of each image of train under conditions that a probe without augmented views takes in turn.
TRAIN_DRAWS = 4


class FrozenBackbone:
    """Gives features of named images; `classifier` is the name of the head that would take them.

    `views` says how many views an image is; a pooling by attention has parameters of zero in it.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        config: TrainingConfig,
        reader: ImageReader,
        digests: Mapping[str, str],
        cache: Path,
    ) -> None:
        self._model = build_classifier(backbone)
        self.classifier = classifier_name(self._model)
        layers = head_layers(self._model.get_classifier())
        if not layers:
            raise ConfigError(
                "an architecture whose classifier is a linear layer",
                f"a {type(self._model.get_classifier()).__name__}",
                backbone.architecture,
                "Choose another architecture for a probe, or train it with method: finetune.",
            )
        width = layers[0].in_features
        self.views = make_views(config.views, attention=(0.0,) * (width + 1))
        self._config = config
        self._transform = eval_transform(backbone.pretrained_cfg, views=self.views)
        self._reader = reader
        self._digests = digests
        self._cache = cache
        self._failed: dict[str, StreetVisionError] = {}
        # Once for all roles and views: it hashes the weights.
        self._key = feature_key(self._model, self._transform, config=hub_config(backbone))

    def features(
        self, names: Sequence[str], *, draw: int = 0, augmented: Augmented | None = None
    ) -> Features:
        """Return the features of images in their order; of many views [V, D] an image, else [D].

        Args:
            names: The images.
            draw: Which draw of each under the conditions.
            augmented: The crop in place of the plain one, and what decides it, by name.
        """
        conditions, transform = self._reader.conditions, self._transform
        view, crop = (
            conditioned_view(conditions, draw=draw),
            conditioned_crop(transform, conditions, draw=draw),
        )
        if augmented is not None:
            view, crop = _augmented(augmented, conditions, draw=draw)
        return image_features(
            self._model,
            NamedImages(names, [self._digests[name] for name in names], self._read),
            transform=self._transform,
            key=replace(self._key, view=view),
            crop=crop,
            cache=self._cache,
        )

    def train_views(
        self, names: Sequence[str], *, unreadable: Unreadable
    ) -> tuple[list[Features], list[int]]:
        """Return the views of the images of train that epochs take in turn: plain, or augmented ones.

        With them come the positions [N] in `names` of the images they are of. Left out is an image whose
        features are not cached and that cannot be read now. Where nothing is cached no image is left out:
        one that cannot be read ends the training when it is asked for.
        """
        while True:
            gone = self._failed.keys() | unreadable.names  # an earlier run may have left some out
            kept = [position for position, name in enumerate(names) if name not in gone]
            try:
                return self._train_views([names[position] for position in kept]), kept
            except StreetVisionError:
                missing = [names[position] for position in kept if names[position] in self._failed]
                if not missing:
                    raise  # it was no image
                # What was computed so far is in the cache; the rest goes on without these.
                unreadable.meet((name, self._failed[name]) for name in missing)

    def _train_views(self, names: Sequence[str]) -> list[Features]:
        config, conditions = self._config, self._reader.conditions
        drawn = conditions is not None and not conditions.is_as_is
        if not config.probe.augmented_views:
            draws = range(1, TRAIN_DRAWS + 1) if drawn else [0]
            return [self.features(names, draw=draw) for draw in draws]
        recipe = {
            "augmentation": config.augmentation.model_dump(mode="json"),
            "code": bytes_digest(
                b"".join(Path(str(module.__file__)).read_bytes() for module in (augmentation, seeds))
            ),
        }
        augment = augmentation.make_augmentation(config.augmentation, transform=self._transform)
        return [
            self.features(
                names,
                draw=k + 1,
                augmented=(
                    augmented_view(recipe, seed=config.seed, k=k),
                    augmented_crop(augment, seed=config.seed, k=k),
                ),
            )
            for k in range(config.probe.augmented_views)
        ]

    def _read(self, name: str) -> bytes:
        try:
            return self._reader.read(name)
        except StreetVisionError as error:
            self._failed[name] = error
            raise


def _augmented(augmented: Augmented, conditions: Conditions | None, *, draw: int) -> Augmented:
    """Return the augmented view of images as they arrive in use."""
    view, crop = augmented
    if conditions is None or conditions.is_as_is:
        return augmented
    return (
        f"{conditioned_view(conditions, draw=draw)}/{view}",
        lambda image, sha256: crop(conditions.see(image, sha256, draw=draw), sha256),
    )


def augmented_crop(augment: Callable[[Image], torch.Tensor], *, seed: int, k: int) -> Crop:
    """Return the crop of the k-th augmented view.

    What is drawn follows from the seed, k and the image's content: neither the order nor the threads
    matter, and the global generators are left as they were.

    Args:
        augment: An RGB image to uint8 [3, H, W], drawing from the global generators
            (`augmentation.make_augmentation`).
        seed: Of the augmentation.
        k: Which view.
    """
    alone = threading.Lock()  # the generators are global

    def crop(image: Image, sha256: str) -> torch.Tensor:
        with alone, isolated_random():
            seed_transforms(derive_seed(seed, Purpose.VIEW, k, int(sha256, 16)))
            return augment(image)

    return crop


def augmented_view(recipe: Mapping[str, Any], *, seed: int, k: int) -> str:
    """Return the name of the k-th augmented view under a recipe (JSON)."""
    return f"augmented:{hashlib.sha256(json_bytes([recipe, seed])).hexdigest()}:{k}"
