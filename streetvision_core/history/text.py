"""Words and tables for a terminal of 100 columns, and the order in which steps are shown."""

from __future__ import annotations

import textwrap
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from streetvision_core.io.private import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Key = TypeVar("Key")

IMAGES = "images"
WIDTH = 100
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def size_text(count: float) -> str:
    """Return a number of bytes in the unit that suits it: 950 bytes, 1.5 kB, 12.0 GB."""
    power = 0
    while count >= 1000 and power < len(_UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.1f} {_UNITS[power]}" if power else f"{count:.0f} {_UNITS[0]}"


def count_text(number: int, noun: str) -> str:
    """Return `1 run`, `2 runs`; `1 directory`, `2 directories`."""
    if number != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun}"


def moment_text(iso: str) -> str:
    """Return the moment of a manifest, `2026-11-21T20:23:21.505728Z`, to the second."""
    return iso[:19].replace("T", " ")


def short(digest: str) -> str:
    """Return the first twelve digits of a digest: enough to tell two apart."""
    return digest[:12]


def code_text(git_sha: str, *, dirty: bool) -> str:
    """Return a commit in short, with a plus when there were changes besides."""
    return f"{git_sha[:7]}{'+' if dirty else ''}"


def number_text(value: object) -> str:
    """Return a metric for reading: six digits that matter, whole numbers as they are."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def cut(text: str, width: int) -> str:
    """Return `text` on one line of at most `width` characters."""
    return trim(" ".join(text.split()), width)


def trim(line: str, width: int = WIDTH) -> str:
    """Return the line of a table, cut to the width."""
    return line if len(line) <= width else f"{line[: width - 3]}..."


def wrap(label: str, words: Iterable[str], *, indent: int = 2, column: int = 14) -> list[str]:
    """Return lines of `words` behind a label, the continuation lines below the first word."""
    return textwrap.wrap(
        " ".join(words),
        WIDTH,
        initial_indent=f"{' ' * indent}{label}".ljust(column),
        subsequent_indent=" " * column,
        break_long_words=False,
        break_on_hyphens=False,
    )


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def source_text(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the kind of source, the last part of its path, and the number of images: `folder x, 300`."""
    kind, settings = source_of(config)
    path = str(settings.get("path", ""))
    name = "" if path == HIDDEN else PurePath(path).name
    return ", ".join(filter(None, (f"{kind} {name}".strip(), str(metrics.get("pictures", "")))))


def source_of(config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the kind of source that the configuration of `images` names, and its settings."""
    given = {kind: settings for kind, settings in config.items() if isinstance(settings, dict)}
    if parts := config.get("join"):
        kinds = (source_of(part)[0] for part in parts)
        return "join", {part.get("name") or kind: part for part, kind in zip(parts, kinds, strict=True)}
    return next(iter(given.items()), ("", {}))


def source_lines(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the source with all its settings, and every number that the step counted."""
    kind, settings = source_of(config)
    given = _shown(settings)
    counted = ", ".join(f"{value} {name}" for name, value in metrics.items())
    return "; ".join(filter(None, (f"{kind}: {given}" if kind else "", counted)))


def _shown(settings: Mapping[str, Any]) -> str:
    """Return the settings that say something, those of joined sources in brackets."""
    return ", ".join(
        f"{name} ({_shown(value)})"
        if isinstance(value, dict)
        else f"{name} {'redacted' if value == HIDDEN else value}"
        for name, value in settings.items()
        if value not in (None, [], {})
    )


def in_order(inputs: Mapping[Key, Iterable[Key]]) -> list[Key]:
    """Return the keys of `inputs`, each after those of its inputs that are keys themselves.

    Among those that could come next, the order of `inputs` decides. Manifests vouch for their inputs by
    digest, so there is no circle; in a forged one, whoever is met first comes first.
    """
    ordered: dict[Key, None] = {}
    begun: set[Key] = set()
    for first in inputs:
        waiting = [first]
        while waiting:
            key = waiting[-1]
            missing = [name for name in inputs[key] if name in inputs and name not in begun]
            begun.add(key)
            if missing:
                waiting += missing[::-1]
            else:
                ordered.setdefault(waiting.pop())
    return list(ordered)


def depths(inputs: Mapping[Key, Iterable[Key]]) -> dict[Key, int]:
    """Return the length of the longest chain of inputs that ends in each key, itself included."""
    depth: dict[Key, int] = {}
    for key in in_order(inputs):
        depth[key] = 1 + max((depth[name] for name in inputs[key] if name in depth), default=0)
    return depth
