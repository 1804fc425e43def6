"""All demo images, drawn by several processes, and the file of them in the hub's image layout.

Sequences are dealt out in small batches. Each depends on the seed and its own number alone, so the
bytes do not depend on how many workers there are or on who finishes first.

The file is one Parquet file, so that the demo goes the way of real data. Columns: `image` struct<bytes,
path>, `label` int64 (1 is Roadwork), `video_info` struct<vid_id>, then the attributes as strings. Rows are
written as they are drawn, so memory stays small. The bytes are JPEGs already, therefore nothing is
compressed. The same number of images and the same pyarrow give the same file. It is not written atomically:
the caller hands over a path nobody reads yet.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from streetvision_core.demo.sequence import DemoImage, draw_sequence, plan_sequences

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SIZE, SEED = 192, 0
ATTRIBUTES = ("time_of_day", "weather", "ambiguous")
_BATCH, _ROW_GROUP = 24, 256


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
    from joblib import Parallel, delayed

    plan = list(enumerate(plan_sequences(count, seed=seed)))
    batches = [plan[start : start + _BATCH] for start in range(0, len(plan), _BATCH)]
    parallel = Parallel(n_jobs=min(workers, len(batches)), return_as="generator")
    draw = delayed(_draw_batch)
    for images in parallel(draw(batch, seed=seed, size=size) for batch in batches):
        yield from images


def _draw_batch(batch: Sequence[tuple[int, int]], *, seed: int, size: int) -> list[DemoImage]:
    return [
        image for number, frames in batch for image in draw_sequence(number, frames, seed=seed, size=size)
    ]


def write_demo(path: str | Path, count: int, *, size: int = SIZE, workers: int = 2) -> None:
    """Draw demo images into one Parquet file at exactly this path; the rest as for `draw_images`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
            ("video_info", pa.struct([("vid_id", pa.string())])),
            *((attribute, pa.string()) for attribute in ATTRIBUTES),
        ]
    )
    with pq.ParquetWriter(path, schema, compression="none", write_statistics=False) as writer:
        images = draw_images(count, size=size, workers=workers)
        while rows := [_row(image) for image in islice(images, _ROW_GROUP)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _row(image: DemoImage) -> dict[str, Any]:
    return {
        "image": {"bytes": image.jpeg, "path": image.name},
        "label": image.label,
        "video_info": {"vid_id": image.group},
        **image.attributes,
    }
