"""Two random views of an image: what self-supervision learns to see past.

A view is a random crop, maybe mirrored, its colours shifted, maybe grey; what both views of an image share
is what the features are to keep. There is no blur: torchvision's takes four fifths of the time of a view
(24 of 30 ms at 224 pixels, one core). Views are named by (epoch, position, which of the two),
and everything random about one follows from that name, as in `training/data.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from timm.data.transforms_factory import create_transform
from torch.utils.data import DataLoader, Dataset

from streetvision_core.errors import StreetVisionError
from streetvision_core.inference.predict import choose_device
from streetvision_core.training.data import DecodedImages, EpochBatches, Look, choose_workers, make_loader
from streetvision_core.training.seeds import Purpose, derive_seed, isolated_random, seed_transforms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from streetvision_core.models.preprocessing import Preprocessing

VIEWS = 2
# Smallest share of the area that a view keeps, and the largest change of its colours.
SCALE_MIN, COLOR_JITTER = 0.3, 0.4


class ViewPairs(Dataset[Any]):
    """Batches by the looks they consist of: both views, uint8 [B, 3, H, W] each; or what went wrong."""

    def __init__(self, images: DecodedImages, *, augment: Callable[[Image], torch.Tensor], seed: int) -> None:
        self._images = images
        self._augment = augment
        self._seed = seed

    def __getitem__(self, looks: Sequence[Look]) -> tuple[torch.Tensor, ...] | StreetVisionError:
        images, pairs = self._images.load([position for _, position in looks]), []
        with isolated_random():
            for look, image in zip(looks, images, strict=True):
                if isinstance(image, StreetVisionError):
                    return image
                pairs.append([self._view(image, *look, view) for view in range(VIEWS)])
        return tuple(torch.stack(views) for views in zip(*pairs, strict=True))

    def _view(self, image: Image, epoch: int, position: int, view: int) -> torch.Tensor:
        seed_transforms(derive_seed(self._seed, Purpose.AUGMENTATION, epoch, position, view))
        return self._augment(image)


def make_views(transform: Preprocessing) -> Callable[[Image], torch.Tensor]:
    """Return SimCLR's transform: an RGB image to uint8 [3, H, W], drawing from the global generators."""
    augment: Callable[[Image], torch.Tensor] = create_transform(
        transform.size,
        is_training=True,
        scale=(SCALE_MIN, 1.0),
        hflip=0.5,
        # Brightness, contrast and saturation, and a quarter as much of the hue, as SimCLR has it.
        color_jitter=(COLOR_JITTER, COLOR_JITTER, COLOR_JITTER, COLOR_JITTER / 4),
        color_jitter_prob=0.8,
        grayscale_prob=0.2,
        interpolation=transform.interpolation,
        use_prefetcher=True,
    )
    return augment


def make_view_loader(
    images: DecodedImages, *, transform: Preprocessing, batch_size: int, seed: int
) -> DataLoader[Any]:
    """Return the loader of pairs of views, in worker processes where they can be forked."""
    return make_loader(
        ViewPairs(images, augment=make_views(transform), seed=seed),
        EpochBatches(len(images), batch_size=batch_size, seed=seed),
        workers=choose_workers(-1, device=choose_device().type),
    )
