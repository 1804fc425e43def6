"""A test that a predictor reproduces the recorded answers for images, on this machine with its libraries.

Logits are compared within an absolute and relative tolerance, because processors round differently in the
last digits and decoders of JPEG differ by a grey level. A decision must be one that logits and extras within
the tolerance can lead to: elsewhere than at a boundary there is only one.

The same holds between batch sizes on one machine: an image that is answered alone differs from the same image
in a batch, where golden images, the evaluation and certificates were made, by less than a hundredth of the
tolerance (float32 sums in another order). A decision can differ only that close to a boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.eval.inputs import margin_vector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from streetvision_core.eval.decisions import Decision, Extras, Policy
    from streetvision_core.eval.inputs import Floats
    from streetvision_core.inference.predict import Measured
    from streetvision_core.inference.predictor import ImageLike, Predictor

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Recorded:
    """The record of an image: its folded logits of None and Roadwork, and the decision."""

    name: str
    logits: tuple[float, float]
    decision: Decision


def reproduction_problems(
    predictor: Predictor,
    recorded: Sequence[Recorded],
    images: Iterable[ImageLike],
    *,
    tolerance: float = TOLERANCE,
) -> list[str]:
    """Decide the recorded images again; return what differs, one sentence an image."""
    problems: list[str] = []
    begin = 0
    for names, measured in predictor.measure(images, extras=predictor.policy.extras):
        batch = recorded[begin : begin + len(names)]
        problems += differing(predictor.policy, batch, measured, tolerance=tolerance)
        begin += len(names)
    if begin != len(recorded):
        problems.append(f"{begin} images were decided again, and {len(recorded)} are recorded")
    return problems


def differing(
    policy: Policy, recorded: Sequence[Recorded], measured: Measured, *, tolerance: float
) -> Iterator[str]:
    """Compare the records of images with what was measured; yield a sentence for each that differs."""
    was = np.array([record.logits for record in recorded])
    close = np.abs(measured.logits - was) <= tolerance * _scale(was)[:, None]
    decided = policy.decide(measured.logits, measured.extras)
    possible = _possible(policy, measured, tolerance=tolerance)
    for record, near, now, logits, allowed in zip(
        recorded, close.all(axis=1).tolist(), decided, measured.logits.tolist(), possible, strict=True
    ):
        if not (near and record.decision in allowed):
            yield (
                f"{record.name} was decided {record.decision} with logits ({record.logits[0]:.4f},"
                f" {record.logits[1]:.4f}), and is now decided {now} with ({logits[0]:.4f}, {logits[1]:.4f})"
            )


def _possible(policy: Policy, measured: Measured, *, tolerance: float) -> list[set[Decision]]:
    """Return the decisions that logits and extras within the tolerance lead to, for each image."""
    margins = margin_vector(measured.logits)
    reach = 2 * tolerance * _scale(measured.logits)
    moved = [_moved(measured.extras, by, reach * policy.point.temperature, tolerance) for by in (-1, 0, 1)]
    shifted = (policy.decide(margins + by * reach, extras) for by in (-1, 0, 1) for extras in moved)
    return [set(decisions) for decisions in zip(*shifted, strict=True)]


def _moved(extras: Extras, by: int, reach: Floats, tolerance: float) -> Extras:
    """Move extras by the tolerance; a disagreement is a difference of margins and moves as they do."""
    moved = {name: values * (1 + by * tolerance) for name, values in extras.items()}
    if "disagreement" in moved:
        moved["disagreement"] = np.maximum(0.0, moved["disagreement"] + 2 * by * reach)
    return moved


def _scale(logits: npt.NDArray[np.floating]) -> Floats:
    """Return the scale of the tolerance of each pair of logits: half by the margin, a little by the size."""
    half = np.abs(margin_vector(logits)) / 2
    scale: Floats = np.maximum(1.0, half) + 0.01 * np.abs(logits).max(axis=1)
    return scale
