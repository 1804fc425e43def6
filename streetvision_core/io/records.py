"""JSON from outside, read so that two readers cannot see two things in it.

A name that occurs twice in one object, NaN, infinities, bytes that are no UTF-8 and anything behind the value
are refused; so is nesting beyond `MAX_NESTING`. A record also has no field that its class does not know,
lacks none that it asks for, and has none of another type.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from streetvision_core.errors import BundleError, field_faults
from streetvision_core.io.encode import check_nesting, json_bytes

_ACTION = "The file is damaged or was made to deceive; take a whole copy of the bundle."


class Record(BaseModel, frozen=True, extra="forbid", strict=True):
    """A record on disk: no unknown field, no silent conversion."""

    def to_bytes(self) -> bytes:
        """Return the canonical JSON of the record."""
        return json_bytes(self.model_dump(mode="json"))


_R = TypeVar("_R", bound=Record)


def read_record(kind: type[_R], data: bytes, *, where: str) -> _R:
    """Read a record of `kind` from JSON.

    Raises:
        BundleError: it is not unambiguous JSON, or an unknown or missing field or a wrong type is in it.
    """
    parse_unambiguous(data, where=where)
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise BundleError(f"the fields of {kind.__name__}", field_faults(error), where, _ACTION) from error


def parse_unambiguous(data: bytes, *, where: str) -> Any:
    """Return the one value that `data` can mean.

    Raises:
        BundleError: it is not JSON, or not unambiguous.
    """
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique_names, parse_constant=_refuse_constant
        )
        check_nesting(value)
    except (ValueError, RecursionError) as error:
        raise BundleError(
            "unambiguous JSON in UTF-8", str(error) or type(error).__name__, where, _ACTION
        ) from error
    return value


def parse_canonical(data: bytes, *, where: str) -> Any:
    """Return the value of `data`, which must be the canonical JSON of it to the last byte.

    Raises:
        BundleError: it is not unambiguous JSON, or it is spelled in another way.
    """
    value = parse_unambiguous(data, where=where)
    try:
        canonical = json_bytes(value)
    except ValueError as error:  # 1e999 is an infinity, and half a surrogate pair no text
        raise BundleError("unambiguous JSON in UTF-8", str(error), where, _ACTION) from error
    if canonical != data:
        raise BundleError(
            "JSON in its canonical encoding: sorted names, one space a level, one newline at the end",
            "the same values in other bytes",
            where,
            "It was changed after it was written; take a whole copy of the bundle.",
        )
    return value


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} occurs twice in one object")
    return value


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
