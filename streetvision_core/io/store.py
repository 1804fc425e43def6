"""The artifact store: what every step has published, and which of it is current.

::

    runs/<run_id>/<step>/<files> ... manifest.json    run-isolated; the manifest is written last
    latest/<step>.json                                which manifest is current, with its SHA-256

A step stages its files in its own directory, each by the protocol of ``atomic.py``, which also proves its
digest. Publishing makes sure that the directory holds the files of the manifest and no others, then
writes the manifest, then the pointer. If a manifest exists, everything it names exists. A run publishes a
step once: staging there again is refused.

An input is resolved from a run by its id, or through the pointer; never as "the newest directory".
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import IntegrityError, MissingArtifactError, SchemaError, StoreError
from streetvision_core.io.artifact import Artifact, file_digest
from streetvision_core.io.atomic import (
    StagedFile,
    compute_file_sha256,
    make_directory,
    sweep_partials,
    write_file_atomic,
    write_json_atomic,
)
from streetvision_core.io.encode import bytes_digest
from streetvision_core.io.manifest import InputArtifact, OutputFile, StepManifest
from streetvision_core.io.names import MANIFEST_NAME, check_relative_name, check_segment
from streetvision_core.io.tensors import read_tensors

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class PublishedArtifact:
    """A published step: its manifest, and readers that verify the very bytes they return."""

    directory: Path
    manifest: StepManifest
    manifest_sha256: str

    @property
    def reference(self) -> InputArtifact:
        """How a step that reads this artifact records it."""
        return InputArtifact(
            data_version=self.manifest.data_version,
            run_id=self.manifest.run_id,
            manifest_sha256=self.manifest_sha256,
        )

    def path(self, name: str) -> Path:
        """Return where the file ``name`` lies; reading it through this path is not verified."""
        self._listed(name)
        return self.directory / name

    def read_bytes(self, name: str) -> bytes:
        """Return the verified bytes of the file ``name``.

        Raises:
            MissingArtifactError: the manifest lists no such file.
            IntegrityError: the file is gone, or is not what was published.
        """
        listed, path = self._listed(name), self.directory / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _damaged(path, f"the error '{error.strerror}'") from error
        if bytes_digest(data) != listed.sha256:
            raise _damaged(path, "other content")
        return data

    def read_json(self, name: str) -> Any:
        """Return the verified, decoded JSON file ``name``."""
        return json.loads(self.read_bytes(name))

    def read_tensors(self, name: str) -> dict[str, np.ndarray]:
        """Return the verified arrays of the safetensors file ``name``."""
        return read_tensors(self.read_bytes(name))

    def problems(self) -> list[str]:
        """Hash every byte again and return what is wrong: one sentence a fault, none when intact."""
        found = [
            fault
            for name, file in self.manifest.output_artifacts.items()
            for fault in self._faults(name, file)
        ]
        listed = {MANIFEST_NAME, *self.manifest.output_artifacts}
        for path in sorted(self.directory.rglob("*")):
            name = path.relative_to(self.directory).as_posix()
            if not path.is_dir() and name not in listed:
                found.append(f"{name} is not listed in the manifest")
        return found

    def _faults(self, name: str, file: OutputFile) -> list[str]:
        path = self.directory / name
        try:
            status = path.lstat()
        except OSError as error:
            return [f"{name} cannot be read: {error.strerror}"]
        if not stat.S_ISREG(status.st_mode):
            return [f"{name} is not a regular file"]
        if status.st_size != file.size_bytes:
            return [f"{name} has {status.st_size} bytes instead of {file.size_bytes}"]
        return (
            []
            if compute_file_sha256(path) == file.sha256
            else [f"{name} has other content than was published"]
        )

    def _listed(self, name: str) -> OutputFile:
        try:
            return self.manifest.output_artifacts[name]
        except KeyError as error:
            raise MissingArtifactError(
                f"the artifact {self.manifest.step_name} to hold {name}",
                f"only {', '.join(sorted(self.manifest.output_artifacts))}",
                self.directory,
                "It was made by another version of this step; materialize it again.",
            ) from error


def read_artifact(directory: Path, *, manifest_sha256: str | None = None) -> PublishedArtifact:
    """Open the published artifact in ``directory``, a bundle for instance, by its manifest.

    Args:
        directory: Where the files and ``manifest.json`` lie.
        manifest_sha256: What the manifest must hash to, where somebody vouches for it.

    Raises:
        MissingArtifactError: there is no manifest, so nothing was published here.
        IntegrityError: the manifest is not the one that was vouched for, or was changed.
        SchemaError: it is no manifest of a version this one reads.
    """
    path = directory / MANIFEST_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingArtifactError(
            "a published artifact",
            f"no {MANIFEST_NAME}",
            directory,
            "Materialize it first, or check the path.",
        ) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    digest = bytes_digest(data)
    if manifest_sha256 not in (None, digest):
        raise _damaged(path, "another manifest than the one that is vouched for")
    return PublishedArtifact(directory, StepManifest.from_bytes(data, where=path), digest)


class ArtifactStore:
    """A directory of published artifacts. Any number of runs may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def directory(self, run_id: str, step: str) -> Path:
        """Return where ``step`` of ``run_id`` stages and publishes its files."""
        return (
            self.root / "runs" / check_segment(run_id, kind="run id") / check_segment(step, kind="step name")
        )

    def stage(self, run_id: str, step: str) -> Path:
        """Return the empty directory in which ``step`` of ``run_id`` stages its files.

        What an earlier attempt of the same run left unpublished is removed.

        Raises:
            StoreError: the run has published this step already, so that staging could only harm it; or
                the directory cannot be made or emptied.
        """
        directory = self.directory(run_id, step)
        try:
            _refuse_published(directory)
            if directory.exists():
                shutil.rmtree(directory)
            make_directory(directory)
        except OSError as error:
            raise StoreError(
                "a store that can be written",
                f"the error '{error.strerror}'",
                directory,
                "Check STREETVISION_STORE or DAGSTER_HOME, its free space and its permissions.",
            ) from error
        return directory

    def write(self, directory: Path, artifact: Artifact) -> dict[str, OutputFile]:
        """Make every file of ``artifact`` durable in ``directory`` and return what now lies there.

        Raises:
            IntegrityError: what lies on the disk is not what the artifact promised.
            StoreError: something was published there already, a staged file lies elsewhere, or the file
                system refused.
        """
        _refuse_published(directory)
        written = {}
        for name, content in sorted(artifact.files.items()):
            path = directory / check_relative_name(name)
            size = self._adopt(path, content) if isinstance(content, StagedFile) else _write(path, content)
            written[name] = OutputFile(sha256=file_digest(content), size_bytes=size)
        return written

    def publish(self, directory: Path, manifest: StepManifest) -> PublishedArtifact:
        """Write the manifest, then the pointer: from here on the artifact is published and current.

        A manifest that lies there already, the very same, is only pointed to.

        Raises:
            IntegrityError: a file of the manifest is missing or has another size.
            StoreError: the directory holds files that the manifest does not list, or was published with
                another manifest.
        """
        _check_complete(directory, manifest)
        path = directory / MANIFEST_NAME
        if not path.exists():
            manifest.save(path)
        published = read_artifact(directory)
        if published.manifest != manifest:
            _refuse_published(directory)
        pointer = {
            "manifest": path.relative_to(self.root).as_posix(),
            "sha256": published.manifest_sha256,
        }
        write_json_atomic(self._pointer(manifest.step_name), pointer)
        return published

    def resolve(self, step: str, *, run_id: str | None = None) -> PublishedArtifact:
        """Return what ``step`` published in ``run_id``, or what its pointer names as current.

        Raises:
            MissingArtifactError: there is nothing published.
            IntegrityError: the manifest is not the one that was published.
            SchemaError: the pointer or the manifest was written by a newer version, or is damaged.
        """
        if run_id is not None:
            return read_artifact(self.directory(run_id, step))
        path = self._pointer(step)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise MissingArtifactError(
                f"{step} to have been materialized",
                "nothing published",
                self.root,
                f"Materialize it first: make bundle, or dagster asset materialize --select '*{step}'.",
            ) from error
        except OSError as error:
            raise _unreadable(path, error) from error
        manifest, digest = _parse_pointer(data, where=path)
        return read_artifact((self.root / manifest).parent, manifest_sha256=digest)

    def input_of(self, published: PublishedArtifact, name: str) -> PublishedArtifact:
        """Return the very artifact ``name`` that ``published`` was made from, current or not.

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
        """Return the store's run id of ``step`` in a Dagster run, or None if it published none here."""
        pattern = f"*-{check_segment(dagster_run_id[:8], kind='run id')}/{step}/{MANIFEST_NAME}"
        for manifest in sorted((self.root / "runs").glob(pattern)):
            if read_artifact(manifest.parent).manifest.dagster_run_id == dagster_run_id:
                return manifest.parent.parent.name
        return None

    def _pointer(self, step: str) -> Path:
        return self.root / "latest" / f"{check_segment(step, kind='step name')}.json"

    def _adopt(self, path: Path, staged: StagedFile) -> int:
        """Take a file that was staged in place; it must still be the file that was hashed."""
        if staged.path.resolve() != path.resolve():
            raise StoreError(
                f"the large file to be staged at {path.name} in the step's own directory",
                str(staged.path),
                path.parent,
                "Write it to the directory that the step was given.",
            )
        if not staged.is_untouched():
            raise _damaged(path, "a file that was touched after it was hashed")
        return staged.size_bytes


