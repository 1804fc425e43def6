"""Any bytes: `decode` makes an upright RGB image of them or says why not."""

from __future__ import annotations

import contextlib
import copy
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from streetvision_core.data import CsvConfig, Reason, SourceConfig, UnusableImageError, index_source
from streetvision_core.data import open_source as open_any
from streetvision_core.data.decoding.decode import ImageReader, decode, decode_details
from streetvision_core.errors import DataError, IntegrityError

from .making import bomb, encode, jpeg, scene, write, write_csv


def refusal(data: bytes, **options) -> Reason:
    with pytest.raises(UnusableImageError) as caught:
        decode(data, **options)
    assert str(copy.copy(caught.value)) == str(caught.value)  # it survives the way between processes
    return caught.value.reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.EMPTY),
        (b"a text that calls itself .jpg", Reason.NOT_AN_IMAGE),
        (jpeg(1)[:-200], Reason.TRUNCATED),
        (jpeg(1)[:12], Reason.TRUNCATED),
        (encode(scene(1), "PNG")[:-300], Reason.TRUNCATED),
        (encode(scene(1), "WEBP")[:-300], Reason.TRUNCATED),
        (bomb(40_000, 40_000), Reason.TOO_LARGE),
        (bomb(10_000, 10_000), Reason.TOO_LARGE),
        (bomb(8_000, 7_000), Reason.TOO_LARGE),
        (encode(scene(1), "PPM"), Reason.UNSUPPORTED),
    ],
    ids=lambda value: value.name if isinstance(value, Reason) else f"{len(value)} bytes",
)
def test_bytes_that_are_no_usable_image_are_refused_with_their_reason(data, reason):
    assert refusal(data) is reason


def test_the_size_is_judged_before_any_pixel_is_decoded(monkeypatch):
    """A header that asks for too much is refused although the pixels behind it could not even be read."""
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("pixels were decoded"))
    assert refusal(bomb(8_000, 7_000)) is Reason.TOO_LARGE


def test_the_bound_on_pixels_is_the_callers():
    data = jpeg(1)
    assert decode(data, max_pixels=96 * 64).size == (96, 64)
    assert refusal(data, max_pixels=96 * 64 - 1) is Reason.TOO_LARGE


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"])
def test_the_formats_of_cameras_and_the_web_are_read(kind):
    decoded = decode_details(encode(scene(1), kind))
    assert (decoded.image.mode, decoded.image.size, decoded.size) == ("RGB", (96, 64), (96, 64))
    assert (decoded.orientation, decoded.format) == (1, kind)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_once_and_forgotten(orientation):
    """Pillow's own exif_transpose is the oracle; a second one must find nothing left to turn."""
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(scene(3), "PNG", exif=exif)
    decoded = decode_details(data)
    upright = decoded.image
    with Image.open(BytesIO(data)) as stored:
        expected = ImageOps.exif_transpose(stored)
    assert decoded.orientation == orientation
    assert np.array_equal(np.asarray(upright), np.asarray(expected))
    assert dict(upright.getexif()) == {}
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(upright)), np.asarray(upright))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_a_meaningless_orientation_leaves_the_image_as_stored(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert decode_details(jpeg(1, exif=exif)).orientation == 1


def test_unreadable_exif_leaves_the_image_as_stored():
    decoded = decode_details(jpeg(1, exif=b"Exif\0\0 this is no TIFF header"))
    assert (decoded.image.size, decoded.orientation) == ((96, 64), 1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_every_mode_becomes_the_rgb_a_person_would_see(mode):
    grey = scene(5).convert("L")
    if mode == "I;16":
        stored = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    else:
        stored = grey.convert(mode)
    seen = decode(encode(stored, "PNG"))
    expected = stored.convert("L") if mode == "1" else grey
    assert seen.mode == "RGB"
    assert np.abs(np.asarray(seen.convert("L")).astype(int) - np.asarray(expected)).max() <= 1


def test_cmyk_is_converted():
    stored = encode(Image.new("RGB", (32, 32), (200, 40, 90)).convert("CMYK"), quality=95)
    assert np.abs(np.asarray(decode(stored)).astype(int) - (200, 40, 90)).max() <= 4


def test_transparency_is_laid_over_white():
    """The colour under a fully transparent pixel is not part of the image."""
    hidden = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0])
    for data in (encode(hidden, "PNG"), encode(palette, "PNG", transparency=0)):
        assert decode(data).getpixel((0, 0)) == (255, 255, 255)


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("blue", "red")]
    data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert decode(data).getpixel((0, 0)) == (0, 0, 255)


