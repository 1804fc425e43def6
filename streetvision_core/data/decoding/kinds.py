"""The kind of a file by its first bytes: an image format that is read, one that is not, or no image at all.

A name says little: servers answer with an HTML page under the name of a JPEG, Git LFS leaves a pointer in a
file's place, and phones call AVIF HEIC. So the bytes decide, and what is not read is called by what it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from streetvision_core.data.decoding.reasons import Reason

_READ = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"),
}
_BITMAP_HEADERS = {12, 40, 52, 56, 64, 108, 124}  # bytes of the header that follows the 14 of the file
_OTHER_IMAGES = {
    "JPEG 2000": (b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51"),
    "JPEG XL": (b"\x00\x00\x00\x0cJXL ", b"\xff\x0a"),
    "Photoshop": (b"8BPS",),
    "ICO": (b"\x00\x00\x01\x00",),
    "OpenEXR": (b"\x76\x2f\x31\x01",),
    "Radiance HDR": (b"#?RADIANCE",),
    "DDS": (b"DDS ",),
    "a camera's raw file": (b"FUJIFILMCCD-RAW", b"IIRO", b"IIU\x00"),
    "QOI": (b"qoif",),
}
_NO_IMAGES = {
    "a PDF document": (b"%PDF",),
    "a ZIP archive, or a document that is one": (b"PK\x03\x04",),
    "a gzip archive": (b"\x1f\x8b",),
    "a 7-Zip archive": (b"7z\xbc\xaf\x27\x1c",),
    "a RAR archive": (b"Rar!",),
    "a video (Matroska or WebM)": (b"\x1aE\xdf\xa3",),
    "a video (MPEG)": (b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"),
    "a video (Flash)": (b"FLV\x01",),
    "a video (Windows Media)": (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",),
    "a Parquet file": (b"PAR1",),
    "a NumPy array": (b"\x93NUMPY",),
    "an HDF5 file": (b"\x89HDF\r\n\x1a\n",),
    "a database (SQLite)": (b"SQLite format 3",),
    "a program": (b"\x7fELF", b"MZ"),
    "what macOS keeps beside a file (its name begins with ._)": (b"\x00\x05\x16\x07",),
    "a Git LFS pointer: git lfs pull fetches the image": (b"version https://git-lfs",),
    "a text, an image as a data: address": (b"data:image/",),
}
_RIFF = {b"AVI ": "a video (AVI)", b"WAVE": "a sound (WAV)"}
_NETPBM = re.compile(rb"P[1-7][\s#]")
_MARKUP = (
    (re.compile(rb"<svg[\s>]", re.IGNORECASE), "an SVG drawing"),
    (re.compile(rb"<!doctype html|<html[\s>]|<head[\s>]|<body[\s>]", re.IGNORECASE),
     "an HTML page, as a server answers instead of an image"),
    (re.compile(rb"\A<"), "an XML or HTML text"),
)  # fmt: skip
_HEAD = 4096
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"mif2", b"jpeg"}


@dataclass(frozen=True)
class Kind:
    """The kind of a file: `format` is Pillow's name of a format that is read, HEIF included, or empty.

    Of anything else `reason` says why it is put aside, and `name` what it is.
    """

    format: str = ""
    reason: Reason | None = None
    name: str = ""


def identify(data: bytes) -> Kind:
    """Return the kind that the first bytes of a file show; nothing is said of the others."""
    if not data:
        return Kind(reason=Reason.EMPTY, name="it has no bytes")
    if kind := _image_format(data):
        return Kind(format=kind)
    if name := _beginning(_OTHER_IMAGES, data) or ("Netpbm" if _NETPBM.match(data) else ""):
        return Kind(reason=Reason.UNSUPPORTED, name=f"{name}: convert it to JPEG or PNG")
    return Kind(reason=Reason.NOT_AN_IMAGE, name=_no_image(data))


def _image_format(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return _of_container(data)
    if data.startswith(b"RIFF"):
        return "WEBP" if data[8:12] not in _RIFF else ""
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BITMAP_HEADERS:
        return "BMP"
    return _beginning(_READ, data)


def _of_container(data: bytes) -> str:
    """Return AVIF or HEIF where the brands of an ISO container say so; a video has others."""
    brands = _brands(data)
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else ""


def _brands(data: bytes) -> set[bytes]:
    size = min(int.from_bytes(data[:4], "big"), 512)
    return {data[8:12], *(data[at : at + 4] for at in range(16, size, 4))}


def _no_image(data: bytes) -> str:
    if name := _beginning(_NO_IMAGES, data):
        return name
    if data.startswith(b"RIFF"):
        return _RIFF.get(data[8:12], "a RIFF file that is no WebP")
    if data[4:8] in {b"ftyp", b"moov", b"mdat", b"wide"}:
        return "a video (MP4 or QuickTime)"
    if not data.strip(b"\0"):
        return f"{len(data)} zero bytes, as an interrupted copy leaves"
    return _text_kind(data[:_HEAD]) or f"no format that is known begins with the bytes {data[:8].hex(' ')}"


def _text_kind(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for pattern, name in _MARKUP:
        if pattern.search(text) and text.startswith(b"<"):
            return name
    try:
        text[:-4].decode()  # the last letter may be cut
    except UnicodeDecodeError:
        return ""
    return "" if re.search(rb"[\x00-\x08\x0e-\x1a\x7f]", text) else "a text"


def _beginning(starts: dict[str, tuple[bytes, ...]], data: bytes) -> str:
    return next((name for name, start in starts.items() if data.startswith(start)), "")
