"""The chain that a bundle stands on: policy <- logits <- checkpoint <- splits <- images.

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

# Which inputs each step must have read; it may have read more, and those are checked as well.
CHAIN = MappingProxyType(
    {
        "splits": ("images",),
        "phase1_checkpoint": ("images", "splits", "backbone"),
        "val_calib_logits": ("images", "splits", "phase1_checkpoint"),
        "thresholds": ("phase1_checkpoint", "val_calib_logits"),
        "evaluation": ("images", "splits", "phase1_checkpoint"),
    }
)


def steps_behind(policy_step: str) -> tuple[str, ...]:
    """Return the steps whose manifests a bundle with this policy must hold."""
    return ("images", "splits", "backbone", CHECKPOINT, LOGITS, policy_step, EVALUATION)


def chain_problems(manifests: Mapping[str, StepManifest], *, policy_step: str) -> list[str]:
    """Return where the chain is broken, or read a role it may not; none when it is whole."""
    missing = [step for step in steps_behind(policy_step) if step not in manifests]
    if missing:
        return [f"the manifest of {step} is missing" for step in missing]
    problems = []
    for step, manifest in sorted(manifests.items()):
        if manifest.step_name != step:
            problems.append(f"the manifest given for {step} is one of {manifest.step_name}")
        problems += _link_problems(manifests, step, policy_step=policy_step)
        problems += role_violations(step, manifest.roles, manifest.input_artifacts)
    return problems


def _link_problems(manifests: Mapping[str, StepManifest], step: str, *, policy_step: str) -> Iterator[str]:
    inputs = manifests[step].input_artifacts
    required = (*CHAIN.get(step, ()), *((policy_step,) if step == EVALUATION else ()))
    for name in required:
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
