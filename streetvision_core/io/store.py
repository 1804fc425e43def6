"""The artifact store: what every step has published, and which of it is current.

    store.json                                        says that this directory is a store (`root.py`)
    runs/<run_id>/<step>/<files> ... manifest.json    run-isolated; the manifest is written last
    runs/<run_id>/<step>/private.json                 the machine and its paths; written before the manifest
    latest/<step>.json                                which manifest is current, with its SHA-256
    keys/<step>/<step_key>.json                       which manifest was computed from exactly these inputs
    resume/<step>/<step_key>/                         how far an unfinished computation has come
    features/<key>/                                   what frozen models made of images; all of it can go
    tensorboard/<step>/<run_id>/                      learning curves to look at; nothing is read from there
    ledger/                                           every look at images that judge; never removed
    champion/bundle.json                              which bundle won (`history/champion.py`)

A step stages its files in its own directory, each by the protocol of `atomic.py`, which also proves its
digest. Publishing makes sure that the directory holds the files of the manifest and no others, then
writes the manifest, then the two pointers. If a manifest exists, everything it names exists. A run
publishes a step once: staging there again is refused.

An input is resolved from a run by its id, or through the pointer; never as "the newest directory".

While a step is staged, its process holds a lock on `runs/<run_id>/.<step>.claim`, and from a run's first
step until its end one on `runs/.<run_id>.claim`; both die with it. So a directory without a manifest beside
which a claim lies that nobody holds is what a kill has left, and `sweep` removes it. A directory with
neither is a stranger's: it stays, and `streetvision gc` and `verify` name it. The locks are advisory and of
this machine: the store belongs on a local disk.

Whatever is removed goes by `claims.py`: what this store has made, and nothing through a link. What cannot
be removed is told, as an error or in the log.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.errors import MissingArtifactError, StoreError, os_errors_as
from streetvision_core.io import claims, names
from streetvision_core.io.atomic import (
    StagedFile,
    compute_file_sha256,
    link_file_durably,
    make_directory,
    sweep_partials,
    write_file_atomic,
)
from streetvision_core.io.encode import bytes_digest
from streetvision_core.io.ledger import LEDGER
from streetvision_core.io.manifest import OutputFile, StepManifest
from streetvision_core.io.published import (
    Artifact,
    PublishedArtifact,
    damaged,
    expected_names,
    file_digest,
    read_artifact,
    unreadable,
)
from streetvision_core.io.root import (
    LOCK,
    Root,
    directory_named,
    mark,
    recognise,
    refuse_linked_places,
    sweep_root,
)
from streetvision_core.io.writers import write_json_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from streetvision_core.io.private import PrivateRecord

_log = logging.getLogger(__name__)


class ArtifactStore:
    """A directory of published artifacts. Any number of runs may use it at once.

    Raises:
        StoreError: the directory is somebody else's: neither empty nor a store (`root.recognise`).
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        recognise(self.root)

    def directory(self, run_id: str, step: str) -> Path:
        """Return where `step` of `run_id` stages and publishes its files."""
        return (
            self.root
            / "runs"
            / names.check_segment(run_id, kind="run id")
            / names.check_segment(step, kind="step name")
        )

    def resume_directory(self, step: str, step_key: str) -> Path:
        """Return where the computation of `step` with this key may keep how far it has come.

        The store is marked, for whoever asks will write there; so it is for features and curves.

        Raises:
            StoreError: a link leads there, or the store cannot be written.
        """
        name = names.check_segment(step_key, kind="step key")
        return self._to_write(self.root / "resume" / names.check_segment(step, kind="step name") / name)

    def features_directory(self) -> Path:
        """Return where features of images are kept, for all runs (`inference/feature_cache.py`)."""
        return self._to_write(self.root / "features")

    def tensorboard_directory(self, run_id: str, step: str) -> Path:
        """Return where `step` of `run_id` writes its learning curve (`training/report.py`)."""
        name = names.check_segment(run_id, kind="run id")
        return self._to_write(self.root / "tensorboard" / names.check_segment(step, kind="step name") / name)

    def _to_write(self, directory: Path) -> Path:
        """Return `directory`, to which no link leads, when the store is marked."""
        if recognise(self.root) is not Root.MARKED:
            with self.exclusive():
                pass
        with _writing(directory):
            refuse_linked_places(self.root)
            claims.refuse_links(directory, root=self.root)
        return directory

    def stage(self, run_id: str, step: str) -> Path:
        """Return the empty directory in which `step` of `run_id` stages its files.

        What an earlier attempt of the same run left unpublished is removed, and with the first step of a
        run what any killed run has left.

        Raises:
            StoreError: the run has published this step already, so that staging could only harm it; or
                another process is staging it; or something lies there that this store has not made; or a
                link leads there; or the directory cannot be made or emptied.
        """
        directory = self._to_write(self.directory(run_id, step))
        with _writing(directory):
            _refuse_published(directory)
            if not directory.parent.exists():
                self._sweep_or_tell()
                make_directory(directory.parent)
            _refuse_stranger(directory)
            claims.claim_if_free(directory.parent)
            claims.claim(directory)
            claims.remove_own(directory, root=self.root)
            make_directory(directory)
        return directory

    def write(self, directory: Path, artifact: Artifact) -> dict[str, OutputFile]:
        """Make every file of `artifact` durable in `directory` and return what now lies there.

        Raises:
            IntegrityError: what lies on the disk is not what the artifact promised.
            StoreError: something was published there already, a staged file lies elsewhere, or the file
                system refused.
        """
        written = {}
        with _writing(self._to_write(directory)):
            _refuse_published(directory)
            for name, content in sorted(artifact.files.items()):
                path = directory / names.check_relative_name(name)
                size = _adopt(path, content) if isinstance(content, StagedFile) else _write(path, content)
                written[name] = OutputFile(sha256=file_digest(content), size_bytes=size)
        return written

    def write_private(self, directory: Path, record: PrivateRecord) -> str:
        """Make the side file of a manifest durable in `directory` and return its SHA-256 (hex).

        Raises:
            IntegrityError: what lies on the disk is not what was written.
            StoreError: something was published there already, or the file system refused.
        """
        data = record.to_bytes()
        with _writing(self._to_write(directory)):
            _refuse_published(directory)
            _write(directory / names.PRIVATE_NAME, data)
        return bytes_digest(data)

    def take_over(self, directory: Path, *, step_key: str) -> PublishedArtifact | None:
        """Fill `directory` with the content that was published under `step_key`; None if none was.

        The files become links to the published ones, and are verified where they are now. What lies below
        `lineage/` belongs to the run that published it and is left out. The side file goes along.

        Returns:
            The artifact whose content it is.

        Raises:
            IntegrityError: what was published is damaged; `directory` is empty again.
            SchemaError: its pointer or manifest is not of this version, or is damaged.
            MissingArtifactError: it is gone, though its pointer is there.
            StoreError: the file system refused.
        """
        try:
            origin = self._follow(self._key_pointer(directory.name, step_key))
        except FileNotFoundError:
            return None
        if origin.manifest.step_key != step_key or origin.manifest.step_name != directory.name:
            raise damaged(origin.directory, "the manifest of another step or of other inputs")
        try:
            for name, file in origin.content.items():
                _link(origin.directory / name, directory / name, sha256=file.sha256)
            if digest := origin.manifest.private_sha256:
                _link(origin.directory / names.PRIVATE_NAME, directory / names.PRIVATE_NAME, sha256=digest)
        except BaseException:
            with _writing(directory):
                claims.remove_own(directory, root=self.root)
                make_directory(directory)
            raise
        return origin

    def publish(self, directory: Path, manifest: StepManifest) -> PublishedArtifact:
        """Write the manifest, then the pointers: from here on the artifact is published and current.

        A manifest that lies there already, the very same, is only pointed to.

        Raises:
            IntegrityError: a file of the manifest is missing or has another size, or the side file is not
                the one that it names.
            StoreError: the directory holds files that the manifest does not list, or was published with
                another manifest.
        """
        with _writing(self._to_write(directory)):
            _check_complete(directory, manifest)
            path = directory / names.MANIFEST_NAME
            if not path.exists():
                manifest.save(path)
            published = read_artifact(directory)
            if published.manifest != manifest:
                _refuse_published(directory)
            step, pointer = manifest.step_name, self._pointer_to(published)
            with self.exclusive():
                write_json_atomic(self._pointer(step), pointer)
                write_json_atomic(self._key_pointer(step, manifest.step_key), pointer)
            claims.release(directory, root=self.root)
        return published

    def crown(
        self, published: PublishedArtifact, *, is_due: Callable[[], bool], floor: float | None = None
    ) -> bool:
        """Point to what won as the champion of its step, if that is due; tell whether it was.

        Args:
            published: What won.
            is_due: Asked when the store is held alone.
            floor: The share that whoever wins next has to answer; None for none that is recorded.

        Raises:
            MissingArtifactError: what won was removed meanwhile.
            StoreError: the file system refused.
        """
        pointer = self.root / names.CHAMPION / f"{published.manifest.step_name}.json"
        with _writing(self._to_write(pointer.parent)), self.exclusive():
            if not is_due():
                return False
            # A collection may have been here since it was read.
            read_artifact(published.directory, manifest_sha256=published.manifest_sha256)
            more = {} if floor is None else {names.FLOOR: floor}
            write_json_atomic(pointer, {**self._pointer_to(published), **more})
        return True

    def resolve(self, step: str, *, run_id: str | None = None) -> PublishedArtifact:
        """Return what `step` published in `run_id`, or what its pointer names as current.

        Raises:
            MissingArtifactError: there is nothing published.
            IntegrityError: the manifest is not the one that was published.
            SchemaError: the pointer or the manifest was written by a newer version, or is damaged.
        """
        if run_id is not None:
            return read_artifact(self.directory(run_id, step))
        try:
            return self._follow(self._pointer(step))
        except FileNotFoundError as error:
            raise MissingArtifactError(
                f"{step} to have been materialized",
                "nothing published",
                self.root,
                f"Materialize it first: dagster asset materialize --select '*{step}' -c presets/folder.yaml,"
                " with the path of your images in that file, or demo: {} in their place for drawn ones.",
            ) from error

    def input_of(self, published: PublishedArtifact, name: str) -> PublishedArtifact:
        """Return the very artifact `name` that `published` was made from, current or not.

        Raises:
            MissingArtifactError: it was made from no such artifact, or that is gone.
            IntegrityError: what lies there is not what it was made from.
        """
        given = published.manifest.input_artifacts.get(name)
        if given is None:
            raise MissingArtifactError(
                f"{published.manifest.step_name} to be made from {name}",
                f"only {', '.join(published.manifest.input_artifacts) or 'no inputs'}",
                published.directory,
                "It was made by another version of this step; materialize it again.",
            )
        return read_artifact(self.directory(given.run_id, name), manifest_sha256=given.manifest_sha256)

    def find_run(self, dagster_run_id: str, step: str) -> str | None:
        """Return the store's run id of `step` in a Dagster run, or None if it published none here."""
        pattern = f"*-{names.check_segment(dagster_run_id[:8], kind='run id')}/{step}/{names.MANIFEST_NAME}"
        for manifest in sorted((self.root / "runs").glob(pattern)):
            if read_artifact(manifest.parent).manifest.dagster_run_id == dagster_run_id:
                return manifest.parent.parent.name
        return None

    def has_any(self, step: str) -> bool:
        """Tell whether any run has published something of the step here, current or not."""
        pattern = f"*/{names.check_segment(step, kind='step')}/{names.MANIFEST_NAME}"
        return step in self.current_steps() or any((self.root / "runs").glob(pattern))

    def current_steps(self) -> list[str]:
        """Return the names of the steps of which something is current, sorted."""
        return sorted(path.stem for path in (self.root / "latest").glob("[!.]*.json"))

    def sweep(self) -> None:
        """Remove what killed processes have left half-made; whatever was published stays.

        A half-made directory that cannot be removed is logged, and tried again the next time.

        Raises:
            StoreError: the store cannot be written, or one of its own directories is a link.
        """
        if recognise(self.root) is Root.EMPTY:
            return
        refuse_linked_places(self.root)
        runs = _directories(self.root / "runs")
        for directory in (step for run in runs for step in _directories(run)):
            with claims.abandoned(directory) as free:
                # Asked under the claim: whoever held it may have published meanwhile.
                if free and is_half_made(directory):
                    claims.remove_or_tell(directory, root=self.root)
        claims.clear_abandoned(self.root / "runs", root=self.root)
        for run in runs:
            claims.clear_abandoned(run, root=self.root, keep=is_half_made)
        with self.exclusive():
            sweep_root(self.root)
            for name in ("latest", "keys", LEDGER, names.CHAMPION):
                sweep_partials(self.root / name, root=self.root)

    def _sweep_or_tell(self) -> None:
        """Sweep; log what cannot be removed, which costs room but never a run."""
        try:
            self.sweep()
        except (OSError, StoreError) as error:
            _log.warning("what killed runs have left stays for now: %s", error)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the store alone: nobody else moves a pointer or removes anything meanwhile.

        The store is marked first, if it is not.

        Raises:
            StoreError: it cannot be written, or somebody else has taken the place.
        """
        from filelock import FileLock

        recognise(self.root)
        with _writing(self.root):
            refuse_linked_places(self.root)
            make_directory(self.root)
            lock = FileLock(self.root / LOCK)
            lock.acquire()
        try:
            mark(self.root)
            yield
        finally:
            lock.release()

    def _follow(self, pointer: Path) -> PublishedArtifact:
        """Return what a pointer names; raises FileNotFoundError where there is no pointer."""
        try:
            data = pointer.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise unreadable(pointer, error) from error
        manifest, digest, _ = names.parse_pointer(data, where=pointer)
        return read_artifact((self.root / manifest).parent, manifest_sha256=digest)

    def _pointer_to(self, published: PublishedArtifact) -> dict[str, str]:
        manifest = published.directory / names.MANIFEST_NAME
        return {"manifest": manifest.relative_to(self.root).as_posix(), "sha256": published.manifest_sha256}

    def _pointer(self, step: str) -> Path:
        return self.root / "latest" / f"{names.check_segment(step, kind='step name')}.json"

    def _key_pointer(self, step: str, step_key: str) -> Path:
        name = f"{names.check_segment(step_key, kind='step key')}.json"
        return self.root / "keys" / names.check_segment(step, kind="step name") / name


def _writing(where: Path) -> AbstractContextManager[None]:
    action = "Check STREETVISION_STORE or DAGSTER_HOME, its free space and its permissions."
    return os_errors_as(StoreError, "a store that can be written", where, action)


def _link(source: Path, target: Path, *, sha256: str) -> None:
    link_file_durably(source, target)
    if compute_file_sha256(target) != sha256:
        raise damaged(source, "other content")


def _adopt(path: Path, staged: StagedFile) -> int:
    """Take a file that was staged in place; it must still be the file that was hashed."""
    if staged.path.resolve() != path.resolve():
        raise StoreError(
            f"the large file to be staged at {path.name} in the step's own directory",
            str(staged.path),
            path.parent,
            "Write it to the directory that the step was given.",
        )
    if not staged.is_untouched():
        raise damaged(path, "a file that was touched after it was hashed")
    return staged.size_bytes


def _refuse_published(directory: Path) -> None:
    if (directory / names.MANIFEST_NAME).exists():
        raise StoreError(
            "a run to publish a step once",
            "that it has been published",
            directory,
            "Start a new run; what was published is never overwritten.",
        )


def is_half_made(directory: Path) -> bool:
    """Tell whether a step's directory was made by this store, which a claim says, and never published."""
    return (
        claims.is_claimed(directory)
        and directory.is_dir()
        and not os.path.lexists(directory / names.MANIFEST_NAME)
    )


