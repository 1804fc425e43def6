"""Values to bytes and back: JSON and CSV, each with one canonical encoding.

The same value gives the same bytes, so that a digest of the bytes is a digest of the value. JSON
round-trips: `json.loads(json_bytes(value)) == value` for every JSON value.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

from streetvision_core.escape import MAY_HOLD_FORMULA, for_csv, from_csv

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# What is written here is nested less than ten deep. Beyond some hundred, walking a value ends the stack.
MAX_NESTING = 64


def _plain(value: object) -> object:
    """Turn a NumPy scalar into the Python number it holds; refuse everything else."""
    item = getattr(value, "item", None)
    if item is None or getattr(value, "ndim", 1) != 0:
        raise TypeError(f"{type(value).__name__} is not a JSON value")
    return item()


def json_bytes(value: object) -> bytes:
    """Encode `value` as readable, canonical JSON: sorted keys, UTF-8, one newline at the end.

    Raises:
        TypeError: `value` holds something that is not JSON.
        ValueError: `value` holds NaN or an infinity, which JSON cannot carry.
    """
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False, default=_plain)
    return text.encode() + b"\n"


def is_text(value: Any) -> bool:
    """Tell whether a value is text that UTF-8 can hold, which half a surrogate pair is not."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def json_obstacle(value: object) -> str:
    """Name the first value that `json_bytes` refuses, by its keys; empty where each alone can be written.

    It does not recurse and looks at each object once, so that a value that holds itself ends, too.
    """
    waiting: list[tuple[str, Any]] = [("", value)]
    seen: set[int] = set()
    while waiting:
        name, item = waiting.pop()
        if not isinstance(item, (dict, list, tuple)):
            if not _is_json(item):
                return f"{name!r}, a {type(item).__qualname__}" + (
                    f" of {item}" if isinstance(item, float) else ""
                )
        elif id(item) not in seen:
            seen.add(id(item))
            pairs = list(item.items() if isinstance(item, dict) else enumerate(item))
            if (wrong := next((key for key, _ in pairs if not _is_json({key: 0})), None)) is not None:
                return f"the key {wrong!r}, a {type(wrong).__qualname__}, in {name!r}"
            waiting += [(f"{name}.{key}" if name else str(key), part) for key, part in reversed(pairs)]
    return ""


def _is_json(value: object) -> bool:
    try:
        json_bytes(value)
    except (TypeError, ValueError):
        return False
    return True


def json_digest(value: object) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of `value`."""
    return bytes_digest(json_bytes(value))


def parse_json(data: bytes) -> Any:
    """Decode JSON that is nested at most `MAX_NESTING` deep.

    Raises:
        ValueError: it is no JSON, or nested deeper.
    """
    try:
        value = json.loads(data)
    except RecursionError:
        raise _too_deep() from None
    check_nesting(value)
    return value


def check_nesting(value: object) -> None:
    """Refuse a decoded JSON value that is nested more than `MAX_NESTING` deep, without recursion.

    Raises:
        ValueError: it is.
    """
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_NESTING):
        inner = (
            part for holder in level for part in (holder.values() if isinstance(holder, dict) else holder)
        )
        level = [part for part in inner if isinstance(part, (dict, list))]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"JSON that is nested more than {MAX_NESTING} deep")


def bytes_digest(data: bytes) -> str:
    """Return the SHA-256 (hex) of `data`."""
    return hashlib.sha256(data).hexdigest()


def csv_bytes(rows: Iterable[Mapping[str, object]], *, columns: Sequence[str]) -> bytes:
    """Encode `rows` as CSV (RFC 4180) with a header of `columns`.

    Floats are written by `repr`, so that they read back exactly. A row with a key that is not a
    column is an error; a missing key is an empty cell.

    Text that a spreadsheet would take for a formula is escaped (`for_csv`) and reads back exactly. A file
    that holds any has quotes around every cell. By those of the header `read_csv` tells it from a file
    without escapes, and from one that an older version wrote.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(columns))
    writer.writeheader()
    writer.writerows(rows)
    return _without_formulas(text.getvalue()).encode()


def _without_formulas(text: str) -> str:
    """Return the text of a CSV with its formulas escaped, if there are any; else as it is, which is fast."""
    if not MAY_HOLD_FORMULA.search(text):
        return text
    table = list(csv.reader(io.StringIO(text, newline="")))
    escaped = [list(map(for_csv, row)) for row in table]
    if escaped == table:
        return text
    quoted = io.StringIO(newline="")
    csv.writer(quoted, quoting=csv.QUOTE_ALL).writerows(escaped)
    return quoted.getvalue()


def read_csv(data: bytes) -> list[dict[str, str]]:
    """Decode what `csv_bytes` wrote: one mapping a row, every cell a string.

    Raises:
        csv.Error: a row of a file with escaped cells has more or fewer cells than its header.
    """
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    if not data.startswith(b'"'):
        return rows
    if any(None in row or None in row.values() for row in rows):
        raise csv.Error("a row does not fit the header")
    return [{from_csv(name): from_csv(cell) for name, cell in row.items()} for row in rows]
