"""All demo pictures, drawn by several processes, handed over in the order of their names.

Sequences are dealt out in small batches. Each depends on the seed and its own number alone, so the
bytes do not depend on how many workers there are or on who finishes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.demo.sequence import DemoPicture, draw_sequence, plan_sequences

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streetvision_core.data.config import DemoConfig

_BATCH = 24


def draw_pictures(config: DemoConfig, *, workers: int = 2) -> Iterator[DemoPicture]:
    """Draw `config.pictures` pictures; the same configuration gives the same bytes for any number of workers.

    Args:
        config: how many pictures, their long side in pixels, and the seed.
        workers: processes to draw with; 1 draws in this process.

    Yields:
        The pictures, sequence after sequence, frames in order.
    """
    plan = list(enumerate(plan_sequences(config.pictures, seed=config.seed)))
    batches = [plan[start : start + _BATCH] for start in range(0, len(plan), _BATCH)]
    if workers == 1 or len(batches) == 1:
        for batch in batches:
            yield from _draw_batch(batch, seed=config.seed, size=config.size)
        return
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=workers, return_as="generator")
    for pictures in parallel(
        delayed(_draw_batch)(batch, seed=config.seed, size=config.size) for batch in batches
    ):
        yield from pictures


def _draw_batch(batch: Sequence[tuple[int, int]], *, seed: int, size: int) -> list[DemoPicture]:
    return [
        picture for number, frames in batch for picture in draw_sequence(number, frames, seed=seed, size=size)
    ]
