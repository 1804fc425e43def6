"""Features of pictures through the cache: what is there is read, what is missing is computed, once for all.

A picture that lacks a feature is read, proven by its SHA-256 and decoded once, however many features of it
are wanted; two threads do so ahead of the model, at most `AHEAD` crops are waiting. The model sees batches
of the one size of every prediction, so a picture's features do not depend on which others are missing: a
cold, a warm and a half-filled cache give the same numbers, bit for bit on the CPU.

What is computed is published every `feature_cache.SHARD_ROWS` pictures, every minute, and when the
computation ends, also by an error: the next run goes on from there.

The key of a set names everything that decides the numbers, the device and the libraries included; the
number of threads does not.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from streetvision_core.data.decoding import decode as decoding
from streetvision_core.data.decoding import jpeg
from streetvision_core.data.decoding.decode import decode
from streetvision_core.errors import ConfigError, IntegrityError
from streetvision_core.inference import features, measure, predict
from streetvision_core.inference.feature_cache import SHARD_ROWS, FeatureKey, FeatureSet, open_features
from streetvision_core.inference.features import batch_features, classify_features, find_row_shape
from streetvision_core.inference.measure import picture_quality
from streetvision_core.inference.predict import BATCH_SIZE, choose_device, prepared_batches
from streetvision_core.io.claims import remove_or_tell
from streetvision_core.io.encode import bytes_digest, json_bytes
from streetvision_core.io.system import room_for
from streetvision_core.models import pooling, preprocessing, views
from streetvision_core.models.pooling import pool_logits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt
    from PIL.Image import Image

    from streetvision_core.models.preprocessing import Preprocessing
    from streetvision_core.models.views import Views

    Crop = Callable[[Image, str], torch.Tensor]

FLOAT32 = "float32"
PLAIN, MIRRORED, QUALITY = "plain", "mirrored", "quality"
AHEAD = 2 * BATCH_SIZE
_CODE = (decoding, features, jpeg, measure, pooling, predict, preprocessing, views)
SECONDS_A_SHARD = 60.0
# Threads that decode ahead of a model; it keeps every core busy by itself.
READERS = 2


@dataclass(frozen=True)
class Measure:
    """What is wanted of pictures: `rows` makes [B, *key.shape] of a batch of crops, uint8 [B, 3, H, W]."""

    key: FeatureKey
    rows: Callable[[torch.Tensor], npt.NDArray[Any]]

    def seen_as(self, view: str) -> Measure:
        """Return the same of another look at the pictures."""
        return replace(self, key=replace(self.key, view=view))


def body_digest(model: Any) -> str:
    """Return the SHA-256 (hex) of the model's tensors without its classifier: names, dtypes, shapes, bytes.

    Classifiers that share a frozen body share its features.
    """
    classifier = model.get_classifier()
    heads = {id(one) for one in (classifier if isinstance(classifier, tuple | list) else (classifier,))}
    prefixes = tuple(f"{name}." for name, module in model.named_modules() if id(module) in heads)
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if prefixes and name.startswith(prefixes):
            continue
        plain = tensor.detach().cpu().contiguous()
        digest.update(json_bytes([name, str(plain.dtype), list(plain.shape)]))
        digest.update(memoryview(plain.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def feature_measures(
    model: Any,
    transform: Preprocessing,
    *,
    config: Mapping[str, Any],
    views: Sequence[str] = (PLAIN,),
    device: str | torch.device | None = None,
) -> list[Measure]:
    """Describe the features of a model in each view: what goes into its classifier layer, float32 [D].

    Args:
        model: A timm classifier.
        transform: Its preprocessing.
        config: Its config.json, of which `architecture` and `model_args` count.
        views: "mirrored" mirrors each crop; every other view takes the crops as they are given.
        device: Where it will be computed; by default on the first GPU where there is one.

    Raises:
        ConfigError: the model's logits are not made of one vector of features.
    """
    shape = find_row_shape(model, transform)
    if shape is None:
        raise ConfigError(
            "a classifier of one layer that takes features [N, D] and gives the logits",
            str(config["architecture"]),
            "the features of pictures",
            "Choose another architecture.",
        )
    plain = FeatureKey(
        weights=body_digest(model),
        architecture=str(config["architecture"]),
        model_args=dict(config.get("model_args", {})),
        preprocessing=describe_preprocessing(transform),
        precision=FLOAT32,
        view=PLAIN,
        computed_by={
            "device": _device_name(device),
            "code": _code_digest(),
            **_versions("torch", "torchvision", "timm", "pillow"),
        },
        shape=shape,
    )

    def rows(pixels: torch.Tensor) -> npt.NDArray[np.float32]:
        return batch_features(model, pixels, transform, batch_size=BATCH_SIZE)

    def mirrored_rows(pixels: torch.Tensor) -> npt.NDArray[np.float32]:
        return rows(pixels.flip(-1))

    return [Measure(replace(plain, view=view), mirrored_rows if view == MIRRORED else rows) for view in views]


def quality_measure(transform: Preprocessing) -> Measure:
    """Describe sharpness and brightness of the crops, float64 [2]: no model takes part, and no device."""

    def rows(pixels: torch.Tensor) -> npt.NDArray[np.float64]:
        whole = pixels if transform.views is None else pixels[:, 0]
        return np.stack(picture_quality(whole.cpu().numpy()), axis=1)

    key = FeatureKey(
        weights="",
        architecture="",
        model_args={},
        preprocessing=describe_preprocessing(transform),
        precision="float64",
        view=QUALITY,
        computed_by={"code": _code_digest(), **_versions("numpy", "torchvision", "timm", "pillow")},
        shape=(2,),
        dtype="<f8",
    )
    return Measure(key, rows)


def picture_features(
    model: Any,
    names: Sequence[str],
    *,
    digests: Sequence[str],
    read: Callable[[str], bytes],
    transform: Preprocessing,
    config: Mapping[str, Any],
    cache: Path | None,
    view: str = PLAIN,
    crop: Crop | None = None,
    device: str | torch.device | None = None,
) -> FeatureSet:
    """Return what goes into the model's classifier layer, float32 [D], for each named picture.

    Args:
        model: A timm classifier; it is moved to `device` and set to evaluation mode.
        names: The pictures, [N].
        digests: SHA-256 (hex) of their bytes, in the same order.
        read: Returns the bytes of a named picture.
        transform: The model's preprocessing.
        config: The model's config.json, of which `architecture` and `model_args` count.
        cache: The directory of all feature sets; None computes into a temporary one, which goes with the
            result.
        view: Which look it is. Whoever gives a `crop` names it here, with everything that decides it.
        crop: Turns a picture and its SHA-256 into uint8 [3, H, W], in place of `transform.pixels`; called by
            several threads.
        device: By default the first GPU where there is one.

    Raises:
        ConfigError: the model's logits are not made of one vector of features.
        DataError: a picture cannot be read.
        IntegrityError: a picture's bytes are not those of its digest.
        StoreError: the cache cannot be written.
    """
    return measure_pictures(
        model,
        feature_measures(model, transform, config=config, views=[view], device=device),
        names,
        digests=digests,
        read=read,
        crop=crop or plain_crop(transform),
        cache=cache,
        device=device,
    )[0]


def measure_pictures(
    model: Any,
    measures: Sequence[Measure],
    names: Sequence[str],
    *,
    digests: Sequence[str],
    read: Callable[[str], bytes],
    crop: Crop,
    cache: Path | None,
    device: str | torch.device | None = None,
) -> list[FeatureSet]:
    """Return a set for each measure; a picture is decoded and cropped once for all that lack it.

    Arguments and errors as for `picture_features`.
    """
    place = _Temporary() if cache is None else cache
    features = place.path if isinstance(place, _Temporary) else place
    sets = [open_features(features, measure.key, digests, owner=place) for measure in measures]
    missing = np.unique(np.concatenate([one.missing for one in sets]))

    def load(position: int) -> torch.Tensor:
        return crop(decode(_proven(read, names[position], digests[position])), digests[position])

    where = choose_device() if device is None else device
    writers = [_Writer(one) for one in sets]
    try:
        pixels = _run_ahead(load, missing.tolist())
        batches = prepared_batches(model, pixels, batch_size=BATCH_SIZE, device=where)
        for start, batch in zip(range(0, len(missing), BATCH_SIZE), batches, strict=True):
            positions = missing[start : start + BATCH_SIZE]
            for measure, writer in zip(measures, writers, strict=True):
                writer.take(positions, measure.rows, batch)
    finally:
        for writer in writers:
            writer.publish()
    return sets


class Features(Protocol):
    """Features of pictures by position, float32 [B, D], or [B, V, D] of many views."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Sequence[int]) -> npt.NDArray[np.float32]: ...


