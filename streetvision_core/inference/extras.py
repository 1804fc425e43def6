"""Extras that gates of older versions look at; no new gate learns from them, and old bundles still decide.

- disagreement, float64 [B]: |margin - margin of the mirrored image|, in units of this model's logits. Where
  an operating point is folded into them, times its temperature gives that of the checkpoint;
- sharpness, float64 [B]: log1p of the variance of the Laplacian (four neighbours, inside the border) of the
  grey image, 0 to 255;
- brightness, float64 [B]: the mean of the grey image / 255.

Of an image of many views (`models.views`) each view is mirrored; sharpness and brightness are those of the
whole image. Grey is ITU-R BT.601's 0.299 R + 0.587 G + 0.114 B of the cropped image, not rounded, in integers
up to the mean, on the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_GREY = np.array([299, 587, 114], dtype=np.int32)  # thousandths


def mirror_disagreement(
    logits: npt.NDArray[np.float32], mirrored: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Return how far the margins of logits [B, 2] move when the images are mirrored, [B]."""
    straight, turned = (np.subtract(rows[:, 1], rows[:, 0], dtype=np.float64) for rows in (logits, mirrored))
    disagreement: npt.NDArray[np.float64] = np.abs(straight - turned)
    return disagreement


def image_quality(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return sharpness and brightness of uint8 [B, 3, H, W], [B] each."""
    grey = np.einsum("c,bchw->bhw", _GREY, pixels.astype(np.int32))
    across = grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    along = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1]
    laplacian = (across + along - 4 * grey[:, 1:-1, 1:-1]).reshape(len(grey), -1)
    sharpness = np.log1p(np.var(laplacian, axis=1, dtype=np.float64) / 1000**2)
    return sharpness, grey.reshape(len(grey), -1).mean(axis=1, dtype=np.float64) / (255 * 1000)
