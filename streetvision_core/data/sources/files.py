"""Images that are files: a folder per class, or a CSV that lists them.

Which file a name means, and that it lies where files may be read, is said in `paths.py`; how a CSV is read,
in `table.py`. Only regular files of at most `MAX_FILE_BYTES` are opened, so that a pipe or a disk image
cannot stall or fill the process.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from streetvision_core.data.decoding.reasons import Reason, UnusableImageError
from streetvision_core.data.labels import fold, label_advice, label_meanings
from streetvision_core.data.sources.entry import Entry, Stamp, keep_attributes, parse_text
from streetvision_core.data.sources.paths import IMAGE_SUFFIXES, Finder, Roots
from streetvision_core.data.sources.rules import (
    RowRules,
    check_columns,
    chosen_group_column,
    columns_in_words,
    named_columns,
)
from streetvision_core.data.sources.table import SEPARATORS, Table, read_table
from streetvision_core.errors import ConfigError, DataError
from streetvision_core.io.system import NotRegularFileError, is_link, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from streetvision_core.data.config import CsvConfig, FolderConfig

MAX_FILE_BYTES = 256 * 2**20
_MOST_HINTS = 20  # missing files of a CSV that the folders near it are searched for


def read_below(roots: Roots, name: str, *, hint: str = "") -> bytes:
    """Return the bytes of a file in `roots`; `hint` is the advice where it is missing.

    Raises:
        UnusableImageError: it is missing, leads out of the folders, or cannot be read.
    """
    try:
        return read_file(roots.locate(name, hint=hint), name=name)
    except (FileNotFoundError, NotADirectoryError):
        raise roots.missing(name, hint) from None
    except OSError as error:
        detail = error.strerror or str(error)
        raise UnusableImageError(Reason.UNREADABLE, detail, name) from error


def read_file(path: Path, *, name: str) -> bytes:
    """Return the bytes of the regular file that `path` leads to, which errors call `name`.

    Raises:
        UnusableImageError: it is a pipe, a device or a folder, or larger than `MAX_FILE_BYTES`.
        OSError: it cannot be read.
    """
    try:
        file = open_regular(path)
    except NotRegularFileError as error:
        raise UnusableImageError(Reason.NOT_AN_IMAGE, "not a regular file", name) from error
    with file:
        size = os.fstat(file.fileno()).st_size
        # What is asked for is allocated: no more than there is, unless the file grew meanwhile.
        data = b"" if size > MAX_FILE_BYTES else file.read(size + 1)
        if len(data) > size:
            data += file.read(MAX_FILE_BYTES + 1 - len(data))
    if (size := max(size, len(data))) > MAX_FILE_BYTES:
        raise UnusableImageError(Reason.TOO_LARGE, f"a file of {size} bytes", name)
    return data


class FileSource:
    """A source of files in folders: an image is read, and stamped, by its name."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._hints: dict[str, str] = {}  # what to do about files that are not there, by name

    def read(self, name: str) -> bytes:
        """Return the bytes of one image; raises UnusableImageError."""
        return read_below(self._roots, name, hint=self._hints.get(name, ""))

    def stamp(self, name: str) -> Stamp | None:
        """Return the stamp of one image's file."""
        return Stamp.of(self._roots.path(name))


class FolderSource(FileSource):
    """A folder per class; an image's name is its path below the data folder.

    Class folders are searched with everything below them; what their names mean, `labels.py` says. Images
    in other folders are an error, those beside the folders are listed without a label. Hidden files are left
    out.
    """

    def __init__(self, config: FolderConfig) -> None:
        super().__init__(_roots(existing(config.path, folder=True), config.further_roots))
        self._config = config
        self._pattern = re.compile(config.group_pattern) if config.group_pattern else None
        self._labels = label_meanings(config.none, config.roadwork)
        self._rules = RowRules(config, f"folder {config.path}")
        _check_class_folders(self._roots, self._labels, config)

    def entries(self) -> Iterator[Entry]:
        """List every file of the class folders, and images elsewhere without a label."""
        rules = self._rules = RowRules(self._config, f"folder {self._config.path}")
        for name in sorted(_names_below(self._roots)):
            top, _, below = name.partition("/")
            of_class = below and fold(top) in self._labels
            if of_class or PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
                label = rules.label(top if below else None)
                yield Entry(name, label, group_by(self._pattern, below))
        rules.check()

    def describe(self) -> str:
        """Say where the images come from and how they are grouped."""
        grouped = f"grouped by {self._pattern.pattern!r}" if self._pattern else "every image its own group"
        return f"folder {self._config.path}, {grouped}{self._rules.note()}"


