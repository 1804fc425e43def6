"""What the pictures of a chain are, in the words of the configuration of the step that read them."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from streetvision_core.io.private import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGES = "images"


def source_text(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the kind of source, the last part of its path, and the number of pictures: ``folder x, 300``."""
    kind, settings = source_of(config)
    path = str(settings.get("path", ""))
    name = "" if path == HIDDEN else PurePath(path).name
    return ", ".join(filter(None, (f"{kind} {name}".strip(), str(metrics.get("pictures", "")))))


def source_of(config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the kind of source that the configuration of ``images`` names, and its settings."""
    given = {kind: settings for kind, settings in config.items() if isinstance(settings, dict)}
    if parts := config.get("join"):
        kinds = (source_of(part)[0] for part in parts)
        return "join", {part.get("name") or kind: part for part, kind in zip(parts, kinds, strict=True)}
    return next(iter(given.items()), ("", {}))


def source_lines(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the source with all its settings, and every number that the step counted."""
    kind, settings = source_of(config)
    given = _told(settings)
    counted = ", ".join(f"{value} {name}" for name, value in metrics.items())
    return "; ".join(filter(None, (f"{kind}: {given}" if kind else "", counted)))


def _told(settings: Mapping[str, Any]) -> str:
    """Return the settings that say something, those of joined sources in brackets."""
    return ", ".join(
        f"{name} ({_told(value)})"
        if isinstance(value, dict)
        else f"{name} {'redacted' if value == HIDDEN else value}"
        for name, value in settings.items()
        if value not in (None, [], {})
    )
