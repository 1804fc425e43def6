"""All demo images, drawn by several processes, handed over in the order of their names.

Sequences are dealt out in small batches. Each depends on the seed and its own number alone, so the
bytes do not depend on how many workers there are or on who finishes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from streetvision_core.demo.sequence import DemoImage, draw_sequence, plan_sequences

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BATCH = 24


class Drawing(Protocol):
    """The settings of a drawing: the number of images, their long side in pixels, and the seed."""

    @property
    def pictures(self) -> int:
        """Number of images."""

    @property
    def size(self) -> int:
        """Long side in pixels."""

    @property
    def seed(self) -> int:
        """Seed of everything that is drawn."""


def draw_images(config: Drawing, *, workers: int = 2) -> Iterator[DemoImage]:
    """Draw `config.pictures` images; the same configuration gives the same bytes for any number of workers.

    Args:
        config: how many images, their long side in pixels, and the seed.
        workers: processes to draw with; 1 draws in this process.

    Yields:
        The images, sequence after sequence, frames in order.
    """
    plan = list(enumerate(plan_sequences(config.pictures, seed=config.seed)))
    batches = [plan[start : start + _BATCH] for start in range(0, len(plan), _BATCH)]
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=min(workers, len(batches)), return_as="generator")
    draw = delayed(_draw_batch)
    for images in parallel(draw(batch, seed=config.seed, size=config.size) for batch in batches):
        yield from images


def _draw_batch(batch: Sequence[tuple[int, int]], *, seed: int, size: int) -> list[DemoImage]:
    return [
        image for number, frames in batch for image in draw_sequence(number, frames, seed=seed, size=size)
    ]
