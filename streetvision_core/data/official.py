"""The split that the data brings with it: each image keeps the role that its source gives it.

Every image has a role then, or none has: half a split is refused. Groups and near-duplicates still stay in
one role, and where the official split parts them, that is an error which shows it and is never repaired here:
whoever published figures on that split has to know.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from streetvision_core.data.labels import LABEL_NAMES, counted
from streetvision_core.errors import DataError
from streetvision_core.graph import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streetvision_core.data.groups import Group


_WHERE = "the roles that the data brings with it"
_LEAVE = "leave out role_column (and role) to have the images split here"


def official_assignment(groups: Sequence[Group]) -> dict[str, list[Group]] | None:
    """Return the groups of each role as the data itself gives them; None where no image has a role.

    Raises:
        DataError: some images have no role, a role or a class in it is missing, or a group is in two roles.
    """
    counts = Counter(image.role for group in groups for image in group.members)
    if set(counts) <= {None}:
        return None
    _check_complete(counts)
    _check_whole(groups)
    assigned: dict[str, list[Group]] = {role: [] for role in ROLES}
    for group in groups:
        assigned[str(group.members[0].role)].append(group)
    for role, chosen in assigned.items():
        labels = {image.label for group in chosen for image in group.members}
        if len(labels) < len(LABEL_NAMES):
            found = f"only {LABEL_NAMES[labels.pop()]} in {role}"
            action = f"Join a source with the other class, or {_LEAVE}."
            raise DataError("images of both classes in each role", found, _WHERE, action)
    return assigned


def _check_complete(counts: Counter[str | None]) -> None:
    having = counted({role: count for role, count in counts.items() if role is not None})
    if counts[None]:
        found = f"{counts[None]} images without one beside {having}"
        action = f"Fill in the role of each image, leave those without one out by keep:, or {_LEAVE}."
        raise DataError("a role for every image or for none", found, _WHERE, action)
    missing = [role for role in ROLES if not counts[role]]
    if missing:
        raise DataError(
            f"images of the roles {', '.join(ROLES)}",
            f"none of {', '.join(missing)}, only {having}",
            _WHERE,
            f"Give part of the images the word {missing[0]} in that column (whole groups), or map a word that"
            f" is there: roles: {{{missing[0]}: [WORD]}}; or {_LEAVE}.",
        )


def _check_whole(groups: Iterable[Group]) -> None:
    parted = [group for group in groups if len({image.role for image in group.members}) > 1]
    if parted:
        shown = "; ".join(map(_example, parted[:3]))
        found = f"{len(parted)} that stand in several: {shown}"
        action = f"Move the images of each into one role, correct the group column, or {_LEAVE}."
        raise DataError("groups and near-duplicates in one role each", found, _WHERE, action)


def _example(group: Group) -> str:
    first: dict[str, str] = {}
    for image in group.members:
        first.setdefault(str(image.role), image.name)
    return f"{group.name} (" + ", ".join(f"{name} in {role}" for role, name in sorted(first.items())) + ")"