def feature_logits(model: Any, features: Features, *, views: Views | None) -> npt.NDArray[np.float32]:
    """Return the logits [N, 2] that a classifier makes of the features of its own body.

    They are those of the whole model, bit for bit.
    """
    found = [np.zeros((0, 2), dtype=np.float32)]
    for start in range(0, len(features), SHARD_ROWS):
        rows = features[range(start, min(start + SHARD_ROWS, len(features)))]
        said = torch.from_numpy(classify_features(model, rows))
        if views is not None:
            said = pool_logits(said, torch.from_numpy(rows), views=views)
        found.append(said.numpy())
    return np.concatenate(found)


class ComputedFeatures:
    """Features that are computed whenever they are asked for, [B, D] by position; arguments as above."""

    def __init__(
        self,
        model: Any,
        names: Sequence[str],
        *,
        digests: Sequence[str],
        read: Callable[[str], bytes],
        transform: Preprocessing,
        crop: Crop | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self._model = model
        self._names = names
        self._digests = digests
        self._read = read
        self._transform = transform
        self._crop = crop or plain_crop(transform)
        self._device = choose_device() if device is None else device

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, positions: Sequence[int]) -> npt.NDArray[np.float32]:
        pixels = map(self._load, positions)
        batches = prepared_batches(self._model, pixels, batch_size=BATCH_SIZE, device=self._device)
        rows = [
            batch_features(self._model, batch, self._transform, batch_size=BATCH_SIZE) for batch in batches
        ]
        return np.concatenate(rows)

    def _load(self, position: int) -> torch.Tensor:
        digest = self._digests[position]
        return self._crop(decode(_proven(self._read, self._names[position], digest)), digest)


