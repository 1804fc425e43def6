"""A table of text as people, tools and spreadsheets write it, read into rows of cells.

`read_table` promises the cells as they stand, blanks and line breaks in them included. What it takes for
punctuation: a byte order mark (UTF-8, UTF-16, UTF-32; without one the file is UTF-8), a first line `sep=;`,
rows without any filled cell, and empty cells beyond the header. The separator is that of `sep=`, else the
one of `SEPARATORS` whose header has the wanted columns. Names of columns are compared without blanks around
them and without case.

A table is refused before it costs much: by its size, the length of a line and of a cell, and the number of
cells. Line numbers are those of an editor: every line counts, blank ones and those inside of quotes too.
"""

from __future__ import annotations

import codecs
import csv
import os
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NoReturn, TextIO

from streetvision_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAX_TABLE_BYTES = 256 * 2**20  # some million rows
MAX_TABLE_CELLS = 20_000_000  # rows times columns; a row of two bytes takes a cell of each column
MAX_LINE = 2**20  # characters; a cell has at most csv.field_size_limit(), 131,072
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # xlsx and ods; xls
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[,;\t|]*[\r\n]*', re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as the header; `lines` are the lines of the file where they begin, from 1."""

    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]
    separator: str

    def spelling(self, name: str) -> str | None:
        """Return how the header writes the column `name`, blanks and case ignored; None without one."""
        return next((cell for cell in self.header if column_key(cell) == column_key(name)), None)

    def cells(self, place: int) -> dict[str, str]:
        """Return the cells of one row by column, as the header writes it."""
        return dict(zip(self.header, self.rows[place], strict=True))


def column_key(name: str) -> str:
    """Return what two names of one column have in common."""
    return " ".join(name.split()).casefold()


def read_table(path: Path, *, wanted: Sequence[str], where: str) -> Table:
    """Read the table at `path`, which errors call `where`.

    Args:
        path: The file.
        wanted: The columns that tell the right separator from the others; whether they are there is not
            checked here.
        where: What errors call the file.

    Raises:
        DataError: it cannot be read, is no text, does not fit its header, or is too large.
    """
    try:
        encoding = _encoding(path, where)
        chosen = _guess_separator(path, encoding, wanted, where)
        records = _records(path, encoding, chosen, where)
        _, header = next(records, (0, []))
        _check_header(header, where)
        most = MAX_TABLE_CELLS // max(1, len(header))
        kept = [(line, _fit(cells, header, line, chosen, where)) for line, cells in islice(records, most + 1)]
        _check_size(len(kept), most, f"rows of {len(header)} columns", where)
    except UnicodeDecodeError as error:
        raise _not_text(path, encoding, error, where) from error
    except OSError as error:
        found = error.strerror or str(error)
        raise DataError("a table that can be read", found, where, "Correct the permissions.") from error
    names = tuple(" ".join(cell.split()) for cell in header)
    return Table(names, [cells for _, cells in kept], [line for line, _ in kept], chosen)


def _encoding(path: Path, where: str) -> str:
    with path.open("rb") as file:
        _check_size(os.fstat(file.fileno()).st_size, MAX_TABLE_BYTES, "bytes", where)
        start = file.read(4)
    if start in _WORKBOOKS:
        action = "Save the sheet as CSV in UTF-8, and name that."
        raise DataError("a CSV file", "a workbook of a spreadsheet", where, action)
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")


def _guess_separator(path: Path, encoding: str, wanted: Sequence[str], where: str) -> str:
    with path.open(encoding=encoding, newline="") as file:
        named = _SEPARATOR_LINE.fullmatch(file.readline(20))
    if named:
        return named[1]
    keys = {column_key(name) for name in wanted}

    def fit(separator: str) -> tuple[int, int]:
        _, header = next(_records(path, encoding, separator, where, strict=False), (0, []))
        return len(keys & set(map(column_key, header))), len(header)

    return max(SEPARATORS, key=fit)


