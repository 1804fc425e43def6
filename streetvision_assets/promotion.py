"""The job that makes a bundle the champion: `streetvision promote` in the browser."""

import dagster as dg
from pydantic import Field

from streetvision_assets.resources import StoreResource
from streetvision_core.commands.promote import promote as promote_bundle
from streetvision_core.graph import BUNDLE
from streetvision_core.history.find import find_run


class Challenger(dg.Config):
    """The bundle that shall become the champion."""

    run: str = Field(
        default="", description="of this run of the store: its id, a beginning or an end; empty: the current"
    )


@dg.op
def champion(context: dg.OpExecutionContext, config: Challenger, store: StoreResource) -> None:
    """Hold a bundle against its release rules and the champion; it fails where the champion stays."""
    opened = store.open()
    run_id = find_run(opened, config.run) if config.run else None
    context.log.info(promote_bundle(opened, opened.resolve(BUNDLE, run_id=run_id)).text())


@dg.job(
    config={"loggers": {"console": {}}},
    description="Make the bundle the champion, if it is releasable and beats the one before.",
)
def promote() -> None:
    """Do what `streetvision promote` does."""
    champion()
