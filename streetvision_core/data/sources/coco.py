"""Images that a JSON file in the layout of COCO lists, as the public ROADWork set is published.

`images` have a `file_name` below the root, an `id`, and fields of their own: their scalars, and those of
objects inside of them, are columns (`scene_level_tags.weather`), a list of words is one cell. `annotations`
join an image to one of the `categories`. A label comes from a column, or from the annotations.

The file is read whole, of at most `MAX_BYTES`; Python's objects take some ten times as much for a moment.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from streetvision_core.data.labels import counted, denies, fold, label_advice
from streetvision_core.data.sources.entry import Entry, keep_attributes, parse_text
from streetvision_core.data.sources.files import FileSource, existing, read_file
from streetvision_core.data.sources.paths import Roots
from streetvision_core.data.sources.rules import (
    RowRules,
    check_columns,
    chosen_group_column,
    columns_in_words,
    named_columns,
)
from streetvision_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streetvision_core.data.config import CocoConfig

MAX_BYTES = 256 * 2**20
_MOST_COLUMNS = 200
_OWN = ("id", "file_name")


class CocoSource(FileSource):
    """The images of one JSON file; an image's name is its file name, normalised."""

    def __init__(self, config: CocoConfig) -> None:
        self._config = config
        path = existing(config.path, folder=False)
        root = path.parent if config.root is None else existing(config.root, folder=True, setting="root")
        super().__init__(Roots(root))
        self._pattern = re.compile(config.group_pattern) if config.group_pattern else None
        self._images, self._categories = _read(path, config)
        columns = _columns(self._images)
        self._group = _group_column(config, columns)
        wanted = [*filter(None, (config.label_column, self._group)), *named_columns(config)]
        missing = [name for name in wanted if name not in columns]
        check_columns(wanted, missing, columns_in_words(columns), config.path)
        self._attributes = [name for name in columns if name not in {*wanted, *_OWN}]
        self._rules = self._begin()

    def _begin(self) -> RowRules:
        return RowRules(self._config, f"COCO {self._config.path}")

    def entries(self) -> Iterator[Entry]:
        """List the images that are kept, sorted by name."""
        rules = self._rules = self._begin()
        decide = _decide_by_categories(self._categories, self._config)
        columns = named_columns(self._config)
        entries = []
        for image in self._images:
            cells = {name: _cell(image, name) for name in columns}
            if rules.keeps(cells):
                entries.append(replace(self._entry(image, rules, decide), role=rules.role(cells)))
        rules.check()
        yield from sorted(entries, key=lambda entry: entry.name)

    def _entry(self, image: dict[str, Any], rules: RowRules, decide: frozenset[str]) -> Entry:
        config, name = self._config, image["file_name"]
        if config.label_column is not None:
            label = rules.label(_cell(image, config.label_column))
        else:
            label = int(not decide.isdisjoint(self._categories[image["id"]]))
        match = self._pattern.search(name) if self._pattern else None
        group = _cell(image, self._group) if self._group is not None else match and match[1]
        return Entry(
            name=str(PurePosixPath(name)),
            label=label,
            group=parse_text(group),
            attributes=keep_attributes({name: _text(_cell(image, name)) for name in self._attributes}),
        )

    def describe(self) -> str:
        """Say where the images come from and how they are grouped."""
        by = self._pattern.pattern if self._pattern else self._group
        grouped = f"grouped by {by!r}" if by else "every image its own group"
        return f"COCO {self._config.path}, {grouped}{self._rules.note()}"


def _read(path: Path, config: CocoConfig) -> tuple[list[dict[str, Any]], dict[Any, set[str]]]:
    """Return the images, and the folded names of the categories that each is annotated with, by its id."""
    content = _content(path, config.path)
    images = _records(content, "images", config.path)
    for number, image in enumerate(images):
        if not isinstance(image.get("file_name"), str) or not image["file_name"].strip():
            raise _refused("a file_name in each of images", f"none in number {number}", config.path)
    of_image: dict[Any, set[str]] = {_identity(image, "id", "images", config.path): set() for image in images}
    if len(of_image) < len(images):
        raise _refused("an id of its own for each of images", "one id for several", config.path)
    if config.label_column is None:
        _annotate(of_image, content, config.path)
    return images, of_image


