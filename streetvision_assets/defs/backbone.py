"""Phase 4: the starting weights, adapted to the train role where that is asked for."""

from functools import partial

import dagster as dg

from streetvision_assets.conventions import stage_asset
from streetvision_assets.metadata import markdown, table
from streetvision_assets.resources import StoreResource
from streetvision_assets.step import Step, StepOutput
from streetvision_core.data.index import ImageIndex
from streetvision_core.data.opening import open_images
from streetvision_core.data.splits import Splits
from streetvision_core.escape import PARAGRAPH, for_markdown
from streetvision_core.io import PublishedArtifact
from streetvision_core.models.backbone import Backbone, prepare_backbone
from streetvision_core.models.config import SEED, BackboneConfig
from streetvision_core.models.licences import export_obstacle
from streetvision_core.training.ssl.explora import adapt_backbone, used_device


@stage_asset(group="model", kinds={"timm", "pytorch"}, phase=4)
def backbone(
    context: dg.AssetExecutionContext,
    config: BackboneConfig,
    store: StoreResource,
    images: PublishedArtifact,
    splits: PublishedArtifact,
) -> dg.MaterializeResult[StepOutput]:
    """The starting weights: a timm model from the hub, from a local file, or random; adapted, when asked."""
    # What is not adapted reads no image, and so is the same whatever the images and the splits are.
    read = (images, splits) if config.is_adapted else ()
    step = Step.begin(context, store, config, *read, reusable=config.is_decisive)
    made = step.reused(Backbone.from_artifact) or prepare_backbone(config, directory=step.directory)
    if read and made.adaptation is None:
        roles = Splits.from_artifact(splits)
        made = adapt_backbone(
            made,
            index=ImageIndex.from_artifact(images),
            splits=roles,
            images=open_images(images, roles, roles=step.roles),
            config=config,
            directory=step.directory,
            resume=step.resume,
            on_epoch=lambda epoch: context.log.info(str(epoch)),
        )
    if obstacle := export_obstacle(made.licence, text=made.licence_text):
        context.log.warning("the bundle will be refused unless its configuration says more. %s", obstacle)
    return step.result(
        made,
        facts=_show_origin(made),
        shown=partial(_show_adaptation, made),
        device=used_device(config),
        seed=SEED,
    )


def _show_origin(made: Backbone) -> dict[str, str]:
    return {"architecture": made.architecture, "source": made.source, "licence": made.licence}


def _show_adaptation(made: Backbone) -> dict[str, dg.MetadataValue]:
    if made.adaptation is None:
        return {}
    losses = [{"epoch": i, "loss": loss} for i, loss in enumerate(made.adaptation["losses"], start=1)]
    return {
        "adaptation": markdown(for_markdown(made.adaptation["sentence"], limit=PARAGRAPH)),
        "adaptation_losses": table(losses),
    }
