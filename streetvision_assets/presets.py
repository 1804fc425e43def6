"""The presets as jobs: each file of ``presets/`` can be launched from the UI with its own configuration.

They are read when the definitions load, so reading is cheap, and strict: a file that is no run configuration
is refused in one paragraph. An installed package has no such folder, and then no such jobs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import yaml

from streetvision_core.errors import ConfigError

if TYPE_CHECKING:
    from dagster import UnresolvedAssetJobDefinition

PRESETS = Path(__file__).parents[1] / "presets"
_PARTS = {"ops", "loggers", "execution", "resources"}
# The parser in C is five times as fast; PyYAML is built without it on some machines.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def preset_jobs(
    selection: dg.AssetSelection, *, folder: Path = PRESETS
) -> list[UnresolvedAssetJobDefinition]:
    """Return a job ``preset_NAME`` for each ``NAME.yaml`` of the folder, sorted by name; none without it.

    Raises:
        ConfigError: a file cannot be read, is no YAML, or is no run configuration.
    """
    return [_preset_job(path, selection) for path in sorted(folder.glob("*.yaml"))]


def _preset_job(path: Path, selection: dg.AssetSelection) -> UnresolvedAssetJobDefinition:
    if not re.fullmatch(r"\w+", path.stem, re.ASCII):
        raise _unusable(path, f"the name {path.name!r}", "Rename it: letters, digits and underscores.")
    text = _read(path)
    return dg.define_asset_job(
        f"preset_{path.stem}",
        selection=selection,
        config=_parse(text, path),
        description=first_comment(text),
        tags={"preset": path.stem},
    )


def read_preset(path: Path) -> dict[str, Any]:
    """Return the run configuration in a file, from whatever folder.

    Raises:
        ConfigError: the file cannot be read, is no YAML, or is no run configuration.
    """
    return _parse(_read(path), path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, f"the error '{error}'", "Make it readable, or move it away.") from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        config = yaml.load(text, Loader=_LOADER)  # noqa: S506 - both choices are safe loaders
    except yaml.YAMLError as error:
        found = re.sub(r"\s+", " ", str(error))
        raise _unusable(path, f"no YAML: {found}", "Correct it, or leave it out.") from error
    if not isinstance(config, dict) or not config or not config.keys() <= _PARTS:
        found = ", ".join(map(str, config)) if isinstance(config, dict) else type(config).__name__
        raise _unusable(
            path, found or "nothing", f"Use {', '.join(sorted(_PARTS))} at its top, like demo.yaml."
        )
    return config


def first_comment(text: str) -> str:
    """Return the first paragraph of the comment that a file begins with, in one line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#") or line == "#":
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def _unusable(path: Path, found: str, action: str) -> ConfigError:
    return ConfigError("a preset that is a run configuration", found, path, action)