@given(st.binary(max_size=40), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM"]))
def test_foreign_bytes_never_raise_anything_else(tail, signature):
    refusal(signature + tail)


@given(st.integers(0, 5000), st.integers(0, 255))
def test_a_changed_byte_gives_an_image_or_a_refusal(position, value):
    for kind in ("JPEG", "PNG", "WEBP"):
        data = bytearray(encode(scene(1, size=(24, 16)), kind))
        data[position % len(data)] = value
        with contextlib.suppress(UnusableImageError):
            assert decode(bytes(data)).mode == "RGB"


@pytest.fixture
def reader(tmp_path):
    for number in range(4):
        write(tmp_path / f"{number}.jpg", jpeg(number))
    rows = [{"file": f"{number}.jpg", "label": number % 2} for number in range(4)]
    table = write_csv(tmp_path / "labels.csv", rows)
    source = open_any(SourceConfig(csv=CsvConfig(path=str(table))))
    return ImageReader(source, index_source(source))


def test_an_image_changed_after_indexing_is_not_handed_out(reader, tmp_path):
    assert reader.read("1.jpg") == jpeg(1)
    write(tmp_path / "1.jpg", jpeg(9))
    with pytest.raises(IntegrityError, match=r"image 1\.jpg"):
        reader.read("1.jpg")


def test_an_image_that_was_not_indexed_or_is_gone_is_named(reader, tmp_path):
    write(tmp_path / "new.jpg", jpeg(7))
    with pytest.raises(DataError, match=r"new\.jpg"):
        reader.read("new.jpg")
    (tmp_path / "2.jpg").unlink()
    with pytest.raises(DataError, match=r"missing.*2\.jpg"):
        reader.read("2.jpg")


SIZES = [(96, 64), (640, 360), (641, 333), (1280, 720), (64, 1000)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("at_least", [1, 33, 80, 224, 720, 5000])
def test_a_jpeg_is_decoded_smaller_but_never_smaller_than_asked(size, at_least):
    image = decode(encode(scene(2, size=size), quality=90), at_least=at_least)
    scales = [scale for scale in (8, 4, 2) if min(size) // scale >= at_least]
    assert image.size == tuple(-(-side // max([1, *scales])) for side in size)
    assert min(image.size) >= min(at_least, *size)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_other_formats_are_decoded_whole(kind):
    data = encode(scene(1, size=(640, 360)), kind)
    assert np.array_equal(np.asarray(decode(data, at_least=32)), np.asarray(decode(data)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_a_smaller_decode_is_upright_and_nearly_the_whole_one_shrunk(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(scene(4, size=(642, 360)), kind, quality=90, exif=exif)
    whole, smaller = decode(data), decode(data, at_least=100)
    assert smaller.size == tuple(-(-side // 2) for side in whole.size)
    shrunk = whole.resize(smaller.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(smaller).astype(int) - np.asarray(shrunk)).mean() < 1.5
    assert dict(smaller.getexif()) == {}


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", jpeg(1)[:-200], jpeg(1)[:12], jpeg(1, progressive=True)[:-300], bomb(8_000, 7_000)],
    ids=["empty", "text", "cut", "header", "progressive", "bomb"],
)
def test_a_smaller_decode_refuses_what_the_whole_one_refuses(data):
    with pytest.raises(UnusableImageError) as whole:
        decode(data)
    with pytest.raises(UnusableImageError) as smaller:
        decode(data, at_least=8)
    assert smaller.value.reason is whole.value.reason
