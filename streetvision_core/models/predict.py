"""From pictures to logits: the one path of validation, calibration logits, evaluation and the bundle.

Always float32, whatever training ran in. Every batch has the same size (the last one is filled up and
cut), so a picture's logits do not depend on how many pictures follow it: with the same machine, batch
size and threads the numbers are the same bit for bit.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt
    from PIL.Image import Image

    from streetvision_core.models.preprocessing import Preprocessing

BATCH_SIZE = 32


def predict_logits(
    model: Any,
    pictures: Iterable[Image],
    transform: Preprocessing,
    *,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device = "cpu",
) -> npt.NDArray[np.float32]:
    """Return the logits of RGB pictures, float32 [N, 2]; at most one batch is in memory at a time.

    The model is moved to `device` and set to evaluation mode.
    """
    return predict_pixels(
        model, map(transform.pixels, pictures), transform, batch_size=batch_size, device=device
    )


def predict_pixels(
    model: Any,
    pixels: Iterable[torch.Tensor],
    transform: Preprocessing,
    *,
    batch_size: int = BATCH_SIZE,
    device: str | torch.device = "cpu",
) -> npt.NDArray[np.float32]:
    """Return the logits of pictures that are already cropped, uint8 [3, H, W] each; float32 [N, 2]."""
    found = []
    for batch in prepared_batches(model, pixels, batch_size=batch_size, device=device):
        with torch.inference_mode():
            found.append(forward_batch(model, batch, transform, batch_size=batch_size).cpu().numpy())
    return np.concatenate(found) if found else np.zeros((0, 2), dtype=np.float32)


def prepared_batches(
    model: Any, pixels: Iterable[torch.Tensor], *, batch_size: int, device: str | torch.device
) -> Iterator[torch.Tensor]:
    """Make the model ready, and yield the pictures as uint8 [at most batch_size, 3, H, W] on `device`.

    The model is moved there in its layout and set to evaluation mode before the first batch.
    """
    model.to(device=device, memory_format=memory_format(model)).eval()
    iterator = iter(pixels)
    while batch := list(islice(iterator, batch_size)):
        yield torch.stack(batch).to(device)


def forward_batch(
    model: Any, pixels: torch.Tensor, transform: Preprocessing, *, batch_size: int
) -> torch.Tensor:
    """Return float32 logits [N, 2] of uint8 [N, 3, H, W], N <= batch_size, computed as a full batch."""
    filling = (0, 0, 0, 0, 0, 0, 0, batch_size - len(pixels))
    inputs = transform.normalise(functional.pad(pixels, filling))
    with torch.autocast(inputs.device.type, enabled=False):
        logits: torch.Tensor = model(inputs.contiguous(memory_format=memory_format(model)))
    return logits[: len(pixels)].float()


def memory_format(model: Any) -> torch.memory_format:
    """Return the layout in which the model runs best.

    channels_last doubles the speed of convolutional networks on the CPU and changes nothing for others.
    FastViT is the exception: trained in it on the CPU it corrupts the heap (torch 2.14 and 2.15).
    """
    if any(type(module).__module__ == "timm.models.fastvit" for module in model.modules()):
        return torch.contiguous_format
    return torch.channels_last


def choose_device() -> torch.device:
    """Return the first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_device() -> str:
    """Return the name of the device that `choose_device` chooses: "cpu", or the GPU's name."""
    device = choose_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
