"""The published artifacts that a bundle is made from: its policy's chain, and the evaluation that fits it.

A bundle needs its own policy and what that was made from, and nothing else. An evaluation goes along where it
judged this very policy on this chain; then the other policies that it judged are part of the lineage, as they
were when it did. An evaluation of another checkpoint or policy is left out, unless the release asks for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streetvision_core.errors import BundleError, IntegrityError, SchemaError, StoreError
from streetvision_core.graph import EVALUATION, POLICIES, steps_behind
from streetvision_core.io.chain import belonging, require_one_chain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streetvision_core.bundle.config import BundleConfig
    from streetvision_core.io import PublishedArtifact

    # Gives the artifact that another one was made from, by its name.
    InputOf = Callable[[PublishedArtifact, str], PublishedArtifact]


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