def plain_crop(transform: Preprocessing) -> Crop:
    """Return the crop of every prediction."""
    return lambda picture, _: transform.pixels(picture)


def describe_preprocessing(transform: Preprocessing) -> dict[str, Any]:
    """Return everything that decides what the model sees of a picture, as JSON values."""
    views = transform.views
    return {
        "geometry": repr(transform.geometry),
        "size": list(transform.size),
        "mean": list(transform.mean),
        "std": list(transform.std),
        "interpolation": transform.interpolation,
        **({"grid": views.grid, "overlap": views.overlap} if views else {}),
    }


class _Temporary:
    """A directory that goes with the last object that holds this one."""

    def __init__(self) -> None:
        with room_for("features of pictures"):
            self.path = Path(tempfile.mkdtemp(prefix="streetvision-"))
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: Path, pid: int) -> None:
    if os.getpid() == pid:  # a forked worker has a copy of the object, and the directory is not its own
        remove_or_tell(path, root=path.parent)


@dataclass
class _Writer:
    """Collects the rows of one set until they make a shard."""

    features: FeatureSet
    positions: list[npt.NDArray[np.int64]] = field(default_factory=list)
    rows: list[npt.NDArray[Any]] = field(default_factory=list)
    published: float = field(default_factory=time.monotonic)

    def take(
        self,
        positions: npt.NDArray[np.int64],
        compute: Callable[[torch.Tensor], npt.NDArray[Any]],
        batch: torch.Tensor,
    ) -> None:
        """Compute the rows of a batch if any of them is missing, and keep those that are."""
        lacking = self.features.lacks(positions)
        if not lacking.any():
            return
        self.positions.append(positions[lacking])
        self.rows.append(compute(batch)[lacking])
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


def _run_ahead(load: Callable[[int], torch.Tensor], positions: Sequence[int]) -> Iterator[torch.Tensor]:
    """Give what `load` returns in order, computed in threads, at most `AHEAD` before it is asked for."""
    pool = ThreadPoolExecutor(READERS)
    try:
        waiting = deque(pool.submit(load, position) for position in positions[:AHEAD])
        for following in range(AHEAD, AHEAD + len(positions)):
            pixels = waiting.popleft().result()
            if following < len(positions):
                waiting.append(pool.submit(load, positions[following]))
            yield pixels
    finally:
        pool.shutdown(cancel_futures=True)


def _proven(read: Callable[[str], bytes], name: str, sha256: str) -> bytes:
    """Read a picture; what stays in the cache under its digest is of these bytes and no others."""
    data = read(name)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise IntegrityError(
            f"the picture {name} with SHA-256 {sha256}",
            f"other bytes, with SHA-256 {found}",
            "the features of pictures",
            "Restore the picture, or materialize images with rescan: true, and everything after it.",
        )
    return data


def _versions(*packages: str) -> dict[str, str]:
    return {name: version(name) for name in packages}


@cache
def _code_digest() -> str:
    """Return the SHA-256 (hex) of our own code between a picture's bytes and its features."""
    return bytes_digest(b"".join(Path(str(module.__file__)).read_bytes() for module in _CODE))


def _device_name(device: str | torch.device | None) -> str:
    where = choose_device() if device is None else torch.device(device)
    return torch.cuda.get_device_name(where) if where.type == "cuda" else str(where)
