"""The one path from pixels to logits, for validation, calibration logits, evaluation and the bundle.

`measure_pixels` is that path; `predict_pixels` and `predict_logits` are its logits alone. The cache of
features stands in front of it (`cached_features.measure_images`).

Always float32, whatever training ran in. Every batch has the same size (the last one is filled up and
cut), so an image's logits do not depend on how many images follow it: with the same machine, batch
size and threads the numbers are the same bit for bit.

The views of an image, where there are many, are images of their own to the network: the views of a batch
follow each other through it, as many at a time as there are images in a batch, and are then pooled. So
memory on the device does not grow with the grid, but for the 8-bit pixels of the batch.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch.nn import functional

from streetvision_core.errors import ConfigError
from streetvision_core.inference.extras import image_quality, mirror_disagreement
from streetvision_core.models.pooling import pool_features, pool_logits

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    import numpy.typing as npt
    from PIL.Image import Image

    from streetvision_core.models.preprocessing import Preprocessing

BATCH_SIZE = 32
FEATURES = "features"
# Each batch asks, and looking through the modules takes as long as normalising an image.
_LAYOUTS: WeakKeyDictionary[Any, torch.memory_format] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Measured:
    """Logits float32 [N, 2] of images, and the extras that were asked for by name: arrays [N] or [N, D].

    `features`, float32, are what goes into the classifier layer, of many views pooled (`models.pooling`); the
    others stand in `extras`. Nothing but logits takes more than the pass that gives them.
    """

    logits: npt.NDArray[np.float32]
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


def predict_logits(
    model: Any,
    images: Iterable[Image],
    transform: Preprocessing,
    *,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device = "cpu",
) -> npt.NDArray[np.float32]:
    """Return the logits of RGB images, float32 [N, 2]; at most one batch is in memory at a time.

    The model is moved to `device` and set to evaluation mode.
    """
    return predict_pixels(
        model, map(transform.pixels, images), transform, batch_size=batch_size, device=device
    )


def predict_pixels(
    model: Any,
    pixels: Iterable[torch.Tensor],
    transform: Preprocessing,
    *,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device = "cpu",
) -> npt.NDArray[np.float32]:
    """Return the logits of images as `transform.pixels` gives them, float32 [N, 2]."""
    measured = measure_pixels(model, pixels, transform, batch_size=batch_size, device=device)
    return join(measured).logits


def measure_pixels(
    model: Any,
    pixels: Iterable[torch.Tensor],
    transform: Preprocessing,
    *,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device = "cpu",
    extras: Collection[str] = (),
) -> Iterator[Measured]:
    """Measure images as `transform.pixels` gives them, a batch at a time.

    The model is a timm model; it is moved to `device` and set to evaluation mode. The logits do not depend on
    the extras, bit for bit.

    Raises:
        ConfigError: features of a model whose classifier is not one layer that takes [N, D].
    """
    for batch in prepared_batches(model, pixels, batch_size=batch_size, device=device):
        yield measure_batch(model, batch, transform, batch_size=batch_size, extras=extras)


@torch.inference_mode()
def measure_batch(
    model: Any, batch: torch.Tensor, transform: Preprocessing, *, batch_size: int, extras: Collection[str]
) -> Measured:
    """Measure at most `batch_size` stacked images with a model that `prepare` put on their device."""
    pooled, features = _forward_pooled(
        model, batch, transform, batch_size=batch_size, features=FEATURES in extras
    )
    logits, known = pooled.cpu().numpy(), {}
    if features is not None:
        known[FEATURES] = features.cpu().numpy()
    if "disagreement" in extras:
        mirrored = forward_batch(model, batch.flip(-1), transform, batch_size=batch_size).cpu().numpy()
        known["disagreement"] = mirror_disagreement(logits, mirrored)
    if "sharpness" in extras or "brightness" in extras:
        whole = batch if transform.views is None else batch[:, 0]
        known["sharpness"], known["brightness"] = image_quality(whole.cpu().numpy())
    return Measured(logits, known)


def join(measured: Iterable[Measured]) -> Measured:
    """Put batches together; of no images there are no extras."""
    batches = list(measured)
    if not batches:
        return Measured(np.zeros((0, 2), dtype=np.float32))
    extras = {name: np.concatenate([batch.extras[name] for batch in batches]) for name in batches[0].extras}
    return Measured(np.concatenate([batch.logits for batch in batches]), extras)


def prepared_batches(
    model: Any, pixels: Iterable[torch.Tensor], *, batch_size: int, device: str | torch.device
) -> Iterator[torch.Tensor]:
    """Make the model ready, and yield the images, uint8 [at most batch_size, ...], on `device`.

    The model is moved there in its layout and set to evaluation mode before the first batch.
    """
    prepare(model, device)
    iterator = iter(pixels)
    while batch := list(islice(iterator, batch_size)):
        yield torch.stack(batch).to(device)


def prepare(model: Any, device: str | torch.device) -> None:
    """Move the model to the device in its layout and set it to evaluation mode.

    This costs half a millisecond or more even where the model is ready: for single images it is done once.
    """
    model.to(device=device, memory_format=memory_format(model)).eval()


def forward_batch(
    model: Any, pixels: torch.Tensor, transform: Preprocessing, *, batch_size: int
) -> torch.Tensor:
    """Return float32 logits [N, 2] of N <= batch_size images, computed as full batches.

    Args:
        model: A timm classifier on the device of the pixels.
        pixels: What `transform.pixels` gives, stacked: uint8 [N, 3, H, W], or [N, V, 3, H, W] of many views.
        transform: The preprocessing.
        batch_size: How many images, or views of images, pass the network at a time.

    Raises:
        ConfigError: the views are pooled by attention, and the classifier does not take features [N, D].
    """
    return _forward_pooled(model, pixels, transform, batch_size=batch_size, features=False)[0]


def _forward_pooled(
    model: Any, pixels: torch.Tensor, transform: Preprocessing, *, batch_size: int, features: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the logits [N, 2] and, where asked for, the features [N, D] of the same pass."""
    views = transform.views
    attends = views is not None and views.attention is not None
    logits, rows = forward_views(
        model, pixels, transform, batch_size=batch_size, features=features or attends
    )
    pooled = pool_logits(logits, rows, views=views)
    return pooled, pool_features(rows, views=views) if features and rows is not None else None


