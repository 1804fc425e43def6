"""A contact sheet shows every image whole, in order, with its caption and frame."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from streetvision_core.data.contact_sheet import LABEL_FRAMES, MAX_IMAGES, contact_sheet
from streetvision_core.errors import ConfigError, DataError

RED, GREEN, BLUE = (200, 30, 30), (30, 160, 30), (30, 30, 200)


def plain(colour, size=(120, 120)):
    return Image.new("RGB", size, colour)


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
    assert near(sheet.getpixel((6 + 3, 6 + 48)), GREEN)
    assert near(sheet.getpixel((6 + 90, 6 + 48)), RED)
    assert not near(sheet.getpixel((6 + 48, 6 + 5)), RED)


def test_a_frame_has_its_colour_and_images_without_one_have_none():
    sheet = opened(contact_sheet([(plain(GREEN), ""), (plain(GREEN), "")], frames=[LABEL_FRAMES[1], None]))
    assert near(sheet.getpixel((6 + 1, 6 + 48)), (0xD5, 0x5E, 0x00))
    assert near(sheet.getpixel((12 + 96 + 1, 6 + 48)), GREEN)


def test_a_caption_is_written_below_its_image_and_cut_to_its_width():
    blank = np.asarray(opened(contact_sheet([(plain(RED), ""), (plain(RED), "")])))
    written = np.asarray(opened(contact_sheet([(plain(RED), "a very long name " * 9), (plain(RED), "")])))
    changed = np.argwhere(np.abs(blank.astype(int) - written).max(axis=2) > 100)
    assert changed.size
    assert changed[:, 0].min() >= 6 + 96
    assert changed[:, 1].max() < 6 + 96 + 6


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F"])
def test_every_mode_of_image_is_taken(mode):
    assert opened(contact_sheet([(Image.new(mode, (50, 40)), mode)])).mode == "RGB"


def test_transparent_pixels_become_paper():
    sheet = opened(contact_sheet([(Image.new("RGBA", (96, 96), (0, 0, 0, 0)), "")]))
    assert near(sheet.getpixel((6 + 48, 6 + 48)), (255, 255, 255))


def test_what_cannot_be_shown_keeps_its_place():
    sheet = opened(contact_sheet([(None, "truncated"), (plain(GREEN), "")], frames=[LABEL_FRAMES[0], None]))
    assert near(sheet.getpixel((12 + 96 + 48, 6 + 48)), GREEN)


def test_the_images_handed_in_are_not_changed_and_the_bytes_are_the_same_twice():
    image = plain(RED, (300, 200))
    before = image.tobytes()
    first = contact_sheet([(image, "a b")] * 9)
    assert first == contact_sheet([(image, "a b")] * 9)
    assert image.tobytes() == before
    assert image.size == (300, 200)


@pytest.mark.parametrize("count", [0, MAX_IMAGES + 1])
def test_no_images_or_too_many_are_refused(count):
    with pytest.raises(DataError, match=f"but found {count} "):
        contact_sheet([(None, "")] * count)


def test_frames_that_do_not_fit_and_senseless_layouts_are_refused():
    with pytest.raises(DataError, match="1 colours for 2 images"):
        contact_sheet([(None, "")] * 2, frames=[None])
    for layout in ({"columns": 0}, {"tile": 8}):
        with pytest.raises(ConfigError, match="at least one column"):
            contact_sheet([(None, "")], **layout)
