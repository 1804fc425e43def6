"""A pointer: a small JSON file that names a manifest and vouches for its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.errors import SchemaError
from streetvision_core.io.encode import parse_json
from streetvision_core.io.names import check_relative_name

if TYPE_CHECKING:
    from pathlib import Path


def parse_pointer(data: bytes, *, where: Path) -> tuple[str, str]:
    """Return the manifest's relative path and its SHA-256.

    Raises:
        SchemaError: it has another form than the one that is written.
    """
    try:
        pointer = parse_json(data)
        manifest, digest = pointer.pop("manifest"), pointer.pop("sha256")
        unknown = sorted(pointer)
        check_relative_name(manifest)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise SchemaError(
            "a pointer with manifest and sha256", f"{data[:80]!r}", where, "Materialize the step again."
        ) from error
    if unknown or not isinstance(digest, str):
        raise SchemaError(
            "a pointer of a version this one reads",
            f"the unknown fields {', '.join(unknown)}",
            where,
            "It was written by a newer StreetVision; update this installation.",
        )
    return manifest, digest
