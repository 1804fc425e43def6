"""The presets fit the graph, and `demo.yaml` is the defaults and nothing else."""

import inspect

import dagster as dg
import pytest
import yaml

from streetvision_assets.definitions import defs
from streetvision_assets.resources import StoreResource
from tests.assets.graph import STEPS, as_written
from tests.e2e.place import READABLE, REPOSITORY

NAMED = {"images": {"demo": {}}}  # a source is never a default
PRESETS = sorted((REPOSITORY / "presets").glob("*.yaml"))


STORE = {"store": {"config": StoreResource().model_dump(mode="json")}}


def config_models():
    """The configuration record of every step that has one."""
    models = {}
    for step in STEPS:
        asset = defs.get_assets_def(step)
        parameter = inspect.signature(asset.op.compute_fn.decorated_fn).parameters.get("config")
        if parameter is not None:
            models[step] = parameter.annotation
    return models


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value


def test_the_presets_of_the_readme_are_there():
    assert {path.name for path in PRESETS} >= {"demo.yaml", "folder.yaml", "dinov2_probe.yaml"}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_every_preset_fits_the_job_and_the_bounds_of_every_setting(path):
    preset = yaml.safe_load(path.read_text())
    assert dg.validate_run_config(defs.resolve_job_def("make_bundle"), preset)
    assert preset["loggers"] == READABLE["loggers"]
    models = config_models()
    for step, given in preset["ops"].items():
        models[step](**given["config"])


def test_demo_yaml_spells_out_exactly_the_defaults():
    recipes = {
        step: model(**NAMED.get(step, {})).model_dump(mode="json") for step, model in config_models().items()
    }
    defaults = {step: {"config": recipe} for step, recipe in recipes.items() if recipe}
    assert set(defaults) >= {"images", "splits", "backbone", "phase1_checkpoint", "bundle"}
    preset = yaml.safe_load((REPOSITORY / "presets/demo.yaml").read_text())
    assert without_nulls(preset) == without_nulls(
        as_written({"ops": defaults, "resources": STORE, **READABLE})
    )
