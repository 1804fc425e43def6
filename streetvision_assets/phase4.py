"""Phase 4: the starting weights."""

import dagster as dg

from streetvision_assets.checks import standard_checks
from streetvision_assets.conventions import stage_asset
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Step, StepConfig, StepOutput
from streetvision_core.models.backbone import Backbone, prepare_backbone
from streetvision_core.models.config import BackboneConfig
from streetvision_core.models.licences import export_obstacle


class BackboneStep(BackboneConfig, StepConfig):
    """Configuration of ``backbone``."""


@stage_asset(group="phase_4", kinds={"timm", "pytorch"}, deps=["splits"])
def backbone(
    context: dg.AssetExecutionContext, config: BackboneStep, store: StoreResource
) -> dg.MaterializeResult[StepOutput]:
    """The starting weights: a timm model from the hub, from a local file, or random."""
    step = Step.begin(context, store, config, reusable=config.is_decisive)
    prepared = step.reused(Backbone.from_artifact) or prepare_backbone(config, directory=step.directory)
    if obstacle := export_obstacle(prepared.licence, text=prepared.licence_text):
        context.log.warning("the bundle will be refused unless its configuration says more. %s", obstacle)
    return step.result(prepared, seed=config.seed)


CHECKS = standard_checks("backbone")
