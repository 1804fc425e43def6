"""The demo images: procedurally drawn street scenes, with works on the road and without.

An image's way: `light` and `scene` say what a street looks like, `works` and `surroundings` what
stands on it and which answer is right, `canvas` projects metres to pixels, the `draw_*` modules paint,
`picture` adds air and lens, `sequence` makes the frames of one drive, `generate` draws all of them into a
Parquet file.
"""

from streetvision_core.demo.generate import draw_images, write_demo
from streetvision_core.demo.sequence import DemoImage, draw_sequence

__all__ = ["DemoImage", "draw_images", "draw_sequence", "write_demo"]
