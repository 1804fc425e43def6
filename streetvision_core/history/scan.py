"""The contents of a store, by walking it: runs, steps, pointers, and what is not its own.

No manifest is read here, and no link is followed. The store makes no links between directories. One that
lies there may lead anywhere, so it is no run and no step; `strangers` names it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.errors import SchemaError, StoreError, os_errors_as
from streetvision_core.io.claims import is_claimed
from streetvision_core.io.names import CHAMPION, MANIFEST_NAME, check_segment, parse_pointer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Key = tuple[str, str]  # run and step, by which manifests and pointers name an artifact


@dataclass(frozen=True, order=True)
class Place:
    """The directory of a step of a run; `published` when its manifest lies there."""

    run_id: str
    step: str
    location: str
    published: bool

    @property
    def path(self) -> Path:
        """The directory."""
        return Path(self.location)

    @property
    def key(self) -> Key:
        """The run and the step."""
        return self.run_id, self.step


@dataclass(frozen=True)
class Pointer:
    """A pointer's file, what it names, the SHA-256 (hex) that it vouches for, and a floor of coverage."""

    path: Path
    run_id: str
    step: str
    sha256: str
    floor: float | None = None

    @property
    def key(self) -> Key:
        """The run and the step that it names."""
        return self.run_id, self.step


def run_ids(root: Path) -> list[str]:
    """Return the ids of all runs, the oldest first."""
    return sorted(entry.name for entry in directories(root / "runs"))


def places(root: Path, run_id: str) -> list[Place]:
    """Return the directories of the steps of a run, by name."""
    return sorted(
        Place(run_id, entry.name, entry.path, os.path.lexists(f"{entry.path}/{MANIFEST_NAME}"))
        for entry in directories(root / "runs" / run_id)
    )


def all_places(root: Path) -> dict[str, list[Place]]:
    """Return the directories of the steps of all runs, by run, the oldest run first."""
    return {run_id: places(root, run_id) for run_id in run_ids(root)}


def strangers(root: Path) -> list[Path]:
    """Return what lies among the runs and steps and is no directory of the store's own.

    Among them is a step's directory with neither a manifest nor a claim, which nobody here has begun.
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
        for places in all_places(root).values()
        for place in places
        if not is_claimed(place.path) and not os.path.lexists(f"{place.location}/{MANIFEST_NAME}")
    ]
    return sorted([*foreign, *(path for path in unclaimed if path.is_dir())])


def files_below(directory: Path | str) -> Iterator[os.DirEntry[str]]:
    """Yield everything below `directory` that is no directory; a link is itself, not what it names."""
    for entry in entries(directory):
        if entry.is_dir(follow_symlinks=False):
            yield from files_below(entry.path)
        else:
            yield entry


def directories(directory: Path) -> list[os.DirEntry[str]]:
    """Return the directories in `directory` whose names the store could have given them."""
    return [entry for entry in entries(directory) if _is_ours(entry)]


def entries(directory: Path | str) -> list[os.DirEntry[str]]:
    """Return what lies in `directory`; nothing when it is gone, as under a collection it may be."""
    try:
        with os.scandir(directory) as listing:
            return list(listing)
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


def latest_files(root: Path) -> list[Path]:
    """Return the files of the pointers to what is current."""
    return _pointer_files(root / "latest")


def champion_files(root: Path) -> list[Path]:
    """Return the file of the pointer to the bundle that won, if one did."""
    return _pointer_files(root / CHAMPION)


def key_files(root: Path) -> list[Path]:
    """Return the files of the pointers to what was computed from given inputs."""
    return [path for entry in directories(root / "keys") for path in _pointer_files(Path(entry.path))]


def _pointer_files(directory: Path) -> list[Path]:
    names = (entry.name for entry in entries(directory))
    return [directory / name for name in sorted(names) if name.endswith(".json") and not name.startswith(".")]


def read_bytes(path: Path | str, *, expected: str) -> bytes:
    """Return the bytes of a file; raises StoreError where it cannot be read."""
    with (
        os_errors_as(StoreError, expected, path, "Check the permissions."),
        open(path, "rb") as file,  # noqa: PTH123 - of thousands; half the time of Path.open
    ):
        return file.read()


def read_pointer(path: Path) -> Pointer:
    """Read the pointer at `path`.

    Raises:
        SchemaError: it is none, or names something that is not the manifest of a step of a run.
        StoreError: it cannot be read.
    """
    data = read_bytes(path, expected="a pointer that can be read")
    manifest, digest, floor = parse_pointer(data, where=path)
    match manifest.split("/"):
        case ["runs", run_id, step, name] if name == MANIFEST_NAME:
            return Pointer(path, run_id, step, digest, floor)
    raise SchemaError(
        f"a pointer to runs/RUN/STEP/{MANIFEST_NAME}", manifest, path, "Materialize the step again."
    )


def read_pointers(paths: Iterable[Path]) -> tuple[list[Pointer], list[str]]:
    """Return the pointers that can be read, and one paragraph for each that cannot."""
    pointers, faults = [], []
    for path in paths:
        try:
            pointers.append(read_pointer(path))
        except (SchemaError, StoreError) as error:
            faults.append(str(error))
    return pointers, faults
