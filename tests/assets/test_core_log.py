"""Messages that the core logs while a step runs stand in the log of that run, and nowhere else."""

import logging

import dagster as dg
import pytest

from streetvision_assets import conventions

CORE = logging.getLogger("streetvision_core.somewhere")


def run(body, monkeypatch):
    """Materialize a step of this body; return the texts of the run's log, with their levels."""
    monkeypatch.setattr(conventions, "BODIES", {})
    step = conventions.stage_asset(group="data", kinds=set())(body)
    resources = {conventions.IO_MANAGER_KEY: dg.mem_io_manager}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([step], instance=instance, resources=resources, raise_on_error=False)
        entries = instance.all_logs(result.run_id)
    return [(entry.level, entry.user_message) for entry in entries if entry.dagster_event is None]


def telling(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    CORE.debug("not for people")
    CORE.info("Going on after epoch %d, with 100%% of it.", 3)
    CORE.warning("A shard is damaged.")
    return dg.MaterializeResult(value=1)


def failing(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    CORE.info("it begins")
    raise ValueError("and ends")


def test_news_and_warnings_of_the_core_stand_in_the_log_of_the_run(monkeypatch):
    assert run(telling, monkeypatch) == [
        (logging.INFO, "Going on after epoch 3, with 100% of it."),
        (logging.WARNING, "A shard is damaged."),
    ]


@pytest.mark.parametrize("body", [telling, failing])
def test_after_a_step_the_core_logs_as_before(body, monkeypatch):
    core = logging.getLogger("streetvision_core")
    before = (core.level, list(core.handlers))
    assert run(body, monkeypatch)
    assert (core.level, core.handlers) == before


def test_each_step_hears_only_itself(monkeypatch):
    assert run(failing, monkeypatch) == [(logging.INFO, "it begins")]
    assert run(failing, monkeypatch) == [(logging.INFO, "it begins")]
