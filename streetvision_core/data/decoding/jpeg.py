"""A JPEG's pixels, and the proof that they are all there.

A half-written JPEG may end with a marker all the same: the decoder warns, fills the rest with grey and goes
on, and Pillow passes the warnings over. So libjpeg-turbo decodes here with every warning an error, which
gives the very pixels of Pillow. What it warns of is judged then, because some of it harms nothing: bytes
between segments, padding behind the data, an end marker that is not there, an unknown revision.

It tells the first warning alone. So a harmless one is followed by a look at the same image without what is
harmless, at an eighth of its size. Padding is told from data that was overwritten with zeros by taking the
run of zeros out: sound data is complete without it.

A progressive JPEG can end between two scans, of which no decoder complains: that each coefficient was sent
is read from the headers of its scans.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from PIL import Image

from streetvision_core.data.decoding.reasons import Reason, UnusableImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SCANS = 100
MAX_SEGMENTS = 20_000  # 64 KiB each, of a file of 256 MiB, are 4,096
# A marker of JPEG with its code; what is stuffed into the data of a scan, or restarts it, is none.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_START_OF_SCAN, _END_OF_IMAGE, _WITHOUT_LENGTH = 0xDA, 0xD9, (0x01, 0xD8)
_NO_FRAMES = {0xC4, 0xC8, 0xCC}  # among the codes of frames: tables, and one that is reserved
_PROGRESSIVE = {0xC2, 0xCA}
_APPLICATION = {*range(0xE0, 0xF0), 0xFE}
_PREMATURE = "premature end of data segment"
_DAMAGE = ("bad Huffman code", "bad arithmetic code", "instead of RST")
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker")
_PADDING = 64  # bytes that an encoder may leave behind the data of a scan


@dataclass(frozen=True)
class Segment:
    """One marker with what its length covers, as a place in the file; the data of a scan lies behind it."""

    code: int
    start: int
    end: int


@dataclass(frozen=True)
class Jpeg:
    """The bytes of a JPEG and the segments that a decoder meets in them, up to the end of the image."""

    data: bytes

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The segments, the end marker last where there is one.

        Raises:
            UnusableImageError: there are more than any image has.
        """
        segments = []
        for segment in self._walk():
            segments.append(segment)
            if len(segments) > MAX_SEGMENTS:
                detail = f"more than {MAX_SEGMENTS} segments in front of its end"
                raise UnusableImageError(Reason.TOO_LARGE, detail)
        return tuple(segments)

    def _walk(self) -> Iterator[Segment]:
        position = 2
        while marker := _MARKER.search(self.data, position):
            code, start, end = marker[1][0], marker.start(), marker.end()
            if code != _END_OF_IMAGE and code not in _WITHOUT_LENGTH:
                end += max(2, int.from_bytes(self.data[end : end + 2], "big"))
            yield Segment(code, start, end)
            if code == _END_OF_IMAGE:
                return
            position = end

    @property
    def scans(self) -> int:
        """The number of passes over the image that the file asks of a decoder."""
        return sum(segment.code == _START_OF_SCAN for segment in self.segments)

    @property
    def closed(self) -> bytes:
        """The bytes, with an end marker where they have none."""
        ended = bool(self.segments) and self.segments[-1].code == _END_OF_IMAGE
        return self.data if ended else self.data + b"\xff\xd9"

    @property
    def bare(self) -> bytes:
        """The image without application data, padding and whatever else stands between its segments."""
        parts = [b"\xff\xd8"]
        behind = Segment(_END_OF_IMAGE, len(self.data), len(self.data))
        for segment, following in pairwise((*self.segments, behind)):
            if segment.code not in {*_APPLICATION, _END_OF_IMAGE}:
                parts.append(self.data[segment.start : segment.end])
            if segment.code == _START_OF_SCAN:
                parts.append(_unpadded(self.data[segment.end : following.start]))
        return b"".join([*parts, b"\xff\xd9"])

    @property
    def lacks_scans(self) -> bool:
        """True if a component lacks a frequency in all scans, or the last bits of its means."""
        sent: defaultdict[int, set[int]] = defaultdict(set)
        for segment in self.segments:
            if segment.code == _START_OF_SCAN:
                for component, frequencies in self._sent_by(segment):
                    sent[component].update(frequencies)
        frame = next((s for s in self.segments if 0xC0 <= s.code <= 0xCF and s.code not in _NO_FRAMES), None)
        if frame is None:
            return False  # the decoder has more to say of that
        components = self.data[frame.start + 10 : frame.end : 3]
        wanted = set(range(64)) if frame.code in _PROGRESSIVE else {0}
        return any(not wanted <= sent[component] for component in components)

    def _sent_by(self, scan: Segment) -> Iterator[tuple[int, set[int]]]:
        header = self.data[scan.start + 4 : scan.end]
        count = header[0] if header else 0
        if len(header) < 2 * count + 4:
            return
        first, last, precision = header[2 * count + 1 : 2 * count + 4]
        # Means that lack their last bits show as bands; finer frequencies without them nobody sees.
        frequencies = set(range(first, last + 1)) if first or precision & 15 == 0 else set()
        for component in header[1 : 2 * count + 1 : 2]:
            yield component, frequencies


