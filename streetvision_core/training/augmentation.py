"""Random augmentations of an image for training: from RGB to uint8 [3, H, W].

Each draws from the global generators of Python and torch, which the caller seeds for each image.

- "crop": timm's random crop, mirror image and colour jitter.
- "trivial": the same after TrivialAugment (Mueller and Hutter, 2103.10158), one of its operations an image.
- "none": the image as in validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from timm.data.transforms_factory import create_transform
from torchvision import transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from PIL.Image import Image

    from streetvision_core.models.preprocessing import Preprocessing
    from streetvision_core.training.config import Augmentation

# Of a random crop: the smallest share of the area that it keeps, its largest change of the aspect ratio,
# either way, how often it is mirrored, and its largest change of brightness, contrast and saturation, which
# leaves red and yellow what they are.
SCALE_MIN, RATIO, HFLIP, COLOR_JITTER = 0.7, 1.4, 0.5, 0.2


def make_augmentation(config: Augmentation, *, transform: Preprocessing) -> Callable[[Image], torch.Tensor]:
    """Return the configured augmentation: an RGB image to uint8 [3, H, W] of the model's size."""
    if config.kind == "none":
        return transform.geometry
    crop: Callable[[Image], torch.Tensor] = create_transform(
        transform.size,
        is_training=True,
        scale=(SCALE_MIN, 1.0),
        ratio=(1 / RATIO, RATIO),
        hflip=HFLIP,
        color_jitter=COLOR_JITTER,
        interpolation=transform.interpolation,
        use_prefetcher=True,
    )
    if config.kind == "crop":
        return crop
    turned: Callable[[Image], torch.Tensor] = transforms.Compose([transforms.TrivialAugmentWide(), crop])
    return turned


def smallest_share(config: Augmentation) -> float:
    """Return the smallest share of an image's area that the augmentation enlarges to the model's input."""
    return 1.0 if config.kind == "none" else SCALE_MIN
