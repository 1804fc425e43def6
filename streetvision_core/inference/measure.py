"""What the gate looks at besides the logits, measured from the very pixels that the model sees.

Each batch takes the path of every other prediction (`predict.forward_views`), so the logits are the same
bit for bit. The features are read on the way: they are what goes into the last linear layer. With extras
the pictures pass once more, mirrored.

- features, float32 [B, D]: the input of the classifier layer;
- disagreement, float64 [B]: |margin - margin of the mirrored picture|, in units of this model's logits.
  Where an operating point is folded into them, times its temperature gives that of the checkpoint;
- sharpness, float64 [B]: log1p of the variance of the Laplacian (four neighbours, inside the border) of the
  grey picture, 0 to 255;
- brightness, float64 [B]: the mean of the grey picture / 255.

Of a picture of many views (`models.views`), the features are those of its views, pooled (`models.pooling`);
each view is mirrored; sharpness and brightness are those of the whole picture.

Grey is ITU-R BT.601's 0.299 R + 0.587 G + 0.114 B of the cropped picture, not rounded. The last two are
computed on the CPU, in integers up to the mean, so they do not depend on the device.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from streetvision_core.inference.predict import (
    BATCH_SIZE,
    forward_batch,
    forward_with_features,
    prepared_batches,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy.typing as npt

    from streetvision_core.models.preprocessing import Preprocessing

_GREY = np.array([299, 587, 114], dtype=np.int32)  # thousandths


@dataclass(frozen=True, eq=False)
class Measured:
    """Logits float32 [B, 2] of a batch, and its extras by name: arrays [B] or [B, D], or none at all."""

    logits: npt.NDArray[np.float32]
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


def measure_pixels(
    model: Any,
    pixels: Iterable[torch.Tensor],
    transform: Preprocessing,
    *,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device = "cpu",
    extras: bool,
) -> Iterator[Measured]:
    """Measure pictures as `transform.pixels` gives them, a batch at a time.

    The model is a timm model; it is moved to `device` and set to evaluation mode. Without extras there is
    one pass a batch and nothing but logits.

    Raises:
        ConfigError: extras of a model whose classifier is not one layer that takes [N, D].
    """
    for batch in prepared_batches(model, pixels, batch_size=batch_size, device=device):
        yield _measure(model, batch, transform, batch_size=batch_size, extras=extras)


@torch.inference_mode()
def _measure(
    model: Any, batch: torch.Tensor, transform: Preprocessing, *, batch_size: int, extras: bool
) -> Measured:
    if not extras:
        return Measured(forward_batch(model, batch, transform, batch_size=batch_size).cpu().numpy())
    pooled, features = forward_with_features(model, batch, transform, batch_size=batch_size)
    logits = pooled.cpu().numpy()
    mirrored = forward_batch(model, batch.flip(-1), transform, batch_size=batch_size).cpu().numpy()
    whole = batch if transform.views is None else batch[:, 0]
    sharpness, brightness = picture_quality(whole.cpu().numpy())
    return Measured(
        logits,
        {
            "features": features.cpu().numpy(),
            "disagreement": np.abs(margins(logits) - margins(mirrored)),
            "sharpness": sharpness,
            "brightness": brightness,
        },
    )


def margins(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return roadwork - none of logits [B, 2], [B]."""
    return np.subtract(logits[:, 1], logits[:, 0], dtype=np.float64)


def picture_quality(
    pixels: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return sharpness and brightness of uint8 [B, 3, H, W], [B] each."""
    grey = np.einsum("c,bchw->bhw", _GREY, pixels.astype(np.int32))
    across = grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    along = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1]
    laplacian = (across + along - 4 * grey[:, 1:-1, 1:-1]).reshape(len(grey), -1)
    sharpness = np.log1p(np.var(laplacian, axis=1, dtype=np.float64) / 1000**2)
    return sharpness, grey.reshape(len(grey), -1).mean(axis=1, dtype=np.float64) / (255 * 1000)
