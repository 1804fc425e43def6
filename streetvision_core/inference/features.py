"""The features of a classifier: what goes into its last layer, read while the model runs.

They are read with a hook on the very pass that gives the logits, so no architecture needs a second way
through, and features and logits belong together bit for bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from streetvision_core.errors import ConfigError
from streetvision_core.inference.predict import BATCH_SIZE, forward_views

if TYPE_CHECKING:
    import numpy.typing as npt

    from streetvision_core.models.preprocessing import Preprocessing


@torch.inference_mode()
def batch_features(
    model: Any, pixels: torch.Tensor, transform: Preprocessing, *, batch_size: int
) -> npt.NDArray[np.float32]:
    """Return the features of N <= batch_size images, computed as `predict.forward_batch` does.

    They are [N, D], or [N, V, D] where the preprocessing makes many views of an image.

    Raises:
        ConfigError: the classifier does not take features [N, D].
    """
    _, features = forward_views(model, pixels, transform, batch_size=batch_size, features=True)
    assert features is not None
    rows: npt.NDArray[np.float32] = (features if transform.views else features[:, 0]).cpu().numpy()
    return rows


def find_row_shape(model: Any, transform: Preprocessing) -> tuple[int, ...] | None:
    """Return the shape of one image's features, or None where the logits are not made from them alone.

    One blank image passes the model, which is set to evaluation mode.
    """
    device = next(model.parameters()).device
    blank = transform.pixels(Image.new("RGB", (transform.size[1], transform.size[0])))[None].to(device)
    model.eval()
    with torch.inference_mode():
        logits, _ = forward_views(model, blank, transform, batch_size=1, features=False)
    try:
        features = batch_features(model, blank, transform, batch_size=1)
    except ConfigError:
        return None
    again = classify_features(model, features, batch_size=1)
    whole = logits.cpu().numpy().reshape(again.shape)
    return features.shape[1:] if np.allclose(again, whole, equal_nan=True) else None


def classify_features(
    model: Any, features: npt.NDArray[np.float32], *, batch_size: int | None = None
) -> npt.NDArray[np.float32]:
    """Return the logits [..., 2] that the classifier layer makes of features float32 [..., D].

    They are those of the whole model, bit for bit: batches have the size of every prediction, the last one is
    filled up and cut. The model is set to evaluation mode, and used where it is.
    """
    size = BATCH_SIZE if batch_size is None else batch_size
    classifier = model.eval().get_classifier()
    device = next(classifier.parameters()).device
    rows = torch.from_numpy(np.ascontiguousarray(features).reshape(-1, features.shape[-1]))
    batches = [
        _classify(classifier, rows[start : start + size].to(device), size=size)
        for start in range(0, len(rows), size)
    ]
    logits = np.concatenate(batches) if batches else np.zeros((0, 2), dtype=np.float32)
    return logits.reshape(*features.shape[:-1], 2)


@torch.inference_mode()
def _classify(classifier: torch.nn.Module, rows: torch.Tensor, *, size: int) -> npt.NDArray[np.float32]:
    filled = functional.pad(rows, (0, 0, 0, size - len(rows)))
    with torch.autocast(rows.device.type, enabled=False):
        logits: npt.NDArray[np.float32] = classifier(filled)[: len(rows)].float().cpu().numpy()
    return logits
