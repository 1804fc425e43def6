"""Where the labelled pictures come from, as configuration.

A `SourceConfig` names one of four sources, or none: then whoever opens it has to know one (the `images`
step takes that of the store again), or refuse. The demo is a source like the others and has to be named,
so that it never stands in for somebody's own images. A configuration promises only that its fields can mean
something: whether the path exists and the columns are there is found out when the source is opened.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

import pydantic
from pydantic import Field

from streetvision_core.errors import ConfigError
from streetvision_core.io.private import local_path

SOURCE_NAMES = ("demo", "folder", "csv", "parquet")


def _absolute(path: str) -> str:
    """Return the path from the root: later steps may be started from another directory."""
    return str(Path(path).expanduser().absolute())


def _absolute_all(paths: list[str]) -> list[str]:
    return [_absolute(path) for path in paths]


class DemoConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """The procedurally drawn street scenes; the same settings draw the same bytes."""

    pictures: int = Field(3000, ge=16, le=1_000_000, description="how many pictures to draw")
    size: int = Field(192, ge=32, le=1024, description="longer side of a picture in pixels")
    seed: int = Field(0, ge=0, description="seed of everything that is drawn")


class FolderConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """A folder with one folder of pictures per class."""

    path: str = Field(description="the folder that holds the class folders", json_schema_extra=local_path())
    roadwork: str = Field("Roadwork", min_length=1, description="class folder of the pictures with roadwork")
    none: str = Field("None", min_length=1, description="class folder of the pictures without roadwork")
    group_pattern: str | None = Field(
        None,
        description="regular expression searched in the file's path below its class folder; its first"
        " capture group is the picture's group. Without it, or where it does not match, every picture"
        " is its own group",
    )

    further_roots: list[str] = Field(
        [],
        description="further folders: links (to files or folders) may lead into them, and nowhere else out",
        json_schema_extra=local_path(),
    )

    @pydantic.field_validator("group_pattern")
    @classmethod
    def _check_pattern(cls, value: str | None) -> str | None:
        if value is None:
            return None
        expected = "a regular expression with a capture group that is the picture's group"
        action = r"Write for example '^(video\d+)_'."
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ConfigError(expected, f"{value!r}: {error}", "group_pattern", action) from error
        if groups == 0:
            raise ConfigError(expected, f"{value!r} without one", "group_pattern", action)
        return value

    _resolve_path = pydantic.field_validator("path")(_absolute)
    _resolve_further = pydantic.field_validator("further_roots")(_absolute_all)


class CsvConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """A CSV file that lists pictures; every column that is not named here becomes an attribute."""

    path: str = Field(
        description="the CSV file, its cells separated by comma, semicolon, tab or pipe",
        json_schema_extra=local_path(),
    )
    file_column: str = Field("file", min_length=1, description="column of the picture's path")
    label_column: str = Field(
        "label", min_length=1, description="column of the label: 0, 1, None or Roadwork"
    )
    group_column: str | None = Field(
        "group",
        description="column of the picture's group, or null. The default column may be absent: then every"
        " picture is its own group; a column of another name must exist",
    )
    root: str | None = Field(
        None,
        min_length=1,
        description="the folder where the paths in the table start, if not the folder of the table; absolute"
        " paths below it are fine",
        json_schema_extra=local_path(),
    )
    further_roots: list[str] = Field(
        [],
        description="further folders: links may lead into them and paths may point there, and nowhere else",
        json_schema_extra=local_path(),
    )
    separator: str | None = Field(
        None,
        description="what stands between two cells: comma, semicolon, tab, pipe, or the character itself;"
        " null to find it",
    )

    @pydantic.field_validator("separator")
    @classmethod
    def _check_separator(cls, value: str | None) -> str | None:
        if value is None:
            return None
        character = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|"}.get(value, value)
        if len(character) != 1 or character in '"\r\n\0':
            expected = "comma, semicolon, tab, pipe, or one character"
            raise ConfigError(expected, repr(value), "separator", "Leave it out to have it found.")
        return character

    _resolve_path = pydantic.field_validator("path")(_absolute)
    _resolve_further = pydantic.field_validator("further_roots")(_absolute_all)

    @pydantic.field_validator("root")
    @classmethod
    def _resolve_root(cls, value: str | None) -> str | None:
        return None if value is None else _absolute(value)


class ParquetConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Parquet in the layout of the Hugging Face hub; scalar columns not named here become attributes."""

    path: str = Field(description="a Parquet file, or a folder of them", json_schema_extra=local_path())
    image_column: str = Field(
        "image", min_length=1, description="column of the pictures: a struct with `bytes`"
    )
    label_column: str = Field(
        "label", min_length=1, description="column of the label: 0, 1, None or Roadwork"
    )
    group_column: str | None = Field(
        "video_info.vid_id",
        description="column of the picture's group, dots lead into structs, or null. The default column may"
        " be absent: then every picture is its own group; a column of another name must exist",
    )

    _resolve_path = pydantic.field_validator("path")(_absolute)


class SourceConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """At most one source of images."""

    demo: DemoConfig | None = Field(None, description="the embedded demo pictures, {} for their defaults")
    folder: FolderConfig | None = Field(None, description="a folder per class")
    csv: CsvConfig | None = Field(None, description="a CSV file that lists pictures")
    parquet: ParquetConfig | None = Field(None, description="Parquet in the hub's layout")

    @property
    def names_source(self) -> bool:
        """Whether a source is named at all."""
        return any(getattr(self, name) is not None for name in SOURCE_NAMES)

    @pydantic.model_validator(mode="after")
    def _refuse_several(self) -> Self:
        named = [name for name in SOURCE_NAMES if getattr(self, name) is not None]
        if len(named) > 1:
            raise ConfigError(
                f"exactly one source of pictures out of {', '.join(SOURCE_NAMES)}",
                f"{len(named)} of them: {' and '.join(named)}",
                "the source's configuration",
                "Keep the one that is meant and remove the others.",
            )
        return self


def unnamed_source(where: str | Path) -> ConfigError:
    """Return the error of a configuration that names no source, where nothing else tells one."""
    return ConfigError(
        f"a source of images: one of {', '.join(SOURCE_NAMES)}",
        "none named, and no images that were indexed before",
        where,
        "Name one in a file (add -c presets/folder.yaml, with your path in it) or on the command line"
        """ --config-json '{"ops": {"images": {"config": {"folder": {"path": "FOLDER"}}}}}';"""
        " for the drawn demo images write demo: {} instead of folder.",
    )
