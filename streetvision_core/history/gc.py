"""What may go from a store, and how many bytes that frees.

Free to go are published artifacts that nothing keeps (``keep.py``), with the pointers of ``keys/`` to them;
what killed processes left half-made, temporary files included; and the resume state of a training that is
published, or was left alone for 30 days, unless somebody holds its lock. Sets of cached features go when
nobody has used them for 30 days, and the oldest of them while all together exceed a bound; learning curves
with the runs they are of.

A file may have several names, in other runs for instance. Its bytes are free when its last name goes, and
only then are they counted. No link is followed.

Only what this store has made goes (``_is_ours``). Whatever else lies among the runs is a stranger's: it
stays, and the plan names it.
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
from streetvision_core.history.pointers import key_files, latest_files, read_pointer, read_pointers
from streetvision_core.history.resumes import stale_states
from streetvision_core.history.scan import Place, all_places, files_below, strangers
from streetvision_core.history.text import columns, count_text, size_text
from streetvision_core.io.atomic import is_partial
from streetvision_core.io.claims import abandoned, is_claimed
from streetvision_core.io.names import MANIFEST_NAME
from streetvision_core.io.root import RUN_ID, refuse_linked_places

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from streetvision_core.io import ArtifactStore

OLD_SECONDS = 3600


@dataclass(frozen=True)
class Plan:
    """What may go: directories of steps, pointers, temporary files, states, features, curves, empty ones.

    ``strangers`` are what stays because this store did not make it.

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
    strangers: Sequence[Path]
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
            "strangers": [str(path) for path in self.strangers],
        }

    def text(self) -> str:
        """Return a line for each run and each kind of leftover, and what that frees in all."""
        rows = [["run", "goes", "frees"], *self._rows()]
        lines = columns(rows) if len(rows) > 1 else []
        lines += [f"{path} stays: it is no directory of the store's own." for path in self.strangers]
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
    refuse_linked_places(store.root)
    runs, foreign = _without_foreign(store, all_places(store.root))
    live = live_runs(store.root, runs)
    kept = kept_artifacts(store, runs, keep_runs=keep_runs, live=live)
    found = [place for places in runs.values() for place in places]
    _require_current(store, found)
    spare = [place for place in found if place.published and place.key not in kept]
    artifacts = [place for place in spare if place not in foreign]
    half_made = [place for place in found if not place.published and _was_left(place)]
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
        strangers=sorted([*strangers(store.root), *(place.path for place in foreign)]),
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


def _without_foreign(
    store: ArtifactStore, runs: Mapping[str, Sequence[Place]]
) -> tuple[dict[str, Sequence[Place]], set[Place]]:
    """Return the runs that may be this store's, and what lies published anywhere that is not its own.

    A damaged manifest in a run of ours is not its own either, so it does not go. It still is of that run: if
    the run is to be kept, nobody knows what else must be.
    """
    foreign = {
        place for places in runs.values() for place in places if place.published and not _is_ours(place)
    }
    current = {read_pointer(path).run_id for path in latest_files(store.root)}
    ours = {
        run_id: places
        for run_id, places in runs.items()
        if RUN_ID.fullmatch(run_id) or run_id in current or not foreign.issuperset(places) or not places
    }
    return ours, foreign


def _is_ours(place: Place) -> bool:
    """Tell whether this store has made a directory with a ``manifest.json``; other tools write one too.

    Its manifest names the run and the step that it lies in, though it may be damaged; or there is a claim.
    """
    try:
        text = (place.path / MANIFEST_NAME).read_bytes()
    except OSError:
        text = b""
    names = (f'"run_id": "{place.run_id}"', f'"step_name": "{place.step}"')
    return is_claimed(place.path) or all(name.encode() in text for name in names)


def _was_left(place: Place) -> bool:
    """Tell whether a killed process has left the directory: there is a claim, and nobody holds it."""
    with abandoned(place.path) as free:
        return free and is_claimed(place.path)


def _partials(directory: Path) -> list[Path]:
    return [Path(entry.path) for entry in files_below(directory) if is_partial(entry.name)]


def _emptied(root: Path, runs: Mapping[str, Sequence[Place]], *, going: set[Place]) -> list[Path]:
    """Return the directories of those ``runs`` in which nothing stays.

    One that published nothing may have been made a moment ago, so it has to be old, and bear an id of ours.
    """
    found = []
    for run_id, places in runs.items():
        path = root / "runs" / run_id
        if not places and not RUN_ID.fullmatch(run_id):
            continue
        if all(place in going for place in places) and (any(p.published for p in places) or is_old(path)):
            found.append(path)
    return found


def is_old(path: Path) -> bool:
    """Tell whether nothing was put into the directory ``path`` or taken away for an hour."""
    return time.time() - path.lstat().st_mtime > OLD_SECONDS
