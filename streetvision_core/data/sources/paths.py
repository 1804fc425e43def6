r"""The lookup of the file that a name from data means, and the check that it lies where files may be read.

A name is an identity. It is taken as it stands; only where no such file exists, the same name is tried as
the disk spells its accents (NFC, NFD), without the blanks around it, and with `\` as a separator. A file
whose name differs in anything else is never taken instead, nor one of two that would do.

No path leaves the folders of `Roots`, neither as it is written (absolute, `..`) nor through a link; whether
there is something outside is not told. Links are resolved when a file is looked at; this is no defence
against someone who swaps links meanwhile.

Names that `find` gives tell nothing of this machine: `video/a.jpg` lies below the folder where paths start,
`2//video/a.jpg` below the second further one. No other name holds `//`, or ends with `/`.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from streetvision_core.data.decoding.reasons import Reason, UnusableImageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".hif"}
)
_MOST_NEAR = 100  # folders that are searched for a root to propose
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True)
class Roots:
    """The folder where paths start, and further ones that files may lie in; all of them resolved.

    `beside` is the folder of the table: a path with `..` that would lead out is taken from there.
    """

    first: Path
    further: tuple[Path, ...] = ()
    beside: Path | None = None

    def name(self, text: str) -> str | None:
        """Return the name of the path `text`, whether it exists or not; None where it leads out."""
        written = Path(text)
        if not written.anchor and ".." not in written.parts:
            return written.as_posix()
        for start in (self.first, self.beside or self.first):
            path = start / written
            real = Path(os.path.realpath(path.parent), path.name)
            if path.name == "..":
                real = Path(os.path.realpath(path))
            for number, root in enumerate((self.first, *self.further)):
                if real.is_relative_to(root):
                    below = real.relative_to(root).as_posix()
                    return f"{number}//{below}" if number else below
        return None

    def path(self, name: str) -> Path:
        """Return the path of a name, links in it not resolved."""
        number, mark, below = name.partition("//")
        if mark and number.isdecimal() and 1 <= int(number) <= len(self.further):
            return self.further[int(number) - 1] / below
        return self.first / name

    def locate(self, name: str, *, hint: str = "") -> Path:
        """Return the resolved path of a name; `hint` is the advice where it leads out.

        Raises:
            UnusableImageError: it leads out of the folders, or can be the name of no file.
        """
        if "\0" in name or name.endswith("/"):
            detail = "no file name holds a NUL character" if "\0" in name else "the row names no file"
            raise UnusableImageError(Reason.MISSING, detail, name)
        text = os.path.realpath(self.path(name))
        real = Path(text)
        if text.startswith(f"{self.first}{os.sep}"):  # nearly all of them; paths as objects take their time
            return real
        if not any(real.is_relative_to(root) for root in (self.first, *self.further)):
            raise self.outside(name, is_link=self.name(name) is not None, hint=hint)
        return real

    def outside(self, name: str, *, is_link: bool, hint: str = "") -> UnusableImageError:
        """Return the error of a name that leads out of the folders; `hint` is what else may be meant."""
        if is_link:
            detail = "a link leads out of it; if that is meant, list the folder it leads to in further_roots"
        else:
            written = "written with .. and leads out of it"
            kind = "absolute and not below it" if _is_absolute(name) else written
            detail = (
                f"its path is {kind}; set root to a folder that holds all of them,"
                " or list the folder it leads to in further_roots"
            )
        detail = "; ".join(filter(None, (detail, hint)))
        return UnusableImageError(Reason.OUTSIDE, detail, self._searched(name))

    def missing(self, name: str, hint: str = "") -> UnusableImageError:
        """Return the error of a name that no file has; `hint` is where such a file is."""
        texts = _variants(name)
        if any(self.name(text) is None for text in texts):  # C:\..\..\a.jpg, say
            return self.outside(name, is_link=False, hint=hint)
        if _DRIVE.match(name):
            hint = hint or "it is an absolute path of Windows: write it as it is below the folder set as root"
        tried = [
            *(["nor with / instead of \\"] if "\\" in name else []),
            *(["nor without the blanks around it"] if name != name.strip() else []),
        ]
        detail = "; ".join([", ".join(["there is no such file", *tried]), *([hint] if hint else [])])
        return UnusableImageError(Reason.MISSING, detail, self._searched(name))

    def unfound(self, cell: str) -> str:
        """Return the name of a cell that means no file: where it would lie, or the cell itself."""
        return ("\0" not in cell and self.name(cell)) or PurePosixPath(cell).as_posix()

    def _searched(self, name: str) -> str:
        return f"{name}, searched in {self.first}"


class Finder:
    """Finds the files that the cells of one listing mean, and gives advice on some that are not there.

    What it has seen of folders it keeps: make a new one for every listing.
    """

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._spellings: dict[Path, Mapping[str, Sequence[str]]] = {}
        self._names: dict[object, str] = {}
        self._near: tuple[Path, ...] | None = None

    def find(self, cell: str) -> str | None:
        """Return the name of the file that a cell means, None where there is none.

        The first cell that ends at a file, through whatever links, decides its name.
        """
        for text in [] if "\0" in cell else _variants(cell):
            name = self._roots.name(text)
            spelled = name and self._spelled(name)
            if spelled:
                return self._names.setdefault(_identity(self._roots.path(spelled)), spelled)
        return None

    def _spelled(self, name: str) -> str | None:
        """Return a name as the disk spells its accents; None where there is no such file, or two."""
        path = self._roots.path(name)
        if os.path.lexists(path):
            return name
        if name.isascii():
            return None
        head, mark, below = name.rpartition("//")
        folder = self._roots.path(f"{head}//.") if mark else self._roots.first
        parts = []
        for part in PurePosixPath(below).parts:
            same = [part] if os.path.lexists(folder / part) else self._same_letters(folder, part)
            if len(same) != 1:
                return None
            parts.append(same[0])
            folder /= same[0]
        return head + mark + "/".join(parts)

    def _same_letters(self, folder: Path, part: str) -> Sequence[str]:
        if folder not in self._spellings:
            spellings = defaultdict(list)
            for entry in _list(folder):
                spellings[unicodedata.normalize("NFC", entry)].append(entry)
            self._spellings[folder] = spellings
        return self._spellings[folder].get(unicodedata.normalize("NFC", part), ())

    def hint(self, cell: str) -> str:
        """Say which root, or which change of the table, would make a missing file be found; else nothing."""
        root = self._roots.first
        text = cell.strip().replace("\\", "/")
        if not text or "\0" in text or ".." in PurePosixPath(text).parts:
            return ""
        if self._near is None:
            self._near = tuple(islice(_folders_near(root), _MOST_NEAR))
        if _is_absolute(text):  # of another machine: what of its end is here?
            parts = PurePosixPath(text).parts
            ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
            here = next((end for end in ends if os.path.lexists(root / end)), None)
            return f"{here} is there: write paths from there on" if here else ""
        for folder in (root, *self._near):
            for suffix in ("", *sorted(IMAGE_SUFFIXES)):
                if os.path.lexists(folder / (text + suffix)):
                    return _propose(os.path.relpath(folder, root), text, suffix)
        return ""


def _propose(folder: str, text: str, suffix: str) -> str:
    ending = f"write file names with their ending, {PurePosixPath(text).name}{suffix}" if suffix else ""
    root = f"the folder {folder} holds one: set root to it" if folder != "." else ""
    return ", and ".join(filter(None, (root, ending)))


def _variants(cell: str) -> list[str]:
    """Return a cell as it stands, and what else it may mean, the likelier first."""
    stripped = cell.strip()
    texts = (cell, stripped, cell.replace("\\", "/"), stripped.replace("\\", "/"))
    return [text for text in dict.fromkeys(texts) if text]


def _identity(path: Path) -> object:
    """Return what two paths of one file have in common; hard links are files of their own."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return path
    return (status.st_dev, status.st_ino) if status.st_nlink == 1 else os.path.realpath(path)


def _is_absolute(text: str) -> bool:
    return bool(Path(text).anchor or _DRIVE.match(text))


def _list(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:  # not a folder, or not to be read: then nothing is found in it
        return []


def _folders_near(root: Path) -> Iterator[Path]:
    """Yield the folders below `root`, its parent and those beside it; hidden ones and links are left out."""
    yield from _folders_in(root)
    yield root.parent
    yield from (folder for folder in _folders_in(root.parent) if folder != root)
    for folder in _folders_in(root):
        yield from _folders_in(folder)


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # nothing is proposed then
        return []
    return [folder / name for name in sorted(folders) if not name.startswith(".")]
