"""The decoding of an image's bytes to pixels, one path for indexing, training, reports and the bundle.

`decode` promises an RGB image, upright (the EXIF orientation is applied and then forgotten), or an
`UnusableImageError` with a reason. The first bytes say what a file is (`kinds.py`), and only the decoder of
that format is opened. The size is judged from the header, before any pixel is decoded, and so are the
number of scans of a JPEG (each one is a pass over all of it, and takes but a few bytes where somebody means
harm) and the tiles and the compression of a TIFF. Of a JPEG it is proved that all its data is there
(`jpeg.py`).

An image has at most `MAX_PIXELS`, of which at most `WHOLE_PIXELS` are decoded: a larger JPEG comes at a half,
a quarter or an eighth of its size. What can only be decoded whole (a progressive JPEG, every other format) is
refused above `WHOLE_PIXELS`.

What has no single RGB meaning gets one, for bytes and for Pillow images alike (`upright_rgb`): transparency
is laid over white, of integers of 16 or 32 bits counts the upper byte of 16, of an animation the first frame,
colour profiles are ignored.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, features

from streetvision_core.data.decoding.jpeg import MAX_SCANS, Jpeg, decode_strictly
from streetvision_core.data.decoding.kinds import identify
from streetvision_core.data.decoding.reasons import MAX_PIXELS, Reason, UnusableImageError
from streetvision_core.errors import DataError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streetvision_core.data.conditions import Conditions
    from streetvision_core.data.index import ImageIndex
    from streetvision_core.data.sources import ImageSource

WHOLE_PIXELS = 50_000_000
_SCALES = (8, 4, 2, 1)
_ORIENTATION_TAG = 0x0112
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
_JPEGS = ("JPEG", "MPO")
_NAMES = {"HEIF": "HEIC"}  # as people call them
_NEEDS_HEIF = "HEIC, which needs the extra heif: pip install 'streetvision[heif]', or convert to JPEG"
_NEEDS_AVIF = "AVIF, which this Pillow was built without: pip install 'pillow>=11.3', or convert to JPEG"
_TIFF_COMPRESSIONS = {"raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "jpeg"}
_SUBFILE, _TILE_WIDTH, _TILE_LENGTH, _DNG = 254, 322, 323, 50706


@dataclass(frozen=True)
class Decoded:
    """An upright RGB image, with the upright size (width, height) of the whole in pixels.

    `orientation` is the EXIF value 1 to 8 that was applied, `format` Pillow's name of the format. The image
    is smaller than `size` where it was decoded at a scale.
    """

    image: Image.Image
    size: tuple[int, int]
    orientation: int
    format: str


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, at_least: int | None = None) -> Image.Image:
    """Decode an image into upright RGB; raises UnusableImageError.

    With `at_least` a JPEG comes at a half, a quarter or an eighth of its size where neither side is then
    shorter than that: several times as fast, and nearly the image that shrinking the whole one gives. One of
    more than `WHOLE_PIXELS` is scaled down in any case.
    """
    return decode_details(data, max_pixels=max_pixels, at_least=at_least).image


def decode_details(data: bytes, *, max_pixels: int = MAX_PIXELS, at_least: int | None = None) -> Decoded:
    """Decode like `decode`; return the size of the whole, the orientation and the format as well."""
    decoded = _decode(data, max_pixels=max_pixels, at_least=at_least, grey=False)
    return replace(decoded, image=_turned(decoded.image, decoded.orientation))


def decode_grey(data: bytes, *, max_pixels: int, at_least: int) -> Decoded:
    """Decode like `decode_details`, but into grey (L), and not turned upright; `size` still is."""
    decoded = _decode(data, max_pixels=max_pixels, at_least=at_least, grey=True)
    return replace(decoded, image=decoded.image.convert("L"))


def _decode(data: bytes, *, max_pixels: int, at_least: int | None, grey: bool) -> Decoded:
    """Decode an image as it is stored, into RGB, or L where `grey` made that possible."""
    header = _open(data)
    jpeg = Jpeg(data) if header.format in _JPEGS else None
    _check_cost(header, jpeg, max_pixels)
    size = header.size  # a decoder that scales changes it
    try:
        if jpeg is not None:
            image = decode_strictly(jpeg, header, scale=_scale(size, at_least), grey=grey)
        else:
            header.load()
            image = header
        orientation = _orientation(header)
        pixels = image if jpeg and image.mode in ("RGB", "L" if grey else "RGB") else _to_rgb(image)
    except UnusableImageError:
        raise
    except Exception as error:  # decoders raise whatever comes to hand on foreign bytes
        raise _unusable(error) from error
    pixels.info.clear()  # it still holds the EXIF data: whoever applies the orientation again must find none
    return Decoded(pixels, size if orientation < 5 else size[::-1], orientation, str(header.format))


def upright_rgb(image: Image.Image) -> Image.Image:
    """Return a Pillow image of any mode as what `decode` makes of a file: upright RGB.

    What is not loaded yet is decoded here, by Pillow alone and whole.

    Raises:
        UnusableImageError: it is empty, too large or damaged, or its mode has no meaning in RGB.
    """
    pixels = image.width * image.height
    if pixels == 0:
        raise UnusableImageError(Reason.EMPTY, "it has no pixels")
    if pixels > MAX_PIXELS:
        raise _too_many(image, MAX_PIXELS)
    try:
        image.load()
        rgb = _turned(_to_rgb(image), _orientation(image))
    except UnusableImageError:
        raise
    except Exception as error:  # a lazy image decodes here
        raise _unusable(error) from error
    rgb.info.clear()  # of a copy: `convert` makes one
    return rgb


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _open(data: bytes) -> Image.Image:
    """Open the header of an image; nothing is decoded."""
    kind = identify(data)
    if kind.reason is not None:
        raise UnusableImageError(kind.reason, kind.name)
    factory = _factory(kind.format)
    try:
        # Not through Image.open: its own bound on pixels is lower than ours, and one for the whole process.
        return factory(BytesIO(data))
    except Exception as error:
        detail = f"its {_NAMES.get(kind.format, kind.format)} header cannot be read"
        raise UnusableImageError(Reason.TRUNCATED, f"{detail}: {_text(error)}") from error


def _factory(kind: str) -> Callable[[BytesIO], Image.Image]:
    if kind == "HEIF":
        try:
            from pillow_heif.as_plugin import HeifImageFile
        except ImportError:
            raise UnusableImageError(Reason.UNSUPPORTED, _NEEDS_HEIF) from None
        opener: Callable[[BytesIO], Image.Image] = HeifImageFile
        return opener
    if kind == "AVIF" and not features.check("avif"):
        raise UnusableImageError(Reason.UNSUPPORTED, _NEEDS_AVIF)
    if kind not in Image.OPEN:
        Image.preinit()  # the usual formats: all of them take a tenth of a second
    if kind not in Image.OPEN:
        Image.init()
    plugin = Image.OPEN[kind][0]
    return lambda file: plugin(file, "")


def _check_cost(header: Image.Image, jpeg: Jpeg | None, max_pixels: int) -> None:
    pixels = header.width * header.height
    if pixels > max_pixels:
        raise _too_many(header, max_pixels)
    if jpeg is not None and jpeg.scans > MAX_SCANS:
        raise UnusableImageError(Reason.TOO_LARGE, f"{jpeg.scans} scans, more than {MAX_SCANS}")
    if pixels > WHOLE_PIXELS and (jpeg is None or jpeg.scans > 1):
        kind = f"a {header.format}, which is" if jpeg is None else "a progressive JPEG, which is"
        raise _too_many(header, WHOLE_PIXELS, f": {kind} decoded whole")
    if header.format == "TIFF":
        _check_tiff(header)


def _check_tiff(header: Image.Image) -> None:
    """Refuse a TIFF that is a camera's raw file, has another compression, or tiles beyond its pixels."""
    tags = header.tag_v2  # type: ignore[attr-defined]
    if _DNG in tags or int(tags.get(_SUBFILE, 0)) & 1:
        detail = "a camera's raw file, whose first image is a thumbnail: convert it to JPEG"
        raise UnusableImageError(Reason.UNSUPPORTED, detail)
    compression = str(header.info.get("compression"))
    if compression not in _TIFF_COMPRESSIONS:
        detail = f"a TIFF with the compression {compression}: save it with LZW or Deflate"
        raise UnusableImageError(Reason.UNSUPPORTED, detail)
    # libtiff holds a tile or a strip whole, however few of its pixels the image has.
    tile = int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_LENGTH, 0))
    if tile > WHOLE_PIXELS:
        raise UnusableImageError(Reason.TOO_LARGE, f"a TIFF with tiles of {tile} pixels")


