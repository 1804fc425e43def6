"""A contact sheet shows every image whole, in order, with its caption and frame."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from streetvision_core.data import overview

FRAME = "#D55E00"
RED, GREEN, BLUE = (200, 30, 30), (30, 160, 30), (30, 30, 200)


def plain(colour, size=(120, 120)):
    return Image.new("RGB", size, colour)


def contact_sheet(captioned, *, columns=8, tile=96):
    return overview.contact_sheet(
        [(image, caption, FRAME) for image, caption in captioned], columns=columns, tile=tile
    )


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def near(pixel, colour):
    return max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) < 25


def test_images_stand_row_by_row_in_the_order_given():
    sheet = opened(contact_sheet([(plain(c), "") for c in (RED, GREEN, BLUE)], columns=2, tile=64))
    assert sheet.format == "JPEG"
    assert near(sheet.getpixel((6 + 32, 6 + 32)), RED)
    assert near(sheet.getpixel((12 + 96, 6 + 32)), GREEN)
    assert near(sheet.getpixel((6 + 32, sheet.height - 6 - 15 - 32)), BLUE)


def test_fewer_images_than_columns_make_a_narrow_sheet():
    assert opened(contact_sheet([(plain(RED), "")], columns=8, tile=96)).width == 96 + 2 * 6


def test_a_wide_image_is_shown_whole_and_not_stretched():
    wide = plain(RED, (400, 100))
    wide.paste(GREEN, (0, 0, 40, 100))
    sheet = opened(contact_sheet([(wide, "")], tile=96))
    assert near(sheet.getpixel((6 + 5, 6 + 48)), GREEN)
    assert near(sheet.getpixel((6 + 90, 6 + 48)), RED)
    assert not near(sheet.getpixel((6 + 48, 6 + 5)), RED)


def test_each_image_has_a_frame_of_its_colour():
    pictures = [(plain(GREEN), "", FRAME), (plain(GREEN), "", "#0072B2")]
    sheet = opened(overview.contact_sheet(pictures, columns=8, tile=96))
    assert near(sheet.getpixel((6 + 1, 6 + 48)), (0xD5, 0x5E, 0x00))
    assert near(sheet.getpixel((12 + 96 + 1, 6 + 48)), (0x00, 0x72, 0xB2))


def test_a_caption_is_written_below_its_image_and_cut_to_its_width():
    blank = np.asarray(opened(contact_sheet([(plain(RED), ""), (plain(RED), "")])))
    written = np.asarray(opened(contact_sheet([(plain(RED), "a very long name " * 9), (plain(RED), "")])))
    changed = np.argwhere(np.abs(blank.astype(int) - written).max(axis=2) > 100)
    assert changed.size
    assert changed[:, 0].min() >= 6 + 96
    assert changed[:, 1].max() < 6 + 96 + 6


def test_the_images_handed_in_are_not_changed_and_the_bytes_are_the_same_twice():
    image = plain(RED, (300, 200))
    before = image.tobytes()
    first = contact_sheet([(image, "a b")] * 9)
    assert first == contact_sheet([(image, "a b")] * 9)
    assert image.tobytes() == before
    assert image.size == (300, 200)
