"""Every format that is read, every mode, and what is no image, each called by what it is."""

from __future__ import annotations

import gzip
import io
import json
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageOps

from streetvision_core.data import Reason, UnusableImageError
from streetvision_core.data.decoding.decode import WHOLE_PIXELS, decode, decode_details, upright_rgb

from .inputs import shared_input
from .making import bomb, encode, scene


def refused(data: bytes, **options) -> UnusableImageError:
    with pytest.raises(UnusableImageError) as caught:
        decode(data, **options)
    return caught.value


def heic(image: Image.Image, **options) -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return encode(image, "HEIF", quality=95, **options)


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.jpg", b"x")
    return buffer.getvalue()


NO_IMAGES = {
    "a text": b"file,label\na.jpg,0\n",
    "a text, in UTF-8": "Straße, nass".encode(),
    "PDF": b"%PDF-1.7\n",
    "HTML page": b"\n <!DOCTYPE html><html><body>404</body></html>",
    "HTML page, short": b"<html><head><title>403</title>",
    "SVG": b'<?xml version="1.0"?>\n<!-- a --><svg xmlns="http://www.w3.org/2000/svg"></svg>',
    "XML": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
    "ZIP": archive(),
    "gzip": gzip.compress(b"x"),
    "MP4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(40),
    "QuickTime": b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(40),
    "WebM": b"\x1aE\xdf\xa3" + bytes(40),
    "AVI": b"RIFF\x10\0\0\0AVI LIST",
    "zero bytes": bytes(4096),
    "begins with the bytes": b"\x9a\x01\x02\x03\x04\x05\x06\x07\x08",
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_is_no_image_is_called_by_what_it_is(name):
    error = refused(NO_IMAGES[name])
    assert error.reason is Reason.NOT_AN_IMAGE
    assert name.split(",")[0] in error.detail


OTHER_FORMATS = {
    "JPEG 2000": encode(scene(1), "JPEG2000"),
    "Netpbm": encode(scene(1), "PPM"),
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20),
    "Photoshop": b"8BPS\0\1" + bytes(20),
    "ICO": encode(scene(1, size=(32, 32)), "ICO"),
    "CIELAB": encode(Image.new("LAB", (8, 8)), "TIFF"),
    "group4": encode(scene(1).convert("1"), "TIFF", compression="group4"),
}


@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_an_image_of_another_format_is_named_with_what_to_do(name):
    error = refused(OTHER_FORMATS[name])
    assert error.reason is Reason.UNSUPPORTED
    assert name in error.detail


READ = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "GIF": {},
    "AVIF": {"quality": 100},
    "TIFF": {},
}


@pytest.mark.parametrize("kind", READ)
def test_a_file_that_lost_its_end_is_truncated_and_one_that_is_whole_is_read(kind):
    data = encode(scene(1, size=(320, 240)), kind, **READ[kind])
    assert decode(data).size == (320, 240)
    for share in (0.3, 0.6, 0.95):
        assert refused(data[: int(len(data) * share)]).reason in (Reason.TRUNCATED, Reason.DAMAGED)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_tiff_is_read_in_the_usual_compressions(compression):
    image = scene(2)
    options = {"quality": 95} if compression == "jpeg" else {}
    stored = decode(encode(image, "TIFF", compression=compression, **options))
    assert np.abs(np.asarray(stored).astype(int) - np.asarray(image)).mean() < 3


def test_the_first_page_or_frame_counts():
    red, blue = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    for kind in ("GIF", "TIFF", "AVIF"):
        pixel = decode(encode(red, kind, save_all=True, append_images=[blue])).getpixel((3, 3))
        assert pixel[0] > 200
        assert pixel[2] < 50


def test_the_image_of_several_that_a_phone_writes_is_the_first():
    data = encode(scene(1), "MPO", save_all=True, append_images=[scene(2)])
    decoded = decode_details(data)
    assert decoded.format == "MPO"
    assert np.array_equal(np.asarray(decoded.image), np.asarray(decode(encode(scene(1)))))


