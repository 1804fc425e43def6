"""The three kinds of policy as a bundle knows them: how each is read, and how it is proved to be right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streetvision_core.bundle.layout import POLICIES
from streetvision_core.eval.gate import Gate, GatePolicy
from streetvision_core.eval.policy import ThresholdPolicy, Thresholds, verify_thresholds
from streetvision_core.eval.scrc import Scrc, ScrcPolicy
from streetvision_core.eval.scrc_fit import verify_scrc

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


def refit_problems(
    kind: str, published: PublishedArtifact, *, select: LabelledLogits, calib: LabelledLogits
) -> list[str]:
    """Fit a policy again on the logits that it was fitted on; return what differs.

    A gate needs pictures for that, which the check of its own asset reads; here it is held against its own
    record alone.
    """
    if kind == "threshold":
        return verify_thresholds(Thresholds.from_artifact(published), select, calib)
    if kind == "scrc":
        return verify_scrc(Scrc.from_artifact(published), select, calib)
    Gate.from_artifact(published)
    return []
