"""The images that a command line names, in the order in which they are answered.

An argument is a file, a folder with everything below it, a pattern (`'street/*.jpg'`, `**` for any depth), a
list, or `-` for names on standard input. A list is a CSV or a Parquet file of at most `MAX_ROWS` rows. Its
paths start from its own folder and stay there, or in the folder that is named as their root: a list may come
from somebody else. Everything is looked up before the first image is answered, but for standard input, which
is read as it comes.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from streetvision_core.data.decoding.reasons import Reason, UnusableImageError
from streetvision_core.data.sources.files import existing, find_images, read_below
from streetvision_core.data.sources.paths import Finder, Roots
from streetvision_core.data.sources.rules import no_column
from streetvision_core.data.sources.table import MAX_LINE, MAX_TABLE_BYTES, read_table
from streetvision_core.errors import ConfigError, DataError
from streetvision_core.inference.predictor import NamedImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

COLUMNS = ("path", "image", "name")
STANDARD_INPUT = "-"
MAX_ROWS = 2_000_000
_PIECE_BYTES = 2**16


@dataclass(frozen=True)
class Listing:
    """Images in order, each a path or named by a list; `count` is None where nobody knows it yet."""

    images: Iterable[str | NamedImage]
    count: int | None


@dataclass(frozen=True)
class Reading:
    """The reading of lists and of names: the column of the paths, their root, and what ends a name."""

    column: str | None = None
    root: str | None = None
    null: bool = False


def list_images(arguments: Sequence[str], reading: Reading, *, names: BinaryIO) -> Listing:
    """List the images of a command line.

    Args:
        arguments: Files, folders, patterns, lists, and at most one `-`.
        reading: How lists and names are read.
        names: Standard input.

    Raises:
        ConfigError: a folder or a pattern without images, or a root that is no folder.
        DataError: a list that cannot be read as one.
    """
    if arguments.count(STANDARD_INPUT) > 1:
        raise ConfigError("'-' once", "it twice", "the command line", "Standard input is read once.")
    parts = [None if argument == STANDARD_INPUT else _expand(argument, reading) for argument in arguments]
    known = [part for part in parts if part is not None]
    images = chain.from_iterable(
        read_names(names, null=reading.null) if part is None else part for part in parts
    )
    return Listing(images, sum(map(len, known)) if len(known) == len(parts) else None)


def _expand(argument: str, reading: Reading) -> Collection[str | NamedImage]:
    if os.path.isdir(argument):  # noqa: PTH112 - Path raises where the name is too long for any file
        return [str(Path(argument, name)) for name in find_images(argument)] or _refuse_nothing(argument)
    if os.path.lexists(argument) or not glob.has_magic(argument):
        return _of_file(argument, reading)
    # pathlib knows no absolute patterns.
    paths = sorted(path for path in glob.iglob(argument, recursive=True) if Path(path).is_file())  # noqa: PTH207
    parts = [_of_file(path, reading) for path in paths] or [_refuse_nothing(argument)]
    return parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))


def _refuse_nothing(argument: str) -> NoReturn:
    raise ConfigError(
        "images below a folder, or files that a pattern fits", "none", argument, "Correct the argument."
    )


def _of_file(path: str, reading: Reading) -> Collection[str | NamedImage]:
    cells: Iterable[str]
    match Path(path).suffix.lower():
        case ".csv" | ".tsv":
            cells = _csv_cells(path, reading)
        case ".parquet":
            from streetvision_core.data.sources.parquet import read_texts

            cells = read_texts(existing(path, folder=False), _wanted(reading))
        case _:
            return [path]
    folder = reading.root or str(Path(path).parent)
    roots = Roots(existing(folder, folder=True, setting="--root"))
    return ListedImages(path, _bounded(cells, path), roots)


class ListedImages(Collection[NamedImage]):
    """The images of a list, each named by its cell; a row that names no file is called by its place."""

    def __init__(self, path: str, cells: Sequence[str], roots: Roots) -> None:
        self._path, self._cells, self._roots = path, cells, roots

    def __len__(self) -> int:
        return len(self._cells)

    def __contains__(self, image: object) -> bool:
        return any(image == listed for listed in self)

    def __iter__(self) -> Iterator[NamedImage]:
        finder = Finder(self._roots)
        for row, cell in enumerate(self._cells, start=1):
            name = cell if cell.strip() else f"{self._path}, row {row}"
            yield NamedImage(name, partial(_read_listed, cell, self._roots, finder))


def _bounded(cells: Iterable[str], path: str) -> list[str]:
    kept, characters = [], 0
    for cell in cells:
        kept.append(cell)
        characters += len(cell)
        if len(kept) > MAX_ROWS or characters > MAX_TABLE_BYTES:
            raise DataError(
                f"a list of at most {MAX_ROWS} rows and {MAX_TABLE_BYTES} characters", "a longer one", path,
                "Cut it into several lists.",
            )  # fmt: skip
    return kept


def _wanted(reading: Reading) -> Sequence[str]:
    return COLUMNS if reading.column is None else (reading.column,)


def _csv_cells(path: str, reading: Reading) -> Iterator[str]:
    wanted = _wanted(reading)
    table = read_table(existing(path, folder=False), wanted=wanted, where=path)
    spelled = next((name for name in map(table.spelling, wanted) if name is not None), None)
    if spelled is None:
        raise no_column("a column called", wanted, table.header, path)
    place = table.header.index(spelled)
    return (row[place] for row in table.rows)


def _read_listed(cell: str, roots: Roots, finder: Finder) -> bytes:
    if not cell.strip():
        raise UnusableImageError(Reason.MISSING, "the row names no file", "the list")
    try:
        return read_below(roots, finder.find(cell) or roots.unfound(cell))
    except UnusableImageError as error:
        if error.reason is not Reason.OUTSIDE:
            raise
        detail = f"it leads out of {roots.first}; --root names another folder that holds all of them"
        raise UnusableImageError(Reason.OUTSIDE, detail, cell) from error


def read_names(file: BinaryIO, *, null: bool) -> Iterator[str]:
    """Give the names in a stream as they come: one a line, or each ended by a NUL; empty ones are left out.

    Raises:
        DataError: a name is longer than any path, or NUL characters in lines.
    """
    records = _ended_by_null(file) if null else iter(partial(file.readline, MAX_LINE + 1), b"")
    for record in records:
        if len(record) > MAX_LINE:
            raise DataError(
                f"names of at most {MAX_LINE} bytes", "a longer one", "standard input",
                "Write one name a line, or end each by a NUL and add --null.",
            )  # fmt: skip
        if b"\0" in record:
            raise DataError("names on lines", "NUL characters", "standard input", "Add --null.")
        if name := record if null else record.removesuffix(b"\n").removesuffix(b"\r"):
            yield os.fsdecode(name)


def _ended_by_null(file: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while len(rest) <= MAX_LINE and (piece := file.read(_PIECE_BYTES)):
        *records, rest = (rest + piece).split(b"\0")
        yield from records
    yield rest
