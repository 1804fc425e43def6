"""Runs whose process is gone: Dagster would call them started for ever, and ten of them block its queue.

The process of a run holds a claim (`streetvision_core/io/claims.py`) on it below `$DAGSTER_HOME/claims`,
from the set-up of its resources until its end. The operating system releases the claim, however the process
ends: a run in progress whose claim can be had is dead, and is failed. A run without a claim has not come that
far yet, or was started by an older version; it is dead when it has said nothing for an hour.

An instance that keeps its runs elsewhere than in files here may be shared with other machines, whose claims
cannot be seen. There nothing is failed.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES

from streetvision_core.errors import StoreError
from streetvision_core.io.claims import (
    CLAIM_FILES,
    abandoned,
    claim_if_free,
    is_claim,
    is_claimed,
    release,
    remove_held,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SILENCE = 3600.0  # seconds
_log = logging.getLogger(__name__)
_MESSAGE = (
    "The process of this run has ended without a word; it was probably killed. What it published is there,"
    " and the next run goes on where this one stopped."
)


def begin_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Claim a run for this process, and fail the runs whose process is gone.

    Raises:
        StoreError: no claims can be made there.
    """
    claims = _claims(instance)
    if claims is None:
        return
    try:
        claims.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            "a folder for the claims of runs",
            f"the error '{error.strerror}'",
            claims,
            "Check DAGSTER_HOME, its free space and its permissions.",
        ) from error
    claim_if_free(claims / run_id)
    fail_stale_runs(instance)


def end_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Give the claim on a run back."""
    claims = _claims(instance)
    if claims is not None:
        release(claims / run_id)


def fail_stale_runs(instance: dg.DagsterInstance) -> list[str]:
    """Fail every run in progress whose process is gone, and return their ids."""
    claims = _claims(instance)
    if claims is None:
        return []
    return [*_fail_abandoned(instance, claims), *_fail_silent(instance, claims)]


def _claims(instance: dg.DagsterInstance) -> Path | None:
    """Return where the runs of an instance are claimed; None where it may have runs on other machines."""
    from dagster._core.storage.runs import SqliteRunStorage

    if isinstance(instance.run_storage, SqliteRunStorage):
        return Path(instance.root_directory) / "claims"
    return None


def _fail_abandoned(instance: dg.DagsterInstance, claims: Path) -> Iterator[str]:
    for path in sorted(filter(is_claim, claims.glob(CLAIM_FILES))):
        run_id = path.name[1:].removesuffix(".claim")
        with abandoned(claims / run_id) as free, _events_may_be_damaged(instance, run_id):
            # Without a file the process has given its claim back meanwhile: it is ending well.
            if free and is_claim(path):
                if _fail(instance, run_id):
                    yield run_id
                remove_held(path, root=claims)


def _fail_silent(instance: dg.DagsterInstance, claims: Path) -> Iterator[str]:
    in_progress = dg.RunsFilter(statuses=IN_PROGRESS_RUN_STATUSES)
    for record in instance.get_run_records(in_progress):
        run_id = record.dagster_run.run_id
        if is_claimed(claims / run_id):
            continue
        with _events_may_be_damaged(instance, run_id):
            if _silence(instance, record) > SILENCE and _fail(instance, run_id):
                yield run_id


def _silence(instance: dg.DagsterInstance, record: dg.RunRecord) -> float:
    """Return the seconds since the last event of a run; since its creation where it has none."""
    newest = instance.get_records_for_run(record.dagster_run.run_id, limit=1, ascending=False).records
    return time.time() - (newest[0].timestamp if newest else record.create_timestamp.timestamp())


@contextmanager
def _events_may_be_damaged(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Warn where the database of one run's events cannot be used: no other run has to stop for it."""
    from sqlalchemy.exc import DatabaseError

    try:
        yield
    except (DatabaseError, sqlite3.DatabaseError) as error:
        path = Path(instance.root_directory) / "history/runs" / f"{run_id}.db"
        reason = " ".join(str(getattr(error, "orig", error)).split())
        _log.warning(
            "run %s looks dead and cannot be failed: %s (%s). Move that file away: then the next run does"
            " it. What was published is still in the store.",
            run_id[:8],
            reason,
            path,
        )


def _fail(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    if run is None or run.status not in IN_PROGRESS_RUN_STATUSES:
        return False
    instance.report_run_failed(run, _MESSAGE)
    _log.warning("run %s: %s", run_id[:8], _MESSAGE)
    return True
