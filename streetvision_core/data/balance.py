"""Bounds on what each role holds: share, prevalence, groups of a class, largest group.

Crossing a bound is a warning and no error: the split is the best of many draws, so whoever has no more data
may go on and should know which figures to distrust. A role without a class is an error of
`streetvision_core.data.verify`. Only the index and the roles are read, so splits of any version can be
judged.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streetvision_core.data.draws import ENOUGH_GROUPS, LARGEST_SHARE
from streetvision_core.data.groups import count_groups, groups_known
from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.graph import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streetvision_core.data.index import ImageIndex
    from streetvision_core.data.splits import Splits

# A tenth of the images that became a fifteenth or a seventh of them is still what was asked for.
SHARE_FACTOR = 1.5
# A threshold tuned at one prevalence is off at another; certificates at .4 failed at .6.
PREVALENCE_FACTOR = 1.5
WHAT_TO_DO = (
    "it is the best of the draws that were tried: add images of other places, or ask for other shares"
)
# Intervals over fewer groups are too short (coverage .87 instead of .95 at 20 groups).
FEW_GROUPS = 30


@dataclass(frozen=True)
class RoleBalance:
    """The content of a role: images and groups of each class, all groups, and images of the largest group.

    Where the data names no groups (`groups_known`), each image counts as one, and is called an image.
    """

    role: str
    images: tuple[int, int]
    groups_with: tuple[int, int]
    groups: int
    largest: int
    groups_known: bool = True

    @property
    def total(self) -> int:
        """The number of images."""
        return sum(self.images)

    @property
    def prevalence(self) -> float:
        """The share of Roadwork."""
        return self.images[1] / max(1, self.total)

    def figures(self) -> dict[str, int | float]:
        """Return the numbers that are held against bounds, by name."""
        return {
            "images": self.total,
            "prevalence": round(self.prevalence, 4),
            "groups": self.groups,
            "None groups": self.groups_with[0],
            "Roadwork groups": self.groups_with[1],
            "largest group": round(self.largest / max(1, self.total), 4),
        }


def balance_roles(index: ImageIndex, splits: Splits) -> tuple[RoleBalance, ...]:
    """Return what each role holds, in the order of `ROLES`; groups are those that near-duplicates unite."""
    label_of = {image.name: image.label for image in index.pictures}
    known = groups_known(index.pictures)
    return tuple(_balance(role, splits, label_of, known=known) for role in ROLES)


def _balance(role: str, splits: Splits, label_of: Mapping[str, int], *, known: bool) -> RoleBalance:
    names = splits.roles[role]
    labels = Counter(label_of[name] for name in names)
    sizes = Counter(splits.group_of[name] for name in names)
    pairs = Counter(label for label, _ in {(label_of[name], splits.group_of[name]) for name in names})
    return RoleBalance(
        role, (labels[0], labels[1]), (pairs[0], pairs[1]), len(sizes), max(sizes.values(), default=0), known
    )


def balance_warnings(balances: tuple[RoleBalance, ...], shares: Mapping[str, float]) -> list[str]:
    """Return where a role is out of bounds, one sentence each; empty when none is."""
    total = sum(balance.total for balance in balances)
    roadwork = sum(balance.images[1] for balance in balances)
    warnings = [
        warning
        for balance in balances
        for warning in (
            *_share_warnings(balance, shares[balance.role], total),
            *_class_warnings(balance),
            *_prevalence_warnings(balance, roadwork / total),
        )
    ]
    return [*warnings, WHAT_TO_DO] if warnings else []


def _share_warnings(balance: RoleBalance, share: float, total: int) -> Iterator[str]:
    if not share / SHARE_FACTOR <= balance.total / total <= share * SHARE_FACTOR:
        yield f"{balance.role} holds {balance.total / total:.0%} of the images instead of {share:.0%}"
    if balance.largest > LARGEST_SHARE * balance.total:
        yield f"one group is {balance.largest / balance.total:.0%} of the images of {balance.role}"


def _class_warnings(balance: RoleBalance) -> Iterator[str]:
    scarce = [
        f"{images} {name} ({count_groups(groups, images, known=True)})"
        if balance.groups_known
        else f"{images} {name}"
        for name, images, groups in zip(LABEL_NAMES, balance.images, balance.groups_with, strict=True)
        if groups < ENOUGH_GROUPS
    ]
    if scarce:
        unit = "groups" if balance.groups_known else "images"
        held = " and ".join(scarce)
        yield f"{balance.role} holds {held}, where {ENOUGH_GROUPS} {unit} of a class are the least"


def _prevalence_warnings(balance: RoleBalance, prevalence: float) -> Iterator[str]:
    if min(balance.images) < ENOUGH_GROUPS:
        return  # one image more or less would be a factor, and that there are few is said already
    for name, here, everywhere in (
        (LABEL_NAMES[0], 1 - balance.prevalence, 1 - prevalence),
        (LABEL_NAMES[1], balance.prevalence, prevalence),
    ):
        if not everywhere / PREVALENCE_FACTOR <= here <= everywhere * PREVALENCE_FACTOR:
            yield f"{here:.0%} of the images of {balance.role} are {name}, of all images {everywhere:.0%}"


def distrust(balances: tuple[RoleBalance, ...]) -> str:
    """Return what cannot be trusted where roles have few groups, with the groups of each; "" where all have.

    `FEW_GROUPS` groups count in the role that a figure is computed on, not in all roles together.
    """
    few = {balance.role for balance in balances if balance.groups < FEW_GROUPS}
    unit = "groups" if balances[0].groups_known else "images"
    uses = {
        "train": "the network has seen few places",
        "val_select": "the best epoch may be best by chance",
        "val_calib": f"the certificate of scrc counts {unit}, of which it has too few for a small bound, and"
        " a tuned threshold may do worse than 0.5",
        "val_test": "its intervals are too short",
    }
    if not few:
        return ""
    counts = ", ".join(f"{balance.role} {balance.groups}" for balance in balances)
    reasons = "; ".join(f"{role}: {use}" for role, use in uses.items() if role in few)
    unit += "" if balances[0].groups_known else " (no groups known)"
    return f"fewer than {FEW_GROUPS} {unit} in a role ({counts}). {reasons}. Add images of other places."
