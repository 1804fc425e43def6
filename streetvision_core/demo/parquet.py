"""The demo as one Parquet file in the hub's image layout, so that it goes the way of real data.

Columns: `image` struct<bytes, path>, `label` int64 (1 is Roadwork), `video_info` struct<vid_id>, then
the attributes as strings. Rows are written as they are drawn, so memory stays small. The bytes are
JPEGs already, therefore nothing is compressed. The same number of images and the same pyarrow give the
same file. The file is not written atomically: the caller hands over a path nobody reads yet.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from streetvision_core.demo.generate import SIZE, draw_images

if TYPE_CHECKING:
    from pathlib import Path

    from streetvision_core.demo.sequence import DemoImage

ATTRIBUTES = ("time_of_day", "weather", "ambiguous")
_ROW_GROUP = 256


def write_demo(path: str | Path, count: int, *, size: int = SIZE, workers: int = 2) -> None:
    """Draw demo images into one Parquet file at exactly this path; `draw_images` says what the rest is."""
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
