"""The errors a user can meet, each one readable paragraph.

Every error says four things: what was expected, what was found, where, and what to do next. The
four are positional arguments of the exception, so that it survives pickling between processes.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from streetvision_core.escape import PARAGRAPH, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


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


def field_faults(error: ValidationError, *, limit: int = 5) -> str:
    """Return the faults of a record that pydantic refused, on one line: where each stands, and what it is."""
    return "; ".join(f"{_dotted(fault['loc'])}: {fault['msg']}" for fault in error.errors()[:limit])


def refused_settings(error: ValidationError, *, step: str) -> ConfigError:
    """Return pydantic's refusal of a step's settings as one paragraph; our own rules keep their words."""
    first, *others = [_refused_setting(fault, step) for fault in error.errors()]
    return ConfigError(first.expected, first.found, first.where, " ".join([first.action, *map(str, others)]))


def _refused_setting(fault: ErrorDetails, step: str) -> ConfigError:
    rule = fault.get("ctx", {}).get("error")
    if isinstance(rule, StreetVisionError):
        return ConfigError(rule.expected, rule.found, f"{step}: {rule.where}", rule.action)
    wanted = fault["msg"].removeprefix("Input should be ")
    if wanted.startswith(("greater", "less", "finite")):
        wanted = f"a number {wanted}"
    elif wanted == fault["msg"]:
        wanted = f"another value: {wanted[:1].lower()}{wanted[1:]}"
    setting = _dotted(fault["loc"]) or "the settings"
    if fault["input"] is None:
        return ConfigError(wanted, "nothing", f"{setting} of {step}", "Leave it out, or write one.")
    return ConfigError(wanted, repr(fault["input"]), f"{setting} of {step}", "Change it to such a value.")


def _dotted(place: Sequence[int | str]) -> str:
    return ".".join(map(str, place))


@contextmanager
def os_errors_as(
    kind: type[StreetVisionError], expected: str, where: str | Path, action: str
) -> Iterator[None]:
    """Raise an OSError during the block as one of ours, which says what the system said."""
    try:
        yield
    except OSError as error:
        raise kind(expected, f"the error '{error.strerror or error}'", where, action) from error


class DataError(StreetVisionError, ValueError):
    """The images, labels or groups cannot be used as they are."""


class SchemaError(StreetVisionError, ValueError):
    """A record on disk is not of the schema this version reads."""


class IntegrityError(StreetVisionError, ValueError):
    """Bytes on disk are not the bytes that were published."""


class StoreError(StreetVisionError, RuntimeError):
    """The artifact store cannot be read or written."""


class MissingArtifactError(StoreError, LookupError):
    """An artifact was asked for that nobody has published."""


class TrainingError(StreetVisionError, RuntimeError):
    """Training cannot start, or failed or diverged on the way."""


class BundleError(StreetVisionError, ValueError):
    """A bundle cannot be exported, or is not to be trusted."""


@contextmanager
def as_bundle_error() -> Iterator[None]:
    """Raise an error of this project during the block as a BundleError of the same four parts."""
    try:
        yield
    except StreetVisionError as error:
        raise BundleError(error.expected, error.found, error.where, error.action) from error
