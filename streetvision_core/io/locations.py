"""Directories that the environment names: one rule for STREETVISION_STORE, DAGSTER_HOME and the like.

A directory is named by an absolute path, or by one below the home directory (``~/store``). A relative path
would be another directory in every working directory, and an address is none at all: both are refused.
"""

from __future__ import annotations

import re
from pathlib import Path

from streetvision_core.errors import StoreError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def directory_named(value: str, *, by: str) -> Path:
    """Return the directory that a setting names, as an absolute path; it need not exist.

    Args:
        value: The text of the setting.
        by: The setting, for the error.

    Raises:
        StoreError: it is a relative path, an address (``s3://...``), or below the home of another user.
    """
    if value.startswith("~") and value.partition("/")[0] != "~":
        raise _refusal(value, by, "The home of another user is not looked up: write its path out.")
    try:
        path = Path(value).expanduser()
    except RuntimeError as error:
        raise _refusal(value, by, "The home directory is not known: set HOME.") from error
    if _ADDRESS.match(value):
        raise _refusal(value, by, "Name a directory of this machine; addresses are not understood yet.")
    if not path.is_absolute():
        raise _refusal(value, by, f"Seen from the working directory it would be {path.absolute()}.")
    return path


def _refusal(value: str, by: str, action: str) -> StoreError:
    return StoreError("an absolute path, or one that begins with ~/", repr(value), by, action)
