"""Many images on one sheet: for the overview of an index, the quarantine and the wrong decisions.

Each image is shown whole in a square tile with a line of text below and, where asked for, a coloured
frame. An image that cannot be shown is None and becomes a crossed grey tile, so that a quarantined file
keeps its place and its caption. The same images give the same bytes with the same Pillow.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, TypeAlias

from streetvision_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image, ImageDraw, ImageFont

    Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

LABEL_FRAMES = {0: "#0072B2", 1: "#D55E00"}
MAX_IMAGES = 1000
_GAP, _FRAME, _FONT_SIZE, _CAPTION_HEIGHT = 6, 3, 10, 15
_PAPER, _EMPTY, _INK, _CROSS = "#FFFFFF", "#EEF0F3", "#1F2933", "#9AA5B1"


def contact_sheet(
    pictures: Sequence[tuple[Image.Image | None, str]],
    *,
    columns: int = 8,
    tile: int = 96,
    frames: Sequence[str | None] | None = None,
) -> bytes:
    """Lay out (image, caption) pairs row by row and return a JPEG.

    Args:
        pictures: in the order shown; any mode and size; None for what cannot be shown.
        columns: tiles in a row; fewer images make a narrower sheet.
        tile: side of a square tile in pixels.
        frames: a colour such as "#D55E00" around each image, or None for no frame; one an image.

    Raises:
        DataError: no images, more than `MAX_IMAGES`, or not one frame an image.
        ConfigError: no column, or a tile below 32 pixels.
    """
    from PIL import Image, ImageDraw, ImageFont

    _require(pictures, columns=columns, tile=tile, frames=frames)
    columns = min(columns, len(pictures))
    lines = -(-len(pictures) // columns)
    step_x, step_y = tile + _GAP, tile + _CAPTION_HEIGHT + _GAP
    sheet = Image.new("RGB", (columns * step_x + _GAP, lines * step_y + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for position, (image, caption) in enumerate(pictures):
        corner = (_GAP + position % columns * step_x, _GAP + position // columns * step_y)
        sheet.paste(_tile(image, side=tile, frame=frames[position] if frames else None), corner)
        _write(draw, caption, font=font, left=corner[0], top=corner[1] + tile + 1, width=tile)
    return _jpeg(sheet)


def _tile(image: Image.Image | None, *, side: int, frame: str | None) -> Image.Image:
    from PIL import Image, ImageDraw, ImageOps

    square = Image.new("RGB", (side, side), _EMPTY)
    draw = ImageDraw.Draw(square)
    if image is None:
        draw.line((side * 0.3, side * 0.3, side * 0.7, side * 0.7), fill=_CROSS, width=2)
        draw.line((side * 0.3, side * 0.7, side * 0.7, side * 0.3), fill=_CROSS, width=2)
    else:
        inner = side - 2 * _FRAME if frame else side
        small = ImageOps.contain(_on_paper(image), (inner, inner), Image.Resampling.LANCZOS)
        square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    if frame:
        draw.rectangle((0, 0, side - 1, side - 1), outline=frame, width=_FRAME)
    return square


def _on_paper(image: Image.Image) -> Image.Image:
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    solid = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", solid.size, _PAPER), solid).convert("RGB")


def _write(draw: ImageDraw.ImageDraw, text: str, *, font: Font, left: int, top: int, width: int) -> None:
    line = " ".join(text.split())
    shown = line
    while shown and draw.textlength(shown + ("..." if shown != line else ""), font=font) > width:
        shown = shown[:-1]
    draw.text((left, top), shown + ("..." if shown != line else ""), fill=_INK, font=font)


def _jpeg(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, format="JPEG", quality=85, optimize=True)
    return buffer.getvalue()


def _require(
    pictures: Sequence[object], *, columns: int, tile: int, frames: Sequence[str | None] | None
) -> None:
    if not 1 <= len(pictures) <= MAX_IMAGES:
        raise DataError(
            f"1 to {MAX_IMAGES} images for a contact sheet",
            f"{len(pictures)}",
            "the images handed in",
            "Choose a sample of them.",
        )
    if frames is not None and len(frames) != len(pictures):
        raise DataError(
            "one frame colour an image",
            f"{len(frames)} colours for {len(pictures)} images",
            "the frames of a contact sheet",
            "Pass None where an image has no frame.",
        )
    if columns < 1 or tile < 32:
        raise ConfigError(
            "at least one column and tiles of 32 pixels or more",
            f"{columns} columns and tiles of {tile} pixels",
            "the layout of a contact sheet",
            "The defaults are 8 columns of 96 pixels.",
        )