def group_by(pattern: re.Pattern[str] | None, path: str) -> str | None:
    """Return the group that a `group_pattern` finds in the path of an image; None where it finds none."""
    match = pattern.search(path) if pattern else None
    return parse_text(match.group(1)) if match else None


class CsvSource(FileSource):
    """A CSV that lists images; an image's name is that of its file, as `paths.py` gives it.

    A row that names no file is listed as `line N/`, which no file can be called, and read as missing.
    """

    def __init__(self, config: CsvConfig) -> None:
        path = existing(config.path, folder=False)
        root = path.parent if config.root is None else existing(config.root, folder=True, setting="root")
        super().__init__(_roots(root, config.further_roots, beside=path.parent))
        self._config = config
        group = chosen_group_column(config)
        wanted = [config.file_column, config.label_column, *([] if group is None else [group])]
        wanted += named_columns(config)
        self._table = read_table(path, wanted=wanted, where=config.path)
        self._columns = _find_columns(self._table, wanted, config.path)
        self._file, self._label = (self._columns[name] for name in wanted[:2])
        self._group = self._table.spelling(config.group_column) if config.group_column else None
        self._rules = self._begin()

    def _begin(self) -> RowRules:
        return RowRules(self._config, f"CSV {self._config.path}")

    def entries(self) -> Iterator[Entry]:
        """List one entry per row that is kept, sorted by name; a file that is listed twice appears twice."""
        finder, self._hints, self._rules = Finder(self._roots), {}, self._begin()
        places = range(len(self._table.rows))
        entries = [entry for place in places if (entry := self._entry(place, finder)) is not None]
        self._rules.check()
        yield from sorted(entries, key=lambda entry: entry.name)

    def _entry(self, place: int, finder: Finder) -> Entry | None:
        row, line = self._table.cells(place), self._table.lines[place]
        named = {name: row[self._columns[name]] for name in named_columns(self._config)}
        if not self._rules.keeps(named):
            return None
        used = {self._file, self._label, self._group}
        if self._config.role_column is not None:
            used.add(self._columns[self._config.role_column])
        return Entry(
            name=self._name(row[self._file], line, finder),
            label=self._rules.label(row[self._label]),
            group=parse_text(row[self._group]) if self._group is not None else None,
            attributes=keep_attributes({name: cell for name, cell in row.items() if name not in used}),
            role=self._rules.role(named),
        )

    def _name(self, cell: str, line: int, finder: Finder) -> str:
        if name := finder.find(cell):
            return name
        if not cell.strip():
            return f"line {line}/"
        name = self._roots.unfound(cell)
        if name not in self._hints and len(self._hints) < _MOST_HINTS:
            self._hints[name] = finder.hint(cell)
        return name

    def describe(self) -> str:
        """Say where the images come from and how they are grouped."""
        grouped = f"grouped by {self._group!r}" if self._group else "every image its own group"
        unfound = next(((name, self._roots.missing(name, hint)) for name, hint in self._hints.items()), None)
        note = f" ({unfound[0]}: {unfound[1].detail})" if unfound else ""
        searched = f"files searched in {self._roots.first}{note}"
        return f"CSV {self._config.path}, {searched}, {grouped}{self._rules.note()}"


def resolve_source(path: str) -> Path:
    """Return the absolute path of a source, links followed; raises ConfigError for links in a ring."""
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a ring before Python 3.13, and no home
        action = "Correct the path of the source."
        raise ConfigError("a file or a folder", str(error), path, action) from error


