"""The checks before a command starts, so that a person gets a paragraph and not a traceback.

DAGSTER_HOME and STREETVISION_STORE name directories, the databases of the instance are whole, and there is
room for temporary files. No Dagster is imported for it. Before the UI is served, runs whose process is gone
are failed.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.errors import ConfigError, StoreError
from streetvision_core.io.root import directory_named
from streetvision_core.io.store import default_store

if TYPE_CHECKING:
    from dagster import DagsterInstance

# Where Dagster keeps its runs and events, unless its configuration says otherwise.
DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")
_LEAST_ROOM = 16 * 2**20  # bytes; a copy of a small bundle, and what Dagster passes from process to process


def prepare() -> None:
    """Look at what every command needs, and make DAGSTER_HOME an absolute path.

    Raises:
        StoreError: DAGSTER_HOME or STREETVISION_STORE names no directory, a database of Dagster's is damaged,
            or there is no room for temporary files.
    """
    if value := os.environ.get("DAGSTER_HOME"):
        home = directory_named(value, by="DAGSTER_HOME")
        os.environ["DAGSTER_HOME"] = str(home)
        _check_home(home)
    default_store()
    _check_room()


def _check_home(home: Path) -> None:
    if not home.is_dir():
        raise StoreError(
            "DAGSTER_HOME to be a directory",
            "none there",
            home,
            f"Make it (mkdir -p {home}) or name another.",
        )
    for name in DATABASES:
        if (home / name).is_file():
            _check_database(home, name)


def _check_database(home: Path, name: str) -> None:
    path = home / name
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            [verdict] = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):  # another process is writing to it, so it can be used
            return
        verdict = str(error)
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        raise StoreError(
            "a database of Dagster's that is whole",
            " ".join(verdict.split()),
            path,
            f"Restore {home / Path(name).parts[0]} from a copy, or move it away: then the next run starts"
            " a new history, and everything that was published is still in the store.",
        )


def _check_room() -> None:
    usable = _temporary_folder()
    # Python leaves a full folder for another one; what else reads TMPDIR does not.
    named = os.environ.get("TMPDIR")
    folder = named if named and Path(named).is_dir() else usable
    free = shutil.disk_usage(folder).free
    if free < _LEAST_ROOM:
        raise StoreError(
            f"at least {_LEAST_ROOM // 2**20} MiB free for temporary files",
            f"{free // 2**10} KiB",
            folder,
            "Free space there, or set TMPDIR to a folder on another disk.",
        )


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        raise StoreError(
            "a folder for temporary files",
            "none that can be written",
            "TMPDIR, /tmp, /var/tmp",
            "Free space in one of them, or set TMPDIR to a folder that can be written.",
        ) from error


def prepare_to_serve() -> None:
    """Prepare, and fail the runs whose process is gone, which would keep the queue from starting others.

    Raises:
        StoreError: as of `prepare`.
        ConfigError: the `dagster.yaml` of DAGSTER_HOME cannot be used.
    """
    prepare()
    from streetvision_assets.commands.stale_runs import fail_stale_runs

    with _instance() as instance:
        fail_stale_runs(instance)


def _instance() -> DagsterInstance:
    """Return the instance that DAGSTER_HOME configures; a file that does not is a paragraph."""
    import dagster as dg
    import yaml
    from dagster._check import CheckError

    try:
        return dg.DagsterInstance.get()
    except (yaml.YAMLError, UnicodeDecodeError, dg.DagsterInvalidConfigError, CheckError) as error:
        faults = getattr(error, "errors", None)
        # Dagster adds all that it would have taken, which is long.
        brief = "; ".join(fault.message.partition(". Expected:")[0] for fault in faults or [])
        reason = brief or str(error)
        raise ConfigError(
            "a configuration that Dagster takes",
            " ".join(reason.split()),
            Path(os.environ["DAGSTER_HOME"]) / "dagster.yaml",
            "Correct it, or take the one that this project comes with (dagster_home/dagster.yaml).",
        ) from error
