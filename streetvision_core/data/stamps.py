"""Stamps of the files of a source, taken when they were read, so that the next scan reads only what changed.

A stamp is the size, the times of change and the inode of the file that holds an image, taken before the
image is read. The stamps lie in `lineage/stamps.csv` beside the index: where bytes came from is not
content, so a copy of the same images has the same index and the same digest.

A file that was changed less than two seconds before the scan began gets no stamp: a later change could
leave its times as they are, because a file system's clock is coarse. What is trusted beyond that is that
the operating system notes a change. A scan without stamps (`reuse: false`) trusts nothing, and every later
step proves the bytes it reads against the index all the same.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING

from streetvision_core.data.index import ImageIndex, IndexedImage
from streetvision_core.data.sources.entry import Stamp
from streetvision_core.io import PublishedArtifact, csv_bytes, read_csv

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streetvision_core.data.sources import ImageSource

STAMPS_FILE = "lineage/stamps.csv"
_NUMBERS = tuple(field.name for field in fields(Stamp))
_COARSEST_CLOCK_NS = 2_000_000_000


@dataclass
class Stamps:
    """The stamps of one scan as they are taken, held against those of an earlier one.

    `changed` are the names of the images that this scan has to read.
    """

    source: ImageSource
    earlier: Mapping[str, tuple[Stamp, IndexedImage]] = field(default_factory=dict)
    began_ns: int = field(default_factory=time.time_ns)
    taken: dict[str, Stamp] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    def unchanged(self, name: str) -> IndexedImage | None:
        """Return what an earlier scan measured of an image whose file is as it was then; None otherwise.

        Called before the image is read, from any thread.
        """
        stamp = self.source.stamp(name)
        if stamp is not None:
            self.taken[name] = stamp
            then, image = self.earlier.get(name, (None, None))
            if then == stamp:
                return image
        self.changed.add(name)
        return None

    def to_bytes(self, images: Iterable[IndexedImage]) -> bytes:
        """Return the file of the stamps of `images`, without those too fresh to be trusted."""
        limit = self.began_ns - _COARSEST_CLOCK_NS
        kept = ((image.name, self.taken[image.name]) for image in images if image.name in self.taken)
        rows = (
            {"name": name, **asdict(stamp)}
            for name, stamp in kept
            if max(stamp.modified_ns, stamp.changed_ns) < limit
        )
        return csv_bytes(rows, columns=["name", *_NUMBERS])


def stamps_of(published: PublishedArtifact) -> dict[str, tuple[Stamp, IndexedImage]]:
    """Return the stamps and images that a published index holds, by name; none if it holds no stamps."""
    if STAMPS_FILE not in published.manifest.output_artifacts:
        return {}
    images = {image.name: image for image in ImageIndex.from_artifact(published).pictures}
    rows = read_csv(published.read_bytes(STAMPS_FILE))
    return {
        row["name"]: (Stamp(**{name: int(row[name]) for name in _NUMBERS}), images[row["name"]])
        for row in rows
    }