def _refuse_published(directory: Path) -> None:
    if (directory / MANIFEST_NAME).exists():
        raise StoreError(
            "a run to publish a step once",
            "that it has been published",
            directory,
            "Start a new run; what was published is never overwritten.",
        )


def _check_complete(directory: Path, manifest: StepManifest) -> None:
    """Make sure that the directory holds the files of the manifest and no others."""
    for name, file in manifest.output_artifacts.items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != file.size_bytes:
            raise _damaged(path, "no such file of that size")
    sweep_partials(directory)
    listed = {MANIFEST_NAME, *manifest.output_artifacts}
    found = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir()}
    if found - listed:
        raise StoreError(
            "only files that the manifest lists",
            f"also {', '.join(sorted(found - listed)[:5])}",
            directory,
            "Whatever wrote them must hand them over as part of the artifact.",
        )


def _write(path: Path, data: bytes) -> int:
    write_file_atomic(path, data)
    # Read back: the digest that is published is that of the file, not of what was handed to the kernel.
    if compute_file_sha256(path) != bytes_digest(data):
        raise _damaged(path, "other bytes on the disk than were written")
    return len(data)


def _parse_pointer(data: bytes, *, where: Path) -> tuple[str, str]:
    """Return the manifest's relative path and its SHA-256; refuse everything but the known form."""
    try:
        pointer = json.loads(data)
        manifest, digest = pointer.pop("manifest"), pointer.pop("sha256")
        unknown = sorted(pointer)
        check_relative_name(manifest)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise SchemaError(
            "a pointer with manifest and sha256", f"{data[:80]!r}", where, "Materialize the step again."
        ) from error
    if unknown or not isinstance(digest, str):
        raise SchemaError(
            "a pointer of a version this one reads",
            f"the unknown fields {', '.join(unknown)}",
            where,
            "It was written by a newer StreetVision; update this installation.",
        )
    return manifest, digest


def _damaged(path: Path, found: str) -> IntegrityError:
    return IntegrityError(
        "the file as it was published",
        found,
        path,
        "Materialize the step again, or restore the file from a copy.",
    )


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        "a store that can be read",
        f"the error '{error.strerror}'",
        path,
        "Check STREETVISION_STORE or DAGSTER_HOME and the permissions.",
    )


def default_store() -> Path:
    """Return the store's directory: ``STREETVISION_STORE``, or ``$DAGSTER_HOME/artifacts``.

    Raises:
        StoreError: neither variable is set.
    """
    if path := os.environ.get("STREETVISION_STORE"):
        return Path(path)
    if home := os.environ.get("DAGSTER_HOME"):
        return Path(home) / "artifacts"
    raise StoreError(
        "to know where the store is",
        "neither STREETVISION_STORE nor DAGSTER_HOME set",
        "the environment",
        "Run 'source .venv/bin/activate', which sets both, or set one of them.",
    )
