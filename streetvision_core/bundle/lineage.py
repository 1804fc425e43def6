"""The chain that a bundle stands on: evaluation <- policies <- logits <- checkpoint <- splits <- images.

It is proved from the manifests. Every manifest names, with its data version, each input that its step
read; a chain holds when each of these is the data version of the manifest that lies beside it, and when
no link is left out. What records such as ``thresholds.json`` say about themselves is checked besides,
and never instead.

Each manifest also records which roles of pictures its step opened; a step that opened one it may not
(`data/roles.py`) breaks the chain as well.

A link is compared by data version and not by run: the same content published again by a later run is
the same input. The manifests that lie in a bundle are themselves pinned by their SHA-256, in the
manifest of the bundle.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from streetvision_core.data.roles import role_violations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streetvision_core.io import StepManifest

CHECKPOINT, LOGITS, EVALUATION = "phase1_checkpoint", "val_calib_logits", "evaluation"
# The evaluation sets every policy side by side, so a bundle stands on all of them, whichever it ships.
POLICY_STEPS = ("thresholds", "gate", "scrc")

# Which inputs each step must have read; it may have read more, and those are checked as well.
CHAIN = MappingProxyType(
    {
        "splits": ("images",),
        "phase1_checkpoint": ("images", "splits", "backbone"),
        "val_calib_logits": ("images", "splits", "phase1_checkpoint"),
        "thresholds": ("phase1_checkpoint", "val_calib_logits"),
        "gate": ("images", "splits", "phase1_checkpoint"),
        "scrc": ("phase1_checkpoint", "val_calib_logits"),
        "evaluation": ("images", "splits", "phase1_checkpoint", *POLICY_STEPS),
    }
)
STEPS_BEHIND = ("images", "splits", "backbone", CHECKPOINT, LOGITS, *POLICY_STEPS, EVALUATION)


def chain_problems(manifests: Mapping[str, StepManifest]) -> list[str]:
    """Return where the chain is broken, or read a role it may not; none when it is whole."""
    missing = [step for step in STEPS_BEHIND if step not in manifests]
    if missing:
        return [f"the manifest of {step} is missing" for step in missing]
    problems = []
    for step, manifest in sorted(manifests.items()):
        if manifest.step_name != step:
            problems.append(f"the manifest given for {step} is one of {manifest.step_name}")
        problems += _link_problems(manifests, step)
        problems += role_violations(step, manifest.roles, manifest.input_artifacts)
    return problems


def _link_problems(manifests: Mapping[str, StepManifest], step: str) -> Iterator[str]:
    inputs = manifests[step].input_artifacts
    for name in CHAIN.get(step, ()):
        if name not in inputs:
            yield f"{step} does not say which {name} it was made from"
    for name, given in sorted(inputs.items()):
        if name not in manifests:
            yield f"{step} was made from {name}, whose manifest is missing"
        elif given.data_version != manifests[name].data_version:
            found = manifests[name].data_version
            yield (
                f"{step} was made from another {name} (data version {given.data_version[:12]})"
                f" than the one here ({found[:12]})"
            )
