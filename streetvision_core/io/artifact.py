"""What a step makes: a frozen record that knows its files and its digest, but no directory.

``digest`` is the digest of the content alone: file names and their SHA-256. It holds no run id, no
time and no path, so the same content has the same digest wherever and whenever it is made. Files
below ``lineage/`` say where content came from and are not content: they are left out of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streetvision_core.io.atomic import StagedFile
from streetvision_core.io.encode import bytes_digest, json_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

LINEAGE_PREFIX = "lineage/"
# The side files of the manifests there, each under the name of its step.
PRIVATE_PREFIX = f"{LINEAGE_PREFIX}private/"


@dataclass(frozen=True)
class Artifact:
    """The files of a step by relative POSIX name, and the numbers worth showing beside them.

    A file is its bytes, or, when it is too large for memory, a file that was already staged in the
    step's own directory of the store.
    """

    files: Mapping[str, bytes | StagedFile]
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def lineage(self) -> Artifact:
        """The part of it that says where its content came from."""
        return Artifact(
            {name: content for name, content in self.files.items() if name.startswith(LINEAGE_PREFIX)}
        )

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the content: the data version of the artifact."""
        return content_digest({name: file_digest(content) for name, content in self.files.items()})


def file_digest(content: bytes | StagedFile) -> str:
    """Return the SHA-256 (hex) of one file of an artifact."""
    return content.sha256 if isinstance(content, StagedFile) else bytes_digest(content)


def content_digest(digests: Mapping[str, str]) -> str:
    """Return one SHA-256 (hex) for files given as name -> SHA-256, leaving ``lineage/`` out."""
    return json_digest({name: sha for name, sha in digests.items() if not name.startswith(LINEAGE_PREFIX)})
