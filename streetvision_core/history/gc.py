"""The plan of a collection: the parts of a store that may go, and the bytes that this frees.

Free to go are

- published artifacts that nothing keeps (`keep.py`), with the pointers of `keys/` to them;
- what killed processes left half-made, temporary files included;
- the resume state of a training that is published, or was left alone for 30 days, unless somebody holds its
  lock;
- sets of cached features that nobody has used for 30 days, and the oldest of them while all together exceed
  a bound. Everything in them can be computed again. What a living process has open stays;
- learning curves of steps of runs that are gone, unless they were written in the last hour. A step lies in
  the store before it trains, so a curve without its step is what a removed run has left.

A file may have several names, in other runs for instance. Its bytes are free when its last name goes, and
only then are they counted. No link is followed.

Only what this store has made goes (`_is_ours`). Whatever else lies in it is a stranger's: it stays, and
where it lies among the runs the plan names it.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import StoreError
from streetvision_core.history import scan
from streetvision_core.history.keep import kept_artifacts, live_runs
from streetvision_core.history.text import columns, count_text, size_text
from streetvision_core.inference.feature_sets import KEY_NAME, is_feature_set, is_open
from streetvision_core.io.claims import (
    PROGRESS_LOCK,
    abandoned,
    is_claim,
    is_claimed,
    progress_lock,
    try_lock,
)
from streetvision_core.io.names import CHAMPION, CURVE_NAME, MANIFEST_NAME, is_partial
from streetvision_core.io.root import RUN_ID, refuse_linked_places

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streetvision_core.io import ArtifactStore

HOUR = 3600
MONTH = 30 * 24 * HOUR
FEATURES_BYTES = 20 * 2**30
# The leftovers by the names of `--json`, and in the words of the table.
KINDS = {
    "pointers": "pointers",
    "partials": "temporary files",
    "resume": "resume states",
    "features": "feature sets",
    "curves": "learning curves",
}


@dataclass(frozen=True)
class Plan:
    """The parts of a store that a collection removes, or has `deleted`.

    `kept` counts the artifacts that stay. `artifacts` and `half_made` are directories of steps, `leftovers`
    paths outside of the runs by kind (`KINDS`), `empty` the directories of runs in which nothing stays.
    `strangers` stay because this store did not make them. `frees` has the bytes by run, and by the words for
    a kind of leftover.
    """

    kept: int
    artifacts: Sequence[scan.Place]
    half_made: Sequence[scan.Place]
    leftovers: Mapping[str, Sequence[Path]]
    empty: Sequence[Path]
    strangers: Sequence[Path]
    frees: Mapping[str, int]
    deleted: bool = False
    good: bool = True

    @property
    def frees_bytes(self) -> int:
        """The number of bytes that go with their last name."""
        return sum(self.frees.values())

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "deleted": self.deleted,
            "frees_bytes": self.frees_bytes,
            "frees": dict(self.frees),
            "kept_artifacts": self.kept,
            "artifacts": ["/".join(place.key) for place in self.artifacts],
            "half_made": ["/".join(place.key) for place in self.half_made],
            **{kind: list(map(str, self.leftovers[kind])) for kind in KINDS},
            "strangers": list(map(str, self.strangers)),
        }

    def text(self) -> str:
        """Return a line for each run and each kind of leftover, and the bytes that go in all."""
        rows = list(self._rows())
        lines = columns([["run", "goes", "frees"], *rows]) if rows else []
        lines += [f"{path} stays: it is no directory of the store's own." for path in self.strangers]
        verb = "Freed" if self.deleted else "Would free"
        gone = count_text(len(self.artifacts), "artifact")
        lines.append(f"{verb} {size_text(self.frees_bytes)} with {gone}; {self.kept} are kept.")
        if rows and not self.deleted:
            lines.append("Nothing was removed: this is a dry run. 'streetvision gc --delete' removes it.")
        return "\n".join(lines)

    def _rows(self) -> Iterator[list[str]]:
        words = defaultdict[str, list[str]](list)
        for run_id, number in Counter(place.run_id for place in self.artifacts).items():
            words[run_id].append(count_text(number, "artifact"))
        for place in self.half_made:
            words[place.run_id].append(f"{place.step} half-made")
        for run_id in sorted(words):
            yield [run_id, " and ".join(words[run_id]), size_text(self.frees.get(run_id, 0))]
        for kind, label in KINDS.items():
            if paths := self.leftovers[kind]:
                yield ["", f"{len(paths)} {label}", size_text(self.frees.get(label, 0))]


def plan_collection(store: ArtifactStore, *, keep_runs: int, features_bytes: int = FEATURES_BYTES) -> Plan:
    """Return the plan; nothing is changed.

    Args:
        store: The store.
        keep_runs: Number of the newest runs to keep.
        features_bytes: Bytes that all cached features may take together.

    Raises:
        StoreError: something to keep is damaged, so that nobody knows what it was made from; or the store's
            own directories are links.
        SchemaError: a pointer to what is current is damaged.
    """
    root = store.root
    refuse_linked_places(root)
    runs, foreign = _without_foreign(root, scan.all_places(root))
    live = live_runs(root, runs)
    kept = kept_artifacts(root, runs, keep_runs=keep_runs, live=live)
    places = [place for steps in runs.values() for place in steps]
    published = [place for place in places if place.published]
    if published and not store.current_steps():  # everything would look as if nobody needed it
        raise StoreError(
            "pointers that say what is current",
            "none, though something was published",
            root / "latest",
            "Nothing was removed. Materialize again, or bring the pointers back from a copy.",
        )
    artifacts = [place for place in published if place.key not in kept and place not in foreign]
    half_made = [place for place in places if not place.published and _was_left(place)]
    going = {*artifacts, *half_made}
    staying = {place.key for place in published if place not in going}
    leftovers = _leftovers(root, staying=staying, features_bytes=features_bytes)
    return Plan(
        kept=len(kept),
        artifacts=artifacts,
        half_made=half_made,
        leftovers=leftovers,
        empty=[root / "runs" / run for run, steps in runs.items() if run not in live
               and _empties(root, run, steps, going=going)],
        strangers=sorted([*scan.strangers(root), *(place.path for place in foreign)]),
        frees=_freed_bytes(
            [(place.run_id, place.path) for place in (*artifacts, *half_made)]
            + [(KINDS[kind], path) for kind, paths in leftovers.items() for path in paths]
        ),
    )  # fmt: skip


def _freed_bytes(going: Sequence[tuple[str, Path]]) -> dict[str, int]:
    """Return the bytes by owner; a file counts for the owner of the last of its names to go."""
    frees = Counter[str]()
    names = Counter[tuple[int, int]]()
    for owner, path in going:
        for status in _statuses(path):
            key = (status.st_dev, status.st_ino)
            names[key] += 1
            if names[key] == status.st_nlink:
                frees[owner] += status.st_size
    return dict(frees)


def _statuses(path: Path) -> Iterator[os.stat_result]:
    """Yield the status of a file, or of all files below a directory; another collection may take it away."""
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            yield from (file.stat(follow_symlinks=False) for file in scan.files_below(path))
        else:
            yield path.lstat()


def _without_foreign(
    root: Path, runs: Mapping[str, Sequence[scan.Place]]
) -> tuple[dict[str, Sequence[scan.Place]], set[scan.Place]]:
    """Return the runs that may be this store's, and the published steps anywhere that are not its own.

    A damaged manifest in a run of ours is not its own either, so it does not go. It still is of that run: if
    the run is to be kept, nobody knows what else must be.
    """
    foreign = {
        place for places in runs.values() for place in places if place.published and not _is_ours(place)
    }
    current = {
        scan.read_pointer(path).run_id for path in (*scan.latest_files(root), *scan.champion_files(root))
    }
    ours = {
        run_id: places
        for run_id, places in runs.items()
        if RUN_ID.fullmatch(run_id) or run_id in current or not foreign.issuperset(places) or not places
    }
    return ours, foreign


def _is_ours(place: scan.Place) -> bool:
    """Tell whether this store has made a directory with a `manifest.json`; other tools write one too.

    Its manifest names the run and the step that it lies in, though it may be damaged; or there is a claim.
    """
    try:
        text = (place.path / MANIFEST_NAME).read_bytes()
    except OSError:
        text = b""
    names = (f'"run_id": "{place.run_id}"', f'"step_name": "{place.step}"')
    return is_claimed(place.path) or all(name.encode() in text for name in names)


def _was_left(place: scan.Place) -> bool:
    """Tell whether a killed process has left the directory: there is a claim, and nobody holds it."""
    with abandoned(place.path) as free:
        return free and is_claimed(place.path)


def _empties(root: Path, run_id: str, places: Sequence[scan.Place], *, going: set[scan.Place]) -> bool:
    """Tell whether nothing stays in a run.

    One that published nothing may have been made a moment ago, so it has to be old, and bear an id of ours.
    """
    if not places and not RUN_ID.fullmatch(run_id):
        return False
    old = time.time() - (root / "runs" / run_id).lstat().st_mtime > HOUR
    return going.issuperset(places) and (old or any(place.published for place in places))


def _leftovers(root: Path, *, staying: set[scan.Key], features_bytes: int) -> dict[str, list[Path]]:
    features = _spare_features(root, limit_bytes=features_bytes)
    partials = [path for top in ("latest", "keys", CHAMPION) for path in _partials(root / top)]
    for path in sorted(set(_feature_sets(root)) - set(features)):
        partials += [] if is_open(path) else sorted(_partials(path))
    return {
        "pointers": [
            pointer.path
            for pointer in scan.read_pointers(scan.key_files(root))[0]
            if pointer.key not in staying
        ],
        "partials": partials,
        "resume": _stale_states(root),
        "features": features,
        "curves": _orphaned_curves(root),
    }


def _partials(directory: Path) -> list[Path]:
    return [Path(entry.path) for entry in scan.files_below(directory) if is_partial(entry.name)]


def _stale_states(root: Path) -> list[Path]:
    """Return the directories of resume states that may go; one without its lock is somebody's."""
    return sorted(
        state
        for step, state in _below(root / "resume")
        if (os.path.lexists(root / "keys" / step / f"{state.name}.json") or _age(state) > MONTH)
        and is_claim(state / PROGRESS_LOCK)
        and _is_free(state)
    )