def decode_strictly(jpeg: Jpeg, header: Image.Image, *, scale: int, grey: bool = False) -> Image.Image:
    """Return a JPEG's pixels at 1/`scale` (1, 2, 4 or 8) of its size, in RGB, L or CMYK.

    Args:
        jpeg: The file.
        header: The same, opened by Pillow and not yet loaded.
        scale: What both sides are divided by, rounded up.
        grey: Leave the colours out where the file allows it: they are proved to be there, and not decoded.

    Raises:
        UnusableImageError: its data is damaged or ends early.
        OSError, SyntaxError: Pillow cannot decode it either.
    """
    import simplejpeg

    if jpeg.lacks_scans:
        raise UnusableImageError(Reason.TRUNCATED, "its last scans are missing")
    four = header.mode == "CMYK"
    width, height = header.size
    size = {"min_width": -(-width // scale), "min_height": -(-height // scale), "min_factor": scale}
    # Of CMYK Pillow knows what Adobe inverts: here it is only checked.
    eighth = {"min_width": 1, "min_height": 1}
    try:
        space = "CMYK" if four else "GRAY" if grey else "RGB"
        pixels = simplejpeg.decode_jpeg(jpeg.data, space, **(eighth if four else size))
    except ValueError as error:
        _judge(jpeg, str(error), four=four)
    else:
        if not four:
            return Image.fromarray(pixels[:, :, 0] if grey else pixels)
    return _load(jpeg, header, scale=scale)


def _load(jpeg: Jpeg, header: Image.Image, *, scale: int) -> Image.Image:
    from io import BytesIO

    from PIL import JpegImagePlugin

    image = header if jpeg.closed is jpeg.data else JpegImagePlugin.JpegImageFile(BytesIO(jpeg.closed))
    if scale > 1:
        image.draft(None, (image.width // scale, image.height // scale))
    image.load()
    return image


def _judge(jpeg: Jpeg, warning: str, *, four: bool) -> None:
    """Raise for a warning that means damage; look behind one that may stand in front of another."""
    import simplejpeg

    _refuse(warning)
    try:
        simplejpeg.decode_jpeg(jpeg.bare, "CMYK" if four else "GRAY", min_width=1, min_height=1)
    except ValueError as error:
        _refuse(str(error))
        left = _EXTRANEOUS.search(str(error))
        if left and int(left[1]) > _PADDING:
            detail = f"{left[1]} bytes of its data are left over: it is not the data of this image"
            raise UnusableImageError(Reason.DAMAGED, detail) from error


def _refuse(warning: str) -> None:
    if _PREMATURE in warning:
        raise UnusableImageError(Reason.TRUNCATED, "its data ends before the image does")
    if any(damage in warning for damage in _DAMAGE):
        raise UnusableImageError(Reason.DAMAGED, warning)


def _unpadded(scan: bytes) -> bytes:
    """Return the data of a scan without a run of zeros or fill bytes at its end, but for a few of them."""
    scan = scan.rstrip(b"\xff")
    return scan[: len(scan.rstrip(b"\0")) + 8]
