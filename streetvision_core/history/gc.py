"""What may go from a store, and how many bytes that frees.

Free to go are published artifacts that nothing keeps (``keep.py``), with the pointers of ``keys/`` to them;
what killed processes left half-made, temporary files included; and the resume state of a training that is
published, or was left alone for 30 days, unless somebody holds its lock. Sets of cached features go when
nobody has used them for 30 days, and the oldest of them while all together exceed a bound; learning curves
with the runs they are of.

A file may have several names, in other runs for instance. Its bytes are free when its last name goes, and
only then are they counted. No link is followed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import StoreError
from streetvision_core.history.curves import orphaned_curves
from streetvision_core.history.features import FEATURES_BYTES, feature_partials, spare_features
from streetvision_core.history.keep import kept_artifacts, live_runs
from streetvision_core.history.pointers import key_files, read_pointers
from streetvision_core.history.resumes import stale_states
from streetvision_core.history.scan import Place, all_places, files_below
from streetvision_core.history.text import columns, count_text, size_text
from streetvision_core.io.atomic import is_partial
from streetvision_core.io.claims import abandoned

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from streetvision_core.io import ArtifactStore

OLD_SECONDS = 3600


@dataclass(frozen=True)
class Plan:
    """What may go: directories of steps, pointers, temporary files, states, features, curves, empty ones.

    ``frees`` has the bytes by run, and by what they are where they belong to no run.
    """

    kept: int
    artifacts: Sequence[Place]
    half_made: Sequence[Place]
    pointers: Sequence[Path]
    partials: Sequence[Path]
    states: Sequence[Path]
    features: Sequence[Path]
    curves: Sequence[Path]
    empty: Sequence[Path]
    frees: Mapping[str, int]
    deleted: bool = False
    good: bool = True

    @property
    def frees_bytes(self) -> int:
        """How many bytes go with their last name."""
        return sum(self.frees.values())

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "deleted": self.deleted,
            "frees_bytes": self.frees_bytes,
            "frees": dict(self.frees),
            "kept_artifacts": self.kept,
            "artifacts": [f"{place.run_id}/{place.step}" for place in self.artifacts],
            "half_made": [f"{place.run_id}/{place.step}" for place in self.half_made],
            "pointers": [str(path) for path in self.pointers],
            "partials": [str(path) for path in self.partials],
            "resume": [str(path) for path in self.states],
            "features": [str(path) for path in self.features],
            "curves": [str(path) for path in self.curves],
        }

    def text(self) -> str:
        """Return a line for each run and each kind of leftover, and what that frees in all."""
        rows = [["run", "goes", "frees"], *self._rows()]
        lines = columns(rows) if len(rows) > 1 else []
        verb = "Freed" if self.deleted else "Would free"
        gone = count_text(len(self.artifacts), "artifact")
        lines.append(f"{verb} {size_text(self.frees_bytes)} with {gone}; {self.kept} are kept.")
        if not self.deleted and len(rows) > 1:
            lines.append("Nothing was removed: this is a dry run. 'streetvision gc --delete' removes it.")
        return "\n".join(lines)

    def _rows(self) -> Iterator[list[str]]:
        going: dict[str, list[str]] = {}
        for place in self.artifacts:
            going.setdefault(place.run_id, []).append(place.step)
        halves: dict[str, list[str]] = {}
        for place in self.half_made:
            halves.setdefault(place.run_id, []).append(place.step)
        for run_id in sorted({*going, *halves}):
            words = [count_text(len(going[run_id]), "artifact")] if run_id in going else []
            words += [f"{', '.join(halves[run_id])} half-made"] if run_id in halves else []
            yield [run_id, " and ".join(words), size_text(self.frees.get(run_id, 0))]
        leftovers = {
            "pointers": self.pointers,
            "temporary files": self.partials,
            "resume states": self.states,
            "feature sets": self.features,
            "learning curves": self.curves,
        }
        for kind, paths in leftovers.items():
            if paths:
                yield ["", f"{len(paths)} {kind}", size_text(self.frees.get(kind, 0))]


def plan_collection(store: ArtifactStore, *, keep_runs: int, features_bytes: int = FEATURES_BYTES) -> Plan:
    """Return what may go; nothing is changed.

    Args:
        store: The store.
        keep_runs: How many of the newest runs to keep.
        features_bytes: How much all cached features may take together.

    Raises:
        StoreError: something to keep is damaged, so that what it was made from is unknown; or the store's
            own directories are links.
        SchemaError: a pointer to what is current is damaged.
    """
    _refuse_links(store.root)
    runs = all_places(store.root)
    live = live_runs(store.root, runs)
    kept = kept_artifacts(store, runs, keep_runs=keep_runs, live=live)
    found = [place for places in runs.values() for place in places]
    _require_current(store, found)
    artifacts = [place for place in found if place.published and place.key not in kept]
    half_made = [place for place in found if not place.published and _is_abandoned(place)]
    staying = {place.key for place in found if place.published} - {place.key for place in artifacts}
    pointers = [one.path for one in read_pointers(key_files(store.root))[0] if one.key not in staying]
    states = stale_states(store.root)
    features = spare_features(store.root, limit_bytes=features_bytes)
    partials = [path for top in ("latest", "keys") for path in _partials(store.root / top)]
    partials += feature_partials(store.root, going=features)
    curves = orphaned_curves(store.root)
    tally = _Tally()
    for place in (*artifacts, *half_made):
        tally.add(place.run_id, (file.stat(follow_symlinks=False) for file in files_below(place.location)))
    for kind, paths in {"pointers": pointers, "temporary files": partials}.items():
        tally.add(kind, (path.lstat() for path in paths))
    for kind, paths in {
        "resume states": states,
        "feature sets": features,
        "learning curves": curves,
    }.items():
        for path in paths:
            tally.add(kind, (file.stat(follow_symlinks=False) for file in files_below(path)))
    quiet = {run_id: places for run_id, places in runs.items() if run_id not in live}
    empty = _emptied(store.root, quiet, going={*artifacts, *half_made})
    return Plan(
        kept=len(kept),
        artifacts=artifacts,
        half_made=half_made,
        pointers=pointers,
        partials=partials,
        states=states,
        features=features,
        curves=curves,
        empty=empty,
        frees=tally.frees,
    )


@dataclass
class _Tally:
    """Bytes by what they belong to: a file counts once as many of its names were added as it has."""

    frees: dict[str, int] = field(default_factory=dict)
    _names: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, owner: str, files: Iterable[os.stat_result]) -> None:
        """Count one name each of ``files``; the bytes are the owner's that had the last of them."""
        for status in files:
            key = (status.st_dev, status.st_ino)
            self._names[key] = self._names.get(key, 0) + 1
            if self._names[key] == status.st_nlink:
                self.frees[owner] = self.frees.get(owner, 0) + status.st_size


