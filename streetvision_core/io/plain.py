"""A configuration in whatever form its owner keeps it, as the JSON values that a manifest records.

Mappings and sequences of any class (OmegaConf's among them, each value resolved as it is read), pydantic
models, dataclasses and argparse's namespaces are taken apart; paths, enums, dates, numbers of NumPy or torch
become text and numbers. A set is listed in the order of its JSON, since its own order is another in each
process. Anything else is refused by its name, never written down as a guess: bytes, complex numbers, NumPy's
moments, iterators, NaN, and two keys of one text. What an object raises while it is read, such as OmegaConf
over a value that is missing, is told with the key.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from streetvision_core.errors import ConfigError
from streetvision_core.io.encode import MAX_NESTING, is_text, json_bytes

_MOST_BITS = 14_000  # Python writes no number of more than 4300 digits
_BINARY = (bytes, bytearray, memoryview)
# A configuration is the second level of its manifest, whose own is the first.
_DEEPEST = MAX_NESTING - 2
_ACTION = "Pass a mapping of text, numbers, lists and mappings; turn what is none of these into text."


def plain_mapping(value: object, *, where: str) -> dict[str, Any]:
    """Return a configuration as a dict of JSON values; None is an empty one.

    Args:
        value: A mapping, a pydantic model, a dataclass or a namespace, nested to any depth.
        where: What it is, for errors.

    Raises:
        ConfigError: it is none of these, holds itself, or holds a value that is not JSON; the value is named.
    """
    plain = {} if value is None else _plain(value, where=where, path=(), above=())
    if not isinstance(plain, dict):
        raise ConfigError(
            "a mapping, a pydantic model, a dataclass or a namespace",
            f"a {type(value).__qualname__}",
            where,
            _ACTION,
        )
    return plain


def plain_scalar(value: Any) -> Any:
    """Return the number that a scalar of NumPy or torch holds; anything else as it is."""
    # A moment of NumPy gives a date or a count, depending on its unit: too many meanings for one number.
    scalar = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if scalar and getattr(value.dtype, "kind", "") not in {"m", "M"} else value


def _plain(value: Any, *, where: str, path: tuple[str, ...], above: tuple[int, ...]) -> Any:
    if isinstance(value, enum.Enum):
        value = value.value
    if id(value) in above:
        raise ConfigError("a tree of values", f"{_named(path)}, which holds itself", where, _ACTION)
    parts = _read(_parts, value, where=where, path=path)
    if parts is None:
        return _leaf(value, where=where, path=path)
    if len(path) > _DEEPEST:
        raise ConfigError(
            f"values nested at most {_DEEPEST} deep, which is what a manifest can be read back with",
            f"{_named(path[:5])} and deeper ones inside it",
            where,
            "Pass a flatter configuration.",
        )
    keys, get = parts
    texts = [_key(key, where=where, path=path) for key in keys]
    _refuse_twice(texts, where=where, path=path)
    plain = {
        text: _plain(
            _read(get, key, where=where, path=(*path, text)),
            where=where,
            path=(*path, text),
            above=(*above, id(value)),
        )
        for text, key in zip(texts, keys, strict=True)
    }
    if isinstance(value, AbstractSet):
        return sorted(plain.values(), key=json_bytes)
    return list(plain.values()) if isinstance(value, Sequence) else plain


def _parts(value: Any) -> tuple[Sequence[Any], Callable[[Any], Any]] | None:
    """Return the keys of a value and what gives the part at each; None of a value without parts."""
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


def _read(call: Callable[..., Any], *arguments: Any, where: str, path: tuple[str, ...]) -> Any:
    """Call what runs somebody else's code, which may raise anything, and name the value it was asked for."""
    try:
        return call(*arguments)
    except Exception as error:
        raise ConfigError(
            "values that can be read",
            f"{_named(path)}, which raises {type(error).__qualname__}: {error}",
            where,
            "Fill in or resolve this value before the configuration is passed on.",
        ) from error


def _key(key: Any, *, where: str, path: tuple[str, ...]) -> str:
    """Return the text of a key."""
    plain = plain_scalar(key.value if isinstance(key, enum.Enum) else key)
    if isinstance(plain, os.PathLike):
        plain = os.fspath(plain)
    if plain is None or isinstance(plain, (str, int, float)):
        return str(plain)
    raise ConfigError(
        "keys of text or numbers", f"{key!r}, a {type(key).__qualname__}, in {_named(path)}", where, _ACTION
    )


def _refuse_twice(texts: Sequence[str], *, where: str, path: tuple[str, ...]) -> None:
    twice = next((text for text, times in Counter(texts).items() if times > 1), None)
    if twice is not None:
        raise ConfigError(
            "keys that differ as text, which JSON makes of them",
            f"the key {'.'.join((*path, twice))!r} more than once (as 1 and '1' are)",
            where,
            "Rename one of them.",
        )


def _leaf(value: Any, *, where: str, path: tuple[str, ...]) -> Any:
    value = plain_scalar(value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    refused = ConfigError(
        "a configuration of JSON values, all numbers finite",
        f"{_named(path)}, a {type(value).__qualname__}{_shown(value)}",
        where,
        _ACTION,
    )
    # Pydantic would make text of these by a guess, and would use an iterator up.
    if isinstance(value, (complex, Iterator, *_BINARY)) or not _is_writable(value):
        raise refused
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError) as error:
        raise refused from error


def _is_writable(value: Any) -> bool:
    """Tell whether JSON and UTF-8 can hold a number or a text; of other values the encoder tells."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return value.bit_length() < _MOST_BITS
    return not isinstance(value, str) or value.isascii() or is_text(value)


def _shown(value: Any) -> str:
    return f" of {value!r}" if isinstance(value, (float, complex, str)) else ""


def _named(path: tuple[str, ...]) -> str:
    return f"the value {'.'.join(path)!r}" if path else "a value"
