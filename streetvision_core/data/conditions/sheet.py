"""One image at every level of the conditions, for the page of the step: drawn, so that no image is needed."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from streetvision_core.data.overview import contact_sheet
from streetvision_core.io import bytes_digest

if TYPE_CHECKING:
    from streetvision_core.data.conditions.config import Conditions

_SEQUENCE, _SIZE = 13, 384  # a street by day with works
_FRAME = "#1F2933"


def levels_sheet(conditions: Conditions) -> bytes:
    """Return a JPEG of one drawn street as it is, and at every level that a report shows."""
    from PIL import Image

    from streetvision_core.demo import draw_sequence

    data = draw_sequence(_SEQUENCE, 1, seed=0, size=_SIZE)[0].jpeg
    image = Image.open(BytesIO(data)).convert("RGB")
    sha256 = bytes_digest(data)
    drawn = {name: conditions.see_at(name, image, sha256) for name in conditions.reported.names}
    tiles = [(seen, name, _FRAME) for name, seen in {"as it is": image, **drawn}.items()]
    return contact_sheet(tiles, columns=5, tile=128)
