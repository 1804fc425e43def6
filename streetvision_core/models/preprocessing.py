"""The one preprocessing: what a model sees of an image in validation, in logits and in the bundle.

It is timm's evaluation transform of the model's `pretrained_cfg`, in two halves: `pixels` (resize and
crop, still 8 bits a channel, cheap to keep) and `normalise` (float32, for a whole batch at once, on any
device). Together they give the very numbers of timm's transform; transformers' TimmWrapper uses the same.

Where a classifier looks at many views of an image (`models.views`), each of them goes through this very
transform: the whole image first, then the cells of the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from streetvision_core.data.decoding.decode import WHOLE_PIXELS
from streetvision_core.data.decoding.reasons import Reason, UnusableImageError
from streetvision_core.models.views import Views, find_views

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL.Image import Image


@dataclass(frozen=True)
class Preprocessing:
    """Resize and crop to `size` (height, width) pixels, then (value / 255 - mean) / std per channel.

    Before the crop the image's shorter side has at most `resized_side` pixels. `views` is None where the
    whole image is the only view. Where it `keeps_shape`, the longer side grows with the shorter one.
    """

    geometry: Callable[[Image], torch.Tensor]
    size: tuple[int, int]
    resized_side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    views: Views | None = None
    keeps_shape: bool = False

    @property
    def pixel_bytes(self) -> int:
        """The size of what `pixels` returns, in bytes."""
        return (self.views.count if self.views else 1) * 3 * self.size[0] * self.size[1]

    @property
    def whole(self) -> Preprocessing:
        """The same, of the whole image alone."""
        return replace(self, views=None)

    def pixels(self, image: Image) -> torch.Tensor:
        """Return what the model sees of an RGB image: uint8 [3, H, W], or [V, 3, H, W] of its views.

        Raises:
            UnusableImageError: it is so narrow that it would be enlarged beyond `WHOLE_PIXELS`.
        """
        self._check_shape(*image.size)
        if self.views is None:
            return self.geometry(image)
        cells = map(image.crop, self.views.boxes(*image.size))
        return torch.stack([self.geometry(view) for view in (image, *cells)])

    def _check_shape(self, width: int, height: int) -> None:
        longer = self.resized_side * max(width, height) / min(width, height)
        if self.keeps_shape and self.resized_side * longer > WHOLE_PIXELS:
            detail = (
                f"{width} x {height} pixels, which {self.resized_side} pixels of its shorter side enlarge"
            )
            raise UnusableImageError(Reason.TOO_LARGE, f"{detail} to more than {WHOLE_PIXELS}")

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return float32 [N, 3, H, W] for uint8 [N, 3, H, W], on the same device."""
        mean = torch.tensor(self.mean, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(-1, 1, 1)
        return pixels.float().div_(255).sub_(mean).div_(std)


def hub_transform(config: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing of a classifier, from the whole of its config.json (`hub_config`).

    Raises:
        ConfigError: it asks for views in a way that StreetVision does not write.
    """
    return eval_transform(config["pretrained_cfg"], views=find_views(config))


def eval_transform(pretrained_cfg: Mapping[str, Any], *, views: Views | None = None) -> Preprocessing:
    """Return the preprocessing of a model, from the `pretrained_cfg` of its backbone or its config.json."""
    resolved: dict[str, Any] = resolve_data_config(pretrained_cfg=dict(pretrained_cfg))  # type: ignore[no-untyped-call]
    height, width = resolved["input_size"][-2:]
    return Preprocessing(
        geometry=create_transform(**resolved, is_training=False, use_prefetcher=True),
        size=(height, width),
        resized_side=math.floor(max(height, width) / resolved["crop_pct"]),
        mean=tuple(resolved["mean"]),
        std=tuple(resolved["std"]),
        interpolation=str(resolved["interpolation"]),
        views=views,
        keeps_shape=resolved["crop_mode"] not in ("squash", "border"),
    )
