"""The one preprocessing: what a model sees of a picture in validation, in logits and in the bundle.

It is timm's evaluation transform of the model's `pretrained_cfg`, in two halves: `pixels` (resize and
crop, still 8 bits a channel, cheap to keep) and `normalise` (float32, for a whole batch at once, on any
device). Together they give the very numbers of timm's transform; transformers' TimmWrapper uses the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL.Image import Image


@dataclass(frozen=True)
class Preprocessing:
    """Resize and crop to `size` (height, width) pixels, then (value / 255 - mean) / std per channel."""

    geometry: Callable[[Image], torch.Tensor]
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str

    def pixels(self, picture: Image) -> torch.Tensor:
        """Return an RGB picture as the model's crop of it, uint8 [3, H, W]."""
        return self.geometry(picture)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return float32 [N, 3, H, W] for uint8 [N, 3, H, W], on the same device."""
        mean = torch.tensor(self.mean, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(-1, 1, 1)
        return pixels.float().div_(255).sub_(mean).div_(std)


def eval_transform(pretrained_cfg: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing of a model, from the `pretrained_cfg` of its backbone or its config.json."""
    resolved: dict[str, Any] = resolve_data_config(pretrained_cfg=dict(pretrained_cfg))  # type: ignore[no-untyped-call]
    height, width = resolved["input_size"][-2:]
    return Preprocessing(
        geometry=create_transform(**resolved, is_training=False, use_prefetcher=True),
        size=(height, width),
        mean=tuple(resolved["mean"]),
        std=tuple(resolved["std"]),
        interpolation=str(resolved["interpolation"]),
    )
