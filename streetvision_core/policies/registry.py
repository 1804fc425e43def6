"""The registry of policies: how each kind in the table of the graph is read, and proved to be right.

A new kind is its rows in `graph.POLICIES` and `graph.STEPS`, a module here with its record, a row in
`_KINDS`, and the asset that fits it. Nothing else knows how many kinds there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self

from pydantic import PlainSerializer, PlainValidator, SerializationInfo

from streetvision_core.errors import BundleError, SchemaError
from streetvision_core.eval.decisions import Policy
from streetvision_core.graph import LOGITS, POLICIES
from streetvision_core.io.published import belonging, require_one_chain
from streetvision_core.policies.gate import Gate, GatePolicy
from streetvision_core.policies.gate_fit import verify_gate
from streetvision_core.policies.scrc import Scrc, ScrcPolicy
from streetvision_core.policies.scrc_fit import verify_scrc
from streetvision_core.policies.threshold import ThresholdPolicy, Thresholds, verify_thresholds

if TYPE_CHECKING:
    from streetvision_core.eval.decisions import LabelledLogits
    from streetvision_core.inference.logits import Logits
    from streetvision_core.io import Artifact, PublishedArtifact


class PolicyRecord(Policy, Protocol):
    """A policy that is read from the decoded content of its file, strictly."""

    @classmethod
    def from_json(cls, content: Any, *, where: str) -> Self:
        """Raise a SchemaError for an unknown or missing field, a wrong type, or another schema version."""


class Refit(Protocol):
    """Fits a policy again on what it was fitted on; returns what differs, one sentence a difference."""

    def __call__(
        self,
        published: PublishedArtifact,
        upstream: Mapping[str, PublishedArtifact],
        select: LabelledLogits,
        /,
    ) -> list[str]:
        """Take the policy as it was published, what it was made from by step, and logits of val_select."""


def _refit_threshold(
    published: PublishedArtifact, upstream: Mapping[str, PublishedArtifact], select: LabelledLogits
) -> list[str]:
    calib = _calib(upstream)
    return verify_thresholds(
        Thresholds.from_artifact(published), select, calib, groups_known=calib.groups_known
    )


def _refit_gate(
    published: PublishedArtifact, _upstream: Mapping[str, PublishedArtifact], select: LabelledLogits
) -> list[str]:
    return verify_gate(Gate.from_artifact(published), select)


def _refit_scrc(
    published: PublishedArtifact, upstream: Mapping[str, PublishedArtifact], select: LabelledLogits
) -> list[str]:
    calib = _calib(upstream)
    return verify_scrc(Scrc.from_artifact(published), select, calib, groups_known=calib.groups_known)


def _calib(upstream: Mapping[str, PublishedArtifact]) -> Logits:
    from streetvision_core.inference.logits import Logits

    return Logits.from_artifact(upstream[LOGITS])


@dataclass(frozen=True)
class _Kind:
    """The record of a kind of policy, how it is fitted again, and the artifact that it alone makes."""

    record: type[PolicyRecord]
    refit: Refit
    artifact: Callable[[Any], Artifact]


_KINDS: Mapping[str, _Kind] = {
    "threshold": _Kind(
        ThresholdPolicy, _refit_threshold, lambda policy: Thresholds(policy, ()).to_artifact()
    ),
    "gate": _Kind(GatePolicy, _refit_gate, lambda policy: Gate(policy).to_artifact()),
    "scrc": _Kind(ScrcPolicy, _refit_scrc, lambda policy: Scrc(policy).to_artifact()),
}


def parse_policy(kind: str, content: Any, *, where: str) -> Policy:
    """Read the decoded content of a policy's file strictly.

    Raises:
        SchemaError: an unknown or missing field, a wrong type, or another schema version.
    """
    return _KINDS[kind].record.from_json(content, where=where)


def metrics_of(policy: Policy) -> Mapping[str, float]:
    """Return the metrics that the step of a policy shows in its manifest."""
    return _KINDS[policy.type].artifact(policy).metrics


def published_policies(upstream: Mapping[str, PublishedArtifact]) -> dict[str, Policy]:
    """Return the policies among published artifacts, by their types, in the order of the kinds.

    Raises:
        SchemaError: one was written by another version.
    """
    return {
        kind: parse_policy(
            kind, upstream[entry.step].read_json(entry.file), where=str(upstream[entry.step].path(entry.file))
        )
        for kind, entry in POLICIES.items()
        if entry.step in upstream
    }


@dataclass(frozen=True)
class Judged:
    """The policies of one checkpoint: as they were published, by step, and read, by type; at least one.

    `left_out` holds a sentence for each published policy that belongs to another chain.
    """

    published: Mapping[str, PublishedArtifact]
    policies: Mapping[str, Policy]
    left_out: tuple[str, ...]


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

    Args:
        kind: The type of the policy.
        upstream: What it was made from, and itself, by step.
        select: The logits of val_select that its checkpoint holds.
    """
    return _KINDS[kind].refit(upstream[POLICIES[kind].step], upstream, select)


def _read(value: object) -> Policy:
    """Read the policy in a record by its type; a policy that is one already stays as it is."""
    for known in _KINDS.values():
        if isinstance(value, known.record):
            return value
    kind = value.get("type") if isinstance(value, Mapping) else value
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"a policy of {', '.join(_KINDS)}, not {kind!r}")
    try:
        return parse_policy(kind, value, where=kind)
    except SchemaError as error:
        raise ValueError(error.found) from error


def _write(policy: Any, info: SerializationInfo) -> Any:
    return policy.model_dump(mode=info.mode)


# A policy of any kind as a field of a record.
AnyPolicy = Annotated[Policy, PlainValidator(_read), PlainSerializer(_write)]