def _records(
    path: Path, encoding: str, separator: str, where: str, *, strict: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with a filled cell, and the line where it begins."""
    with path.open(encoding=encoding, newline="") as file:
        lines = _Lines(file, where)
        reader, before = csv.reader(lines, delimiter=separator, strict=strict), 0
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                _refuse_record(error, before + 1, where)
            if reader.line_num == before + 1 and any(map(_is_quoted_after_blanks, cells)):
                cells = _without_quotes_after_blanks(cells, lines.last, separator)
            if any(map(str.strip, cells)):
                yield before + 1, cells
            before = reader.line_num


class _Lines:
    """The lines of a file with their ends, none longer than `MAX_LINE`; a first line `sep=;` is blank."""

    def __init__(self, file: TextIO, where: str) -> None:
        self._file, self._where = file, where
        self._number, self.last = 0, ""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_LINE + 1)
        self._number += 1
        if not line:
            raise StopIteration
        _check_size(len(line), MAX_LINE, f"characters in line {self._number}", self._where)
        self.last = "\n" if self._number == 1 and _SEPARATOR_LINE.fullmatch(line) else line
        return self.last


def _is_quoted_after_blanks(cell: str) -> bool:
    return cell[:1] == " " and cell.lstrip(" ")[:1] == '"'


def _without_quotes_after_blanks(cells: list[str], line: str, separator: str) -> list[str]:
    """Return the cells of a line like `a.jpg, "x, y"` as its writer meant them."""
    try:
        again = next(csv.reader([line], delimiter=separator, strict=True, skipinitialspace=True))
    except csv.Error:  # then the quotes belong to the cell: `a.jpg, "x" and y`
        return cells
    if len(again) != len(cells):
        return again
    pairs = zip(cells, again, strict=True)
    return [new if _is_quoted_after_blanks(old) else old for old, new in pairs]


def _check_header(header: Sequence[str], where: str) -> None:
    if any("\0" in cell for cell in header):
        found = "NUL characters in its header, as UTF-16 without a mark has them"
        action = "Save the table as CSV in UTF-8."
        raise DataError("a CSV file in UTF-8, or in UTF-16 with a byte order mark", found, where, action)
    written: dict[str, str] = {}
    for cell in filter(str.strip, header):  # columns without a name are no columns, however many there are
        if (key := column_key(cell)) in written:
            expected = "a CSV file that names each column once, blanks around names and case ignored"
            found = f"the column {cell.strip()!r} twice, first as {written[key].strip()!r}"
            raise DataError(expected, found, where, "Rename one of them, or take it out.")
        written[key] = cell


def _fit(cells: list[str], header: Sequence[str], line: int, separator: str, where: str) -> list[str]:
    """Return a row with as many cells as the header; only empty ones may lie beyond it."""
    if any(map(str.strip, cells[len(header) :])):
        name = SEPARATORS.get(separator, repr(separator))
        raise DataError(
            f"rows of at most {len(header)} cells, as the header has",
            f"more cells than columns in line {line}",
            where,
            f"Put quotes around cells that contain a {name}, or name another separator in a first line:"
            " sep=X.",
        )
    return cells[: len(header)] + [""] * (len(header) - len(cells))


def _refuse_record(error: csv.Error, line: int, where: str) -> NoReturn:
    too_long = "field larger" in str(error)
    raise DataError(
        f"cells of at most {csv.field_size_limit()} characters" if too_long else "cells with matching quotes",
        f"{error}, in the row that begins in line {line}",
        where,
        "Look for a quote that is not closed: quotes in a cell are doubled, and the cell stands in quotes.",
    ) from error


def _not_text(path: Path, encoding: str, error: UnicodeDecodeError, where: str) -> DataError:
    data = path.read_bytes()
    try:
        data.decode(encoding)
    except UnicodeDecodeError as exact:  # the first error is told from the start of a chunk of the file
        error = exact
    line = data.count(b"\n", 0, error.start) + 1
    byte = data[error.start : error.start + 1]
    meant = byte.decode("windows-1252", errors="replace")
    return DataError(
        "a CSV file in UTF-8",
        f"the byte 0x{byte.hex()} in line {line}, which is not {encoding.upper()}"
        + (f" (it is {meant!r} in Windows-1252)" if meant.isalpha() and encoding.startswith("utf-8") else ""),
        where,
        "Save the table as CSV in UTF-8 (spreadsheets call it 'CSV UTF-8'), or convert it:"
        " iconv -f WINDOWS-1252 -t UTF-8 OLD.csv > NEW.csv.",
    )


def _check_size(number: int, most: int, unit: str, where: str) -> None:
    if number > most:
        action = "Leave out columns, or put the images into several sources."
        raise DataError(f"a CSV file of at most {most} {unit}", f"{number} or more", where, action)
