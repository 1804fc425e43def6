"""Names of files, steps and runs: what may be joined to a directory without leaving it.

A name from a manifest, a pointer or a bundle is data from outside until it has passed here.

A pointer is a small JSON file that names a manifest and vouches for its bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from streetvision_core.errors import SchemaError
from streetvision_core.io.encode import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")
# Devices of Windows, with any ending; and a dot at the end, which Windows leaves out.
_NOT_ON_WINDOWS = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?|.*\.", re.IGNORECASE)
_PARTIAL = re.compile(r"\..*\.[0-9a-f]{16}\.partial")
MANIFEST_NAME = "manifest.json"
PRIVATE_NAME = "private.json"
CHAMPION = "champion"  # the folder of the pointers to what won
FLOOR = "coverage_floor"  # of such a pointer: the share that whoever wins next has to answer
SIGNATURE_NAME = "model.sig"  # of a bundle, beside its manifest, which does not list it
CURVE_NAME = "events.out.tfevents.streetvision"


def check_segment(name: str, *, kind: str) -> str:
    """Return `name` if it can be one directory or file name: letters, digits, `. _ + -`.

    Raises:
        SchemaError: it is empty, hidden, too long, or holds a separator.
    """
    if not _SEGMENT.fullmatch(name):
        raise SchemaError(
            f"a {kind} of letters, digits, '.', '_', '+' or '-' that does not start with a dot",
            repr(name),
            kind,
            "A name like this could leave its directory; the record is damaged or was not made here.",
        )
    return name


def check_relative_name(name: str) -> str:
    """Return `name` if it is a relative POSIX path that stays inside its directory.

    Raises:
        SchemaError: it is absolute, empty, has `..`, `.`, a backslash or a hidden part.
    """
    for segment in name.split("/"):
        check_segment(segment, kind="file name")
    return name


def check_portable(names: Iterable[str]) -> None:
    """Refuse relative names that could not lie in one directory on Windows or macOS as well.

    Only writers ask: what an older version has written stays readable where it lies.

    Raises:
        SchemaError: a part is the name of a Windows device or ends with a dot, or two names differ in case
            alone.
    """
    names = list(names)
    alike = Counter(name.casefold() for name in names)
    for name in names:
        device = next(filter(_NOT_ON_WINDOWS.fullmatch, name.split("/")), None)
        if device is not None or alike[name.casefold()] > 1:
            raise SchemaError(
                "file names that every system can hold",
                f"{device!r}, which Windows cannot" if device else f"{name!r} twice but for its case",
                name,
                "Name the file otherwise.",
            )


def is_partial(name: str) -> bool:
    """Tell whether `name` is that of a writer's temporary file."""
    return _PARTIAL.fullmatch(name) is not None


def parse_pointer(data: bytes, *, where: Path) -> tuple[str, str, float | None]:
    """Return the manifest's relative path, its SHA-256, and a champion's floor of coverage.

    Raises:
        SchemaError: it has another form than the one that is written.
    """
    won = where.parent.name == CHAMPION
    try:
        pointer = parse_json(data)
        manifest, digest = pointer.pop("manifest"), pointer.pop("sha256")
        floor = _share(pointer.pop(FLOOR)) if won and FLOOR in pointer else None
        unknown = sorted(pointer)
        check_relative_name(manifest)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        action = f"Remove {where}, and promote again." if won else "Materialize the step again."
        raise SchemaError("a pointer with manifest and sha256", f"{data[:80]!r}", where, action) from error
    if unknown or not isinstance(digest, str):
        raise SchemaError(
            "a pointer of a version this one reads",
            f"the unknown fields {', '.join(unknown)}",
            where,
            "It was written by a newer StreetVision; update this installation.",
        )
    return manifest, digest, floor


def _share(value: object) -> float:
    if not isinstance(value, float) or not 0 <= value <= 1:
        raise ValueError(value)
    return value
