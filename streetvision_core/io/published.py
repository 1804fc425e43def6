"""An artifact as a step makes it, and as it was published.

An `Artifact` is a frozen record that knows its files and its digest, but no directory. The digest is that of
the content alone: file names and their SHA-256. It holds no run id, no time and no path, so the same content
has the same digest wherever and whenever it is made. Files below `lineage/` say where content came from
and are not content: they are left out of it.

A `PublishedArtifact` is a directory whose manifest says, with digests, what lies in it. Every reader verifies
the very bytes that it returns. `problems` hashes everything again.

Artifacts belong together when each was made from the others as they are here. A manifest records the data
version of every input. Artifacts form one chain where no two of them disagree about an input, neither with
the artifact itself nor with what another one was made from. Runs do not matter: the same content published
again by a later run is the same input.
"""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import IntegrityError, MissingArtifactError, SchemaError, StoreError
from streetvision_core.graph import BUNDLE
from streetvision_core.io.atomic import StagedFile, compute_file_sha256
from streetvision_core.io.encode import bytes_digest, json_digest, parse_json
from streetvision_core.io.manifest import InputArtifact, OutputFile, StepManifest
from streetvision_core.io.names import MANIFEST_NAME, PRIVATE_NAME, SIGNATURE_NAME
from streetvision_core.io.private import PrivateRecord, config_of, read_private
from streetvision_core.io.tensors import read_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import numpy as np


_WORTH_THREADS = 2**20
LINEAGE_PREFIX = "lineage/"
# The side files of the manifests there, each under the name of its step.
PRIVATE_PREFIX = f"{LINEAGE_PREFIX}private/"
PROVENANCE = f"{LINEAGE_PREFIX}provenance.json"  # the one file there that is no manifest


@dataclass(frozen=True)
class Artifact:
    """The files of a step by relative POSIX name, and the numbers worth showing beside them.

    A file is its bytes, or, when it is too large for memory, a file that was already staged in the
    step's own directory of the store.
    """

    files: Mapping[str, bytes | StagedFile]
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def lineage(self) -> Artifact:
        """The files below `lineage/`, which say where the content came from."""
        return Artifact(
            {name: content for name, content in self.files.items() if name.startswith(LINEAGE_PREFIX)}
        )

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the content: the data version of the artifact."""
        return content_digest({name: file_digest(content) for name, content in self.files.items()})


def file_digest(content: bytes | StagedFile) -> str:
    """Return the SHA-256 (hex) of one file of an artifact."""
    return content.sha256 if isinstance(content, StagedFile) else bytes_digest(content)


def content_digest(digests: Mapping[str, str]) -> str:
    """Return one SHA-256 (hex) for files given as name -> SHA-256, leaving `lineage/` out."""
    return json_digest({name: sha for name, sha in digests.items() if not name.startswith(LINEAGE_PREFIX)})


def expected_names(manifest: StepManifest) -> set[str]:
    """Return the names of the files that may lie beside a manifest; a bundle is signed where it lies."""
    sides = {PRIVATE_NAME} if manifest.private_sha256 is not None else set()
    signature = {SIGNATURE_NAME} if manifest.step_name == BUNDLE else set()
    return {MANIFEST_NAME, *manifest.output_artifacts} | sides | signature


@dataclass(frozen=True)
class PublishedArtifact:
    """A published step: its manifest, and readers that verify the very bytes they return."""

    directory: Path
    manifest: StepManifest
    manifest_sha256: str

    @property
    def reference(self) -> InputArtifact:
        """The record of this artifact in the manifest of a step that reads it."""
        return InputArtifact(
            data_version=self.manifest.data_version,
            run_id=self.manifest.run_id,
            manifest_sha256=self.manifest_sha256,
        )

    @property
    def content(self) -> dict[str, OutputFile]:
        """The files that its data version is of: all but those below `lineage/`."""
        files = self.manifest.output_artifacts
        return {name: file for name, file in files.items() if not name.startswith(LINEAGE_PREFIX)}

    def path(self, name: str) -> Path:
        """Return where the file `name` lies; reading it through this path is not verified."""
        self._listed(name)
        return self.directory / name

    def read_bytes(self, name: str) -> bytes:
        """Return the verified bytes of the file `name`.

        Raises:
            MissingArtifactError: the manifest lists no such file.
            IntegrityError: the file is gone, or is not what was published.
        """
        listed, data = self._listed(name), self._read(name)
        if bytes_digest(data) != listed.sha256:
            raise damaged(self.directory / name, "other content")
        return data

    def _read(self, name: str) -> bytes:
        try:
            return (self.directory / name).read_bytes()
        except OSError as error:
            raise damaged(self.directory / name, f"the error '{error.strerror}'") from error

    def read_json(self, name: str) -> Any:
        """Return the verified, decoded JSON file `name`; errors as for `read_bytes`.

        Raises:
            SchemaError: it is no JSON, or nested too deeply.
        """
        data = self.read_bytes(name)
        try:
            return parse_json(data)
        except ValueError as error:
            raise SchemaError(
                "a JSON file", str(error), self.directory / name, "Materialize the step again."
            ) from error

    def read_tensors(self, name: str) -> dict[str, np.ndarray]:
        """Return the verified arrays of the safetensors file `name`."""
        return read_tensors(self.read_bytes(name))

    def private(self) -> PrivateRecord | None:
        """Return the machine and the paths from the verified side file; None if the manifest names none.

        Raises:
            IntegrityError: the side file is gone, or is not the one that was published.
            SchemaError: it is no such file.
        """
        if self.manifest.private_sha256 is None:
            return None
        return read_private(self._read(PRIVATE_NAME), self.manifest, where=self.directory / PRIVATE_NAME)

    def config(self) -> dict[str, Any]:
        """Return the whole configuration, the paths included; raises as `private` does."""
        return config_of(self.manifest, self.private())

    def problems(self, *, digest: Callable[[Path], str] = compute_file_sha256) -> list[str]:
        """Hash every byte again and return what is wrong: one sentence a fault, none when intact.

        Args:
            digest: Gives the SHA-256 (hex) of a file; for who has hashed another name of it already.
        """

        def faults(name: str, file: OutputFile) -> list[str]:
            return self._faults(name, file, digest=digest)

        files = self.manifest.output_artifacts
        # Hashing leaves the interpreter to other threads; for small files they cost more than they give.
        large = sum(file.size_bytes for file in files.values()) > _WORTH_THREADS
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # it starts a thread with the first file it is given
            each = (pool.map if large else map)(faults, files, files.values())
            problems = [fault for some in each for fault in some]
        listed = expected_names(self.manifest)
        if self.manifest.private_sha256 is not None:
            problems += self._private_faults()
        for path in sorted(self.directory.rglob("*")):
            name = path.relative_to(self.directory).as_posix()
            if not path.is_dir() and name not in listed:
                problems.append(f"{name} is not listed in the manifest")
        return problems

    def _faults(self, name: str, file: OutputFile, *, digest: Callable[[Path], str]) -> list[str]:
        path = self.directory / name
        try:
            status = path.lstat()
        except OSError as error:
            return [f"{name} cannot be read: {error.strerror}"]
        if not stat.S_ISREG(status.st_mode):
            return [f"{name} is not a regular file"]
        if status.st_size != file.size_bytes:
            return [f"{name} has {status.st_size} bytes instead of {file.size_bytes}"]
        return [] if digest(path) == file.sha256 else [f"{name} has other content than was published"]

    def _private_faults(self) -> list[str]:
        try:
            self.private()
        except (IntegrityError, SchemaError) as error:
            return [f"{PRIVATE_NAME}, which names the machine and the paths, is lost or changed: {error}"]
        return []

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
    """Open the published artifact in `directory`, a bundle for instance, by its manifest.

    Args:
        directory: Where the files and `manifest.json` lie.
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
        raise unreadable(path, error) from error
    digest = bytes_digest(data)
    if manifest_sha256 not in (None, digest):
        raise damaged(path, "another manifest than the one that is vouched for")
    return PublishedArtifact(directory, StepManifest.from_bytes(data, where=path), digest)


