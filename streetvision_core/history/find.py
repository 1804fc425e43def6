"""The store, run or bundle that a name on the command line means.

A run may be given by its id, or by a beginning or an end of it that fits no other run. A name with a
separator, or of a folder here that holds a manifest, is the folder of a bundle.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from streetvision_core.errors import IntegrityError, MissingArtifactError, StoreError
from streetvision_core.history.scan import places, run_ids
from streetvision_core.io import ArtifactStore, default_store, read_artifact
from streetvision_core.io.manifest import StepManifest
from streetvision_core.io.names import MANIFEST_NAME
from streetvision_core.io.private import config_of, machine_of, read_private
from streetvision_core.io.published import LINEAGE_PREFIX, PRIVATE_PREFIX, PROVENANCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streetvision_core.io import PrivateRecord, PublishedArtifact

CURRENT = "current"
_AT_MOST = 5


class Sealed(NamedTuple):
    """A manifest, the SHA-256 (hex) of its file, and its side file, None where that is not there."""

    manifest: StepManifest
    sha256: str
    private: PrivateRecord | None = None

    @classmethod
    def of(cls, artifact: PublishedArtifact) -> Sealed:
        """Return the manifest of a published artifact with its side file; raises as `private()` does."""
        return cls(artifact.manifest, artifact.manifest_sha256, artifact.private())


@dataclass(frozen=True)
class Made:
    """The manifests by step of the run or the folder of this name.

    `artifacts` are the published steps themselves, where they lie in a store. A bundle has manifests only,
    and may bring side files.
    """

    name: str
    chain: Mapping[str, Sealed]
    artifacts: Mapping[str, PublishedArtifact] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, artifacts: Mapping[str, PublishedArtifact]) -> Made:
        """Return what was published under `name`, with its manifests and their side files."""
        return cls(name, {step: Sealed.of(artifact) for step, artifact in artifacts.items()}, artifacts)

    @property
    def manifests(self) -> dict[str, StepManifest]:
        """The manifests by step."""
        return {step: sealed.manifest for step, sealed in self.chain.items()}

    def config(self, step: str) -> dict[str, Any]:
        """Return the configuration of a step, as far as it can be told."""
        return config_of(self.chain[step].manifest, self.chain[step].private)

    def machine(self, step: str) -> dict[str, str]:
        """Return host name and platform of the machine that computed a step, as far as they can be told."""
        return machine_of(self.chain[step].manifest, self.chain[step].private)


def open_store(path: str | None = None) -> ArtifactStore:
    """Return the store at `path`, or where the environment says.

    Raises:
        StoreError: there is none, the folder is somebody else's, or nothing says where.
    """
    root = Path(path) if path else default_store()
    store = ArtifactStore(root)
    if not (root / "runs").is_dir():
        raise StoreError(
            "a store in which something was made",
            "a folder without runs" if root.is_dir() else "no such folder",
            root,
            "Make something first (make bundle), or give the store with --store or STREETVISION_STORE.",
        )
    return store


def names_folder(name: str) -> bool:
    """Tell whether `name` is a path: it has a separator, or a folder of that name holds a manifest."""
    return os.sep in name or (Path(name) / MANIFEST_NAME).is_file()


def find_run(store: ArtifactStore, name: str) -> str:
    """Return the id of the one run that `name` is the id, a beginning or an end of.

    Raises:
        MissingArtifactError: it fits no run, or several.
    """
    known = run_ids(store.root)
    if name in known:
        return name
    fitting = [run_id for run_id in known if name and (run_id.startswith(name) or run_id.endswith(name))]
    if len(fitting) == 1:
        return fitting[0]
    more = f" and {len(fitting) - _AT_MOST} more" if len(fitting) > _AT_MOST else ""
    raise MissingArtifactError(
        f"one run whose id is, begins or ends with {name!r}",
        f"{', '.join(fitting[:_AT_MOST])}{more}" if fitting else "none",
        store.root,
        "Give the id of a run; 'streetvision runs --all' lists them.",
    )


def find_published(step: str, *, run: str | None, store_path: str | None) -> PublishedArtifact:
    """Return what `step` published in the run that `run` names, or its current artifact.

    Raises:
        StreetVisionError: there is no store, no such run, or nothing of the step; or its manifest is damaged.
    """
    store = open_store(store_path)
    return store.resolve(step, run_id=find_run(store, run) if run else None)


def find_made(name: str, *, store_path: str | None) -> Made:
    """Return what was made in the run `name`, what is `current`, or what a bundle's folder tells.

    Raises:
        StreetVisionError: there is no such thing, or a manifest of it is damaged.
    """
    if names_folder(name):
        return Made(name, read_chain(Path(name)))
    store = open_store(store_path)
    if name == CURRENT:
        return Made.of(CURRENT, {step: store.resolve(step) for step in store.current_steps()})
    run_id = find_run(store, name)
    published = [place for place in places(store.root, run_id) if place.published]
    return Made.of(run_id, {place.step: read_artifact(place.path) for place in published})


def read_chain(folder: Path) -> dict[str, Sealed]:
    """Return the manifest of a bundle's folder and those below its `lineage/`, each by its step.

    A side file comes with its manifest where it lies below `lineage/private/`.

    Raises:
        MissingArtifactError: there is no manifest in the folder, or a listed one is gone.
        IntegrityError: a manifest is not the one that was published.
        SchemaError: it is none of this version.
    """
    top = read_artifact(folder)
    chain = {top.manifest.step_name: Sealed.of(top)}
    for name, file in sorted(top.manifest.output_artifacts.items()):
        if not name.startswith(LINEAGE_PREFIX) or name.startswith(PRIVATE_PREFIX) or name == PROVENANCE:
            continue
        manifest = StepManifest.from_bytes(top.read_bytes(name), where=folder / name)
        if name != f"{LINEAGE_PREFIX}{manifest.step_name}.json":
            raise IntegrityError(
                f"the manifest of the step that {name} is named after",
                f"one of {manifest.step_name}",
                folder,
                "Take a whole copy of the bundle.",
            )
        chain[manifest.step_name] = Sealed(manifest, file.sha256, _private_of(top, manifest))
    return chain


def _private_of(bundle: PublishedArtifact, manifest: StepManifest) -> PrivateRecord | None:
    """Return the side file that a bundle ships with a manifest of its lineage, if it does."""
    name = f"{PRIVATE_PREFIX}{manifest.step_name}.json"
    if name not in bundle.manifest.output_artifacts:
        return None
    return read_private(bundle.read_bytes(name), manifest, where=bundle.directory / name)
