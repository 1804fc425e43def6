"""A configuration in whatever form its owner keeps it, as the JSON values that a manifest records.

Mappings and sequences of any class (OmegaConf's among them, each value resolved as it is read), pydantic
models, dataclasses and argparse's namespaces are taken apart; paths, enums, dates, numbers of NumPy or torch
become text and numbers. A set is listed in the order of its JSON, since its own order is another in each
process. Anything else is refused by its name, never written down as a guess.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from streetvision_core.errors import ConfigError
from streetvision_core.io.encode import json_bytes

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


def _plain(value: Any, *, where: str, path: tuple[str, ...], above: tuple[int, ...]) -> Any:
    if id(value) in above:
        raise ConfigError("a tree of values", f"{_named(path)}, which holds itself", where, _ACTION)

    def inside(part: Any, key: object) -> Any:
        return _plain(part, where=where, path=(*path, str(key)), above=(*above, id(value)))

    if (pairs := _pairs(value)) is not None:
        return {str(key): inside(part, key) for key, part in pairs}
    if isinstance(value, (Sequence, AbstractSet)) and not isinstance(value, (str, bytes, bytearray)):
        parts = [inside(part, position) for position, part in enumerate(value)]
        return sorted(parts, key=json_bytes) if isinstance(value, AbstractSet) else parts
    return _leaf(value, where=where, path=path)


def _pairs(value: Any) -> Iterable[tuple[Any, Any]] | None:
    """Return the keys and values of what has any; None of everything else."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, (argparse.Namespace, SimpleNamespace)):
        value = vars(value)
    if isinstance(value, Mapping) or (hasattr(value, "keys") and hasattr(value, "__getitem__")):
        # By the keys: a container that resolves its values does so where one is asked for.
        return [(key, value[key]) for key in value.keys()]  # noqa: SIM118 - not every one iterates over its keys
    return None


def _leaf(value: Any, *, where: str, path: tuple[str, ...]) -> Any:
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError) as error:
        found = f"{_named(path)}, a {type(value).__qualname__}"
        raise ConfigError("a configuration of JSON values", found, where, _ACTION) from error


def _named(path: tuple[str, ...]) -> str:
    return f"the value {'.'.join(path)!r}" if path else "a value"
