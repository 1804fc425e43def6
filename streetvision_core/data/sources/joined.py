"""Several sources as one: each image is called `SOURCE/NAME` and has the attribute `source`.

Groups keep their names, so that a group which two sources name alike stays together: a video whose frames
are listed in two files of one data set must not be parted. Where unlike sources count their groups from 1,
strangers are united too, which costs nothing but a coarser split.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from streetvision_core.data.decoding.reasons import Reason, UnusableImageError
from streetvision_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streetvision_core.data.sources.entry import Entry, ImageSource, Stamp

ATTRIBUTE = "source"


class JoinedSource:
    """The images of several sources."""

    def __init__(self, sources: Mapping[str, ImageSource], roles: Mapping[str, str]) -> None:
        """Join sources by name; `roles` has the role of all images of a source, where one is configured."""
        self._sources, self._roles = sources, roles

    def entries(self) -> Iterator[Entry]:
        """List the images of all sources, sorted by name; raises DataError where one of them lists none."""
        for name in sorted(self._sources, key=lambda name: f"{name}/"):
            listed = Counter[str]()
            for entry in self._sources[name].entries():
                listed[name] += 1
                yield replace(
                    entry,
                    name=f"{name}/{entry.name}",
                    role=self._roles.get(name, entry.role),
                    attributes={**entry.attributes, ATTRIBUTE: name},
                )
            if not listed:
                where, action = self._sources[name].describe(), "Correct its path, or leave it out."
                raise DataError("images in each source that is joined", f"none in {name}", where, action)

    def read(self, name: str) -> bytes:
        """Return the bytes of one image; raises UnusableImageError."""
        source, below = self._find(name)
        if source is None:
            raise UnusableImageError(Reason.MISSING, "none of the joined sources is named so", name)
        return source.read(below)

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of the file that holds one image."""
        source, below = self._find(name)
        return source.stamp(below) if source is not None else None

    def describe(self) -> str:
        """Say where the images come from and how they are grouped."""
        return "; ".join(f"{name}: {source.describe()}" for name, source in self._sources.items())

    def _find(self, name: str) -> tuple[ImageSource | None, str]:
        source, _, below = name.partition("/")
        return self._sources.get(source), below