def test_heic_is_read_where_the_extra_is_installed_and_turned_as_its_container_says():
    """HEIC is turned by its container; phones repeat that in EXIF, and it may not be done twice."""
    image = scene(1, size=(320, 240))
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_details(heic(image, exif=exif))
    assert (decoded.size, decoded.orientation, decoded.format) == ((320, 240), 1, "HEIF")
    assert np.abs(np.asarray(decoded.image).astype(int) - np.asarray(image)).mean() < 6


WITHOUT = """
import sys
sys.modules["pillow_heif"] = None
from streetvision_core.data.decoding.decode import decode
from streetvision_core.data.decoding.reasons import UnusableImageError
try:
    decode(sys.stdin.buffer.read())
except UnusableImageError as error:
    print(error.reason, "|", error.detail)
"""


def test_heic_says_what_it_needs_where_the_extra_is_not_installed():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], input=heic(scene(1)), capture_output=True, check=True, timeout=60
    )
    reason, _, detail = done.stdout.decode().strip().partition(" | ")
    needs = "HEIC, which needs the extra heif: pip install 'streetvision[heif]', or convert to JPEG"
    assert (reason, detail) == (Reason.UNSUPPORTED, needs)


def sixteen(grey: np.ndarray) -> np.ndarray:
    return grey.astype(np.uint16) * 256 + 17


INTEGERS = {
    "I;16": lambda grey: Image.fromarray(sixteen(grey)),
    "I;16B": lambda grey: Image.frombytes("I;16B", grey.shape[::-1], sixteen(grey).astype(">u2").tobytes()),
    "I;16L": lambda grey: Image.frombytes("I;16", grey.shape[::-1], sixteen(grey).astype("<u2").tobytes()),
    "I": lambda grey: Image.fromarray(sixteen(grey).astype(np.int32)),
    "F": lambda grey: Image.fromarray(sixteen(grey).astype(np.float32)),
}


@pytest.mark.parametrize("mode", INTEGERS)
def test_every_integer_mode_keeps_its_upper_byte_in_every_way_in(mode):
    grey = np.asarray(scene(5).convert("L"))
    image = INTEGERS[mode](grey)
    expected = np.repeat(grey[..., None], 3, axis=2)
    assert np.array_equal(np.asarray(upright_rgb(image)), expected)
    for kind in ("TIFF", "PNG") if mode != "F" else ("TIFF",):
        if kind == "TIFF" or mode in {"I;16", "I;16L"}:
            assert np.array_equal(np.asarray(decode(encode(image, kind))), expected)


@pytest.mark.parametrize("values", [np.linspace(0, 1, 64), np.arange(64)], ids=["floats", "bytes"])
def test_thirty_two_bits_without_an_upper_byte_are_refused_and_not_made_black(values):
    for dtype in (np.float32, np.int32):
        image = Image.fromarray((values * 2).reshape(8, 8).astype(dtype))
        with pytest.raises(UnusableImageError, match="32 bits, of which 16 count"):
            upright_rgb(image)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "La", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "HSV"])
def test_a_pillow_image_of_any_mode_becomes_the_rgb_of_its_file(mode):
    grey = scene(5).convert("L")
    image = grey.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, "RGB" if mode == "HSV" else mode))
    image = image if image.mode == mode else image.convert(mode)
    expected = grey.convert("1") if mode == "1" else grey
    seen = upright_rgb(image)
    assert (seen.mode, image.mode) == ("RGB", mode)
    assert np.abs(np.asarray(seen.convert("L")).astype(int) - np.asarray(expected.convert("L"))).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pillow_image_is_turned_upright_once_and_left_as_it_was(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(scene(3), exif=exif, quality=95)
    image = Image.open(io.BytesIO(data))
    seen = upright_rgb(image)
    assert np.array_equal(np.asarray(seen), np.asarray(decode(data)))
    assert image.getexif()[0x0112] == orientation
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(seen)), np.asarray(seen))


def test_what_adobe_inverts_is_turned_back():
    cmyk = Image.new("RGB", (32, 32), (200, 40, 90)).convert("CMYK")
    data = encode(cmyk, quality=95)
    assert b"Adobe" in data
    assert np.abs(np.asarray(decode(data)).astype(int) - (200, 40, 90)).max() <= 4


