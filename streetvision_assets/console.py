"""The terminal's view of a run: one line for what happened, one paragraph for what went wrong.

Dagster's own console repeats run and job on every line and prints each traceback twice. All of that
stays on the run's page in the UI. The presets and the jobs choose this logger (`loggers: console`).
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import AssetCheckEvaluation

from streetvision_core.errors import StoreError
from streetvision_core.escape import for_terminal, from_markdown

if TYPE_CHECKING:
    from dagster_shared.error import SerializableErrorInfo

_EVENTS_SHOWN = {
    "ASSET_CHECK_EVALUATION",
    "RESOURCE_INIT_FAILURE",
    "STEP_FAILURE",
    "RUN_FAILURE",
    "RUN_SUCCESS",
}
# Dagster logs one of these for every step behind a failed one; the failure itself is the news.
_CONSEQUENCE = "Dependencies for step"
# The first repeats the evaluation of the check on the line before. The second is Ctrl-C, which the person at
# the terminal has pressed.
_NO_NEWS = {"DagsterAssetCheckFailedError", "DagsterExecutionInterruptedError"}
_MODULES = re.compile(r"\A(?:\w+\.)+(?=\w+: )")
# Whoever wrote, Dagster or a library, into whatever folder: ENOSPC and EDQUOT of Linux and macOS.
_FULL_DISK = re.compile(r"^OSError: \[Errno (?:28|69|122)\] (?P<what>[^:\n]+)(?:: '(?P<where>.+)')?")


class _ReadableFormatter(logging.Formatter):
    """Time, step, and the message as it was before Dagster put the run in front of it."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{self.formatTime(record, '%H:%M:%S')}  {_speaker(record):<32}  "
        # A text of several lines may not look like further messages.
        return for_terminal(head + _text(record)).replace("\n", "\n          ")


def _is_news(record: logging.LogRecord) -> bool:
    event = _meta(record).get("dagster_event")
    if event is not None:
        error = getattr(event.event_specific_data, "error", None)
        known = error is not None and error.cls_name in _NO_NEWS
        return event.event_type_value in _EVENTS_SHOWN and not known
    return record.levelno >= logging.INFO and not _message(record).startswith(_CONSEQUENCE)


def _meta(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "dagster_meta", {})


def _message(record: logging.LogRecord) -> str:
    return str(_meta(record).get("orig_message") or record.getMessage())


def _speaker(record: logging.LogRecord) -> str:
    """Return which check spoke, or which step; one step may hold several checks."""
    event = getattr(_meta(record).get("dagster_event"), "event_specific_data", None)
    if isinstance(event, AssetCheckEvaluation):
        return f"{event.asset_key.path[-1]}_{event.check_name}"
    return str(_meta(record).get("step_key") or "")


def _text(record: logging.LogRecord) -> str:
    event = getattr(_meta(record).get("dagster_event"), "event_specific_data", None)
    if isinstance(event, AssetCheckEvaluation):
        verdict = "passed" if event.passed else event.severity.value
        return f"{verdict}: {from_markdown(event.description or '')}"
    error = getattr(event, "error", None)
    return readable_error(error) if error is not None else _message(record)


def readable_error(error: SerializableErrorInfo) -> str:
    """Return the paragraph that a person should read out of a chain of wrapped errors.

    Dagster wraps what steps and IO managers raise; below our own paragraph stands the bare cause, such
    as an OSError. Ours is the one to read; where there is none, it is the innermost.
    """
    chain = [error]
    while chain[-1].cause is not None:
        chain.append(chain[-1].cause)
    ours = [link for link in chain if link.message.startswith("streetvision_core.")]
    message = (ours or chain[-1:])[0].message.strip()
    if ours:
        return _MODULES.sub("", message.rpartition("streetvision_core.")[2])
    if full := _FULL_DISK.match(message):
        return _full_disk(full["what"], full["where"])
    return message


def _full_disk(what: str, where: str | None) -> str:
    action = "Free space there; for a temporary file, setting TMPDIR to another disk helps as well."
    return f"StoreError: {StoreError('room on the disk', what, where or 'unknown which', action)}"


@dg.logger({}, description="One line for what happened, one paragraph for what went wrong.")
def console(_: dg.InitLoggerContext) -> logging.Logger:
    """Log to stderr, readably."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_ReadableFormatter())
    handler.addFilter(_is_news)
    logger = logging.getLogger("streetvision.console")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.handlers = [handler]  # not added: a process may execute several runs
    return logger