def _too_many(image: Image.Image, most: int, why: str = "") -> UnusableImageError:
    detail = f"{image.width} x {image.height} pixels, more than {most / 1e6:g} megapixels{why}"
    return UnusableImageError(Reason.TOO_LARGE, detail)


def _unusable(error: Exception) -> UnusableImageError:
    cut = "truncated" in str(error).lower() or isinstance(error, EOFError)
    return UnusableImageError(Reason.TRUNCATED if cut else Reason.DAMAGED, _text(error))


def _scale(size: tuple[int, int], at_least: int | None) -> int:
    """Return what a JPEG's sides are divided by: no more than asked, but what its pixels make necessary."""
    width, height = size
    asked = 1 if at_least is None else next((s for s in _SCALES if min(size) // s >= at_least), 1)
    needed = next(s for s in reversed(_SCALES) if width * height <= WHOLE_PIXELS * s * s)
    return max(asked, needed)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - unreadable EXIF says nothing about the pixels: the image is as stored
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        detail = "colours in CIELAB: save it in RGB"
        raise UnusableImageError(Reason.UNSUPPORTED, detail)
    if image.mode in ("I", "F"):
        _check_depth(image)
    if not (image.mode[0] in "IF" or image.has_transparency_data):
        return image.convert("RGB")
    # These take several times the room of the image: a strip at a time.
    rgb = Image.new("RGB", image.size)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb.paste(_strip_to_rgb(strip), (0, top))
    return rgb


def _check_depth(image: Image.Image) -> None:
    """Refuse an image of 32 bits whose values all lie below the upper byte of 16: it would come out black."""
    least, most = image.getextrema()
    assert isinstance(most, (int, float))
    if 0 < most < 256 and least != most:
        detail = f"values up to {most:g} in 32 bits, of which 16 count: save it with 8 bits a channel"
        raise UnusableImageError(Reason.UNSUPPORTED, detail)


def _strip_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":
        values = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0)
        upper = np.clip(values, 0, 65535).astype(np.uint16) >> 8
        return Image.fromarray(upper.astype(np.uint8)).convert("RGB")
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _text(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


class ImageReader:
    """Reads images of an index, each proved to be the very bytes that were indexed.

    `image` and `see` give them as they arrive in use, under `conditions`; None leaves them as they are.
    """

    def __init__(
        self, source: ImageSource, index: ImageIndex, *, conditions: Conditions | None = None
    ) -> None:
        self.conditions = conditions
        self._source = source
        self._digests = {picture.name: picture.sha256 for picture in index.pictures}

    def image(self, name: str, *, at_least: int | None = None) -> Image.Image:
        """Return one image, decoded as `decode` does, as it arrives in use.

        Raises:
            DataError: the index has no such image, or it can no longer be read.
            IntegrityError: its bytes are not those that were indexed.
        """
        return self.see(decode(self.read(name), at_least=at_least), name)

    def see(self, image: Image.Image, name: str, *, draw: int = 0) -> Image.Image:
        """Return an image that was decoded already as it arrives in use at a draw."""
        if self.conditions is None:
            return image
        return self.conditions.see(image, self._digests[name], draw=draw)

    def read(self, name: str) -> bytes:
        """Return the bytes of one image.

        Raises:
            DataError: the index has no such image, or it can no longer be read.
            IntegrityError: its bytes are not those that were indexed.
        """
        indexed, data = self.sha256(name), self._source.read(name)
        digest = hashlib.sha256(data).hexdigest()
        if digest != indexed:
            expected = f"the image {name} with SHA-256 {indexed}"
            found = f"other bytes, with SHA-256 {digest}"
            action = "Restore the image, or materialize images and all after it with reuse: false."
            raise IntegrityError(expected, found, self._source.describe(), action)
        return data

    def sha256(self, name: str) -> str:
        """Return the SHA-256 (hex) that one image was indexed with; raises DataError where it was not."""
        if name not in self._digests:
            found, action = "a name it does not hold", "Materialize images again."
            raise DataError("an image of the index", found, name, action)
        return self._digests[name]
