"""The graph as one table: the steps, what each is made from, which roles of images it opens, its policy.

Every list of steps, inputs, roles or policies in this tree is read here. A step opens images through a reader
that holds only the roles it asked for, its manifest records them, and `role_violations` holds the
record against the table. Data may have been seen by another step first, so the inputs count as well: an
artifact carries what its images said (the decisions on val_test are in evaluation), and a forbidden input
would be a way around the roles.

Every step reads this file, and a row more must not recompute all of them. So the code version of a step
covers the functions and classes of this file, and only those rows of the tables that the step stands on
(`rows_behind`).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROLES = ("train", "val_select", "val_calib", "val_test")
CHECKPOINT, LOGITS, EVALUATION, BUNDLE = "phase1_checkpoint", "val_calib_logits", "evaluation", "bundle"
CROSS_VALIDATION = "cross_validation"
CONDITIONS = "conditions"


@dataclass(frozen=True)
class PolicyKind:
    """A kind of policy: the step that fits it, and the file of that step which a bundle ships."""

    PREFIX: ClassVar[str] = "policy/"

    step: str
    file: str

    @property
    def path(self) -> str:
        """The path of the step's file in a bundle."""
        return f"{self.PREFIX}{self.file}"


# The first that exists is the headline of a report.
POLICIES: Mapping[str, PolicyKind] = MappingProxyType(
    {
        "threshold": PolicyKind("thresholds", "thresholds.json"),
        "gate": PolicyKind("gate", "gate.json"),
        "scrc": PolicyKind("scrc", "scrcparams.json"),
    }
)
POLICY_STEPS = tuple(kind.step for kind in POLICIES.values())


@dataclass(frozen=True)
class Step:
    """A step must be made from `inputs`, may be made from `optional` besides, and may open `roles`.

    It is always made from `added` as well, but older versions, whose manifests stay good, did not know these.
    """

    inputs: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    @property
    def takes(self) -> tuple[str, ...]:
        """Every step that it may be made from."""
        return self.inputs + self.added + self.optional


STEPS: Mapping[str, Step] = MappingProxyType(
    {
        "images": Step(),
        "splits": Step(("images",)),
        CONDITIONS: Step(),
        "backbone": Step(optional=("images", "splits"), roles=("train", "val_select")),
        CHECKPOINT: Step(("images", "splits", "backbone"), (CONDITIONS,), roles=("train", "val_select")),
        LOGITS: Step(("images", "splits", CHECKPOINT), (CONDITIONS,), roles=("val_calib",)),
        "thresholds": Step((CHECKPOINT, LOGITS)),
        "gate": Step(("images", "splits", CHECKPOINT), (CONDITIONS,), roles=("train", "val_select")),
        "scrc": Step((CHECKPOINT, LOGITS)),
        EVALUATION: Step(("images", "splits", CHECKPOINT), (CONDITIONS,), POLICY_STEPS, roles=("val_test",)),
        BUNDLE: Step(
            ("images", "splits", "backbone", CHECKPOINT),
            (CONDITIONS,),
            (LOGITS, *POLICY_STEPS, EVALUATION),
            roles=("val_test",),
        ),
        # Its recipe is that of the checkpoint. val_calib where it is asked for by name, as a look at it.
        CROSS_VALIDATION: Step(
            ("images", "splits", "backbone", CHECKPOINT, CONDITIONS),
            roles=("train", "val_select", "val_calib"),
        ),
        # It shows images that a model contradicts: never those that judge or certify.
        "label_audit": Step(("images", "splits", CROSS_VALIDATION), roles=("train", "val_select")),
    }
)


# The steps that judge by a role which chose nothing before, so that each look at it counts (io/ledger.py);
# cross_validation where it opens that role.
LOOKS: Mapping[str, str] = MappingProxyType(
    {
        LOGITS: "val_calib",
        "thresholds": "val_calib",
        "scrc": "val_calib",
        EVALUATION: "val_test",
        CROSS_VALIDATION: "val_calib",
    }
)


def steps_behind(step: str, *, added: bool = False, optional: bool = False) -> tuple[str, ...]:
    """Return every step that `step` must be made from, directly or not, and itself, which is the last.

    With `added`, inputs that older versions did without are among them. With `optional`, inputs that a step
    may have besides are.
    """
    steps: dict[str, None] = {}
    rule = STEPS.get(step, Step())
    for name in rule.inputs + rule.added * added + rule.optional * optional:
        steps |= dict.fromkeys(steps_behind(name, added=added, optional=optional))
    return (*steps, step)


def rows_behind(step: str) -> tuple[object, ...]:
    """Return what the tables say of a step and of each that it may be made from, for its code version."""
    steps = steps_behind(step, added=True, optional=True)
    kinds = [(name, kind) for name, kind in POLICIES.items() if kind.step in steps]
    return (ROLES, kinds, [(name, STEPS.get(name), LOOKS.get(name)) for name in steps])


def role_violations(step: str, roles: Iterable[str], inputs: Iterable[str] = ()) -> list[str]:
    """Return the roles and inputs that `step` took against the rule, one sentence each."""
    rule = STEPS.get(step, Step())
    may = f"it may read {' and '.join(rule.roles)}" if rule.roles else "it may read no images of a role"
    problems = [f"{step} read {role}, but {may}" for role in roles if role not in rule.roles]
    if step in STEPS:
        problems += [
            f"{step} was made from {name}, which it may not be" for name in inputs if name not in rule.takes
        ]
    return problems
