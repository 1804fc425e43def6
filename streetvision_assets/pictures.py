"""Pictures and tables as Dagster metadata."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import dagster as dg

from streetvision_core.escape import for_markdown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def picture(data: bytes) -> dg.MetadataValue:
    """Return a PNG or JPEG as metadata that the UI draws in place; keep it below about 60 KB."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return dg.MetadataValue.md(f"![](data:image/{kind};base64,{base64.b64encode(data).decode()})")


def markdown(content: object) -> dg.MetadataValue:
    """Return Markdown, or the bytes of a Markdown file, as metadata that the UI renders.

    What comes from data in it has gone through ``for_markdown``.
    """
    assert isinstance(content, str | bytes)
    return dg.MetadataValue.md(content if isinstance(content, str) else content.decode())


def table(rows: Sequence[Mapping[str, object]]) -> dg.MetadataValue:
    """Return rows of one shape as a Markdown table; floats get four decimals, text is shown as it is."""
    columns = list(rows[0])
    lines = [
        list(map(for_markdown, columns)),
        ["---"] * len(columns),
        *([_cell(row[name]) for name in columns] for row in rows),
    ]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


NO_ANSWER = "answers no image"


def with_interval(value: float, low: float, high: float) -> str:
    """Return a number and its 95 % interval, to three decimals."""
    return f"{value:.3f} (95 %: {low:.3f} to {high:.3f})"


def _cell(value: object) -> str:
    if value is None:
        return "not recorded"
    return f"{value:.4f}" if isinstance(value, float) else for_markdown(value)
