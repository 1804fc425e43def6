"""Features of images through the cache, and the logits they give: what is there is read, the rest computed.

An image that lacks its features is read, proven by its SHA-256 and decoded; two threads do so ahead of the
model, at most `AHEAD` crops are waiting. The model sees batches of the one size of every prediction, so an
image's features do not depend on which others are missing: a cold, a warm and a half-filled cache give the
same numbers, bit for bit on the CPU.

What is computed is published every `feature_cache.SHARD_ROWS` images, every minute, and when the
computation ends, also by an error: the next run goes on from there.

The key of a set names everything that decides the numbers, the device and the libraries included; the
number of threads does not.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from streetvision_core.data.decoding import decode as decoding
from streetvision_core.data.decoding import jpeg
from streetvision_core.data.decoding.ahead import run_ahead
from streetvision_core.data.decoding.decode import ImageReader, decode
from streetvision_core.inference import features, predict
from streetvision_core.inference.feature_cache import SHARD_ROWS, FeatureKey, FeatureSet, open_features
from streetvision_core.inference.features import batch_features, classify_features, find_row_shape
from streetvision_core.inference.predict import (
    BATCH_SIZE,
    FEATURES,
    Measured,
    choose_device,
    join,
    measure_pixels,
    prepared_batches,
)
from streetvision_core.io.encode import bytes_digest, json_bytes
from streetvision_core.models import pooling, preprocessing, views
from streetvision_core.models.pooling import pool_features, pool_logits
from streetvision_core.models.preprocessing import Preprocessing, hub_transform

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from streetvision_core.data.conditions import Conditions
    from streetvision_core.inference.logits import TrainedClassifier
    from streetvision_core.models.views import Views

FLOAT32 = "float32"
PLAIN = "plain"
AHEAD = 2 * BATCH_SIZE
_CODE = (decoding, features, jpeg, pooling, predict, preprocessing, views)
SECONDS_A_SHARD = 60.0
# Threads that decode ahead of a model; it keeps every core busy by itself.
READERS = 2


def body_digest(model: Any) -> str:
    """Return the SHA-256 (hex) of the model's tensors without its classifier: names, dtypes, shapes, bytes.

    Classifiers that share a frozen body share its features.
    """
    classifier = model.get_classifier()
    heads = {id(layer) for layer in (classifier if isinstance(classifier, tuple | list) else (classifier,))}
    prefixes = tuple(f"{name}." for name, module in model.named_modules() if id(module) in heads)
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if prefixes and name.startswith(prefixes):
            continue
        plain = tensor.detach().cpu().contiguous()
        digest.update(json_bytes([name, str(plain.dtype), list(plain.shape)]))
        digest.update(memoryview(plain.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def gives_features(checkpoint: TrainedClassifier) -> bool:
    """Tell whether the checkpoint's logits are made of one vector of features, [D] or [V, D] of views."""
    return find_row_shape(checkpoint.load_model(), hub_transform(checkpoint.config)) is not None


def measure_images(
    checkpoint: TrainedClassifier,
    names: Sequence[str],
    images: ImageReader,
    *,
    cache: Path | None,
    features: bool = False,
    device: str | torch.device | None = None,
) -> Measured:
    """Return the checkpoint's logits of named images, and on request what goes into its classifier layer.

    They are those of `predict.measure_pixels`, bit for bit on the CPU. Where the logits are made of one
    vector of features, that is taken from the cache, and only images that lack it are read.

    Args:
        checkpoint: The classifier.
        names: The images, [N].
        images: Reads and proves them; under its conditions they are seen.
        cache: The directory of all feature sets; None computes and keeps nothing.
        features: Whether the extra "features" [N, D] is wanted, of many views pooled.
        device: By default the first GPU where there is one.

    Raises:
        ConfigError: features of a model whose classifier is not one layer that takes [N, D].
        DataError: an image cannot be read.
        IntegrityError: the weights or an image are not what they were.
    """
    model, transform = checkpoint.load_model(), hub_transform(checkpoint.config)
    where = choose_device() if device is None else device
    key = None if cache is None else feature_key(model, transform, config=checkpoint.config, device=where)
    if cache is None or key is None:
        extras = (FEATURES,) if features else ()
        pixels = (transform.pixels(images.image(name)) for name in names)
        return join(measure_pixels(model, pixels, transform, device=where, extras=extras))
    rows = image_features(model, names, images, transform=transform, key=key, cache=cache, device=where)
    logits = feature_logits(model, rows, views=transform.views)
    if not features:
        return Measured(logits)
    pooled = pool_features(torch.from_numpy(rows[:]), views=transform.views) if transform.views else None
    return Measured(logits, {FEATURES: rows[:] if pooled is None else pooled.numpy()})


def feature_key(
    model: Any,
    transform: Preprocessing,
    *,
    config: Mapping[str, Any],
    device: str | torch.device | None = None,
) -> FeatureKey | None:
    """Describe the features of a model in the plain view: what goes into its classifier layer, float32 [D].

    Args:
        model: A timm classifier.
        transform: Its preprocessing.
        config: Its config.json, of which `architecture` and `model_args` count.
        device: Where it will be computed; by default on the first GPU where there is one.

    Returns:
        The key; None where the model's logits are not made of one vector of features.
    """
    shape = find_row_shape(model, transform)
    if shape is None:
        return None
    return FeatureKey(
        weights=body_digest(model),
        architecture=str(config["architecture"]),
        model_args=dict(config.get("model_args", {})),
        preprocessing=describe_preprocessing(transform),
        precision=FLOAT32,
        view=PLAIN,
        computed_by={
            "device": _device_name(device),
            "code": _code_digest(),
            **{name: version(name) for name in ("torch", "torchvision", "timm", "pillow")},
        },
        shape=shape,
    )


