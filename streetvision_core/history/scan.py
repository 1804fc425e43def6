"""What lies in a store, found by walking it: no manifest is read, and no link is followed.

The store makes no links between directories. One that lies there may lead anywhere, so it is no run and
no step here; ``strangers`` names it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.errors import SchemaError
from streetvision_core.io.claims import is_claimed
from streetvision_core.io.names import MANIFEST_NAME, check_segment

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, order=True)
class Place:
    """The directory of a step of a run; ``published`` when its manifest lies there."""

    run_id: str
    step: str
    location: str
    published: bool

    @property
    def path(self) -> Path:
        """The directory."""
        return Path(self.location)

    @property
    def key(self) -> tuple[str, str]:
        """The run and the step, by which manifests and pointers name it."""
        return self.run_id, self.step


def run_ids(root: Path) -> list[str]:
    """Return the ids of all runs, the oldest first."""
    return sorted(entry.name for entry in directories(root / "runs"))


def places(root: Path, run_id: str) -> list[Place]:
    """Return the directories of the steps of a run, by name."""
    found = []
    for entry in directories(root / "runs" / run_id):
        published = os.path.lexists(f"{entry.path}/{MANIFEST_NAME}")
        found.append(Place(run_id, entry.name, entry.path, published))
    return sorted(found)


def all_places(root: Path) -> dict[str, list[Place]]:
    """Return the directories of the steps of all runs, by run, the oldest run first."""
    return {run_id: places(root, run_id) for run_id in run_ids(root)}


def strangers(root: Path) -> list[Path]:
    """Return what lies among the runs and steps and is no directory of the store's own.

    That is also a directory of a step with neither a manifest nor a claim, which nobody here has begun.
    """
    above = [root / "runs", *(root / "runs" / run_id for run_id in run_ids(root))]
    foreign = [
        Path(entry.path)
        for directory in above
        for entry in entries(directory)
        if not entry.name.startswith(".") and not _is_ours(entry)
    ]
    # The claim first: a step that is published meanwhile has its manifest before it gives its claim back.
    unclaimed = [
        place.path
        for found in all_places(root).values()
        for place in found
        if not is_claimed(place.path) and not os.path.lexists(f"{place.location}/{MANIFEST_NAME}")
    ]
    return sorted([*foreign, *(path for path in unclaimed if path.is_dir())])


def files_below(directory: Path | str) -> Iterator[os.DirEntry[str]]:
    """Yield everything below ``directory`` that is no directory; a link is itself, not what it names."""
    for entry in entries(directory):
        if entry.is_dir(follow_symlinks=False):
            yield from files_below(entry.path)
        else:
            yield entry


def directories(directory: Path) -> list[os.DirEntry[str]]:
    """Return the directories in ``directory`` whose names the store could have given them."""
    return [entry for entry in entries(directory) if _is_ours(entry)]


def entries(directory: Path | str) -> list[os.DirEntry[str]]:
    """Return what lies in ``directory``; nothing when it is gone, as under a collection it may be."""
    try:
        with os.scandir(directory) as found:
            return list(found)
    except FileNotFoundError:
        return []


def _is_ours(entry: os.DirEntry[str]) -> bool:
    if not entry.is_dir(follow_symlinks=False):
        return False
    try:
        check_segment(entry.name, kind="name")
    except SchemaError:
        return False
    return True