def damaged(path: Path, found: str) -> IntegrityError:
    """Return the error of a file that is not what was published."""
    return IntegrityError(
        "the file as it was published",
        found,
        path,
        "Materialize the step again, or restore the file from a copy.",
    )


def unreadable(path: Path, error: OSError) -> StoreError:
    """Return the error of a file of the store that the system will not give."""
    return StoreError(
        "a store that can be read",
        f"the error '{error.strerror}'",
        path,
        "Check STREETVISION_STORE or DAGSTER_HOME and the permissions.",
    )


@dataclass(frozen=True)
class Clash:
    """A step that was made from another artifact `name` than the one here; both by data version."""

    step: str
    name: str
    recorded: str
    here: str

    def __str__(self) -> str:
        return (
            f"{self.step} was made from another {self.name} (data version {self.recorded[:12]})"
            f" than the one here ({self.here[:12]})"
        )


def disagreements(manifests: Mapping[str, StepManifest]) -> list[Clash]:
    """Return where manifests, given by step, do not form one chain, in their order."""
    versions = {step: manifest.data_version for step, manifest in manifests.items()}
    clashes = []
    for step, manifest in manifests.items():
        clashes += list(_clashes(step, manifest, versions))
        for name, given in manifest.input_artifacts.items():
            versions.setdefault(name, given.data_version)
    return clashes


def belonging(
    required: Mapping[str, PublishedArtifact], optional: Mapping[str, PublishedArtifact | None]
) -> tuple[dict[str, PublishedArtifact], list[str]]:
    """Return the optional artifacts that are of one chain with the required ones, and why others are not.

    Args:
        required: Artifacts by step, of one chain (`require_one_chain`); they decide which it is.
        optional: Artifacts by step, the one to be preferred first; None where nothing was published.

    Returns:
        Those that belong, by step, and a sentence for each that was left out though it was published.
    """
    chain = {step: artifact.manifest for step, artifact in required.items()}
    kept, sentences = {}, []
    for step, artifact in optional.items():
        if artifact is None:
            continue
        # The others agree already, so every clash is of this one.
        clashes = disagreements({**chain, step: artifact.manifest})
        if clashes:
            sentences.append(f"{step} is left out: {clashes[0]}; materialize {step} again to include it")
        else:
            kept[step] = artifact
            chain[step] = artifact.manifest
    return kept, sentences


def require_one_chain(inputs: Mapping[str, PublishedArtifact], *, step: str) -> None:
    """Refuse inputs of a step that were not made from each other.

    Raises:
        IntegrityError: two of them disagree about what they were made from.
    """
    clashes = disagreements({name: artifact.manifest for name, artifact in inputs.items()})
    if clashes:
        raise IntegrityError(
            f"inputs of {step} that were made from each other",
            "; ".join(map(str, clashes)),
            step,
            f"Materialize {clashes[0].step} again, and what follows from it.",
        )


def _clashes(step: str, manifest: StepManifest, versions: Mapping[str, str]) -> Iterator[Clash]:
    for name, given in sorted(manifest.input_artifacts.items()):
        here = versions.get(name, given.data_version)
        if here != given.data_version:
            yield Clash(step, name, given.data_version, here)
