"""Observations of a running training in the UI: they change nothing of what is current."""

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from streetvision_assets import metadata as observing
from streetvision_assets.definitions import defs
from streetvision_core.training.checkpoint import Checkpoint
from streetvision_core.training.report import EpochReport
from tests.assets.graph import STEPS
from tests.assets.test_graph import materializations

KEY = dg.AssetKey("phase1_checkpoint")


def observations(instance, run_id):
    """The observations of the checkpoint in a run, in order."""
    return [
        entry.asset_observation
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION)
    ]


def numbers(observation):
    return {name: value.value for name, value in observation.metadata.items()}


def stale(instance):
    """The steps that Dagster thinks are not up to date."""
    resolver = CachingStaleStatusResolver(
        instance, defs.resolve_asset_graph(), LoadingContextForTest(instance)
    )
    return {step for step in STEPS if resolver.get_status(dg.AssetKey(step)) != StaleStatus.FRESH}


def test_every_epoch_is_observed_once_with_the_numbers_of_its_row(first_run):
    graph, result = first_run
    seen = [numbers(observation) for observation in observations(graph.instance, result.run_id)]
    rows = Checkpoint.from_artifact(graph.current("phase1_checkpoint")).epochs
    assert [values["epoch"] for values in seen] == [row.epoch for row in rows]
    for values, row in zip(seen, rows, strict=True):
        assert {name: values[name] for name in row.to_csv_row()} == row.to_csv_row()
        assert set(values) == set(observing.OBSERVED)
        assert values["pictures_per_second"] > 0
        assert 0 <= values["data_wait_share"] <= 1


def test_an_observation_is_recorded_before_the_next_epoch_is_trained(graph, pictures, monkeypatch):
    recorded, tell = [], observing._tell

    def look(context, report):
        tell(context, report)
        recorded.append(len(observations(context.instance, context.run.run_id)))

    monkeypatch.setattr(observing, "_tell", look)
    result = graph.materialize(pictures, "phase1_checkpoint", reuse=False, phase1_checkpoint={"epochs": 2})
    assert result.success
    assert recorded == [1, 2]


def test_observations_make_nothing_stale(graph):
    """Observations of a failed training come after what is current, and say nothing of it."""
    instance = graph.instance
    before = instance.get_latest_data_version_record(KEY)
    was_stale = stale(instance)
    instance.report_runless_asset_event(dg.AssetObservation(KEY, metadata={"epoch": 1, "val_mcc": 0.5}))
    assert instance.fetch_observations(KEY, limit=1).records[0].storage_id > before.storage_id
    assert stale(instance) == was_stale
    assert instance.get_latest_data_version_record(KEY).storage_id == before.storage_id


def test_what_follows_reads_the_checkpoint_and_its_data_version_after_an_observation(graph, pictures):
    version = graph.current("phase1_checkpoint").manifest.data_version
    graph.instance.report_runless_asset_event(dg.AssetObservation(KEY, metadata={"epoch": 1}))
    result = graph.materialize(pictures, "val_calib_logits", reuse=False)
    assert result.success
    tags = materializations(result)["val_calib_logits"].tags
    assert tags["dagster/input_data_version/phase1_checkpoint"] == version


@pytest.mark.parametrize(
    ("phase", "name"), [("probe", "probe_val_mcc"), ("finetune", "val_mcc"), ("", "val_mcc")]
)
def test_the_probe_before_a_training_is_a_curve_of_its_own(phase, name):
    logged = []
    context = type(
        "Context", (), {"log": dg.get_dagster_logger(), "log_event": logged.append, "asset_key": KEY}
    )
    report = EpochReport(1, 0.5, 0.6, 0.7, 0.1, 2, 9.0, 1.0, 1.0, 0.2, 9.0, phase=phase)
    observing._tell(context, report)
    assert numbers(logged[0])[name] == 0.7
    assert logged[0].tags == {}


def test_the_checkpoint_says_what_limited_its_training_and_where_its_memory_went(first_run):
    graph, result = first_run
    metadata = materializations(result)["phase1_checkpoint"].metadata
    assert metadata["limited_by"].value.startswith("limited by ")
    assert {"data_wait_share", "peak_memory_mb", "pictures_per_second"} <= set(metadata)
    assert (graph.store.root / "tensorboard/phase1_checkpoint").is_dir()


def test_a_checkpoint_that_is_taken_over_says_what_limited_its_training(graph, pictures):
    before = graph.instance.get_latest_materialization_event(KEY).asset_materialization.metadata["limited_by"]
    result = graph.materialize(pictures, "phase1_checkpoint")
    assert graph.current("phase1_checkpoint").manifest.reused_from is not None
    assert materializations(result)["phase1_checkpoint"].metadata["limited_by"] == before
    assert not observations(graph.instance, result.run_id)
