"""The artifacts that a collection must keep, and why.

- Everything that is current, and the champion.
- The newest runs, whole, of those that have published something.
- Whatever was published by a run in which a process is at work.
- Everything that one of these was made from, and so on down to the images. An artifact that took over the
  files of another run does not keep that run: the files are its own links.

What is kept is followed by its manifests. If one of these is damaged, nobody can know what it was made
from, and there is no answer.

Not promised: an artifact that a run at work reads from another run. Until something made from it is
published, it is kept only as long as it is current or new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.errors import IntegrityError, SchemaError, StoreError
from streetvision_core.history.scan import champion_files, entries, latest_files, read_pointer
from streetvision_core.io import read_artifact
from streetvision_core.io.claims import CLAIM_FILES, abandoned

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from streetvision_core.history.scan import Key, Place


def kept_artifacts(
    root: Path, runs: Mapping[str, Sequence[Place]], *, keep_runs: int, live: set[str]
) -> set[Key]:
    """Return the artifacts to keep, by run and step.

    Args:
        root: The store's directory.
        runs: The directories of all its runs, the oldest run first (`scan.all_places`).
        keep_runs: Number of the newest runs to keep whole.
        live: The runs in which a process is at work (`live_runs`).

    Raises:
        StoreError: the manifest of something to keep is damaged.
        SchemaError: a pointer to what is current, or to the champion, is damaged.
    """
    published = {place.key: place for places in runs.values() for place in places if place.published}
    current = {read_pointer(path).key for path in (*latest_files(root), *champion_files(root))}
    having = [run_id for run_id, places in runs.items() if any(place.published for place in places)]
    whole = {*(having[-keep_runs:] if keep_runs else ()), *live}
    return _with_ancestors({key for key in published if key in current or key[0] in whole}, published)


def live_runs(root: Path, run_ids: Iterable[str]) -> set[str]:
    """Return the runs in which a process is at work."""
    return {run_id for run_id in run_ids if _is_live(root / "runs" / run_id)}


def _is_live(run: Path) -> bool:
    prefix, suffix = CLAIM_FILES.split("*")
    names = [entry.name for entry in entries(run)]
    claimed = [name for name in names if name.startswith(prefix) and name.endswith(suffix)]
    steps = [run / name.removeprefix(prefix).removesuffix(suffix) for name in claimed]
    return any(_is_busy(directory) for directory in (run, *steps))


def _is_busy(directory: Path) -> bool:
    with abandoned(directory) as free:
        return not free


def _with_ancestors(keys: set[Key], published: Mapping[Key, Place]) -> set[Key]:
    kept: set[Key] = set()
    waiting = list(keys)
    while waiting:
        key = waiting.pop()
        if key not in kept:
            kept.add(key)
            waiting += filter(published.__contains__, _inputs(published[key]))
    return kept


def _inputs(place: Place) -> list[Key]:
    try:
        manifest = read_artifact(place.path).manifest
    except (IntegrityError, SchemaError) as error:
        raise StoreError(
            f"to know what {place.step} of run {place.run_id} was made from, to keep that",
            f"a damaged manifest with {error.found}",
            place.path,
            "Nothing was removed. Materialize the step again, or take the run out of the store by hand.",
        ) from error
    return [(given.run_id, name) for name, given in manifest.input_artifacts.items()]
