"""A chain as a tree for a terminal, and as a Mermaid graph for a page.

In the tree, an input that was drawn further up is only referred to. The deepest input of a step comes first,
so that the chain reads downwards from the decision to the pictures.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from streetvision_core.escape import for_mermaid
from streetvision_core.history.order import depths
from streetvision_core.history.source import IMAGES, source_lines
from streetvision_core.history.text import WIDTH, code_text, moment_text, short
from streetvision_core.io.private import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streetvision_core.history.lineage import Chain, Node
    from streetvision_core.io import StepManifest


def tree_text(chain: Chain) -> str:
    """Return the chain as a tree in box-drawing characters, what it was made from below each step."""
    deep = depths({key: node.inputs.values() for key, node in chain.nodes.items()})
    return "\n".join(_draw(chain, chain.top.manifest_sha256, deep=deep, drawn=set()))


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
    children = sorted(node.inputs.values(), key=lambda one: (-deep[one], chain.nodes[one].step))
    yield node.step + (f"  run {node.run_id}" if node.run_id else "")
    yield from (f"{'│' if children else ' '}  {line}" for line in _details(node))
    while children:
        child, *children = children
        if child in drawn:
            yield f"└─ from above: {', '.join(sorted(_reference(chain, one) for one in (child, *children)))}"
            return
        # What the others are made from may be drawn by then, so the rest is sorted again: unseen ones first.
        lines = _draw(chain, child, deep=deep, drawn=drawn)
        yield f"{'├─' if children else '└─'} {next(lines)}"
        yield from (f"{'│' if children else ' '}  {line}" for line in lines)
        children = [one for one in children if one not in drawn] + [one for one in children if one in drawn]


def _reference(chain: Chain, key: str) -> str:
    node = chain.nodes[key]
    alike = [one for one in chain.nodes.values() if one.step == node.step]
    return node.step if len(alike) == 1 else f"{node.step} of {node.run_id}"


def _details(node: Node) -> Iterator[str]:
    if node.fault:
        yield from textwrap.wrap(f"BROKEN: {node.fault}", WIDTH - 24)
    elif node.manifest is None:
        yield f"a file with SHA-256 {short(node.manifest_sha256)}"
    else:
        manifest = node.manifest
        yield f"data {short(manifest.data_version)}, manifest {short(node.manifest_sha256)}"
        yield f"code {_code(manifest)}, configuration {short(manifest.config_hash)}"
        yield from _made(manifest, hostname=node.hostname)
        if node.step == IMAGES:
            yield from textwrap.wrap(source_lines(node.config, manifest.metrics), WIDTH - 30)


def _made(manifest: StepManifest, *, hostname: str) -> Iterator[str]:
    machine = "a machine that is redacted" if hostname == HIDDEN else hostname
    where = f"{machine} ({manifest.device}), {manifest.duration_seconds:.1f} s"
    computed = f"{moment_text(manifest.started_at)} UTC on {where}"
    if manifest.reused_from is None:
        yield f"computed {computed}"
    else:
        yield f"reused from run {manifest.reused_from.run_id},"
        yield f"  computed {computed}"


def _code(manifest: StepManifest) -> str:
    commit = code_text(manifest.git_sha, dirty=manifest.git_dirty)
    return f"{commit} version {manifest.code_version}" if manifest.code_version else commit


def _labels(node: Node) -> Iterator[str]:
    if node.run_id:
        yield f"run {node.run_id}"
    if node.fault:
        yield "missing or damaged"
    if node.manifest is not None:
        yield f"data {short(node.manifest.data_version)}"
        yield f"code {_code(node.manifest)}"
        yield f"configuration {short(node.manifest.config_hash)}"
        if node.manifest.reused_from is not None:
            yield f"reused from {node.manifest.reused_from.run_id}"
        if node.step == IMAGES:
            yield source_lines(node.config, node.manifest.metrics)
