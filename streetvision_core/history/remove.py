"""The removal of what a plan lets go, so that a kill at any moment leaves a store that verifies.

It holds the store alone and decides again inside. Then, each step before the next one:

1. A claim beside each artifact, which says that this store has made it. Their directories are flushed.
2. The pointers to what goes. Their directories are flushed.
3. The manifests, those of later steps before what they were made from; after each depth of the chain the
   directories are flushed. From here on these directories are what a kill leaves half-made: nobody reads
   them, and the next run or collection clears them away.
4. The files, and what was half-made before; sets of features, any part of which is still a set; directories
   that are empty then.

A run that takes over an artifact at this moment either has links of its own, or finds it missing and computes
it again.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from streetvision_core.errors import StoreError, StreetVisionError
from streetvision_core.history.gc import FEATURES_BYTES, Plan, plan_collection
from streetvision_core.history.scan import run_ids
from streetvision_core.history.text import depths
from streetvision_core.inference.feature_sets import remove_features
from streetvision_core.io import claims
from streetvision_core.io.claims import forget_progress
from streetvision_core.io.manifest import read_fields
from streetvision_core.io.names import MANIFEST_NAME
from streetvision_core.io.store import is_half_made
from streetvision_core.io.system import open_directory

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from streetvision_core.history.scan import Key, Place
    from streetvision_core.io import ArtifactStore


def collect(store: ArtifactStore, *, keep_runs: int, features_bytes: int = FEATURES_BYTES) -> Plan:
    """Remove what `plan_collection` lets go, alone in the store, and return the plan.

    Arguments as for `plan_collection`.

    Raises:
        StoreError: something to keep is damaged, or the file system refused.
        SchemaError: a pointer to what is current is damaged.
    """
    with store.exclusive():
        plan = plan_collection(store, keep_runs=keep_runs, features_bytes=features_bytes)
        try:
            _remove(plan, root=store.root)
        except OSError as error:
            raise StoreError(
                "to remove what nothing needs",
                f"the error '{error.strerror}'",
                error.filename or store.root,
                "What is kept is untouched. Mend the cause (permissions) and run again.",
            ) from error
    return replace(plan, deleted=True)


def _remove(plan: Plan, *, root: Path) -> None:
    for place in plan.artifacts:
        claims.refuse_links(place.path, root=root)
        claims.leave_claim(place.path)
    _flush({place.path.parent for place in plan.artifacts})
    _unlink([*plan.leftovers["pointers"], *plan.leftovers["partials"]], root=root)
    for places in _deepest_first(plan.artifacts):
        _unlink([place.path / MANIFEST_NAME for place in places], root=root)
    for place in (*plan.artifacts, *plan.half_made):
        with claims.abandoned(place.path) as free:
            if free and is_half_made(place.path):
                claims.remove_own(place.path, root=root)
    removers = {"resume": forget_progress, "features": remove_features, "curves": claims.remove_own}
    for kind, remove in removers.items():
        for path in plan.leftovers[kind]:
            remove(path, root=root)
    for run_id in run_ids(root):
        claims.clear_abandoned(root / "runs" / run_id, root=root, keep=is_half_made)
    for run in plan.empty:
        claims.remove_if_empty(run, root=root)


def _unlink(paths: Iterable[Path], *, root: Path) -> None:
    """Remove the names, and return when that is on the disk."""
    touched = set()
    for path in paths:
        claims.remove_own(path, root=root)
        touched.add(path.parent)
    _flush(touched)


def _flush(parents: Iterable[Path]) -> None:
    for parent in sorted(parents):
        with open_directory(parent) as directory:
            directory.flush()


def _deepest_first(artifacts: Iterable[Place]) -> list[list[Place]]:
    """Return the artifacts in groups: whatever was made from another one comes in an earlier group."""
    places = {place.key: place for place in artifacts}
    depth = depths({key: _inputs(place) for key, place in places.items()})
    deepest_first = sorted(depth, key=depth.__getitem__, reverse=True)
    return [[places[key] for key in group] for _, group in groupby(deepest_first, key=depth.__getitem__)]


def _inputs(place: Place) -> list[Key]:
    path = place.path / MANIFEST_NAME
    try:
        fields = read_fields(path.read_bytes(), where=path)
    except (StreetVisionError, OSError):
        return []  # it is damaged and goes: nothing can be made of what it was made from
    return [(given["run_id"], name) for name, given in fields["input_artifacts"].items()]
