"""A configuration in whatever form its owner keeps it, as the JSON values that a manifest records.

Mappings and sequences of any class (OmegaConf's among them, each value resolved as it is read), pydantic
models, dataclasses and argparse's namespaces are taken apart; paths, enums, dates, numbers of NumPy or torch
become text and numbers. A set is listed in the order of its JSON, since its own order differs between
processes. Anything else is refused by its name, never written down as a guess: bytes, complex numbers,
NumPy's moments, iterators, NaN, and two keys of one text. What an object raises while it is read, such as
OmegaConf over a value that is missing, is told with the key.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from streetvision_core.errors import ConfigError
from streetvision_core.io.encode import MAX_NESTING, json_bytes

_BINARY = (bytes, bytearray, memoryview)
# A configuration is the second level of its manifest, whose own is the first.
_DEEPEST = MAX_NESTING - 2
_ACTION = "Pass a mapping of text, numbers, lists and mappings; turn what is none of these into text."


class _Refusal(Exception):  # noqa: N818 - it becomes a ConfigError once its place is known
    """A refused value: the words around its name, which grows by the keys above it on the way out."""

    def __init__(
        self, expected: str, after: str, *, before: str = "", path: Sequence[str] = (), action: str = _ACTION
    ) -> None:
        super().__init__(expected)
        self.expected, self.before, self.after, self.action = expected, before, after, action
        self.path = list(path)

    @property
    def found(self) -> str:
        name = f"the value {'.'.join(self.path)!r}" if self.path else "a value"
        return f"{self.before}{name}{self.after}"


def plain_mapping(value: object, *, where: str) -> dict[str, Any]:
    """Return a configuration as a dict of JSON values; None is an empty one.

    Args:
        value: A mapping, a pydantic model, a dataclass or a namespace, nested to any depth.
        where: What it is, for errors.

    Raises:
        ConfigError: it is none of these, holds itself, or holds a value that is not JSON; the value is named.
    """
    try:
        plain = {} if value is None else _plain(value, levels=_DEEPEST)
    except _Refusal as refusal:
        raise ConfigError(refusal.expected, refusal.found, where, refusal.action) from refusal
    if not isinstance(plain, dict):
        expected = "a mapping, a pydantic model, a dataclass or a namespace"
        raise ConfigError(expected, f"a {type(value).__qualname__}", where, _ACTION)
    return plain


def plain_scalar(value: Any) -> Any:
    """Return the number that a scalar of NumPy or torch holds; anything else as it is."""
    # A moment of NumPy gives a date or a count, depending on its unit: too many meanings for one number.
    scalar = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if scalar and getattr(value.dtype, "kind", "") not in {"m", "M"} else value


def _plain(value: Any, *, levels: int) -> Any:
    if isinstance(value, enum.Enum):
        value = value.value
    parts = _call(_parts, value)
    if parts is None:
        return _leaf(value)
    if levels < 0:
        expected = f"values nested at most {_DEEPEST} deep, which is what a manifest can be read back with"
        raise _Refusal(expected, ", which is deeper or holds itself", action="Pass a flatter configuration.")
    keys, get = parts
    plain: dict[str, Any] = {}
    for key in keys:
        text = _key(key)
        if text in plain:
            expected, after = (
                "keys that differ as text, which JSON makes of them",
                " more than once (as 1 and '1')",
            )
            raise _Refusal(expected, after, path=[text], action="Rename one of them.")
        try:
            plain[text] = _plain(_call(get, key), levels=levels - 1)
        except _Refusal as refusal:
            refusal.path.insert(0, text)
            raise
    if isinstance(value, AbstractSet):
        return sorted(plain.values(), key=json_bytes)
    return list(plain.values()) if isinstance(value, Sequence) else plain


def _parts(value: Any) -> tuple[Sequence[Any], Callable[[Any], Any]] | None:
    """Return the keys of a value and a function from key to part; None for a value without parts."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [field.name for field in dataclasses.fields(value)], partial(getattr, value)
    elif isinstance(value, (argparse.Namespace, SimpleNamespace)):
        value = vars(value)
    if isinstance(value, Mapping) or (hasattr(value, "keys") and hasattr(value, "__getitem__")):
        # By the keys: a container that resolves its values does so where one is asked for.
        return list(value.keys()), value.__getitem__
    if isinstance(value, AbstractSet):
        value = list(value)
    if isinstance(value, Sequence) and not isinstance(value, (str, *_BINARY)):
        return range(len(value)), value.__getitem__
    return None


def _call(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call what runs somebody else's code, which may raise anything."""
    try:
        return call(*arguments)
    except Exception as error:
        action = "Fill in or resolve this value before the configuration is passed on."
        raises = f", which raises {type(error).__qualname__}: {error}"
        raise _Refusal("values that can be read", raises, action=action) from error


def _key(key: Any) -> str:
    """Return the text of a key."""
    plain = plain_scalar(key.value if isinstance(key, enum.Enum) else key)
    plain = os.fspath(plain) if isinstance(plain, os.PathLike) else plain
    if plain is None or isinstance(plain, (str, int, float)):
        return str(plain)
    before = f"{key!r}, a {type(key).__qualname__}, in "
    raise _Refusal("keys of text or numbers", "", before=before)


def _leaf(value: Any) -> Any:
    value = plain_scalar(value)
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    try:
        # Pydantic would make text of these by a guess, and would use an iterator up.
        plain = None if isinstance(value, (complex, Iterator, *_BINARY)) else to_jsonable_python(value)
        json_bytes(plain)
    except (TypeError, ValueError):  # pydantic's, and what JSON and UTF-8 cannot hold
        plain = None
    if plain is None and value is not None:
        shown = f" of {value!r}" if isinstance(value, (float, complex, str)) else ""
        after = f", a {type(value).__qualname__}{shown}"
        raise _Refusal("a configuration of JSON values, all numbers finite", after)
    return plain
