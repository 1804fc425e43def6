"""The errors a user can meet, each one readable paragraph.

Every error says four things: what was expected, what was found, where, and what to do next. The
four are positional arguments of the exception, so that it survives pickling between processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.escape import PARAGRAPH, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class StreetVisionError(Exception):
    """The base of every error this project raises on purpose."""

    def __init__(self, expected: str, found: str, where: str | Path, action: str) -> None:
        super().__init__(expected, found, where, action)
        self.expected = expected
        self.found = found
        self.where = where
        self.action = action

    def __str__(self) -> str:
        # What was found is often a name or a text of the data; it goes to terminals, logs and pages.
        expected, found, where, action = (
            one_line(part, limit=PARAGRAPH) for part in (self.expected, self.found, self.where, self.action)
        )
        return f"Expected {expected}, but found {found} ({where}). {action}"


class ConfigError(StreetVisionError, ValueError):
    """A setting cannot mean anything, or names something that does not exist."""


def check_choice(value: str, *, choices: Sequence[str], where: str) -> str:
    """Return a setting that is one of the choices; raises ConfigError for any other."""
    if value not in choices:
        raise ConfigError(f"one of {', '.join(choices)}", repr(value), where, "Choose one of them.")
    return value


class DataError(StreetVisionError, ValueError):
    """The pictures, labels or groups cannot be used as they are."""


class SchemaError(StreetVisionError, ValueError):
    """A record on disk is not of the schema this version reads."""


class IntegrityError(StreetVisionError, ValueError):
    """Bytes on disk are not the bytes that were published."""


class StoreError(StreetVisionError, RuntimeError):
    """The artifact store cannot be read or written."""


class MissingArtifactError(StoreError, LookupError):
    """An artifact was asked for that nobody has published."""


class TrainingError(StreetVisionError, RuntimeError):
    """Training cannot start, or went where no model can come back from."""


class BundleError(StreetVisionError, ValueError):
    """A bundle cannot be exported, or is not to be trusted."""
