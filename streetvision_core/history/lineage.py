"""The chain of an artifact down to images, code and configuration.

In a store, an input is the very manifest that its reader names, by run and SHA-256. A bundle that was carried
away brings the manifests of its chain in `lineage/`; there, an input is the manifest of that step with the
data version that its reader names. A missing or different input is a node that says so.

Machines and paths come from the side files (`io/private.py`). A redacted bundle has none, so its chain
tells everything else; in a store, a lost side file is a fault.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import MissingArtifactError, StreetVisionError
from streetvision_core.escape import for_mermaid
from streetvision_core.history import text as words
from streetvision_core.history.find import Sealed, read_chain
from streetvision_core.io import read_artifact
from streetvision_core.io.private import HIDDEN, config_of, machine_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
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
        """Return everything as JSON values; `inputs` name other nodes by the SHA-256 of their manifest."""
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
        """True when everything that the subject was made from is there."""
        return not any(node.fault for node in self.nodes.values())

    @property
    def top(self) -> Node:
        """The artifact whose chain it is."""
        return list(self.nodes.values())[-1]

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"subject": self.top.manifest_sha256, "nodes": [node.facts() for node in self.nodes.values()]}

    def text(self) -> str:
        """Return the chain as a tree in box-drawing characters, what it was made from below each step.

        An input that was drawn further up is only referred to. The deepest input of a step comes first, so
        that the chain reads downwards from the decision to the images.
        """
        deep = words.depths({key: node.inputs.values() for key, node in self.nodes.items()})
        return "\n".join(_draw(self, self.top.manifest_sha256, deep=deep, drawn=set()))


def chain_in_store(store: ArtifactStore, step: str, *, run_id: str | None = None) -> Chain:
    """Return the chain of the current artifact of `step`, or of the one that a run published.

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
    """Read everything that `top` was made from, directly or not, each manifest once."""
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
    order = words.in_order({digest: node.inputs.values() for digest, node in nodes.items()})
    return Chain({digest: nodes[digest] for digest in order})


def _input(
    name: str, given: InputArtifact, read: Read, *, nodes: dict[str, Node], waiting: list[Sealed]
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


def mermaid_text(chain: Chain) -> str:
    """Return the chain as a Mermaid graph: an arrow from what was read to what was made from it."""
    names = {key: f"n{number}" for number, key in enumerate(chain.nodes)}
    lines = ["graph TD"]
    for key, node in chain.nodes.items():
        label = "<br/>".join(for_mermaid(line) for line in (f"{node.step}", *_labels(node)))
        lines.append(f'  {names[key]}["{label}"]')
    lines += [
        f"  {names[key]} --> {names[reader]}"
        for reader, node in chain.nodes.items()
        for key in node.inputs.values()
    ]
    bad = [names[key] for key, node in chain.nodes.items() if node.fault]
    if bad:
        lines += ["  classDef bad stroke:#c00,stroke-width:3px", f"  class {','.join(bad)} bad"]
    return "\n".join(lines)


def _draw(chain: Chain, key: str, *, deep: dict[str, int], drawn: set[str]) -> Iterator[str]:
    node = chain.nodes[key]
    drawn.add(key)
    children = sorted(node.inputs.values(), key=lambda child: (-deep[child], chain.nodes[child].step))
    yield node.step + (f"  run {node.run_id}" if node.run_id else "")
    yield from (f"{'│' if children else ' '}  {line}" for line in _details(node))
    while children:
        child, *children = children
        if child in drawn:
            yield f"└─ from above: {', '.join(sorted(_reference(chain, key) for key in (child, *children)))}"
            return
        # What the others are made from may be drawn by then, so the rest is sorted again: unseen ones first.
        lines = _draw(chain, child, deep=deep, drawn=drawn)
        yield f"{'├─' if children else '└─'} {next(lines)}"
        yield from (f"{'│' if children else ' '}  {line}" for line in lines)
        children.sort(key=drawn.__contains__)


def _reference(chain: Chain, key: str) -> str:
    node = chain.nodes[key]
    alike = [other for other in chain.nodes.values() if other.step == node.step]
    return node.step if len(alike) == 1 else f"{node.step} of {node.run_id}"


def _details(node: Node) -> Iterator[str]:
    """Yield the lines below a step in the tree."""
    if node.fault:
        yield from textwrap.wrap(f"BROKEN: {node.fault}", words.WIDTH - 24)
    elif node.manifest is None:
        yield f"a file with SHA-256 {words.short(node.manifest_sha256)}"
    else:
        data, code, configuration, *images = _facts(node, node.manifest)
        yield f"{data}, manifest {words.short(node.manifest_sha256)}"
        yield f"{code}, {configuration}"
        yield from _making(node.manifest, hostname=node.hostname)
        yield from (line for text in images for line in textwrap.wrap(text, words.WIDTH - 30))


def _making(manifest: StepManifest, *, hostname: str) -> Iterator[str]:
    machine = "a machine that is redacted" if hostname == HIDDEN else hostname
    where = f"{machine} ({manifest.device}), {manifest.duration_seconds:.1f} s"
    computed = f"computed {words.moment_text(manifest.started_at)} UTC on {where}"
    reused = manifest.reused_from
    yield from (f"reused from run {reused.run_id},", f"  {computed}") if reused else (computed,)


def _labels(node: Node) -> Iterator[str]:
    """Yield the lines below a step in the graph."""
    if node.run_id:
        yield f"run {node.run_id}"
    if node.fault:
        yield "missing or damaged"
    if node.manifest is not None:
        yield from _facts(node, node.manifest)
        if node.manifest.reused_from is not None:
            yield f"reused from {node.manifest.reused_from.run_id}"


def _facts(node: Node, manifest: StepManifest) -> list[str]:
    """Return data, code and configuration, and for the step that read them the images."""
    commit = words.code_text(manifest.git_sha, dirty=manifest.git_dirty)
    version = f" version {manifest.code_version}" if manifest.code_version else ""
    return [
        f"data {words.short(manifest.data_version)}",
        f"code {commit}{version}",
        f"configuration {words.short(manifest.config_hash)}",
        *([words.source_lines(node.config, manifest.metrics)] if node.step == words.IMAGES else []),
    ]
