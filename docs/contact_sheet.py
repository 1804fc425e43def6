"""Draw the README's sample of the demo images from what `images` published.

Usage: python docs/contact_sheet.py  (after make bundle)
"""

from __future__ import annotations

from pathlib import Path

from streetvision_core.data.config import DemoConfig, SourceConfig
from streetvision_core.data.decoding.decode import ImageReader
from streetvision_core.data.index import DEMO_FILE, ImageIndex
from streetvision_core.data.overview import overview_sheet
from streetvision_core.data.sources import open_source
from streetvision_core.io import ArtifactStore, default_store


def main() -> None:
    images = ArtifactStore(default_store()).resolve("images")
    index = ImageIndex.from_artifact(images)
    source = open_source(SourceConfig(demo=DemoConfig()), demo_file=images.path(DEMO_FILE))
    reader = ImageReader(source, index)
    target = Path(__file__).parent / "images" / "contact_sheet.jpg"
    target.write_bytes(overview_sheet(index, reader, count=24, columns=6, tile=144))


if __name__ == "__main__":
    main()
