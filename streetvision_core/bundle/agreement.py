"""The values that a bundle records twice: one table of pairs, which must be equal.

A side of a pair is a file and the place of a value in its JSON, such as `splits.json counts.train.groups`. A
value that an older version did not record agrees with everything, and so does a path that was hidden. Two
objects are compared by the names that both hold.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, Final

from streetvision_core.bundle.layout import CARD, EVALUATION, ONNX_RECORD, RECORD, SPLITS
from streetvision_core.eval.decisions import same_numbers
from streetvision_core.eval.use.drift import DRIFT_NAME
from streetvision_core.graph import CHECKPOINT, LOGITS, POLICIES, ROLES
from streetvision_core.io.names import MANIFEST_NAME
from streetvision_core.io.private import HIDDEN
from streetvision_core.io.published import LINEAGE_PREFIX
from streetvision_core.recorded import from_recorded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Pairs = tuple[tuple[str, str], ...]

ABSENT: Final = object()


def _of_step(step: str) -> str:
    return f"{LINEAGE_PREFIX}{step}.json"


def _places_of(kind: str) -> tuple[str, str]:
    """Return where a policy of a kind may stand: in its file, and in the report."""
    return f"{POLICIES[kind].path} ", f"{EVALUATION} policies.{kind}.policy."


_SPLITS_STEP = _of_step("splits")
_OF_THE_CARD = ("model_name", "description", "version", "submitted_by", "submission_time")
EQUAL: Pairs = (
    # Counts and sizes.
    *(
        (f"{EVALUATION} counts.{count}", f"{SPLITS} counts.val_test.{other}")
        for count, other in (("n", "pictures"), ("roadwork", "roadwork"), ("none", "none"))
    ),
    (f"{ONNX_RECORD} parity.images", f"{SPLITS} counts.val_test.pictures"),
    *((f"{_SPLITS_STEP} metrics.{role}", f"{SPLITS} counts.{role}.pictures") for role in ROLES),
    *(
        (f"{_SPLITS_STEP} metrics.{name}", f"{SPLITS} uniting.{name}")
        for name in ("groups_before", "groups_after", "united", "largest")
    ),
    *(
        (f"{_of_step(LOGITS)} metrics.{name}", f"{SPLITS} counts.val_calib.{name}")
        for name in ("pictures", "roadwork")
    ),
    *(
        (f"{place}val_select.n", f"{SPLITS} counts.val_select.pictures")
        for kind in POLICIES
        for place in _places_of(kind)
    ),
    *(
        (f"{place}val_calib.{count}", f"{SPLITS} counts.val_calib.{other}")
        for place, (count, other) in product(
            _places_of("threshold"), (("n", "pictures"), ("roadwork", "roadwork"), ("none", "none"))
        )
    ),
    # Settings, in the manifest of the step and in what it made.
    (f"{SPLITS} config", f"{_SPLITS_STEP} config"),
    *(
        (f"{place}chosen_by", f"{_of_step(POLICIES[kind].step)} config")
        for kind in POLICIES
        for place in _places_of(kind)
    ),
    *(
        (f"{_of_step(step)} seed", f"{_of_step(step)} config.seed")
        for step in ("splits", "backbone", CHECKPOINT, "gate", "scrc")
    ),
    # The bundle's own settings, and what they were written into.
    *((f"{CARD} {name}", f"{MANIFEST_NAME} config.{name}") for name in _OF_THE_CARD),
    (f"{RECORD} policy.type", f"{MANIFEST_NAME} config.policy"),
    (f"{RECORD} lineage", f"{MANIFEST_NAME} config.lineage"),
    (f"{RECORD} degenerate", f"{CARD} degenerate"),
    (f"{RECORD} backbone_id", f"{RECORD} architecture"),
)
# The first is at most the second. Near-duplicates unite groups, so a report may count more of them.
AT_MOST: Pairs = (
    (f"{_of_step('scrc')} metrics.units", f"{SPLITS} counts.val_calib.pictures"),
    (f"{DRIFT_NAME} units", f"{SPLITS} counts.val_calib.pictures"),
    *(
        (f"{SPLITS} counts.val_test.groups", f"{EVALUATION} policies.{kind}.coverage.groups")
        for kind in POLICIES
    ),
)


def disagreements(documents: Mapping[str, Any]) -> Iterator[str]:
    """Compare what stands in two places; give one sentence for each pair that does not agree.

    Args:
        documents: The decoded JSON of a bundle, by the names of its files.
    """
    for first, second in EQUAL:
        value, other = value_at(documents, first), value_at(documents, second)
        if not _agree(value, other):
            yield f"{first} is {_brief(value)}, and {second} is {_brief(other)}"
    for first, second in AT_MOST:
        value, other = value_at(documents, first), value_at(documents, second)
        if isinstance(value, (int, float)) and isinstance(other, (int, float)) and value > other:
            yield f"{first} is {_brief(value)}, and {second} is only {_brief(other)}"


def value_at(documents: Mapping[str, Any], place: str) -> Any:
    """Return what stands in a place; `ABSENT` where nothing does."""
    name, _, path = place.partition(" ")
    value = documents.get(name, ABSENT)
    for key in path.split("."):
        value = value.get(key, ABSENT) if isinstance(value, dict) else ABSENT
    if path.split(".")[-1] in ("config", "chosen_by") and isinstance(value, dict):
        return from_recorded(_step_of(name, path), value)
    return value


def _step_of(name: str, path: str) -> str:
    for kind, policy in POLICIES.items():
        if name in (policy.path, _of_step(policy.step)) or path == f"policies.{kind}.policy.chosen_by":
            return policy.step
    return ""


def _agree(value: Any, other: Any) -> bool:
    if isinstance(value, dict) and isinstance(other, dict):
        return all(_agree(value[name], other[name]) for name in value.keys() & other.keys())
    return any(side is ABSENT or side == HIDDEN for side in (value, other)) or same_numbers(value, other)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
