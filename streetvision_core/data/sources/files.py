"""Pictures that are files: a folder per class, or a CSV that lists them.

No path may leave the data folder, neither as it is written (absolute, `..`) nor through a symbolic link:
such a picture is refused with the reason "outside the data folder". Links are resolved when a picture is
read; this is no defence against someone who swaps links meanwhile. Only regular files of at most
`MAX_FILE_BYTES` are opened, so that a pipe or a disk image cannot stall or fill the process.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from streetvision_core.data.reasons import Reason, UnusablePictureError
from streetvision_core.data.sources.entry import Entry, Stamp, keep_attributes, parse_label, parse_text
from streetvision_core.errors import ConfigError, DataError
from streetvision_core.io.system import NotRegularFileError, is_link, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streetvision_core.data.config import CsvConfig, FolderConfig

MAX_FILE_BYTES = 256 * 2**20
MAX_TABLE_BYTES = 256 * 2**20  # of a CSV: some million rows
MAX_TABLE_CELLS = 20_000_000  # rows times columns; a row of two bytes takes a cell of each column
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


def read_inside(root: Path, name: str) -> bytes:
    """Return the bytes of the file `name` below `root` (resolved); raises UnusablePictureError."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\0" in name:
        raise UnusablePictureError(Reason.OUTSIDE, "its path is absolute or contains ..", name)
    try:
        path = (root / relative).resolve(strict=True)
        if not path.is_relative_to(root):
            raise UnusablePictureError(Reason.OUTSIDE, "a symbolic link leads out of it", name)
        return read_file(path, name=name)
    except (FileNotFoundError, NotADirectoryError):
        raise UnusablePictureError(Reason.MISSING, "there is no such file", name) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a ring, before Python 3.13
        detail = getattr(error, "strerror", None) or str(error)
        raise UnusablePictureError(Reason.UNREADABLE, detail, name) from error


def read_file(path: Path, *, name: str) -> bytes:
    """Return the bytes of the regular file that `path` leads to, which errors call `name`.

    Raises:
        UnusablePictureError: it is a pipe, a device or a folder, or larger than `MAX_FILE_BYTES`.
        OSError: it cannot be read.
    """
    try:
        file = open_regular(path)
    except NotRegularFileError as error:
        raise UnusablePictureError(Reason.NOT_AN_IMAGE, "not a regular file", name) from error
    with file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > MAX_FILE_BYTES else file.read(MAX_FILE_BYTES + 1)
    if (size := max(size, len(data))) > MAX_FILE_BYTES:
        raise UnusablePictureError(Reason.TOO_LARGE, f"a file of {size} bytes", name)
    return data


class FolderSource:
    """A folder per class; a picture's name is its path below the data folder.

    Class folders are named as configured, or 0 and 1, in any case, and are searched with everything below
    them. Pictures elsewhere in the data folder are listed without a label. Hidden files are left out.
    """

    def __init__(self, config: FolderConfig) -> None:
        self._config = config
        self._root = _existing(config.path, folder=True)
        self._pattern = re.compile(config.group_pattern) if config.group_pattern else None
        self._labels = {config.none.casefold(): 0, config.roadwork.casefold(): 1, "0": 0, "1": 1}
        _check_class_folders(self._root, self._labels, config)

    def entries(self) -> Iterator[Entry]:
        """List every file of the class folders, and pictures elsewhere without a label."""
        for name in sorted(self._names()):
            top, _, below = name.partition("/")
            label = self._labels.get(top.casefold()) if below else None
            if label is not None or PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES:
                match = self._pattern.search(below) if self._pattern else None
                yield Entry(name, label, parse_text(match.group(1)) if match else None)

    def _names(self) -> Iterator[str]:
        for folder, folders, files in os.walk(self._root, onerror=_refuse):
            folders[:] = [name for name in folders if not name.startswith(".")]
            # Linked folders are not followed (os.walk of Python 3.11 would follow the junctions of Windows):
            # they are listed like files, so that they are reported.
            links = [name for name in folders if is_link(Path(folder, name).lstat())]
            folders[:] = [name for name in folders if name not in links]
            for name in (*files, *links):
                if not name.startswith("."):
                    yield Path(folder, name).relative_to(self._root).as_posix()

    def read(self, name: str) -> bytes:
        """Return the bytes of one picture; raises UnusablePictureError."""
        return read_inside(self._root, name)

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of one picture's file."""
        return Stamp.of(self._root / name)

    def describe(self) -> str:
        """Say where the pictures come from and how they are grouped."""
        grouped = f"grouped by {self._pattern.pattern!r}" if self._pattern else "every picture its own group"
        return f"folder {self._config.path}, {grouped}"


