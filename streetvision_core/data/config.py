"""The configuration of the source of labelled images.

A `SourceConfig` names one source, several that are joined, or none. Without one the `images` step takes the
source of the store again, and refuses where there is none. The demo is a source like the others and has to be
named, so that it never stands in for somebody's own images. A configuration promises only that its fields can
mean something: the path and the columns are looked up when the source is opened.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import pydantic
from pydantic import Field

from streetvision_core.data.labels import fold, label_meanings, parse_words
from streetvision_core.errors import ConfigError
from streetvision_core.graph import ROLES
from streetvision_core.io.private import local_path

if TYPE_CHECKING:
    from collections.abc import Mapping

PART_NAMES = ("folder", "csv", "parquet", "coco")
SOURCE_NAMES = ("demo", *PART_NAMES, "join")
ROLE_WORDS = {
    "train": ("train", "training"),
    "val_select": ("val_select", "val", "valid", "validation", "dev"),
    "val_calib": ("val_calib", "calib", "calibration"),
    "val_test": ("val_test", "test", "testing"),
}


def _absolute(path: str) -> str:
    """Return the path from the root: later steps may be started from another directory."""
    return str(Path(path).expanduser().absolute())


def absolute_or_none(path: str | None) -> str | None:
    """Return the path of a setting from the root, where one is named."""
    return None if path is None else _absolute(path)


def _absolute_all(paths: list[str]) -> list[str]:
    return [_absolute(path) for path in paths]


class DemoConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Procedurally drawn street scenes, 192 pixels wide; the same number of images gives the same bytes."""

    images: int = Field(3000, ge=16, le=1_000_000, description="how many to draw")


class LabelledConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """The words and numbers of both labels in a source; case does not matter, one alone is a list."""

    # Any, because Dagster's lists of texts refuse a word alone, a number and an unquoted yes; once validated
    # it is a tuple of texts.
    none: Any = Field((), description="words or numbers that mean none; without them: None and a bare 0")
    roadwork: Any = Field(
        (), description="words or numbers that mean roadwork; without them: Roadwork and a bare 1"
    )

    _parse_words = pydantic.field_validator("none", "roadwork", mode="before")(parse_words)

    @pydantic.model_validator(mode="after")
    def _check_words(self) -> Self:
        label_meanings(self.none, self.roadwork)
        return self


class RowsConfig(LabelledConfig, frozen=True, extra="forbid"):
    """The rows of a table to use, and the roles that they bring with them."""

    keep: dict[str, Any] = Field(
        {}, description="rows to use: {column: value}, or a list of values; all columns must agree"
    )
    role_column: str | None = Field(
        None, description="column of the role that the data itself gives each image: its own split"
    )
    roles: dict[str, Any] = Field(
        {},
        description="words of role_column for each role: {val_calib: [calib]}; those not named here keep"
        " the obvious ones: train, val, calib, test",
    )

    @pydantic.field_validator("keep")
    @classmethod
    def _parse_keep(cls, keep: dict[str, Any]) -> dict[str, tuple[str, ...]]:
        return {column: parse_words(values) for column, values in keep.items()}

    @pydantic.field_validator("roles")
    @classmethod
    def _parse_roles(cls, roles: dict[str, Any]) -> dict[str, tuple[str, ...]]:
        if unknown := sorted(set(roles) - set(ROLES)):
            raise ConfigError(
                f"the roles {', '.join(ROLES)}", ", ".join(unknown), "roles:", "Map words to these roles."
            )
        return {role: parse_words(words) for role, words in roles.items()}

    @pydantic.model_validator(mode="after")
    def _check_roles(self) -> Self:
        role_meanings(self.roles)
        return self


