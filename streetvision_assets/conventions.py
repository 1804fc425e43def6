"""What every asset of the graph has in common: owner, group, kinds, code version."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from streetvision_assets.code_version import code_version
from streetvision_assets.settings.nested import as_dagster
from streetvision_assets.settings.refusals import refusing

# What an asset takes where it was published, and does without where it was not (`optional_inputs`).
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


def optional_inputs(*names: str) -> dict[str, dg.AssetIn]:
    """Return inputs by name that the IO manager gives as None where nothing was published."""
    return {name: dg.AssetIn(metadata={OPTIONAL: True}) for name in names}


def checked_input(name: str) -> dg.AssetIn:
    """Return the input of a check, which its IO manager gives as None where nothing was ever published."""
    return dg.AssetIn(name, input_manager_key=CHECKED_IO_MANAGER_KEY)


def stage_asset(
    *, group: str, kinds: set[str], phase: int | None = None, ins: dict[str, dg.AssetIn] | None = None
) -> Callable[[Body], dg.AssetsDefinition]:
    """Return ``dg.asset`` with what the assets of this graph have in common: each refuses bad settings early.

    Args:
        group: What it belongs to, as the UI groups it: data, model, calibration, report or deploy.
        kinds: What it is made with; the UI shows an icon for each.
        phase: The number of the phase that asks for it, as a tag; None for what every phase needs.
        ins: Inputs that are more than a name, by name.
    """

    def define(body: Body) -> dg.AssetsDefinition:
        BODIES[body.__name__] = body
        model = body.__annotations__["config"] = as_dagster(body.__annotations__["config"])
        decorate = dg.asset(
            group_name=group,
            ins=ins,
            kinds=kinds,
            tags={} if phase is None else {"phase": str(phase)},
            owners=OWNERS,
            io_manager_key=IO_MANAGER_KEY,
            code_version=code_version(body),
        )
        return refusing(decorate(body), model)

    return define
