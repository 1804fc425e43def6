"""The demo images a second, drawn by two processes, against Pillow's JPEG encoder alone.

The encoder is the floor: the same images, already drawn, only encoded again by one process. The goal
is 150 images a second or more on two cores, start-up of the processes included.
"""

from __future__ import annotations

import io

from _common import machine_line, print_table, time_calls
from PIL import Image

from streetvision_core.data.config import DemoConfig
from streetvision_core.demo import draw_images
from streetvision_core.demo.generate import SIZE
from streetvision_core.demo.picture import JPEG_QUALITY


def _encode(pictures: list[Image.Image]) -> None:
    for picture in pictures:
        picture.save(io.BytesIO(), "JPEG", quality=JPEG_QUALITY)


def main() -> None:
    """Print images a second of both, median of three."""
    drawn = [
        Image.open(io.BytesIO(picture.jpeg)).convert("RGB") for picture in draw_images(DemoConfig().images)
    ]
    drawing = time_calls(lambda: list(draw_images(len(drawn))), repeats=3)
    encoding = time_calls(lambda: _encode(drawn), repeats=3)
    count = len(drawn)
    print_table(
        f"Drawing the demo: {count} images of {SIZE} px",
        machine=machine_line("pillow", "numpy", "joblib"),
        columns=("what", "time", "pictures/s"),
        rows=[
            ("drawn and encoded, two processes", drawing, f"{count / drawing.median:.0f}"),
            ("Pillow JPEG encoding alone, one process", encoding, f"{count / encoding.median:.0f}"),
        ],
    )


if __name__ == "__main__":
    main()
