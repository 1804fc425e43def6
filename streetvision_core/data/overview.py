"""Contact sheets of an index: a sample a person can judge the data by, or the images named."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from streetvision_core.data.labels import LABEL_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.data.index import ImageIndex, IndexedImage


def overview_sheet(
    index: ImageIndex, reader: ImageReader, *, count: int = 24, columns: int = 8, tile: int = 96
) -> bytes:
    """Return a JPEG of ``count`` images, half of each class where there are enough, framed by label.

    The choice looks random and is the same for the same images: it follows their digests. One image
    of a group is shown, so that a sequence of frames does not fill the sheet.
    """
    shown = [image for label in (1, 0) for image in _sample(index, label=label, count=count // 2)]
    return image_sheet(
        [(image, LABEL_NAMES[image.label]) for image in shown], reader, columns=columns, tile=tile
    )


def image_sheet(
    captioned: Sequence[tuple[IndexedImage, str]], reader: ImageReader, *, columns: int = 8, tile: int = 96
) -> bytes:
    """Return a JPEG of the given images with their captions, framed by their labels."""
    from streetvision_core.data.contact_sheet import LABEL_FRAMES, contact_sheet
    from streetvision_core.data.decoding.decode import decode

    return contact_sheet(
        [(decode(reader.read(image.name), at_least=tile), caption) for image, caption in captioned],
        columns=columns,
        tile=tile,
        frames=[LABEL_FRAMES[image.label] for image, _ in captioned],
    )


def _sample(index: ImageIndex, *, label: int, count: int) -> list[IndexedImage]:
    chosen = sorted((one for one in index.pictures if one.label == label), key=lambda one: one.sha256)
    one_a_group = {one.group: one for one in reversed(chosen)}
    return sorted(one_a_group.values(), key=lambda one: _shuffled(one.group))[:count]


def _shuffled(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
