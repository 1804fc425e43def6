"""Random augmentations of an image for training: from RGB to uint8 [3, H, W].

Each draws from the global generators of Python and torch, which the caller seeds for each image.

- "crop": timm's random crop, mirror image and colour jitter.
- "trivial": the same after TrivialAugment (Mueller and Hutter, 2103.10158), one of its operations an image.
- "validator": what the validators of the StreetVision subnet send, at one of four levels with equal chance:
  0 the image as in validation; 1 a rotation up to 20 degrees, a random crop of 0.2 to 1 of the area,
  horizontal and vertical mirror images; 2 the same with mild changes of saturation and contrast and a loss of
  resolution; 3 with stronger ones, colour noise and blur. The subnet's own code is not copied: its levels are
  described in words, and the strengths of 2 and 3 are chosen here.
- "none": the image as in validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from timm.data.transforms_factory import create_transform
from torchvision import transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from streetvision_core.models.preprocessing import Preprocessing
    from streetvision_core.training.config import Augmentation

LEVELS = 4
# Of a random crop: its largest change of the aspect ratio, either way, how often it is mirrored, and its
# largest change of brightness, contrast and saturation, which leaves red and yellow what they are.
RATIO, HFLIP, COLOR_JITTER = 1.4, 0.5, 0.2
_ROTATION = 20
_VALIDATOR_SCALE = (0.2, 1.0)
# Of level 2 and 3: saturation and contrast, smallest share of the side left by resampling, noise in 0..255.
_SATURATION = {2: 0.2, 3: 0.5}
_CONTRAST = {2: 0.2, 3: 0.5}
_RESAMPLED = {2: 0.7, 3: 0.4}
_NOISE = {2: 0.0, 3: 12.0}
_BLUR_SIGMA = (0.1, 2.0)


def make_augmentation(config: Augmentation, *, transform: Preprocessing) -> Callable[[Image], torch.Tensor]:
    """Return the configured augmentation: an RGB image to uint8 [3, H, W] of the model's size."""
    if config.kind == "none":
        return transform.geometry
    if config.kind == "validator":
        return _validator(transform)
    crop: Callable[[Image], torch.Tensor] = create_transform(
        transform.size,
        is_training=True,
        scale=(config.scale_min, 1.0),
        ratio=(1 / RATIO, RATIO),
        hflip=HFLIP,
        color_jitter=COLOR_JITTER,
        interpolation=transform.interpolation,
        use_prefetcher=True,
    )
    if config.kind == "crop":
        return crop
    return _in_turn(transforms.TrivialAugmentWide(), crop)


def smallest_share(config: Augmentation) -> float:
    """Return the smallest share of an image's area that the augmentation enlarges to the model's input."""
    if config.kind == "validator":
        return _VALIDATOR_SCALE[0]
    return 1.0 if config.kind == "none" else config.scale_min


def crops_as_validation(config: Augmentation) -> bool:
    """Tell whether some images are seen as in validation, which may resize them to more than the crop."""
    return config.kind in {"validator", "none"}


def _validator(transform: Preprocessing) -> Callable[[Image], torch.Tensor]:
    levels = [transform.geometry, *(validator_level(level, transform) for level in range(1, LEVELS))]

    def augment(image: Image) -> torch.Tensor:
        pixels: torch.Tensor = levels[int(torch.randint(LEVELS, ()))](image)
        return pixels

    return augment


def validator_level(level: int, transform: Preprocessing) -> Callable[[Image], torch.Tensor]:
    """Return what level 1, 2 or 3 of the validators does to an image."""
    steps = [
        transforms.RandomRotation(_ROTATION, interpolation=transforms.InterpolationMode.BILINEAR),
        transforms.RandomResizedCrop(transform.size, scale=_VALIDATOR_SCALE),
        transforms.RandomHorizontalFlip(),
        transforms.RandomVerticalFlip(),
    ]
    if level > 1:
        steps += [
            transforms.ColorJitter(contrast=_CONTRAST[level], saturation=_SATURATION[level]),
            _Resampled(_RESAMPLED[level]),
        ]
    if level == LEVELS - 1:
        steps.append(transforms.GaussianBlur(5, _BLUR_SIGMA))
    return _in_turn(*steps, transforms.PILToTensor(), _Noise(_NOISE.get(level, 0.0)))


def _in_turn(*steps: Any) -> Callable[[Image], torch.Tensor]:
    composed: Callable[[Image], torch.Tensor] = transforms.Compose(steps)
    return composed


class _Resampled:
    """Shrinks an image by chance to no less than a share of its sides, and back."""

    def __init__(self, smallest: float) -> None:
        self._smallest = smallest

    def __call__(self, image: Image) -> Image:
        share = self._smallest + (1 - self._smallest) * float(torch.rand(()))
        width, height = (max(1, round(side * share)) for side in image.size)
        return image.resize((width, height)).resize(image.size)


class _Noise:
    """Adds normal noise of each channel's own to uint8 [3, H, W]; `sigma` in grey levels."""

    def __init__(self, sigma: float) -> None:
        self._sigma = sigma

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        if not self._sigma:
            return pixels
        noise = torch.randn(pixels.shape) * self._sigma
        return (pixels + noise).round_().clamp_(0, 255).to(torch.uint8)
