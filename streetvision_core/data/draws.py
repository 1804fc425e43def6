"""Roles for groups of images: the best of many seeded draws, judged by counts alone.

A draw takes the groups one after the other, the largest first. A role has a place for each image that it
still lacks of its share of each class. The group goes to a role drawn with probability proportional to its
free places, among the roles where at least half of the group finds one; where there is none, to the role
whose distance to its targets grows least. With groups of one image this is a stratified random split.
A large group goes wherever it fits, not always to train. Every second draw first gives each role one group of
each class that it lacks, the rarer class and the smaller role first, so that no role goes without a class
wherever each class has a group a role.

The draw with the least sum over the roles of these is taken, the first of equal ones, or the first below
`GOOD`:

- `MISSING` for a class that the role lacks;
- (images / target - 1)^2 for each class: share and prevalence, where a class or a role of few images counts
  as much as the others;
- (1 - groups / ENOUGH_GROUPS)^2 for each class in fewer than `ENOUGH_GROUPS` groups: a figure over two groups
  says nothing, however many images they hold;
- (largest / images - LARGEST_SHARE)^2 / LARGEST_SHARE^2 where a group is more than that share of the role.

Beyond these bounds nothing is said of groups: rewarding many groups would give the held-out roles the small
ones. No model is asked, so choosing a draw biases no figure of a model more than stratifying does.

Not as scikit-learn's StratifiedGroupKFold: its folds are equal shares, and it places the groups in one pass.
The same on every machine: Python's `Random.random` is promised not to change, sums are in one order.
"""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

from streetvision_core.graph import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Below five groups an interval over groups covers .53 to .81 instead of .95.
ENOUGH_GROUPS = 5
LARGEST_SHARE = 0.5
MISSING = 1000.0
# So good a draw ends the search: all bounds kept, all counts within about 2 % of their targets.
GOOD = 0.002
# Groups placed in all draws together: half a second. Many groups need few draws, which are alike.
_PLACEMENTS, _MOST_DRAWS = 60_000, 400
_CLASSES = (0, 1)

Counts = tuple[int, int]  # images of None and of Roadwork


def draw_roles(counts: Mapping[str, Counts], shares: Mapping[str, float], *, seed: int) -> dict[str, str]:
    """Return a role for each group, by name.

    Args:
        counts: How many images of each class a group holds, by name, in any order.
        shares: The share of the images that each role is to have.
        seed: Of the draws.
    """
    groups = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    targets = [[shares[role] * sum(c[label] for _, c in groups) for label in _CLASSES] for role in ROLES]
    members = [count for _, count in groups]
    least, best = math.inf, [0] * len(members)
    for roles in _draws(members, targets, seed):
        if (value := badness(members, roles, targets)) < least:
            least, best = value, roles
        if least <= GOOD:
            break
    return {name: ROLES[role] for (name, _), role in zip(groups, best, strict=True)}


def badness(groups: Sequence[Counts], roles: Sequence[int], targets: Sequence[Sequence[float]]) -> float:
    """Return what is minimised, of groups in the roles of these numbers; see the module."""
    total = 0.0
    for number, target in enumerate(targets):
        members = [group for group, role in zip(groups, roles, strict=True) if role == number]
        images, largest = sum(map(sum, members)), max(map(sum, members), default=0)
        for label in _CLASSES:
            held = [group[label] for group in members if group[label]]
            total += 0.0 if held else MISSING
            total += (sum(held) / target[label] - 1) ** 2
            total += max(0.0, 1 - len(held) / ENOUGH_GROUPS) ** 2
        total += max(0.0, largest / max(1, images) / LARGEST_SHARE - 1) ** 2
    return total


def _draws(groups: Sequence[Counts], targets: Sequence[Sequence[float]], seed: int) -> Iterator[list[int]]:
    for number in range(max(2, min(_MOST_DRAWS, _PLACEMENTS // len(groups)))):
        random = Random(f"{seed}/{number}")
        given = _give_each_class(groups, targets, random) if number % 2 else {}
        yield _draw(groups, targets, given, random)


def _draw(
    groups: Sequence[Counts], targets: Sequence[Sequence[float]], given: Mapping[int, int], random: Random
) -> list[int]:
    free = [list(target) for target in targets]
    for number, role in given.items():
        _place(groups[number], free[role])
    roles = []
    for number, group in enumerate(groups):
        if number in given:
            roles.append(given[number])
            continue
        roles.append(_choose(group, free, targets, random))
        _place(group, free[roles[-1]])
    return roles


def _place(group: Counts, free: list[float]) -> None:
    free[0] -= group[0]
    free[1] -= group[1]


def _choose(
    group: Counts, free: Sequence[Sequence[float]], targets: Sequence[Sequence[float]], random: Random
) -> int:
    weights = [_weight(group, places) for places in free]
    drawn = random.random() * sum(weights)
    for role, weight in enumerate(weights):
        if drawn < weight:
            return role
        drawn -= weight
    growths = [_growth(group, *role) for role in zip(free, targets, strict=True)]
    return growths.index(min(growths))


def _weight(group: Counts, free: Sequence[float]) -> float:
    """Return the free places that an image of the group meets; 0 where less than half of it finds one."""
    places = [max(0.0, count) for count in free]
    if group[0] > 2 * places[0] or group[1] > 2 * places[1]:
        return 0.0
    return group[0] * places[0] + group[1] * places[1]


def _growth(group: Counts, free: Sequence[float], target: Sequence[float]) -> float:
    """Return how much the chi-square distance of the role's counts to its targets grows."""
    return sum(n * (n - 2 * places) / t for n, places, t in zip(group, free, target, strict=True))


def _give_each_class(
    groups: Sequence[Counts], targets: Sequence[Sequence[float]], random: Random
) -> dict[int, int]:
    """Give each role a group of each class, drawn from the smaller half of those that hold it."""
    given: dict[int, int] = {}
    holding = {label: [n for n, group in enumerate(groups) if group[label]] for label in _CLASSES}
    for label in sorted(_CLASSES, key=lambda label: len(holding[label])):
        for role in sorted(range(len(targets)), key=lambda role: (sum(targets[role]), role)):
            if not any(given.get(n) == role for n in holding[label]):
                waiting = [n for n in holding[label] if n not in given]
                smaller = waiting[len(waiting) // 2 :]  # the groups come largest first
                given[smaller[int(random.random() * len(smaller))]] = role
    return given
