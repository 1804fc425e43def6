"""Names of files, steps and runs: what may be joined to a directory without leaving it.

A name from a manifest, a pointer or a bundle is data from outside until it has passed here.
"""

from __future__ import annotations

import re

from streetvision_core.errors import SchemaError

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")
MANIFEST_NAME = "manifest.json"
CURVE_NAME = "events.out.tfevents.streetvision"


def check_segment(name: str, *, kind: str) -> str:
    """Return ``name`` if it can be one directory or file name: letters, digits, ``. _ + -``.

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
    """Return ``name`` if it is a relative POSIX path that stays inside its directory.

    Raises:
        SchemaError: it is absolute, empty, has ``..``, ``.``, a backslash or a hidden part.
    """
    for segment in name.split("/"):
        check_segment(segment, kind="file name")
    return name
