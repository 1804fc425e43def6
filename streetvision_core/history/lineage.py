"""The chain of an artifact down to pictures, code and configuration.

In a store, an input is the very manifest that the reader of it names, by run and SHA-256. A bundle that
was carried away brings the manifests of its chain in ``lineage/``; there, an input is the manifest of that
step with the data version that its reader names. What is missing or is another one is a node that says so.

Machines and paths come from the side files (``io/private.py``). A redacted bundle has none, so its chain
tells everything else; in a store, a lost side file is a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import MissingArtifactError, StreetVisionError
from streetvision_core.history.find import Sealed, read_chain
from streetvision_core.history.order import in_order
from streetvision_core.io import read_artifact
from streetvision_core.io.private import HIDDEN, config_of, machine_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from streetvision_core.io import ArtifactStore, InputArtifact, PrivateRecord, StepManifest

    Read = Callable[[str, InputArtifact], Sealed]


@dataclass(frozen=True)
class Node:
    """One artifact of the chain: its manifest, or what is wrong with it, and its inputs by step."""

    step: str
    run_id: str
    manifest_sha256: str
    manifest: StepManifest | None
    inputs: Mapping[str, str]
    fault: str = ""
    private: PrivateRecord | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, as far as it can be told."""
        return config_of(self.manifest, self.private) if self.manifest else {}

    @property
    def hostname(self) -> str:
        """The machine that computed it, as far as it can be told."""
        return machine_of(self.manifest, self.private)["hostname"] if self.manifest else HIDDEN

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values; ``inputs`` name other nodes by the SHA-256 of their manifest."""
        manifest = self.manifest.model_dump(mode="json") if self.manifest else None
        return {
            "step": self.step,
            "run_id": self.run_id,
            "manifest_sha256": self.manifest_sha256,
            "inputs": dict(self.inputs),
            "manifest": manifest,
            "private": self.private.model_dump(mode="json") if self.private else None,
            "fault": self.fault or None,
        }


@dataclass(frozen=True)
class Chain:
    """The nodes by the SHA-256 of their manifests, each after its inputs; the last one is the subject."""

    nodes: Mapping[str, Node]

    @property
    def good(self) -> bool:
        """Whether everything that the subject was made from is there."""
        return not any(node.fault for node in self.nodes.values())

    @property
    def top(self) -> Node:
        """The artifact whose chain it is."""
        return list(self.nodes.values())[-1]

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"subject": self.top.manifest_sha256, "nodes": [node.facts() for node in self.nodes.values()]}

    def text(self) -> str:
        """Return the chain as a tree."""
        from streetvision_core.history.tree import tree_text

        return tree_text(self)


def chain_in_store(store: ArtifactStore, step: str, *, run_id: str | None = None) -> Chain:
    """Return the chain of what is current of ``step``, or of what a run published.

    Raises:
        StreetVisionError: there is no such artifact, or its own manifest is damaged.
    """
    top = store.resolve(step, run_id=run_id)

    def read(name: str, given: InputArtifact) -> Sealed:
        directory = store.directory(given.run_id, name)
        return Sealed.of(read_artifact(directory, manifest_sha256=given.manifest_sha256))

    return _follow(Sealed.of(top), read)


def chain_of_folder(folder: Path) -> Chain:
    """Return the chain of a bundle's folder, from the manifests that it brings along.

    Raises:
        StreetVisionError: it is no such folder, or one of its manifests is damaged.
    """
    manifests = read_chain(folder)

    def read(name: str, given: InputArtifact) -> Sealed:
        sealed = manifests.get(name)
        if sealed is None or sealed.manifest.data_version != given.data_version:
            raise MissingArtifactError(
                f"{name} with the data version {given.data_version[:12]}",
                "none" if sealed is None else f"one of {sealed.manifest.data_version[:12]}",
                folder,
                "Take a whole copy of the bundle.",
            )
        return sealed

    return _follow(next(iter(manifests.values())), read)


def _follow(top: Sealed, read: Read) -> Chain:
    """Read what ``top`` was made from, each manifest once, and what that was made from."""
    nodes: dict[str, Node] = {}
    waiting = [top]
    while waiting:
        manifest, digest, private = waiting.pop()
        if digest in nodes:
            continue
        inputs: dict[str, str] = {}
        for name, given in sorted(manifest.input_artifacts.items()):
            inputs[name] = _input(name, given, read, nodes=nodes, waiting=waiting)
        nodes[digest] = Node(manifest.step_name, manifest.run_id, digest, manifest, inputs, private=private)
    order = in_order({digest: node.inputs.values() for digest, node in nodes.items()})
    return Chain({digest: nodes[digest] for digest in order})


def _input(
    name: str,
    given: InputArtifact,
    read: Read,
    *,
    nodes: dict[str, Node],
    waiting: list[Sealed],
) -> str:
    """Return the key of the node of an input; it is waiting to be followed, or is there as a fault."""
    digest = given.manifest_sha256 or given.data_version
    if digest in nodes:
        return digest
    if not given.manifest_sha256:
        nodes[digest] = Node(name, "", digest, None, {})
        return digest
    try:
        sealed = read(name, given)
    except StreetVisionError as error:
        nodes[digest] = Node(name, given.run_id, digest, None, {}, str(error))
        return digest
    waiting.append(sealed)
    return sealed.sha256
