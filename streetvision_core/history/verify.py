"""The verification that a store holds what was published.

Of each artifact: every byte is hashed again; its inputs are there, the very manifests it was made from; it
read only the roles it may (`graph.py`). A file with several names, as reuse makes them, is hashed once. What
is current must be of one checkpoint. The ledger is whole, and has every look that a manifest names. In a
verification of everything also: every pointer names a manifest that is there, with the digest it vouches for,
and no link or stray file lies among the runs.

A directory without a manifest was never published, so it is no fault where a claim says that a step was begun
there.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from streetvision_core.errors import StoreError, StreetVisionError
from streetvision_core.history import scan
from streetvision_core.history.text import count_text, size_text
from streetvision_core.io import PublishedArtifact, compute_file_sha256, content_digest, read_artifact
from streetvision_core.io.ledger import ledger_problems
from streetvision_core.io.published import disagreements

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from streetvision_core.io import ArtifactStore, InputArtifact

    Opened = PublishedArtifact | StreetVisionError

_CHECKPOINT = "phase1_checkpoint"


@dataclass(frozen=True)
class Checked:
    """One artifact that was looked at: its size in bytes, and what is wrong with it."""

    run_id: str
    step: str
    size_bytes: int
    faults: Sequence[str]


@dataclass(frozen=True)
class StoreVerification:
    """The artifacts that were looked at, what is wrong besides, and how much was hashed in which time."""

    checked: Sequence[Checked]
    faults: Sequence[str]
    pointers: int
    hashed_bytes: int
    seconds: float
    notes: Sequence[str] = ()

    @property
    def good(self) -> bool:
        """True when nothing is wrong."""
        return not self.faults and not any(checked.faults for checked in self.checked)

    def text(self) -> str:
        """Return a line an artifact, those that are bad with what is wrong, and a summary."""
        width = max((len(artifact.step) for artifact in self.checked), default=0)
        lines = []
        for artifact in self.checked:
            verdict = "BAD " if artifact.faults else "ok  "
            size = size_text(artifact.size_bytes)
            lines.append(f"{verdict} {artifact.run_id}  {artifact.step:{width}}  {size}")
            lines += [f"     {fault}" for fault in artifact.faults]
        lines += [f"BAD  {fault}" for fault in self.faults]
        lines += [f"note {note}" for note in self.notes]
        return "\n".join([*lines, self._summary()])

    def _summary(self) -> str:
        bad = len(self.faults) + sum(bool(artifact.faults) for artifact in self.checked)
        speed = f"{size_text(self.hashed_bytes)} hashed in {self.seconds:.1f} s"
        if self.seconds > 0:
            speed += f", {self.hashed_bytes / self.seconds / 1e9:.2f} GB/s"
        pointers = f" and {count_text(self.pointers, 'pointer')}" if self.pointers else ""
        verdict = f"{bad} bad" if bad else "all good"
        return f"{count_text(len(self.checked), 'artifact')}{pointers}: {verdict}; {speed}"


class InodeDigests:
    """The SHA-256 of files; one with several names is hashed once, whichever thread asks first."""

    def __init__(self) -> None:
        self.hashed_bytes = 0
        self._known: dict[tuple[int, ...], Future[str]] = {}
        self._lock = threading.Lock()

    def __call__(self, path: Path) -> str:
        """Return the SHA-256 (hex) of the file at `path`.

        Raises:
            StoreError: it cannot be read.
        """
        status = path.stat()
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        with self._lock:
            first = key not in self._known
            digest = self._known.setdefault(key, Future())
            self.hashed_bytes += status.st_size if first else 0
        if first:
            try:
                digest.set_result(compute_file_sha256(path))
            except BaseException as error:
                digest.set_exception(error)
                raise
        return digest.result()


def verify_current(store: ArtifactStore) -> StoreVerification:
    """Verify everything that is current in the store, and its champion."""
    pointers, faults = scan.read_pointers([*scan.latest_files(store.root), *scan.champion_files(store.root)])
    faults += _not_pointed_to(store)
    keys = dict.fromkeys(pointer.key for pointer in pointers)
    verification = _verify(store, keys, pointers=pointers, faults=faults)
    return _with_chain(verification, store)


def _with_chain(verification: StoreVerification, store: ArtifactStore) -> StoreVerification:
    """Add a fault or a note for each current artifact that was not made from the current ones.

    Two checkpoints are a fault: the current artifacts do not describe one model. Anything else that was made
    anew, splits without a new checkpoint or a report without a new bundle, is a note, as it is a warning in
    the UI.
    """
    manifests = {}
    for pointer in scan.read_pointers(scan.latest_files(store.root))[0]:
        with suppress(StreetVisionError):  # it is a fault of the artifact, which is told already
            manifests[pointer.step] = read_artifact(store.directory(*pointer.key)).manifest
    clashes = disagreements(manifests)
    faults = [f"two checkpoints are current: {clash}" for clash in clashes if clash.name == _CHECKPOINT]
    notes = [f"{clash}; materialize it again to follow" for clash in clashes if clash.name != _CHECKPOINT]
    return replace(verification, faults=[*verification.faults, *faults], notes=notes)


def _not_pointed_to(store: ArtifactStore) -> list[str]:
    """Return a sentence for each published step that has no pointer in `latest/`, or for an empty store."""
    published = {
        place.step for places in scan.all_places(store.root).values() for place in places if place.published
    }
    if not published:
        return ["nothing was published here"]
    lost = sorted(published - set(store.current_steps()))
    return [f"{step} was published, but no pointer in latest/ says which is current" for step in lost]


def verify_run(store: ArtifactStore, run_id: str) -> StoreVerification:
    """Verify everything that a run has published.

    Raises:
        StoreError: it has published nothing.
    """
    keys = [place.key for place in scan.places(store.root, run_id) if place.published]
    if not keys:
        raise StoreError(
            "a run that has published something",
            "no manifest",
            store.root / "runs" / run_id,
            "It was interrupted before its first step had ended; 'streetvision gc' clears it away.",
        )
    return _verify(store, keys)


def verify_everything(store: ArtifactStore) -> StoreVerification:
    """Verify every published artifact and every pointer of the store."""
    keys = [
        place.key for places in scan.all_places(store.root).values() for place in places if place.published
    ]
    files = (*scan.latest_files(store.root), *scan.champion_files(store.root), *scan.key_files(store.root))
    pointers, faults = scan.read_pointers(files)
    faults += _not_pointed_to(store)
    faults += [f"{path} is no directory of the store's own" for path in scan.strangers(store.root)]
    return _with_chain(_verify(store, keys, pointers=pointers, faults=faults), store)


def _verify(
    store: ArtifactStore,
    keys: Iterable[scan.Key],
    *,
    pointers: Sequence[scan.Pointer] = (),
    faults: Sequence[str] = (),
) -> StoreVerification:
    # Imported before the clock runs, and here because the package of the rule loads NumPy.
    from streetvision_core.graph import role_violations

    digests, begun = InodeDigests(), time.perf_counter()

    @cache
    def opened(key: scan.Key) -> Opened:
        try:
            return read_artifact(store.directory(*key))
        except StreetVisionError as error:
            return error

    def check(key: scan.Key) -> Checked:
        artifact = opened(key)
        if isinstance(artifact, StreetVisionError):
            return Checked(*key, 0, [str(artifact)])
        manifest = artifact.manifest
        faults = _content_faults(artifact, key, digests)
        faults += role_violations(manifest.step_name, manifest.roles, manifest.input_artifacts)
        for name, given in manifest.input_artifacts.items():
            if given.run_id:
                faults += _input_faults(name, given, opened((given.run_id, name)))
        return Checked(*key, sum(file.size_bytes for file in manifest.output_artifacts.values()), faults)

    keys = list(keys)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves the interpreter to other threads
        checked = list(pool.map(check, keys))
    read = [artifact.manifest for artifact in map(opened, keys) if isinstance(artifact, PublishedArtifact)]
    faults = [*faults, *ledger_problems(store.root, read)]
    wrong = [fault for pointer in pointers for fault in _pointer_faults(pointer, opened(pointer.key))]
    seconds = time.perf_counter() - begun
    return StoreVerification(checked, [*faults, *wrong], len(pointers), digests.hashed_bytes, seconds)


def _content_faults(artifact: PublishedArtifact, key: scan.Key, digests: InodeDigests) -> list[str]:
    manifest = artifact.manifest
    try:
        faults = artifact.problems(digest=digests)
    except (StreetVisionError, OSError) as error:  # a disk that will not give the bytes is a fault as well
        faults = [str(error)]
    if (manifest.run_id, manifest.step_name) != key:
        faults.append(f"the manifest is of {manifest.step_name} of run {manifest.run_id}")
    files = {name: file.sha256 for name, file in manifest.output_artifacts.items()}
    if content_digest(files) != manifest.data_version:
        faults.append("the data version is not that of the files")
    return faults


def _input_faults(name: str, given: InputArtifact, artifact: Opened) -> list[str]:
    if isinstance(artifact, StreetVisionError):
        return [f"its input {name} of run {given.run_id} is missing or damaged: {artifact}"]
    if artifact.reference != given:
        return [f"its input {name} of run {given.run_id} is another one than it was made from"]
    return []


def _pointer_faults(pointer: scan.Pointer, artifact: Opened) -> list[str]:
    """Return what is wrong with a pointer; a damaged manifest is a fault of the artifact alone."""
    if isinstance(artifact, StoreError):
        return [f"{pointer.path} names {pointer.step} of run {pointer.run_id}, which is missing"]
    if isinstance(artifact, StreetVisionError):
        return []
    if artifact.manifest_sha256 != pointer.sha256:
        return [f"{pointer.path} vouches for another manifest than that of run {pointer.run_id}"]
    is_key = pointer.path.parent.parent.name == "keys"
    step = pointer.path.parent.name if is_key else pointer.path.stem
    if pointer.step != step or (is_key and artifact.manifest.step_key != pointer.path.stem):
        return [f"{pointer.path} names {pointer.step} of run {pointer.run_id}, which is not what it is for"]
    return []
