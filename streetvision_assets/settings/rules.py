"""The rules across steps: what can be told to fail later in a run is refused before its first step.

They are looked at when the resources of a run are set up, for the steps that the run makes. What only the
images, the hub or the weights can tell is still found out by the step that opens them. What the store shows
to have worked before is not tried again, so that a run that takes everything over loads no heavy library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pydantic

from streetvision_assets.conventions import BODIES
from streetvision_assets.settings.refusals import refuse_nothing
from streetvision_core.data.images import STEP as IMAGES
from streetvision_core.data.images import indexed_before
from streetvision_core.errors import ConfigError, StreetVisionError
from streetvision_core.graph import BUNDLE, CHECKPOINT, POLICIES
from streetvision_core.recorded import from_recorded

if TYPE_CHECKING:
    from streetvision_core.bundle.config import BundleConfig
    from streetvision_core.io import ArtifactStore
    from streetvision_core.models.config import BackboneConfig
    from streetvision_core.training.config import TrainingConfig

Configs = dict[str, Any]


def check_run(run: dg.DagsterRun, store: ArtifactStore) -> None:
    """Hold the configuration of a run against the rules across its steps.

    Raises:
        StreetVisionError: a step of the run could only fail.
    """
    refuse_nothing(run.run_config)
    configs = _configs(run)
    if IMAGES in configs and not configs[IMAGES].names_source:
        indexed_before(store)
    if BUNDLE in configs:
        _check_bundle(configs[BUNDLE], configs, store)
    if "backbone" in configs:
        _check_backbone(configs["backbone"], configs, store)
    if CHECKPOINT in configs:
        _check_devices(configs[CHECKPOINT])


def _configs(run: dg.DagsterRun) -> Configs:
    """Return the settings of each step of a run; one that names variables of the environment is left out."""
    from streetvision_assets.definitions import defs

    job = defs.resolve_job_def(run.job_name)
    if run.asset_selection is not None:
        job = job.get_subset(asset_selection=run.asset_selection)
    given = dg.validate_run_config(job, run.run_config)["ops"]
    configs: Configs = {}
    for step in (key.path[-1] for key in job.asset_layer.selected_asset_keys):
        model = BODIES[step].__annotations__.get("config", dict)
        try:
            configs[step] = model(**(given[step].get("config") or {}))
        except pydantic.ValidationError:
            continue  # the launch has refused everything else that this could be
    return configs


def _check_bundle(config: BundleConfig, configs: Configs, store: ArtifactStore) -> None:
    published = store.current_steps()
    if not published and configs.keys() == {BUNDLE}:
        return  # nothing was ever made: the missing inputs say how to begin
    there = {*configs, *published}
    step = POLICIES[config.policy].step
    if step not in there:
        raise ConfigError(
            f"the policy {config.policy} from this run or from an earlier one",
            f"no {step} in either",
            "policy of bundle",
            f"Select {step} too: '*{step}'; or choose another policy.",
        )


def _check_backbone(config: BackboneConfig, configs: Configs, store: ArtifactStore) -> None:
    from streetvision_core.models.backbone import look_ahead
    from streetvision_core.models.licences import export_obstacle
    from streetvision_core.training.config import LORA

    training: TrainingConfig | None = configs.get(CHECKPOINT)
    adapters = config.is_adapted or (training is not None and training.method.kind == LORA)
    if _worked(config, training, store):
        return
    licence = look_ahead(config, adapters=adapters)
    bundle: BundleConfig | None = configs.get(BUNDLE)
    if bundle is None:
        return
    obstacle = export_obstacle(licence.name, text=licence.text, chosen=bundle.license)
    if obstacle is not None:
        raise obstacle


def _worked(config: BackboneConfig, training: TrainingConfig | None, store: ArtifactStore) -> bool:
    """Tell whether the store holds the weights that are configured, trained in the way that is."""
    try:
        weights = from_recorded("backbone", store.resolve("backbone").config())
        recipe = from_recorded(CHECKPOINT, store.resolve(CHECKPOINT).config()) if training else {}
    except StreetVisionError:  # nothing there, or nothing that can be read
        return False
    names = ("architecture", "weights", "license")
    same = all(weights.get(name) == getattr(config, name) for name in names)
    same = same and weights["adaptation"]["kind"] == config.adaptation.kind
    return same and (training is None or recipe["method"]["kind"] == training.method.kind)


def _check_devices(config: TrainingConfig) -> None:
    if config.hardware.devices > 1:
        from streetvision_core.training.processes import count_devices

        count_devices(config.hardware.devices)