def _require_current(store: ArtifactStore, found: Sequence[Place]) -> None:
    """Refuse a store that has lost its pointers: everything would look as if nobody needed it."""
    if any(place.published for place in found) and not store.current_steps():
        raise StoreError(
            "pointers that say what is current",
            "none, though something was published",
            store.root / "latest",
            "Nothing was removed. Materialize again, or bring the pointers back from a copy.",
        )


def _refuse_links(root: Path) -> None:
    for name in ("runs", "latest", "keys", "resume", "features", "tensorboard"):
        if (root / name).is_symlink():
            raise StoreError(
                "the store's own directories",
                f"that {name} is a link",
                root / name,
                "A collection follows no link. Move the whole store, and set STREETVISION_STORE.",
            )


def _is_abandoned(place: Place) -> bool:
    with abandoned(place.path) as free:
        return free


def _partials(directory: Path) -> list[Path]:
    return [Path(entry.path) for entry in files_below(directory) if is_partial(entry.name)]


def _emptied(root: Path, runs: Mapping[str, Sequence[Place]], *, going: set[Place]) -> list[Path]:
    """Return the directories of those ``runs`` in which nothing stays.

    One that published nothing may have been made a moment ago, so it has to be old.
    """
    found = []
    for run_id, places in runs.items():
        path = root / "runs" / run_id
        if all(place in going for place in places) and (any(p.published for p in places) or is_old(path)):
            found.append(path)
    return found


def is_old(path: Path) -> bool:
    """Tell whether nothing was put into the directory ``path`` or taken away for an hour."""
    return time.time() - path.lstat().st_mtime > OLD_SECONDS
