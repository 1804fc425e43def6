"""The pointers of a store, in ``latest/`` and in ``keys/``, as the run and the step that they name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.errors import SchemaError, StoreError
from streetvision_core.history.scan import directories, entries
from streetvision_core.io.names import MANIFEST_NAME, parse_pointer

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Pointer:
    """A pointer's file, what it names, and the SHA-256 (hex) that it vouches for."""

    path: Path
    run_id: str
    step: str
    sha256: str

    @property
    def key(self) -> tuple[str, str]:
        """The run and the step that it names."""
        return self.run_id, self.step


def latest_files(root: Path) -> list[Path]:
    """Return the files of the pointers to what is current."""
    return _pointer_files(root / "latest")


def key_files(root: Path) -> list[Path]:
    """Return the files of the pointers to what was computed from given inputs."""
    return [path for entry in directories(root / "keys") for path in _pointer_files(Path(entry.path))]


def _pointer_files(directory: Path) -> list[Path]:
    names = (entry.name for entry in entries(directory))
    return [directory / name for name in sorted(names) if name.endswith(".json") and not name.startswith(".")]


def read_pointer(path: Path) -> Pointer:
    """Read the pointer at ``path``.

    Raises:
        SchemaError: it is none, or names something that is not the manifest of a step of a run.
        StoreError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - of thousands; half the time of Path.open
            data = file.read()
    except OSError as error:
        raise StoreError(
            "a pointer that can be read", f"the error '{error.strerror}'", path, "Check the permissions."
        ) from error
    manifest, digest = parse_pointer(data, where=path)
    match manifest.split("/"):
        case ["runs", run_id, step, name] if name == MANIFEST_NAME:
            return Pointer(path, run_id, step, digest)
    raise SchemaError(
        f"a pointer to runs/RUN/STEP/{MANIFEST_NAME}", manifest, path, "Materialize the step again."
    )


def read_pointers(paths: Iterable[Path]) -> tuple[list[Pointer], list[str]]:
    """Return the pointers that can be read, and one paragraph for each that cannot."""
    pointers, faults = [], []
    for path in paths:
        try:
            pointers.append(read_pointer(path))
        except (SchemaError, StoreError) as error:
            faults.append(str(error))
    return pointers, faults