def find_images(folder: str) -> list[str]:
    """Return the paths of the images in and below a folder, relative to it and sorted; hidden ones stay out.

    Raises:
        ConfigError: there is no such folder.
        DataError: a folder in it cannot be read.
    """
    names = _names_below(_roots(existing(folder, folder=True), ()))
    return sorted(name for name in names if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES)


def _names_below(roots: Roots) -> Iterator[str]:
    for folder, file in _walk(roots, roots.first, {roots.first}):
        if not file.startswith("."):
            yield Path(folder, file).relative_to(roots.first).as_posix()


def _roots(first: Path, further: Sequence[str], *, beside: Path | None = None) -> Roots:
    folders = tuple(existing(path, folder=True, setting="further_roots") for path in further)
    return Roots(first, folders, beside)


def existing(path: str, *, folder: bool, setting: str = "path") -> Path:
    """Return the file or folder that a setting names, links followed; raises ConfigError."""
    kind = "folder" if folder else "file"
    resolved = resolve_source(path)
    if not (resolved.is_dir() if folder else resolved.is_file()):
        found = "something else" if resolved.exists() else "nothing at this path"
        action = f"Correct the {setting} of the source; it is looked up from {Path.cwd()}."
        raise ConfigError(f"a {kind}", found, path, action)
    return resolved


def _refuse(error: OSError) -> NoReturn:
    """Raise for a folder or table that cannot be read: leaving it out would lose images unseen."""
    found, where = error.strerror or str(error), str(error.filename)
    raise DataError("files and folders that can be read", found, where, "Correct the permissions.") from error


def _walk(roots: Roots, top: Path, walked: set[Path]) -> Iterator[tuple[str, str]]:
    """Yield folder and name of each file below `top`; hidden folders are left out.

    Linked folders are followed into further roots, each folder once. Others are listed like files, so that
    they are reported; os.walk of Python 3.11 would follow the junctions of Windows.
    """
    for folder, folders, files in os.walk(top, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if is_link(Path(folder, name).lstat())]
        folders[:] = [name for name in folders if name not in links]
        yield from ((folder, name) for name in files)
        for name in links:
            real = Path(os.path.realpath(Path(folder, name)))
            if _is_in(real, roots.further) and not _is_in(real, walked):
                walked.add(real)
                yield from _walk(roots, Path(folder, name), walked)
            else:
                yield folder, name


def _is_in(path: Path, folders: Iterable[Path]) -> bool:
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(folder) for folder in folders)


def _check_class_folders(roots: Roots, labels: Mapping[str, int], config: FolderConfig) -> None:
    try:
        folders = sorted(path for path in roots.first.iterdir() if path.is_dir())
    except OSError as error:
        _refuse(error)
    class_folders = [path for path in folders if fold(path.name) in labels]
    if not class_folders:
        names = [path.name for path in folders]
        found = f"only the folders {', '.join(names[:10])}" if names else "no folder at all"
        action = label_advice(names) if names else "Sort the images into two folders, None and Roadwork."
        raise DataError(f"class folders named {', '.join(sorted(labels))}", found, config.path, action)
    links = (path for path in class_folders if path.is_symlink())
    linked = next((path.name for path in links if not _is_in(path, roots.further)), None)
    if linked is not None:
        raise DataError(
            "class folders that lie in the data folder",
            f"{linked!r}, which is a symbolic link",
            config.path,
            "Move the folder here, set the path to the folder that holds both class folders, or list the"
            " folder that the link leads to in further_roots.",
        )


def _find_columns(table: Table, wanted: Sequence[str], where: str) -> dict[str, str]:
    """Return how the header spells each of the wanted columns."""
    spelled = {name: spelling for name in wanted if (spelling := table.spelling(name)) is not None}
    separator = SEPARATORS.get(table.separator, repr(table.separator))
    check_columns(
        wanted,
        [name for name in wanted if name not in spelled],
        f"{columns_in_words(table.header)} (separated by {separator})",
        where,
        action="Name the columns in the configuration of the CSV source, correct the header, or name another"
        " separator in a first line: sep=X.",
    )
    return spelled
