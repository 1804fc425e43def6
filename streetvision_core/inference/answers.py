"""The lines in which images are answered, and the file of them that goes on after a kill.

A line is an answer, or the reason why there is none. In a file each line also names the bundle by the SHA-256
of its manifest, so that it says by itself who answered. Nothing is kept beside the file: how far it came is
read from its lines. A line that a kill tore is cut.

A file goes on where its lines are of the same bundle and of the images that are named now, in their order. So
a list may have grown at its end meanwhile; any other file is refused and left as it is.

JSON lines are ASCII and hold every name exactly. In CSV no cell is taken for a formula (`escape.for_csv`),
and what cannot be seen is spelled out, so that a line is one line.
"""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, Self

from streetvision_core.errors import ConfigError, DataError, StoreError
from streetvision_core.escape import for_csv, for_json_text, one_line
from streetvision_core.inference.predictor import NamedImage, Prediction, name_of
from streetvision_core.io.encode import read_csv
from streetvision_core.io.system import lock_file, open_to_go_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    Images = Iterable[str | NamedImage]

ANSWER = ("picture", "probability", "decision")
OF_FILE = (*ANSWER, "error", "manifest_sha256")
_MAX_LINE = 2**24  # a name of 1 MiB, the longest on standard input, spelled out twice at six letters a byte


class JsonLines:
    """One JSON object a line."""

    header, start = b"", b'{"picture": '

    def __init__(self, columns: tuple[str, ...]) -> None:
        """Begin; an object leaves out the `columns` that it has nothing for."""

    def encode(self, row: Mapping[str, Any]) -> bytes:
        """Return one line."""
        return f"{for_json_text(json.dumps(row))}\n".encode()

    def decode(self, line: bytes) -> dict[str, Any]:
        """Return what `encode` was given; ValueError for anything else."""
        row = json.loads(line)
        return row if isinstance(row, dict) else {}

    def name(self, name: str) -> str:
        """Return a name as a line holds it."""
        return name


