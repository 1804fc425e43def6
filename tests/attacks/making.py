"""Files that are cheap to make and dear to read."""

import re
import struct
from io import BytesIO

from PIL import Image

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def encode(image, kind="JPEG", **options):
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def many_scans(count, *, size=(64, 64)):
    """A progressive JPEG whose last scan is repeated; each one costs a pass over the whole image."""
    data = encode(Image.new("L", size, 128), progressive=True)
    scans, position = [], 2
    while data[position + 1] != 0xD9:
        end = position + 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
        if data[position + 1] == 0xDA:
            end = _MARKER.search(data, end).start()
            scans.append((position, end))
        position = end
    begin, end = scans[-1]
    return data[:end] + data[begin:end] * (count - len(scans)) + data[end:]


def with_segment(data, content):
    """A JPEG with an application segment, as a thumbnail in it would be."""
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]


def street(size, seed=0):
    """A large image of smooth colours, which compresses well."""
    import numpy as np

    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR)


def weights_header(header, *, length=None, size=None):
    """The beginning of a safetensors file; `length` is what its first bytes claim."""
    return struct.pack("<Q", len(header) if length is None else length) + header + b"\0" * (size or 0)
