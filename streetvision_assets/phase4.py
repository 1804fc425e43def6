"""Phase 4: the starting weights."""

import dagster as dg

from streetvision_assets.checks import standard_checks
from streetvision_assets.conventions import stage_asset
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Step, StepConfig, StepOutput
from streetvision_core.models.backbone import Backbone, prepare_backbone
from streetvision_core.models.config import PRETRAINED, RANDOM, BackboneConfig


class BackboneStep(BackboneConfig, StepConfig):
    """Configuration of ``backbone``."""


@stage_asset(group="phase_4", kinds={"timm", "pytorch"}, deps=["splits"])
def backbone(
    context: dg.AssetExecutionContext, config: BackboneStep, store: StoreResource
) -> dg.MaterializeResult[StepOutput]:
    """The starting weights: a timm model from the hub, from a local file, or random."""
    # A local file may hold other weights than the last time, under the same path.
    step = Step.begin(context, store, config, reusable=config.weights in (PRETRAINED, RANDOM))
    prepared = step.reused(Backbone.from_artifact) or prepare_backbone(config, directory=step.directory)
    return step.result(prepared, seed=config.seed)


CHECKS = standard_checks("backbone")