class Csv:
    """A CSV with quotes around every cell, which `io.read_csv` reads."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self.header = self.start = self._line(columns)

    def encode(self, row: Mapping[str, Any]) -> bytes:
        """Return one line."""
        return self._line([self.name(str(row.get(name, ""))) for name in self._columns])

    def decode(self, line: bytes) -> dict[str, Any]:
        """Return the cells as text; ValueError for anything else."""
        try:
            (row,) = read_csv(self.header + line)
        except csv.Error as error:
            raise ValueError(line) from error
        return row

    def name(self, name: str) -> str:
        """Return a name as a line holds it."""
        return one_line(name, limit=len(name))

    @staticmethod
    def _line(cells: Iterable[str]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, quoting=csv.QUOTE_ALL).writerow(map(for_csv, cells))
        return text.getvalue().encode()


FORMATS: Mapping[str, type[JsonLines | Csv]] = {"json": JsonLines, "csv": Csv}


@dataclass(frozen=True)
class Failure:
    """An image that cannot be read, and why."""

    name: str
    error: DataError


def answer_row(answer: Prediction | Failure) -> dict[str, Any]:
    """Return the cells of one answer by column."""
    if isinstance(answer, Failure):
        return {"picture": answer.name, "error": str(answer.error)}
    return {"picture": answer.name, "probability": answer.probability, "decision": answer.decision}


class _Name(str):
    """A name that equals only itself: two lists may give different images one name."""

    __slots__ = ()


class InOrder:
    """Answers and failures in the order of the images; failures arrive while a batch is still being filled.

    A failure is given as soon as nothing before it waits for its batch. `count` were given, `failed` of them.
    """

    def __init__(self, images: Images, *, give: Callable[[Prediction | Failure], None]) -> None:
        self.count = self.failed = 0
        self._images, self._give = images, give
        self._names: deque[str] = deque()
        self._failures: deque[Failure] = deque()

    def images(self) -> Iterator[str | NamedImage]:
        """Give the images, each noted as it is taken."""
        for image in self._images:
            name = _Name(name_of(image) or "")
            self._names.append(name)
            yield replace(image, name=name) if isinstance(image, NamedImage) else name

    def fail(self, name: str, error: DataError) -> None:
        """Note that an image cannot be read."""
        self._failures.append(Failure(name, error))
        self._give_failures()

    def answer(self, answer: Prediction) -> None:
        """Take the answer of the next image that can be read."""
        self._give_next(answer)
        self._give_failures()

    def _give_failures(self) -> None:
        while self._failures and self._names[0] is self._failures[0].name:
            self.failed += 1
            self._give_next(self._failures.popleft())

    def _give_next(self, answer: Prediction | Failure) -> None:
        self._names.popleft()
        self.count += 1
        self._give(answer)


class AnswerFile:
    """A file of answers that is written to line by line; `done` lines were there, `failed` are failures."""

    def __init__(self, file: BinaryIO, path: Path, form: JsonLines | Csv, manifest_sha256: str) -> None:
        self._file, self._path, self._form, self._manifest = file, path, form, manifest_sha256
        self.done = self.failed = 0

    @classmethod
    def open(cls, path: Path, *, form: str, manifest_sha256: str, overwrite: bool) -> Self:
        """Open a file of answers, which nobody else writes to meanwhile.

        Raises:
            StoreError: it cannot be written, or somebody is writing to it.
        """
        try:
            file = open_to_go_on(path)
        except OSError as error:
            found = error.strerror or str(error)
            raise StoreError("a file that can be written", found, path, "Name another.") from error
        if not lock_file(file):
            file.close()
            raise StoreError("a file that nobody is writing to", "another writer", path, "Wait for it.")
        if overwrite:
            file.truncate(0)
        return cls(file, path, FORMATS[form](OF_FILE), manifest_sha256)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def go_on(self, images: Images) -> Iterator[str | NamedImage]:
        """Return the images that have no line yet; a torn last line is cut.

        Raises:
            ConfigError: the lines are of another bundle, of other images, or no lines of answers.
        """
        remaining, end = iter(images), 0
        for line in iter(partial(self._file.readline, _MAX_LINE), b""):
            whole, start = line.endswith(b"\n"), self._form.start
            if len(line) == _MAX_LINE or not (end or line.startswith(start) or start.startswith(line)):
                self._refuse(f"lines of answers as {type(self._form).__name__}", "something else")
            if not whole:
                break
            if end or not self._form.header:
                self._check(line, next(remaining, None))
            end += len(line)
        self._file.seek(end)
        self._file.truncate()
        if not end:
            self._file.write(self._form.header)
        return remaining

    def _check(self, line: bytes, image: str | NamedImage | None) -> None:
        """Count a line, which must answer this image with this bundle."""
        number = self.done + 1
        try:
            row = self._form.decode(line)
        except ValueError:
            self._refuse("lines of answers", f"answer {number}, which is none")
        if row.get("manifest_sha256") != self._manifest:
            other = row.get("manifest_sha256")
            self._refuse(f"answers of the bundle with the manifest {self._manifest}", f"those of {other}")
        wanted = "no more images" if image is None else self._form.name(name_of(image) or "")
        if image is None or row.get("picture") != wanted:
            self._refuse(f"answers to the same images ({wanted} as image {number})", str(row.get("picture")))
        self.done, self.failed = number, self.failed + bool(row.get("error"))

    def _refuse(self, expected: str, found: str) -> NoReturn:
        raise ConfigError(
            expected, found, self._path, "Name another file, or start this one over with --overwrite."
        )

    def write(self, answer: Prediction | Failure) -> None:
        """Append one line.

        Raises:
            StoreError: the disk refused it.
        """
        try:
            self._file.write(self._form.encode({**answer_row(answer), "manifest_sha256": self._manifest}))
            self._file.flush()
        except OSError as error:
            found, action = error.strerror or str(error), "Make room; the same command then goes on."
            raise StoreError("room for the answers", found, self._path, action) from error
