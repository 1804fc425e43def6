"""What every asset of the graph has in common: owner, group, kinds, code version."""

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from streetvision_assets.code_version import code_version

OWNERS = ["team:streetvision"]
IO_MANAGER_KEY = "artifacts"


def stage_asset(
    *, group: str, kinds: set[str], runs: str, deps: Sequence[str] = ()
) -> Callable[[Callable[..., dg.MaterializeResult[Any]]], dg.AssetsDefinition]:
    """Return ``dg.asset`` with what the assets of this graph have in common.

    Args:
        group: The stage, as the UI groups it.
        kinds: What it is made with; the UI shows an icon for each.
        runs: The module of the core library whose code decides the result.
        deps: Assets that have to come before it, though it reads nothing of them.
    """
    return dg.asset(
        group_name=group,
        kinds=kinds,
        owners=OWNERS,
        io_manager_key=IO_MANAGER_KEY,
        code_version=code_version(runs),
        deps=list(deps),
    )