def tiff_with(data: bytes, changes: dict[int, int]) -> bytes:
    """A little-endian TIFF with other values in its first directory; a tag that is not there is added."""
    changed, at = bytearray(data), struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[at : at + 2])[0]
    entries = [bytearray(data[at + 2 + 12 * n : at + 14 + 12 * n]) for n in range(count)]
    kept = [entry for entry in entries if struct.unpack("<H", entry[:2])[0] not in changes]
    added = [bytearray(struct.pack("<HHII", tag, 4, 1, value)) for tag, value in changes.items()]
    table = sorted(kept + added, key=lambda entry: struct.unpack("<H", entry[:2])[0])
    changed[4:8] = struct.pack("<I", len(changed))
    return bytes(changed) + struct.pack("<H", len(table)) + b"".join(table) + bytes(4)


def test_a_raw_file_is_not_read_as_its_thumbnail():
    data = encode(scene(1), "TIFF")
    for tags in ({254: 1}, {50706: 4}):
        error = refused(tiff_with(data, tags))
        assert (error.reason, "raw" in error.detail) == (Reason.UNSUPPORTED, True)


def test_a_tile_beyond_the_image_is_refused_before_it_is_decoded(monkeypatch):
    tiled = tiff_with(encode(scene(1), "TIFF", compression="tiff_lzw"), {322: 65_520, 323: 65_520})
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("pixels were decoded"))
    assert refused(tiled).reason is Reason.TOO_LARGE


LARGE = """
import json, re, sys, time
from pathlib import Path
import numpy as np, simplejpeg
from PIL import Image
import streetvision_core.data.decoding.decode as pictures
Path("/proc/self/clear_refs").write_text("5")
began = time.perf_counter()
decoded = pictures.decode_details(Path(sys.argv[1]).read_bytes())
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps([decoded.image.size, decoded.size, peak, time.perf_counter() - began]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
def test_an_image_of_200_megapixels_is_decoded_smaller_in_bounded_memory(tmp_path):
    """The peak of the whole process: 150 MiB decoded, 200 MiB as Pillow keeps it, file, imports."""
    path = tmp_path / "phone.jpg"
    Image.new("YCbCr", (16_320, 12_240), (90, 120, 130)).save(path, quality=50)
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    size, whole, peak, _ = json.loads(done.stdout)
    assert (size, whole) == ([8160, 6120], [16_320, 12_240])
    assert peak < 600


def test_above_fifty_megapixels_only_what_can_be_decoded_smaller_is_read():
    large = Image.new("L", (8000, 6400), 90)
    assert decode(encode(large, quality=50)).size == (4000, 3200)
    progressive = refused(encode(large, quality=50, progressive=True))
    png = refused(bomb(8000, 6400))
    for error, kind in ((progressive, "a progressive JPEG"), (png, "a PNG")):
        assert error.reason is Reason.TOO_LARGE
        assert f"{WHOLE_PIXELS // 1_000_000} megapixels: {kind}, which is decoded whole" in error.detail


def test_the_integer_modes_that_users_met_are_one():
    root = shared_input("06-pillow-16-bit-modes")
    seen = []
    for name in ("16.png", "16.pgm", "be16.tif"):
        with Image.open(root / name) as image:
            seen.append(np.asarray(upright_rgb(image)))
    assert all(np.array_equal(seen[0], other) for other in seen[1:])
    assert np.array_equal(np.asarray(decode((root / "be16.tif").read_bytes())), seen[0])


@pytest.mark.parametrize("folder", ["d01_heic_name_avif", "d02_heic"])
def test_the_images_of_phones_are_read_or_named(folder):
    for path in sorted(shared_input(f"14-heic-avif/{folder}").rglob("odd*")):
        if path.suffix == ".avif":
            assert decode_details(path.read_bytes()).format == "AVIF"
        else:
            assert "HEIC" in refused(path.read_bytes()).detail
