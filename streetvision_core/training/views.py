"""What many views are worth: MCC and time of a picture, beside those of the whole picture alone.

Both are measured in one run on one machine: the MCC on all of val_select at probability 0.5, from one model,
and the time from a picture's file to its logits, decoding included, on one batch of those pictures.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from streetvision_core.eval import compute_mcc
from streetvision_core.inference.predict import BATCH_SIZE, predict_logits, predict_pixels

if TYPE_CHECKING:
    import torch

    from streetvision_core.inference.logits import Logits
    from streetvision_core.models.preprocessing import Preprocessing
    from streetvision_core.training.data import EvaluationBatches

REPEATS = 2


@dataclass(frozen=True)
class ViewsGain:
    """MCC on val_select and pictures a second, of all `views` and of the whole picture alone."""

    views: int
    mcc: float
    mcc_whole: float
    pictures_per_second: float
    pictures_per_second_whole: float

    @property
    def cost(self) -> float:
        """How many times as long a picture takes."""
        return self.pictures_per_second_whole / self.pictures_per_second

    def to_metrics(self) -> dict[str, float]:
        """Return what stands beside the checkpoint."""
        return {"views_mcc_gain": self.mcc - self.mcc_whole, "views_cost": round(self.cost, 2)}

    def __str__(self) -> str:
        return (
            f"{self.views} views: val_select MCC {self.mcc:.3f} against {self.mcc_whole:.3f} with the whole"
            f" picture alone, at {self.cost:.1f} times the time a picture."
        )


def compare_views(
    model: Any,
    said: Logits,
    validation: EvaluationBatches,
    *,
    transform: Preprocessing,
    device: str | torch.device,
) -> ViewsGain:
    """Measure what the views of `transform` gain and cost.

    Args:
        model: The classifier.
        said: What it says of val_select with these views.
        validation: The pictures of val_select, in the order of `said`.
        transform: A preprocessing of many views.
        device: Where the model runs.
    """
    assert transform.views is not None
    firsts = (views[0] for views in validation.pixels())
    whole = predict_pixels(model, firsts, transform.whole, device=device)
    return ViewsGain(
        views=transform.views.count,
        mcc=compute_mcc(said.labels, said.logits[:, 1] > said.logits[:, 0]),
        mcc_whole=compute_mcc(said.labels, whole[:, 1] > whole[:, 0]),
        pictures_per_second=_speed(model, validation, transform, device=device),
        pictures_per_second_whole=_speed(model, validation, transform.whole, device=device),
    )


def _speed(
    model: Any, validation: EvaluationBatches, transform: Preprocessing, *, device: str | torch.device
) -> float:
    """Return pictures a second of the faster of two runs over a full batch, repeating where there are few."""
    seconds = []
    for _ in range(REPEATS):
        positions = islice(cycle(range(validation.pictures)), BATCH_SIZE)
        started = time.perf_counter()
        predict_logits(model, map(validation.picture, positions), transform, device=device)
        seconds.append(time.perf_counter() - started)
    return BATCH_SIZE / min(seconds)
