"""Words and tables for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH = 100
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def size_text(count: float) -> str:
    """Return a number of bytes in the unit that suits it: 950 bytes, 1.5 kB, 12.0 GB."""
    power = 0
    while count >= 1000 and power < len(_UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.1f} {_UNITS[power]}" if power else f"{count:.0f} {_UNITS[0]}"


def count_text(number: int, noun: str) -> str:
    """Return ``1 run``, ``2 runs``; ``1 directory``, ``2 directories``."""
    if number != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun}"


def moment_text(iso: str) -> str:
    """Return the moment of a manifest, ``2026-11-21T20:23:21.505728Z``, to the second."""
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
    """Return ``text`` on one line of at most ``width`` characters."""
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 3]}..."


def trim(line: str, width: int = WIDTH) -> str:
    """Return the line of a table, what does not fit left out."""
    return line if len(line) <= width else f"{line[: width - 3]}..."


def wrap(label: str, words: Iterable[str], *, indent: int = 2, column: int = 14) -> list[str]:
    """Return lines of ``words`` behind a label, the continuation lines below the first word."""
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