def _refuse_stranger(directory: Path) -> None:
    if directory.exists() and not claims.is_claimed(directory):
        raise StoreError(
            "a directory that this store made, to empty it for the step",
            "one beside which no claim lies",
            directory,
            "Nothing was removed. Move it elsewhere, or start a new run.",
        )


def _directories(directory: Path) -> list[Path]:
    """Return the directories in a directory, which a collection may remove meanwhile; a link is none."""
    try:
        paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []
    return [path for path in paths if path.is_dir() and not path.is_symlink()]


def _check_complete(directory: Path, manifest: StepManifest) -> None:
    """Make sure that the directory holds the files of the manifest and no others."""
    for name, file in manifest.output_artifacts.items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != file.size_bytes:
            raise damaged(path, "no such file of that size")
    sweep_partials(directory)
    listed = expected_names(manifest)
    if manifest.private_sha256 is not None:
        _check_private(directory / names.PRIVATE_NAME, manifest)
    present = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir()}
    if present - listed:
        raise StoreError(
            "only files that the manifest lists",
            f"also {', '.join(sorted(present - listed)[:5])}",
            directory,
            "Whatever wrote them must hand them over as part of the artifact.",
        )


def _check_private(path: Path, manifest: StepManifest) -> None:
    if not path.is_file() or compute_file_sha256(path) != manifest.private_sha256:
        raise damaged(path, "no side file with the digest in the manifest")


def _write(path: Path, data: bytes) -> int:
    write_file_atomic(path, data)
    # Read back: the digest that is published is that of the file, not of what was handed to the kernel.
    if compute_file_sha256(path) != bytes_digest(data):
        raise damaged(path, "other bytes on the disk than were written")
    return len(data)


def default_store() -> Path:
    """Return the store's directory: `STREETVISION_STORE`, or `$DAGSTER_HOME/artifacts`.

    Raises:
        StoreError: neither variable is set, or the one that is names no directory.
    """
    if path := os.environ.get("STREETVISION_STORE"):
        return directory_named(path, by="STREETVISION_STORE")
    if home := os.environ.get("DAGSTER_HOME"):
        return directory_named(home, by="DAGSTER_HOME") / "artifacts"
    raise StoreError(
        "to know where the store is",
        "neither STREETVISION_STORE nor DAGSTER_HOME set",
        "the environment",
        "Run 'source .venv/bin/activate', which sets both, or set one of them.",
    )
