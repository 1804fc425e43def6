"""From a picture's bytes to its pixels: the one way in, for indexing, training, reports and the bundle.

`decode` promises an RGB picture, upright (the EXIF orientation is applied and then forgotten), or an
`UnusablePictureError` with a reason. Only JPEG, PNG, WebP and BMP are opened, so that no exotic decoder
ever meets foreign bytes, and the size is judged from the header, before any pixel is decoded.

So is the number of scans of a JPEG: each one is a pass over all of it, and takes but a few bytes where
somebody means harm. Cameras write one, three or about ten; a hundred over 50 million pixels take seconds.

What has no single RGB meaning gets one: transparency is laid over white, 16-bit greyscale keeps its upper
byte, of an animation the first frame counts, colour profiles are ignored.
"""

from __future__ import annotations

import hashlib
import re
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from streetvision_core.data.reasons import Reason, UnusablePictureError
from streetvision_core.errors import DataError, IntegrityError

if TYPE_CHECKING:
    from streetvision_core.data.index import ImageIndex
    from streetvision_core.data.sources import PictureSource

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MAX_PIXELS = 50_000_000
MAX_SCANS = 100
_ORIENTATION_TAG = 0x0112
# A marker of JPEG with its code; what is stuffed into the data of a scan, or restarts it, is none.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_START_OF_SCAN, _END_OF_IMAGE, _WITHOUT_LENGTH = b"\xda", b"\xd9", (b"\x01", b"\xd8")
_STRIP_PIXELS = 2_000_000
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, at_least: int | None = None) -> Image.Image:
    """Decode a picture into upright RGB of at most `max_pixels`; raises UnusablePictureError.

    With `at_least` a JPEG comes at a half, a quarter or an eighth of its size where neither side is then
    shorter than that: several times as fast, and nearly the picture that shrinking the whole one gives.
    """
    return decode_with_orientation(data, max_pixels=max_pixels, at_least=at_least)[0]


def decode_with_orientation(
    data: bytes, *, max_pixels: int = MAX_PIXELS, at_least: int | None = None
) -> tuple[Image.Image, int, str]:
    """Decode like `decode`; return the EXIF orientation (1 to 8) that was applied and the format as well."""
    image = _open(data, max_pixels)
    kind = str(image.format)
    try:
        if at_least is not None:
            image.draft(None, (at_least, at_least))  # of any other format than JPEG this does nothing
        image.load()
        orientation = _orientation(image)
        rgb = _to_rgb(image)
        del image  # of a large picture, one copy at a time is enough
    except Exception as error:  # decoders raise whatever comes to hand on foreign bytes
        cut = "truncated" in str(error).lower() or isinstance(error, EOFError)
        raise UnusablePictureError(Reason.TRUNCATED if cut else Reason.DAMAGED, _text(error)) from error
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    rgb.info.clear()  # it still holds the EXIF data: whoever applies the orientation again must find none
    return rgb, orientation, kind


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise UnusablePictureError(Reason.EMPTY, "it has no bytes")
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnusablePictureError(Reason.TOO_LARGE, _text(error)) from error
    except Exception as error:
        reason = Reason.TRUNCATED if data.startswith(_SIGNATURES) else Reason.NOT_A_PICTURE
        raise UnusablePictureError(reason, f"no {', '.join(FORMATS)} header could be read") from error
    if image.width * image.height > max_pixels:
        found = f"{image.width} x {image.height} pixels, more than {max_pixels}"
        raise UnusablePictureError(Reason.TOO_LARGE, found)
    if image.format == "JPEG" and (scans := count_scans(data)) > MAX_SCANS:
        raise UnusablePictureError(Reason.TOO_LARGE, f"{scans} scans, more than {MAX_SCANS}")
    return image


def count_scans(data: bytes) -> int:
    """Return how many scans a JPEG has up to its end, as a decoder meets them; what is appended is none."""
    if (most := data.count(b"\xff" + _START_OF_SCAN)) <= MAX_SCANS:
        return most  # thumbnails and what is appended included, which nearly every picture has few of
    scans, position = 0, 2
    while (marker := _MARKER.search(data, position)) and marker[1] != _END_OF_IMAGE:
        scans += marker[1] == _START_OF_SCAN
        position = marker.end()
        if marker[1] not in _WITHOUT_LENGTH:
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return scans


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - unreadable EXIF says nothing about the pixels: the picture is as stored
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if not (image.mode.startswith("I") or image.has_transparency_data):
        return image.convert("RGB")
    # These take several times the room of the picture: a strip at a time.
    rgb = Image.new("RGB", image.size)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb.paste(_strip_to_rgb(strip), (0, top))
    return rgb


def _strip_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        upper = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _text(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


class PictureReader:
    """Reads pictures of an index, each proved to be the very bytes that were indexed."""

    def __init__(self, source: PictureSource, index: ImageIndex) -> None:
        self._source = source
        self._digests = {picture.name: picture.sha256 for picture in index.pictures}

    def read(self, name: str) -> bytes:
        """Return the bytes of one picture.

        Raises:
            DataError: the index has no such picture, or it can no longer be read.
            IntegrityError: its bytes are not those that were indexed.
        """
        if name not in self._digests:
            raise DataError(
                "a picture of the index", "a name it does not hold", name, "Materialize images again."
            )
        data = self._source.read(name)
        digest = hashlib.sha256(data).hexdigest()
        if digest != self._digests[name]:
            raise IntegrityError(
                f"the picture {name} with SHA-256 {self._digests[name]}",
                f"other bytes, with SHA-256 {digest}",
                self._source.describe(),
                "Restore the picture, or materialize images with rescan: true, and everything after it.",
            )
        return data
