"""The presets as jobs: each file of `presets/` can be launched from the UI with its own configuration.

They are read when the definitions load, so reading is cheap, and strict: a file that is no run configuration
is refused in one paragraph. An installed package has no such folder, and then no such jobs.
"""

from __future__ import annotations

import re
from collections import Counter
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
    """Return a job `preset_NAME` for each `NAME.yaml` of the folder, sorted by name; none without it.

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
        config=parse_run_config(text, path),
        description=first_comment(text),
        tags={"preset": path.stem},
    )


def read_preset(path: Path) -> dict[str, Any]:
    """Return the run configuration in a file, from whatever folder.

    Raises:
        ConfigError: the file cannot be read, is no YAML, or is no run configuration.
    """
    return parse_run_config(_read(path), path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, f"the error '{error}'", "Make it readable, or move it away.") from error


def parse_run_config(text: str, where: Path | str) -> dict[str, Any]:
    """Return the run configuration in a text, YAML or JSON.

    Raises:
        ConfigError: the text is no YAML, names a setting twice, or is no run configuration.
    """
    try:
        config = yaml.load(text, Loader=_Strict)  # noqa: S506 - it is a safe loader
    except (yaml.YAMLError, RecursionError) as error:
        found = re.sub(r"\s+", " ", str(error))
        raise _unusable(where, f"no YAML: {found}", "Correct it, or leave it out.") from error
    if not isinstance(config, dict) or not config or not config.keys() <= _PARTS:
        found = ", ".join(map(str, config)) if isinstance(config, dict) else type(config).__name__
        raise _unusable(
            where, found or "nothing", f"Use {', '.join(sorted(_PARTS))} at its top, like demo.yaml."
        )
    return config


class _Strict(_LOADER):  # type: ignore[misc, valid-type]  # which of both it is only the machine tells
    """A safe loader that refuses a name that stands twice in one place: the first would be forgotten."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = [name for name, count in Counter(map(str, names)).items() if count > 1]
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice[0]!r} stands twice in one place", node.start_mark
            )
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def first_comment(text: str) -> str:
    """Return the first paragraph of the comment that a file begins with, in one line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#") or line == "#":
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def _unusable(where: Path | str, found: str, action: str) -> ConfigError:
    return ConfigError("a run configuration", found, where, action)
