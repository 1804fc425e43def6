"""Phase 4: the starting weights."""

import dagster as dg

from streetvision_assets.checks import standard_checks
from streetvision_assets.conventions import stage_asset
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Step, StepOutput
from streetvision_core.models.backbone import prepare_backbone
from streetvision_core.models.config import BackboneConfig


class BackboneStep(BackboneConfig, dg.Config):
    """Configuration of ``backbone``."""


@stage_asset(group="phase_4", kinds={"timm", "pytorch"}, deps=["splits"])
def backbone(
    context: dg.AssetExecutionContext, config: BackboneStep, store: StoreResource
) -> dg.MaterializeResult[StepOutput]:
    """The starting weights: a timm model from the hub, from a local file, or random."""
    step = Step.begin(context, store, config)
    return step.result(prepare_backbone(config, directory=step.directory), seed=config.seed)


CHECKS = standard_checks("backbone")