class CsvSource:
    """A CSV that lists pictures; a picture's name is its normalised path relative to the CSV's folder.

    A row that names no file is listed as `row N` and read as missing.
    """

    def __init__(self, config: CsvConfig) -> None:
        self._config = config
        path = _existing(config.path, folder=False)
        self._root = path.parent
        self._header, self._rows = _read_table(path, config.path)
        self._group_column = _find_columns(self._header, config)

    def entries(self) -> Iterator[Entry]:
        """List one entry per row, sorted by name; a file that is listed twice appears twice."""
        yield from sorted(map(self._entry, range(len(self._rows))), key=lambda entry: entry.name)

    def _entry(self, number: int) -> Entry:
        config, row = self._config, self._rows[number]
        used = {config.file_column, config.label_column, self._group_column}
        file = parse_text(row[config.file_column])
        return Entry(
            name=str(PurePosixPath(file)) if file else f"row {number + 2}",
            label=parse_label(row[config.label_column]),
            group=parse_text(row[self._group_column]) if self._group_column else None,
            attributes=keep_attributes({name: cell for name, cell in row.items() if name not in used}),
        )

    def read(self, name: str) -> bytes:
        """Return the bytes of one picture; raises UnusablePictureError."""
        return read_inside(self._root, name)

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of one picture's file."""
        return Stamp.of(self._root / name)

    def describe(self) -> str:
        """Say where the pictures come from and how they are grouped."""
        column = self._group_column
        grouped = f"grouped by {column!r}" if column else "every picture its own group"
        return f"CSV {self._config.path}, {grouped}"


def resolve_source(path: str) -> Path:
    """Return the absolute path of a source, links followed; raises ConfigError for links in a ring."""
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a ring before Python 3.13, and no home
        raise ConfigError(
            "a file or a folder", str(error), path, "Correct the path of the source."
        ) from error


def _existing(path: str, *, folder: bool) -> Path:
    kind = "folder" if folder else "file"
    resolved = resolve_source(path)
    if not (resolved.is_dir() if folder else resolved.is_file()):
        raise ConfigError(
            f"a {kind}",
            "something else" if resolved.exists() else "nothing at this path",
            path,
            f"Correct the path of the source; it is looked up from {Path.cwd()}.",
        )
    return resolved


def _refuse(error: OSError) -> NoReturn:
    """Raise for a folder or table that cannot be read: leaving it out would lose pictures unseen."""
    raise DataError(
        "files and folders that can be read",
        error.strerror or str(error),
        str(error.filename),
        "Correct the permissions.",
    ) from error


def _check_class_folders(root: Path, labels: Mapping[str, int], config: FolderConfig) -> None:
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir())
    except OSError as error:
        _refuse(error)
    class_folders = [path for path in folders if path.name.casefold() in labels]
    if not class_folders:
        names = ", ".join(path.name for path in folders[:10])
        raise DataError(
            f"the class folders {config.none!r} and {config.roadwork!r}",
            f"only the folders {names}" if names else "no folder at all",
            config.path,
            "Sort the pictures into these two folders, or name the folders in the configuration.",
        )
    linked = next((path.name for path in class_folders if path.is_symlink()), None)
    if linked is not None:
        raise DataError(
            "class folders that lie in the data folder",
            f"{linked!r}, which is a symbolic link",
            config.path,
            "Move the folder here, or set the path to the folder that holds both class folders.",
        )


def _read_table(path: Path, where: str) -> tuple[list[str], list[dict[str, str | None]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            _check_table(os.fstat(file.fileno()).st_size, MAX_TABLE_BYTES, "bytes", where)
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            most_rows = MAX_TABLE_CELLS // max(1, len(header))
            rows = list(islice(filter(None, reader), most_rows + 1))
            _check_table(len(rows), most_rows, f"rows of {len(header)} columns", where)
    except OSError as error:
        _refuse(error)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "a CSV file in UTF-8", f"a file that is none: {error}", where, "Save the table as CSV in UTF-8."
        ) from error
    repeated = [column for column, count in Counter(header).items() if count > 1]
    too_long = next((number for number, row in enumerate(rows, 2) if len(row) > len(header)), None)
    if repeated or too_long is not None:
        raise DataError(
            "a CSV file whose rows fit its header",
            f"the column {repeated[0]!r} twice" if repeated else f"more cells than columns in row {too_long}",
            where,
            "Name each column once, and put quotes around cells that contain a comma.",
        )
    return header, [{**dict.fromkeys(header), **dict(zip(header, row, strict=False))} for row in rows]


def _check_table(number: int, most: int, unit: str, where: str) -> None:
    if number > most:
        raise DataError(
            f"a CSV file of at most {most} {unit}",
            f"{number} or more",
            where,
            "Leave out columns, or put the images into several sources.",
        )


def _find_columns(header: list[str], config: CsvConfig) -> str | None:
    group_is_default = config.group_column == type(config).model_fields["group_column"].default
    wanted = [config.file_column, config.label_column]
    if config.group_column is not None and not group_is_default:
        wanted.append(config.group_column)
    missing = [column for column in wanted if column not in header]
    if missing:
        raise DataError(
            f"the columns {', '.join(wanted)}",
            f"no {', '.join(missing)} among {', '.join(header[:20]) or 'no columns at all'}",
            config.path,
            "Name the columns in the configuration of the CSV source, or correct the header.",
        )
    return config.group_column if config.group_column in header else None