def _content(path: Path, where: str) -> dict[str, Any]:
    if (size := path.stat().st_size) > MAX_BYTES:
        raise _refused(f"a file of at most {MAX_BYTES} bytes", f"{size}", where)
    try:
        content = from_json(read_file(path, name=where), allow_inf_nan=False)
    except ValueError as error:
        raise _refused("a file in JSON", str(error).splitlines()[0], where) from error
    except OSError as error:
        raise _refused("a file that can be read", error.strerror or str(error), where) from error
    if not isinstance(content, dict) or "images" not in content:
        found = f"the keys {', '.join(list(content)[:10])}" if isinstance(content, dict) else "no object"
        raise _refused("an object with images, annotations and categories", found, where)
    return content


def _annotate(of_image: dict[Any, set[str]], content: dict[str, Any], where: str) -> None:
    categories = {
        _identity(category, "id", "categories", where): fold(str(category.get("name", category["id"])))
        for category in _records(content, "categories", where)
    }
    unknown: Counter[str] = Counter()
    for annotation in _records(content, "annotations", where):
        image = _identity(annotation, "image_id", "annotations", where)
        category = _identity(annotation, "category_id", "annotations", where)
        unknown["image_id"] += image not in of_image
        unknown["category_id"] += category not in categories
        if image in of_image and category in categories:
            of_image[image].add(categories[category])
    if unknown.total():
        counts = counted({name: count for name, count in unknown.items() if count})
        raise _refused("annotations of images and categories that are listed", f"others: {counts}", where)


def _records(content: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    records = content.get(key)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        found = "none" if records is None else type(records).__name__
        raise _refused(f"{key}: a list of objects", found, where)
    return records


def _identity(record: dict[str, Any], key: str, of: str, where: str) -> int | str:
    identity = record.get(key)
    if isinstance(identity, bool) or not isinstance(identity, int | str):
        raise _refused(f"{key} of each of {of} as a number or a word", repr(identity)[:100], where)
    return identity


def _decide_by_categories(of_image: dict[Any, set[str]], config: CocoConfig) -> frozenset[str]:
    """Return the folded names of the categories that make an image roadwork."""
    if config.label_column is not None:
        return frozenset()
    images = Counter(name for names in of_image.values() for name in names)
    roadwork, none = ({fold(word) for word in words} for words in (config.roadwork, config.none))
    if strange := sorted((roadwork | none) - set(images)):
        found = f"{', '.join(strange)}; the images are annotated with {counted(images)}"
        action = "Correct the words, or tell by label_column which field of an image is its label."
        raise DataError("the names of categories under roadwork: and none:", found, config.path, action)
    if denying := [name for name in sorted(images) if denies(name) and not roadwork | none]:
        expected = "categories that all mean roadwork, or the settings none: and roadwork:"
        found = f"{', '.join(denying)} among the categories {counted(images)}"
        raise DataError(expected, found, config.path, label_advice(sorted(images)))
    return frozenset(roadwork or set(images) - none)


def _columns(images: Iterable[dict[str, Any]]) -> list[str]:
    """Return the dotted names of the fields that images have, in the order in which they come."""
    columns: dict[str, None] = {}
    for image in images:
        for name, value in image.items():
            below = [f"{name}.{key}" for key in value] if isinstance(value, dict) else [name]
            if len(columns) <= _MOST_COLUMNS:
                columns.update(dict.fromkeys(below))
    return list(columns)[:_MOST_COLUMNS]


def _cell(image: dict[str, Any], column: str) -> Any:
    """Return what an image has in a column: a scalar, or a list of them; None for anything else."""
    name, _, below = column.partition(".")
    value = image.get(column, image.get(name))
    if below and isinstance(value, dict):
        value = value.get(below)
    if isinstance(value, list):
        return [item for item in value if not isinstance(item, dict | list)]
    return None if isinstance(value, dict) else value


def _text(cell: Any) -> Any:
    return ", ".join(map(str, cell)) if isinstance(cell, list) else cell


def _group_column(config: CocoConfig, columns: list[str]) -> str | None:
    column = config.group_column
    if config.group_pattern is not None or (chosen_group_column(config) is None and column not in columns):
        return None
    return config.group_column


def _refused(expected: str, found: str, where: str) -> DataError:
    action = "Name the JSON file of the images in the layout of COCO: images, annotations, categories."
    return DataError(expected, found, where, action)
