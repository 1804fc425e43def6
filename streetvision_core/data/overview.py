"""Contact sheets of an index: a sample a person can judge the data by, or the images named.

Each image is shown whole in a square tile with a coloured frame and a line of text below. The same images
give the same bytes with the same Pillow.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, TypeAlias

from streetvision_core.data.labels import LABEL_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image, ImageDraw, ImageFont

    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.data.index import ImageIndex, IndexedImage

    Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

LABEL_FRAMES = ("#0072B2", "#D55E00")
_GAP, _FRAME, _FONT_SIZE, _CAPTION_HEIGHT = 6, 3, 10, 15
_PAPER, _EMPTY, _INK = "#FFFFFF", "#EEF0F3", "#1F2933"


def overview_sheet(
    index: ImageIndex, reader: ImageReader, *, count: int = 24, columns: int = 8, tile: int = 96
) -> bytes:
    """Return a JPEG of `count` images, half of each class where there are enough, framed by label.

    The choice looks random and is the same for the same images: it follows their digests. One image
    of a group is shown, so that a sequence of frames does not fill the sheet.
    """
    shown = [image for label in (1, 0) for image in _sample(index, label=label, count=count // 2)]
    captioned = [(image, LABEL_NAMES[image.label]) for image in shown]
    return image_sheet(captioned, reader, columns=columns, tile=tile)


def image_sheet(
    captioned: Sequence[tuple[IndexedImage, str]], reader: ImageReader, *, columns: int = 8, tile: int = 96
) -> bytes:
    """Return a JPEG of the given images with their captions, framed by their labels."""
    tiles = [
        (reader.image(image.name, at_least=tile), caption, LABEL_FRAMES[image.label])
        for image, caption in captioned
    ]
    return contact_sheet(tiles, columns=columns, tile=tile)


def contact_sheet(images: Sequence[tuple[Image.Image, str, str]], *, columns: int, tile: int) -> bytes:
    """Lay out RGB images, each with its caption and the colour of its frame, row by row; return a JPEG.

    Args:
        images: In the order shown, at least one.
        columns: Tiles in a row; fewer images make a narrower sheet.
        tile: Side of a square tile in pixels.
    """
    from PIL import Image, ImageDraw, ImageFont

    columns = min(columns, len(images))
    lines = -(-len(images) // columns)
    step_x, step_y = tile + _GAP, tile + _CAPTION_HEIGHT + _GAP
    sheet = Image.new("RGB", (columns * step_x + _GAP, lines * step_y + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for position, (image, caption, frame) in enumerate(images):
        left, top = _GAP + position % columns * step_x, _GAP + position // columns * step_y
        sheet.paste(_tile(image, side=tile, frame=frame), (left, top))
        _write(draw, caption, font=font, left=left, top=top + tile + 1, width=tile)
    buffer = io.BytesIO()
    sheet.save(buffer, format="JPEG", quality=85, optimize=True)
    return buffer.getvalue()


def _tile(image: Image.Image, *, side: int, frame: str) -> Image.Image:
    from PIL import Image, ImageDraw, ImageOps

    square = Image.new("RGB", (side, side), _EMPTY)
    inner = side - 2 * _FRAME
    small = ImageOps.contain(image, (inner, inner), Image.Resampling.LANCZOS)
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    ImageDraw.Draw(square).rectangle((0, 0, side - 1, side - 1), outline=frame, width=_FRAME)
    return square


def _write(draw: ImageDraw.ImageDraw, text: str, *, font: Font, left: int, top: int, width: int) -> None:
    line = " ".join(text.split())
    cuts = (f"{line[:end]}..." for end in range(len(line) - 1, 0, -1))
    shown = next((cut for cut in (line, *cuts) if draw.textlength(cut, font=font) <= width), "...")
    draw.text((left, top), shown, fill=_INK, font=font)


def _sample(index: ImageIndex, *, label: int, count: int) -> list[IndexedImage]:
    chosen = [image for image in index.pictures if image.label == label]
    chosen.sort(key=lambda image: image.sha256)
    image_of_group = {image.group: image for image in reversed(chosen)}
    return sorted(image_of_group.values(), key=lambda image: _shuffled(image.group))[:count]


def _shuffled(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
