"""Contact sheets of an index: a sample a person can judge the data by, or the pictures named."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from streetvision_core.data.labels import LABEL_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streetvision_core.data.decoding.decode import PictureReader
    from streetvision_core.data.index import ImageIndex, Picture


def overview_sheet(
    index: ImageIndex, reader: PictureReader, *, count: int = 24, columns: int = 8, tile: int = 96
) -> bytes:
    """Return a JPEG of ``count`` pictures, half of each class where there are enough, framed by label.

    The choice looks random and is the same for the same pictures: it follows their digests. One picture
    of a group is shown, so that a sequence of frames does not fill the sheet.
    """
    shown = [picture for label in (1, 0) for picture in _sample(index, label=label, count=count // 2)]
    return picture_sheet(
        [(picture, LABEL_NAMES[picture.label]) for picture in shown], reader, columns=columns, tile=tile
    )


def picture_sheet(
    captioned: Sequence[tuple[Picture, str]], reader: PictureReader, *, columns: int = 8, tile: int = 96
) -> bytes:
    """Return a JPEG of the given pictures with their captions, framed by their labels."""
    from streetvision_core.data.contact_sheet import LABEL_FRAMES, contact_sheet
    from streetvision_core.data.decoding.decode import decode

    return contact_sheet(
        [(decode(reader.read(picture.name), at_least=tile), caption) for picture, caption in captioned],
        columns=columns,
        tile=tile,
        frames=[LABEL_FRAMES[picture.label] for picture, _ in captioned],
    )


def _sample(index: ImageIndex, *, label: int, count: int) -> list[Picture]:
    chosen = sorted((one for one in index.pictures if one.label == label), key=lambda one: one.sha256)
    one_a_group = {one.group: one for one in reversed(chosen)}
    return sorted(one_a_group.values(), key=lambda one: _shuffled(one.group))[:count]


def _shuffled(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