def _is_free(state: Path) -> bool:
    lock = progress_lock(state)
    free = try_lock(lock)
    lock.release()
    return free


def _spare_features(root: Path, *, limit_bytes: int) -> list[Path]:
    """Return the directories of the sets that may go; what holds something else is no set."""
    sizes = {
        path: sum(status.st_size for status in _statuses(path))
        for path in sorted(_feature_sets(root), key=lambda path: (_last_use(path), path))
    }
    total = sum(sizes.values())
    spare = []
    for path, size in sizes.items():
        stale = time.time() - _last_use(path) > MONTH
        if (stale or total > limit_bytes) and not is_open(path):
            total -= size
            spare.append(path)
    return sorted(spare)


def _feature_sets(root: Path) -> list[Path]:
    paths = [Path(entry.path) for entry in scan.directories(root / "features")]
    return [path for path in paths if is_feature_set(path)]


def _last_use(features: Path) -> float:
    """Return the moment of the last use: of the key, or of the set where a kill left none."""
    key = features / KEY_NAME
    return (key if key.is_file() else features).lstat().st_mtime


def _orphaned_curves(root: Path) -> list[Path]:
    """Return the directories of the curves that may go; one that holds something else stays."""
    return sorted(
        curves
        for step, curves in _below(root / "tensorboard")
        if not os.path.lexists(root / "runs" / curves.name / step)
        and (files := list(scan.files_below(curves)))
        and all(file.name == CURVE_NAME and file.is_file(follow_symlinks=False) for file in files)
        and _age(curves) > HOUR
    )


def _below(top: Path) -> Iterator[tuple[str, Path]]:
    """Yield the directories two levels below `top`, each with the name of its parent, a step."""
    for step in scan.directories(top):
        yield from ((step.name, Path(entry.path)) for entry in scan.directories(Path(step.path)))


def _age(directory: Path) -> float:
    """Return the seconds since the last change of a directory or of a file below it."""
    times = [directory.lstat().st_mtime, *(status.st_mtime for status in _statuses(directory))]
    return time.time() - max(times)
