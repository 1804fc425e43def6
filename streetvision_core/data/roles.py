"""The four roles of a picture, and which step may touch which: the rule that keeps figures honest.

A step opens pictures through a reader that holds only the roles it asked for, its manifest records
them, and :func:`role_violations` holds the record against the rule below.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ROLES = ("train", "val_select", "val_calib", "val_test")

MAY_READ = MappingProxyType(
    {
        "backbone": ("train", "val_select"),
        "phase1_checkpoint": ("train", "val_select"),
        "val_calib_logits": ("val_calib",),
        "gate": ("train", "val_select"),
        "evaluation": ("val_test",),
        "bundle": ("val_test",),
    }
)


# What a step may take from others: an artifact carries what its pictures said (val_test's decisions are in
# evaluation), so a forbidden input would be a way around the rule above.
MAY_TAKE = MappingProxyType(
    {
        "splits": ("images",),
        "backbone": ("images", "splits"),
        "phase1_checkpoint": ("images", "splits", "backbone"),
        "val_calib_logits": ("images", "splits", "phase1_checkpoint"),
        "thresholds": ("phase1_checkpoint", "val_calib_logits"),
        "gate": ("images", "splits", "phase1_checkpoint"),
        "scrc": ("phase1_checkpoint", "val_calib_logits"),
        "evaluation": ("images", "splits", "phase1_checkpoint", "thresholds", "gate", "scrc"),
    }
)


def role_violations(step: str, roles: Iterable[str], inputs: Iterable[str] = ()) -> list[str]:
    """Return what ``step`` read or took though it may not, one sentence each; none when it kept the rule."""
    allowed = MAY_READ.get(step, ())
    may = f"it may read {' and '.join(allowed)}" if allowed else "it may read no pictures of a role"
    found = [f"{step} read {role}, but {may}" for role in roles if role not in allowed]
    if step in MAY_TAKE:
        found += [
            f"{step} was made from {name}, which it may not be"
            for name in inputs
            if name not in MAY_TAKE[step]
        ]
    return found