def image_features(
    model: Any,
    names: Sequence[str],
    images: ImageReader,
    *,
    transform: Preprocessing,
    key: FeatureKey,
    cache: Path,
    draw: int = 0,
    device: str | torch.device | None = None,
) -> FeatureSet:
    """Return what goes into the model's classifier layer, float32 [D], for each named image.

    Args:
        model: A timm classifier; it is moved to `device` and set to evaluation mode.
        names: The images, [N].
        images: Reads and proves them; under its conditions they are seen.
        transform: The model's preprocessing.
        key: That of `feature_key`.
        cache: The directory of all feature sets.
        draw: Which draw of each image under the conditions.
        device: By default the first GPU where there is one.

    Raises:
        DataError: an image cannot be read.
        IntegrityError: an image's bytes are not those that were indexed.
        StoreError: the cache cannot be written.
    """
    key = replace(key, view=conditioned_view(images.conditions, draw=draw))
    features = open_features(cache, key, list(map(images.sha256, names)))
    missing = features.missing

    def load(position: int) -> torch.Tensor:
        name = names[position]
        return transform.pixels(images.see(decode(images.read(name)), name, draw=draw))

    writer = _Writer(features)
    try:
        pixels = run_ahead(load, missing.tolist(), threads=READERS, ahead=AHEAD)
        batches = prepared_batches(
            model, pixels, batch_size=BATCH_SIZE, device=choose_device() if device is None else device
        )
        for start, batch in zip(range(0, len(missing), BATCH_SIZE), batches, strict=True):
            rows = batch_features(model, batch, transform, batch_size=BATCH_SIZE)
            writer.take(missing[start : start + BATCH_SIZE], rows)
    finally:
        writer.publish()
    return features


class Features(Protocol):
    """Features of images by position, float32 [B, D], or [B, V, D] of many views."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Sequence[int]) -> npt.NDArray[np.float32]: ...


def feature_logits(model: Any, features: Features, *, views: Views | None) -> npt.NDArray[np.float32]:
    """Return the logits [N, 2] that a classifier makes of the features of its own body.

    They are those of the whole model, bit for bit.
    """
    parts = [np.zeros((0, 2), dtype=np.float32)]
    for start in range(0, len(features), SHARD_ROWS):
        rows = features[range(start, min(start + SHARD_ROWS, len(features)))]
        logits = torch.from_numpy(classify_features(model, rows))
        if views is not None:
            logits = pool_logits(logits, torch.from_numpy(rows), views=views)
        parts.append(logits.numpy())
    return np.concatenate(parts)


def conditioned_view(conditions: Conditions | None, *, draw: int = 0) -> str:
    """Return the name of the view under conditions: of the profile, the seed and our code that draws."""
    if conditions is None or conditions.is_as_is:
        return PLAIN
    from streetvision_core.data.conditions import draw as drawing
    from streetvision_core.data.conditions import operations

    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (drawing, operations))
    decides = [conditions.profile.model_dump(mode="json"), conditions.seed, bytes_digest(code)]
    return f"conditions:{bytes_digest(json_bytes(decides))}:{draw}"


def describe_preprocessing(transform: Preprocessing) -> dict[str, Any]:
    """Return everything that decides what the model sees of an image, as JSON values."""
    views = transform.views
    return {
        "geometry": repr(transform.geometry),
        "size": list(transform.size),
        "mean": list(transform.mean),
        "std": list(transform.std),
        "interpolation": transform.interpolation,
        **({"grid": views.grid, "overlap": views.overlap} if views else {}),
    }


@dataclass
class _Writer:
    """Collects the rows of one set until they make a shard."""

    features: FeatureSet
    positions: list[npt.NDArray[np.int64]] = field(default_factory=list)
    rows: list[npt.NDArray[Any]] = field(default_factory=list)
    published: float = field(default_factory=time.monotonic)

    def take(self, positions: npt.NDArray[np.int64], rows: npt.NDArray[Any]) -> None:
        """Keep the rows of a batch, and publish where they make a shard or a minute has passed."""
        self.positions.append(positions)
        self.rows.append(rows)
        full = sum(map(len, self.positions)) >= SHARD_ROWS
        if full or time.monotonic() - self.published > SECONDS_A_SHARD:
            self.publish()

    def publish(self) -> None:
        """Make what was collected durable."""
        if self.positions:
            self.features.publish(np.concatenate(self.positions), np.concatenate(self.rows))
        self.positions.clear()
        self.rows.clear()
        self.published = time.monotonic()


@cache
def _code_digest() -> str:
    """Return the SHA-256 (hex) of our own code between an image's bytes and its features."""
    return bytes_digest(b"".join(Path(str(module.__file__)).read_bytes() for module in _CODE))


def _device_name(device: str | torch.device | None) -> str:
    where = choose_device() if device is None else torch.device(device)
    return torch.cuda.get_device_name(where) if where.type == "cuda" else str(where)
