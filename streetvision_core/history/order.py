"""Steps in the order in which they are made: each after what it is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Key = TypeVar("Key")


def in_order(inputs: Mapping[Key, Iterable[Key]]) -> list[Key]:
    """Return the keys of ``inputs``, each after those of its inputs that are keys themselves.

    Among those that could come next, the order of ``inputs`` decides. Manifests vouch for their inputs by
    digest, so there is no circle; in a forged one, whoever is met first comes first.
    """
    ordered: dict[Key, None] = {}
    begun: set[Key] = set()
    for first in inputs:
        waiting = [first]
        while waiting:
            key = waiting[-1]
            missing = [one for one in inputs[key] if one in inputs and one not in begun]
            begun.add(key)
            if missing:
                waiting += missing[::-1]
            else:
                ordered.setdefault(waiting.pop())
    return list(ordered)


def depths(inputs: Mapping[Key, Iterable[Key]]) -> dict[Key, int]:
    """Return for each key how long the longest chain of inputs is that ends in it, itself included."""
    found: dict[Key, int] = {}
    for key in in_order(inputs):
        found[key] = 1 + max((found[one] for one in inputs[key] if one in found), default=0)
    return found