def forward_views(
    model: Any, pixels: torch.Tensor, transform: Preprocessing, *, batch_size: int, features: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return what each view says before it is pooled; arguments as for `forward_batch`.

    Returns:
        Logits float32 [N, V, 2] and, where asked for, features float32 [N, V, D]; V is 1 for whole images.

    Raises:
        ConfigError: features of a classifier that does not take [N, D].
    """
    count = 1 if transform.views is None else transform.views.count
    crops = pixels if transform.views is None else pixels.flatten(0, 1)
    chunks = torch.split(crops, batch_size)
    watched: AbstractContextManager[list[torch.Tensor]] = (
        classifier_inputs(model) if features else nullcontext([])
    )
    with watched as seen:
        rows = torch.cat([_forward(model, chunk, transform, batch_size=batch_size) for chunk in chunks])
    logits = rows.reshape(-1, count, rows.shape[-1])
    if not features:
        return logits, None
    inputs = only_features(seen, passes=len(chunks))[: len(crops)]
    return logits, inputs.reshape(-1, count, inputs.shape[-1])


def _forward(model: Any, pixels: torch.Tensor, transform: Preprocessing, *, batch_size: int) -> torch.Tensor:
    missing = batch_size - len(pixels)
    filled = functional.pad(pixels, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else pixels
    inputs = transform.normalise(filled)
    with torch.autocast(inputs.device.type, enabled=False):
        logits: torch.Tensor = model(inputs.contiguous(memory_format=memory_format(model)))
    return logits[: len(pixels)].float()


def memory_format(model: Any) -> torch.memory_format:
    """Return the layout in which the model runs best.

    channels_last doubles the speed of convolutional networks on the CPU and changes nothing for others.
    FastViT is the exception: trained in it on the CPU it corrupts the heap (torch 2.14 and 2.15).
    """
    if model not in _LAYOUTS:
        fastvit = any(type(module).__module__ == "timm.models.fastvit" for module in model.modules())
        _LAYOUTS[model] = torch.contiguous_format if fastvit else torch.channels_last
    return _LAYOUTS[model]


def choose_device() -> torch.device:
    """Return the first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_device() -> str:
    """Return the name of the device that `choose_device` chooses: "cpu", or the GPU's name."""
    device = choose_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@contextmanager
def classifier_inputs(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collect what goes into the model's last layer meanwhile.

    Raises:
        ConfigError: the model's classifier is not one layer.
    """
    classifier, seen = model.get_classifier(), []
    if not isinstance(classifier, torch.nn.Module):
        raise _no_features(f"a {type(classifier).__name__} of layers")
    hook = classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def only_features(seen: list[torch.Tensor], *, passes: int = 1) -> torch.Tensor:
    """Return what `classifier_inputs` collected in so many passes of the model, float32 [N, D].

    Raises:
        ConfigError: the layer was not called once a pass, or takes something else than [N, D].
    """
    shapes = [list(tensor.shape) for tensor in seen]
    if len(seen) != passes or any(len(shape) != 2 for shape in shapes):
        raise _no_features(" and ".join(map(str, shapes)) or "one that is not called")
    return torch.cat(seen).float()


def _no_features(found: str) -> ConfigError:
    expected = "a classifier of one layer that takes features [N, D]"
    action = "Choose another architecture, or leave the gate to the margin."
    return ConfigError(expected, found, "the features of the gate", action)
