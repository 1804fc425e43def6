"""The chain that a bundle stands on: policy <- logits <- checkpoint <- splits <- images, and the evaluation.

It is chosen when a bundle is made (`choose_parts`), and proved from the manifests wherever one is read. Every
manifest names, with its data version, each input that its step read; a chain holds when each of these is the
data version of the manifest that lies beside it, and when no link is left out. What records such as
`thresholds.json` say about themselves is checked besides, and never instead.

A bundle ships one policy and needs only what that policy was made from. Where an evaluation is shipped, it
must have judged this policy; the other policies that it set beside it are part of the chain as well, as they
were when it did. An evaluation of another checkpoint or policy is left out.

Each manifest also records which roles of images its step opened; a step that opened one it may not
(`graph`) breaks the chain as well.

A link is compared by data version and not by run (`io/published.py`). The manifests that lie in a bundle are
themselves pinned by their SHA-256, in the manifest of the bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streetvision_core.errors import BundleError, IntegrityError, SchemaError, StoreError
from streetvision_core.graph import EVALUATION, POLICIES, STEPS, role_violations, steps_behind
from streetvision_core.io.published import belonging, disagreements, require_one_chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from streetvision_core.bundle.config import BundleConfig
    from streetvision_core.io import PublishedArtifact, StepManifest

    # Gives the artifact that another one was made from, by its name.
    InputOf = Callable[[PublishedArtifact, str], PublishedArtifact]


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


@dataclass(frozen=True)
class Parts:
    """Everything behind a bundle by step, and a sentence for each artifact that was left out."""

    upstream: Mapping[str, PublishedArtifact]
    left_out: tuple[str, ...]


def choose_parts(
    published: Mapping[str, PublishedArtifact | None], *, config: BundleConfig, input_of: InputOf
) -> Parts:
    """Choose what a bundle is made from.

    Args:
        published: What each step has published, by step; None where nothing was.
        config: The bundle's settings, its policy among them.
        input_of: Gives an artifact that another was made from, current or not.

    Raises:
        BundleError: the policy or a step behind it was not published.
        IntegrityError: the steps behind the policy were not made from each other.
    """
    policy_step = POLICIES[config.policy].step
    required = {step: _require(published, step, policy=config.policy) for step in steps_behind(policy_step)}
    require_one_chain(required, step="bundle")
    kept, left_out = belonging(required, {EVALUATION: published.get(EVALUATION)})
    evaluation = kept.get(EVALUATION)
    upstream: dict[str, PublishedArtifact] = {}
    for artifact in required.values():
        _add(upstream, artifact, input_of)
    if evaluation is not None:
        obstacle = _obstacle(upstream, evaluation, policy_step=policy_step, input_of=input_of)
        left_out = [f"evaluation is left out: {obstacle}"] if obstacle else []
    return Parts(upstream, tuple(left_out))


def _obstacle(
    upstream: dict[str, PublishedArtifact],
    evaluation: PublishedArtifact,
    *,
    policy_step: str,
    input_of: InputOf,
) -> str:
    """Add an evaluation and everything behind it; return why that is not possible, empty where it is."""
    if policy_step not in evaluation.manifest.input_artifacts:
        return f"it did not judge the policy of {policy_step}"
    whole = dict(upstream)
    try:
        _add(whole, evaluation, input_of)
    except (StoreError, IntegrityError, SchemaError) as error:
        return str(error)
    upstream |= whole
    return ""


def _require(
    published: Mapping[str, PublishedArtifact | None], step: str, *, policy: str
) -> PublishedArtifact:
    artifact = published.get(step)
    if artifact is None:
        raise BundleError(
            f"everything that a bundle with the policy {policy} is made from",
            f"no {step} in this store that can be read",
            step,
            f"Materialize it first: dagster asset materialize --select '*{step}'.",
        )
    return artifact


def _add(upstream: dict[str, PublishedArtifact], artifact: PublishedArtifact, input_of: InputOf) -> None:
    """Add an artifact and everything that it was made from."""
    upstream[artifact.manifest.step_name] = artifact
    for name in artifact.manifest.input_artifacts:
        if name not in upstream:
            _add(upstream, input_of(artifact, name), input_of)
