"""The chain that a bundle stands on: policy <- logits <- checkpoint <- splits <- images, and the evaluation.

It is proved from the manifests. Every manifest names, with its data version, each input that its step
read; a chain holds when each of these is the data version of the manifest that lies beside it, and when
no link is left out. What records such as ``thresholds.json`` say about themselves is checked besides,
and never instead.

A bundle ships one policy and needs only what that policy was made from. Where an evaluation is shipped, it
must have judged this policy; the other policies that it set beside it are part of the chain as well.

Each manifest also records which roles of images its step opened; a step that opened one it may not
(`graph`) breaks the chain as well.

A link is compared by data version and not by run (`io/chain.py`). The manifests that lie in a bundle are
themselves pinned by their SHA-256, in the manifest of the bundle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.graph import EVALUATION, STEPS, role_violations, steps_behind
from streetvision_core.io.chain import disagreements

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from streetvision_core.io import StepManifest


def chain_problems(manifests: Mapping[str, StepManifest], *, policy_step: str) -> list[str]:
    """Return where the chain is broken, or read a role it may not; none when it is whole.

    Args:
        manifests: The manifests by step: of everything behind the bundle, and nothing else.
        policy_step: The step that made the bundle's policy.
    """
    missing = [step for step in steps_behind(policy_step) if step not in manifests]
    if missing:
        return [f"the manifest of {step} is missing" for step in missing]
    problems = []
    for step, manifest in sorted(manifests.items()):
        if manifest.step_name != step:
            problems.append(f"the manifest given for {step} is one of {manifest.step_name}")
        problems += _missing_links(manifests, step)
        problems += role_violations(step, manifest.roles, manifest.input_artifacts)
    judged = manifests[EVALUATION].input_artifacts if EVALUATION in manifests else (policy_step,)
    if policy_step not in judged:
        problems.append(f"evaluation was not made from {policy_step}, whose policy is shipped")
    ends = (policy_step, EVALUATION) if EVALUATION in manifests else (policy_step,)
    strangers = sorted(manifests.keys() - _reached(manifests, ends))
    problems += [f"nothing here was made from {step}, whose manifest lies here" for step in strangers]
    return problems + list(map(str, disagreements(dict(sorted(manifests.items())))))


def _missing_links(manifests: Mapping[str, StepManifest], step: str) -> Iterator[str]:
    inputs = manifests[step].input_artifacts
    for name in STEPS[step].inputs if step in STEPS else ():
        if name not in inputs:
            yield f"{step} does not say which {name} it was made from"
    for name in sorted(inputs.keys() - manifests.keys()):
        yield f"{step} was made from {name}, whose manifest is missing"


def _reached(manifests: Mapping[str, StepManifest], ends: Iterable[str]) -> set[str]:
    """Return the steps that these ends were made from, directly or not, and the ends."""
    reached: set[str] = set()
    waiting = list(ends)
    while waiting:
        step = waiting.pop()
        if step in manifests and step not in reached:
            reached.add(step)
            waiting += manifests[step].input_artifacts
    return reached
