"""The three kinds of policy as a bundle knows them: how each is read, and how it is proved to be right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import BundleError
from streetvision_core.graph import LOGITS, POLICIES
from streetvision_core.io.chain import belonging, require_one_chain
from streetvision_core.policies.gate import Gate, GatePolicy
from streetvision_core.policies.scrc import Scrc, ScrcPolicy
from streetvision_core.policies.scrc_fit import verify_scrc
from streetvision_core.policies.threshold import ThresholdPolicy, Thresholds, verify_thresholds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streetvision_core.eval.decisions import LabelledLogits, Policy
    from streetvision_core.io import PublishedArtifact

_READERS: dict[str, Callable[..., Policy]] = {
    "threshold": ThresholdPolicy.from_json,
    "gate": GatePolicy.from_json,
    "scrc": ScrcPolicy.from_json,
}


def parse_policy(kind: str, content: Any, *, where: str) -> Policy:
    """Read the decoded content of a policy's file strictly.

    Raises:
        SchemaError: an unknown or missing field, a wrong type, or another schema version.
    """
    return _READERS[kind](content, where=where)


def published_policies(upstream: Mapping[str, PublishedArtifact]) -> dict[str, Policy]:
    """Return the policies among published artifacts, by their types, in the order of the kinds.

    Raises:
        SchemaError: one was written by another version.
    """
    return {
        kind: parse_policy(
            kind, upstream[one.step].read_json(one.file), where=str(upstream[one.step].path(one.file))
        )
        for kind, one in POLICIES.items()
        if one.step in upstream
    }


@dataclass(frozen=True)
class Judged:
    """The policies of one checkpoint: as they were published, by step, and read, by type; at least one.

    `left_out` holds a sentence for each published policy that belongs to another chain.
    """

    published: Mapping[str, PublishedArtifact]
    policies: Mapping[str, Policy]
    left_out: tuple[str, ...]

    @property
    def lead(self) -> Policy:
        """The first policy in the order of the kinds."""
        return next(iter(self.policies.values()))


def judged_policies(
    required: Mapping[str, PublishedArtifact], published: Mapping[str, PublishedArtifact | None]
) -> Judged:
    """Choose the policies that an evaluation judges: those that exist for its checkpoint.

    Args:
        required: Images, splits and checkpoint of the evaluation, by step.
        published: What each policy's step has published, by step; None where nothing was.

    Raises:
        BundleError: there is no policy for this checkpoint.
        IntegrityError: the checkpoint was made from other images or splits.
        SchemaError: one was written by another version.
    """
    require_one_chain(required, step="evaluation")
    kept, left_out = belonging(required, published)
    if not kept:
        raise BundleError(
            "a policy for this checkpoint, to be judged on val_test",
            "; ".join(left_out) or f"none of {', '.join(published)}",
            "evaluation",
            "Materialize one first: dagster asset materialize --select thresholds.",
        )
    return Judged(kept, published_policies(kept), tuple(left_out))


def refit_problems(
    kind: str, upstream: Mapping[str, PublishedArtifact], *, select: LabelledLogits
) -> list[str]:
    """Fit a policy again on the logits that it was fitted on; return what differs.

    A gate needs images for that, which the check of its own asset reads; here it is held against its own
    record alone.

    Args:
        kind: The type of the policy.
        upstream: What it was made from, and itself, by step.
        select: The logits of val_select that its checkpoint holds.
    """
    from streetvision_core.inference.logits import Logits

    published = upstream[POLICIES[kind].step]
    if kind == "gate":
        Gate.from_artifact(published)
        return []
    calib = Logits.from_artifact(upstream[LOGITS])
    if kind == "threshold":
        return verify_thresholds(Thresholds.from_artifact(published), select, calib)
    return verify_scrc(Scrc.from_artifact(published), select, calib)
