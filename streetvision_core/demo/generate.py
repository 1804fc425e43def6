"""All demo images, drawn by several processes, handed over in the order of their names.

Sequences are dealt out in small batches. Each depends on the seed and its own number alone, so the
bytes do not depend on how many workers there are or on who finishes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.demo.sequence import DemoImage, draw_sequence, plan_sequences

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SIZE, SEED = 192, 0
_BATCH = 24


def draw_images(count: int, *, size: int = SIZE, seed: int = SEED, workers: int = 2) -> Iterator[DemoImage]:
    """Draw images; the same arguments give the same bytes for any number of workers.

    Args:
        count: Number of images.
        size: Long side in pixels.
        seed: Seed of everything that is drawn.
        workers: Processes to draw with; 1 draws in this process.

    Yields:
        The images, sequence after sequence, frames in order.
    """
    plan = list(enumerate(plan_sequences(count, seed=seed)))
    batches = [plan[start : start + _BATCH] for start in range(0, len(plan), _BATCH)]
    if workers == 1 or len(batches) == 1:
        for batch in batches:
            yield from _draw_batch(batch, seed=seed, size=size)
        return
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=workers, return_as="generator")
    for images in parallel(delayed(_draw_batch)(batch, seed=seed, size=size) for batch in batches):
        yield from images


def _draw_batch(batch: Sequence[tuple[int, int]], *, seed: int, size: int) -> list[DemoImage]:
    return [
        image for number, frames in batch for image in draw_sequence(number, frames, seed=seed, size=size)
    ]