def role_meanings(roles: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the role of each word, folded: the configured ones, then the obvious ones of other roles.

    Raises:
        ConfigError: a word stands for two roles.
    """
    meanings: dict[str, str] = {}
    for role, words in roles.items():
        for word in map(fold, words):
            if meanings.setdefault(word, role) != role:
                raise ConfigError(
                    "words that mean one role each",
                    f"{word!r} for {meanings[word]} and {role}",
                    "roles:",
                    "Leave it in one of the lists.",
                )
    obvious = {word: role for role, words in ROLE_WORDS.items() if role not in roles for word in words}
    return obvious | meanings


def check_pattern(value: str | None) -> str | None:
    """Return a `group_pattern`; raises ConfigError where it is no regular expression with a capture group."""
    if value is None:
        return None
    expected = "a regular expression with a capture group that is the image's group"
    action = r"Write for example '^(video\d+)_'."
    try:
        groups = re.compile(value).groups
    except re.error as error:
        raise ConfigError(expected, f"{value!r}: {error}", "group_pattern", action) from error
    if groups == 0:
        raise ConfigError(expected, f"{value!r} without one", "group_pattern", action)
    return value


class FolderConfig(LabelledConfig, frozen=True, extra="forbid"):
    """A folder with one folder of images per class; the folders' names are the labels."""

    path: str = Field(description="the folder that holds the class folders", json_schema_extra=local_path())
    group_pattern: str | None = Field(
        None,
        description="regular expression searched in the file's path below its class folder; its first"
        " capture group is the image's group. Without it, or where it does not match, every image"
        " is its own group",
    )

    further_roots: list[str] = Field(
        [],
        description="further folders: links (to files or folders) may lead into them, and nowhere else out",
        json_schema_extra=local_path(),
    )

    _resolve_path = pydantic.field_validator("path")(_absolute)
    _resolve_further = pydantic.field_validator("further_roots")(_absolute_all)
    _check_group_pattern = pydantic.field_validator("group_pattern")(check_pattern)


class CsvConfig(RowsConfig, frozen=True, extra="forbid"):
    """A CSV file that lists images; every column that is not named here becomes an attribute."""

    path: str = Field(
        description="the CSV file, its cells separated by comma, semicolon, tab or pipe, or by X where its"
        " first line is sep=X",
        json_schema_extra=local_path(),
    )
    file_column: str = Field("file", min_length=1, description="column of the image's path")
    label_column: str = Field("label", min_length=1, description="column of the label")
    group_column: str | None = Field(
        "group",
        description="column of the image's group, or null. The default column may be absent: then every"
        " image is its own group; a column of another name must exist",
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
    _resolve_path = pydantic.field_validator("path")(_absolute)
    _resolve_further = pydantic.field_validator("further_roots")(_absolute_all)

    _resolve_root = pydantic.field_validator("root")(absolute_or_none)


class ParquetConfig(RowsConfig, frozen=True, extra="forbid"):
    """Parquet in the layout of the Hugging Face hub; scalar columns not named here become attributes."""

    path: str = Field(description="a Parquet file, or a folder of them", json_schema_extra=local_path())
    file_column: str = Field("image", min_length=1, description="column of the images: a struct with `bytes`")
    label_column: str = Field("label", min_length=1, description="column of the label")
    group_column: str | None = Field(
        "video_info.vid_id",
        description="column of the image's group, dots lead into structs, or null. The default column may"
        " be absent: then every image is its own group; a column of another name must exist",
    )

    _resolve_path = pydantic.field_validator("path")(_absolute)


class CocoConfig(RowsConfig, frozen=True, extra="forbid"):
    """A JSON file in the layout of COCO; a field of an image is its column, dots lead into objects.

    Without a label column the annotations decide: an image with one of a category that is listed under
    `roadwork` (without a list: of any that is not listed under `none`) is roadwork, every other one is none.
    """

    path: str = Field(description="the JSON file", json_schema_extra=local_path())
    root: str | None = Field(
        None,
        description="the folder that file names start from, or null for that of the JSON file",
        json_schema_extra=local_path(),
    )
    label_column: str | None = Field(
        None, description="column of the label, a word or a list of words, or null: the annotations decide"
    )
    group_column: str | None = Field(
        "video_info.vid_id",
        description="column of the image's group, or null. The default column may be absent: then every"
        " image is its own group; a column of another name must exist",
    )
    group_pattern: str | None = Field(
        None,
        description="regular expression searched in the file name; its first capture group is the image's"
        " group, in place of the group column",
    )

    _resolve_path = pydantic.field_validator("path", "root")(absolute_or_none)
    _check_group_pattern = pydantic.field_validator("group_pattern")(check_pattern)


class PartConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """One of several sources that are joined."""

    name: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        pattern=r"^[^/\x00-\x1f\x7f]+$",
        description="name of the source: the attribute `source` of its images, and the first part of their"
        " names; without one, its kind",
    )
    role: Literal["own", "train", "val_select", "val_calib", "val_test"] = Field(
        "own",
        description="role of all of its images, for a split that is published as a file per role; own: the"
        " one that each image has of its own, if any",
    )
    folder: FolderConfig | None = Field(None, description="a folder per class")
    csv: CsvConfig | None = Field(None, description="a CSV file that lists images")
    parquet: ParquetConfig | None = Field(None, description="Parquet in the hub's layout")
    coco: CocoConfig | None = Field(None, description="JSON in the layout of COCO")

    @property
    def kind(self) -> str:
        """The name of the one source that is configured."""
        return next(name for name in PART_NAMES if getattr(self, name) is not None)

    @pydantic.model_validator(mode="after")
    def _check_one(self) -> Self:
        _check_named(self, PART_NAMES, at_least=1)
        return self


class SourceConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """At most one source of images, which may join several."""

    demo: DemoConfig | None = Field(None, description="the embedded demo images, {} for their defaults")
    folder: FolderConfig | None = Field(None, description="a folder per class")
    csv: CsvConfig | None = Field(None, description="a CSV file that lists images")
    parquet: ParquetConfig | None = Field(None, description="Parquet in the hub's layout")
    coco: CocoConfig | None = Field(None, description="JSON in the layout of COCO")
    join: list[PartConfig] | None = Field(
        None, description="several of these sources, each with a name of its own or that of its kind"
    )

    @property
    def names_source(self) -> bool:
        """True if the configuration names a source."""
        return any(getattr(self, name) is not None for name in SOURCE_NAMES)

    @pydantic.model_validator(mode="after")
    def _refuse_several(self) -> Self:
        _check_named(self, SOURCE_NAMES, at_least=0)
        return self

    @pydantic.model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [part.name or part.kind for part in self.join or ()]
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated or self.join == []:
            raise ConfigError(
                "sources with names of their own",
                f"{repeated[0]!r} twice" if repeated else "no source",
                "join:",
                "Give each a name: {name: ROADWork, coco: {path: FILE}}.",
            )
        return self


def _check_named(config: pydantic.BaseModel, names: tuple[str, ...], *, at_least: int) -> None:
    named = [name for name in names if getattr(config, name) is not None]
    if not at_least <= len(named) <= 1:
        raise ConfigError(
            f"exactly one source of images out of {', '.join(names)}",
            f"{len(named)} of them: {' and '.join(named)}" if named else "none of them",
            "the source's configuration",
            "Keep the one that is meant, or join them: join: [{csv: ...}, {folder: ...}].",
        )


def unnamed_source(where: str | Path) -> ConfigError:
    """Return the error of a configuration that names no source, where nothing else does."""
    return ConfigError(
        f"a source of images: one of {', '.join(SOURCE_NAMES)}",
        "none named, and no images that were indexed before",
        where,
        "Name one in a file (add -c presets/folder.yaml, with your path in it) or on the command line"
        """ --config-json '{"ops": {"images": {"config": {"folder": {"path": "FOLDER"}}}}}';"""
        " for the drawn demo images write demo: {} instead of folder.",
    )
