"""The conventions that all assets of the graph share: owner, group, kinds, code version, the core's log."""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from streetvision_assets.code_version import code_version
from streetvision_assets.settings.nested import as_dagster
from streetvision_assets.settings.refusals import refusing
from streetvision_core.graph import STEPS

# True for an input that an asset takes where it was published, and does without where it was not.
OPTIONAL = "streetvision/optional"
Body = Callable[..., dg.MaterializeResult[Any]]
# The job of all checks.
VERIFY = "verify"
OWNERS = ["team:streetvision"]
IO_MANAGER_KEY = "artifacts"
# Dagster lets the input of a check say nothing but who loads it.
CHECKED_IO_MANAGER_KEY = "checked_artifacts"
# The bodies of the assets by name: what a step runs, for who asks whether that has changed.
BODIES: dict[str, Body] = {}


def inputs_of(step: str) -> dict[str, dg.AssetIn]:
    """Return all inputs of a step by name; the IO manager gives an optional one as None if there is none."""
    rule = STEPS[step]
    return {name: dg.AssetIn(metadata={OPTIONAL: name in rule.optional}) for name in rule.takes}


def checked_input(name: str) -> dg.AssetIn:
    """Return the input of a check, which its IO manager gives as None where nothing was ever published."""
    return dg.AssetIn(name, input_manager_key=CHECKED_IO_MANAGER_KEY)


@contextmanager
def core_log_to(log: logging.Logger) -> Iterator[None]:
    """Pass what the core logs on for the block, from INFO up: to the run's page and the terminal."""
    core, handler = logging.getLogger("streetvision_core"), logging.Handler()
    # The text alone: Dagster's log adds run and step.
    handler.emit = lambda record: log.log(record.levelno, "%s", record.getMessage())  # type: ignore[method-assign]
    level = core.level
    core.addHandler(handler)
    core.setLevel(logging.INFO)
    try:
        yield
    finally:
        core.setLevel(level)
        core.removeHandler(handler)


def _logged(body: Body) -> Body:
    """Return the body, which takes Dagster's context first, with the core's log in that of the run."""

    @functools.wraps(body)
    def run(context: dg.AssetExecutionContext, *args: Any, **kwargs: Any) -> dg.MaterializeResult[Any]:
        with core_log_to(context.log):
            return body(context, *args, **kwargs)

    return run


def stage_asset(
    *, group: str, kinds: set[str], phase: int | None = None, ins: dict[str, dg.AssetIn] | None = None
) -> Callable[[Body], dg.AssetsDefinition]:
    """Return `dg.asset` with what the assets of this graph have in common: each refuses bad settings early.

    Args:
        group: What it belongs to, as the UI groups it: data, model, calibration, report or deploy.
        kinds: What it is made with; the UI shows an icon for each.
        phase: The number of the phase that asks for it, as a tag; None for what every phase needs.
        ins: Inputs that are more than a name, by name.
    """

    def define(body: Body) -> dg.AssetsDefinition:
        BODIES[body.__name__] = body
        model = body.__annotations__.get("config")
        if model is not None:
            model = body.__annotations__["config"] = as_dagster(model)
        decorate = dg.asset(
            # A step without settings: left to itself Dagster would take any, and use none.
            config_schema={} if model is None else None,
            group_name=group,
            ins=ins,
            kinds=kinds,
            tags={} if phase is None else {"phase": str(phase)},
            owners=OWNERS,
            io_manager_key=IO_MANAGER_KEY,
            code_version=code_version(body, step=body.__name__),
        )
        asset = decorate(_logged(body))
        return asset if model is None else refusing(asset, model)

    return define
