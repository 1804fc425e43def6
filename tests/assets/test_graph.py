import shutil
from datetime import UTC, datetime

import dagster as dg
import pytest

from streetvision_assets.definitions import defs
from streetvision_assets.resources import resolve_published, store_run_id
from streetvision_core.bundle import verify_bundle
from streetvision_core.errors import MissingArtifactError
from streetvision_core.graph import CHECKPOINT, POLICIES
from streetvision_core.graph import STEPS as TABLE
from tests.assets.graph import STEPS, behind, evaluations, paragraph

PICTURES_SHOWN = {
    "conditions": {"every_level"},
    "images": {"overview"},
    "phase1_checkpoint": {"training_curve"},
    "thresholds": {"mcc_by_threshold", "risk_by_coverage"},
    "scrc": {"risk_by_confidence"},
    "evaluation": {
        "confusion_matrix", "mistakes", "reliability", "risk_coverage", "roc", "precision_recall",
    },
}  # fmt: skip
TABLES_SHOWN = {
    "conditions": {"constants"},
    "splits": {"roles"},
    "phase1_checkpoint": {"epochs"},
    "gate": {"on_val_select"},
    "scrc": {"sequence"},
    "evaluation": {"policies", "slices"},
}


def materializations(result):
    return {
        event.asset_key.path[-1]: event.step_materialization_data.materialization
        for event in result.all_events
        if event.is_step_materialization
    }


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_every_step_publishes_and_every_check_passes(first_run):
    graph, result = first_run
    checks = evaluations(result)
    assert all(check.passed for check in checks.values())
    assert {step for step, _ in checks} == set(STEPS)
    for step in STEPS:
        assert graph.current(step).problems() == []


def test_every_materialization_shows_where_it_came_from(first_run):
    graph, result = first_run
    shown = materializations(result)
    assert set(shown) == set(STEPS)
    for step, event in shown.items():
        manifest, metadata = graph.current(step).manifest, event.metadata
        assert metadata["digest"].value == manifest.data_version == event.tags["dagster/data_version"]
        assert metadata["git_sha"].value.startswith(manifest.git_sha)
        assert metadata["config_hash"].value == manifest.config_hash
        assert metadata["run"].value == manifest.run_id
        assert metadata["path"].value == str(graph.current(step).directory)
        assert metadata["duration_seconds"].value > 0
        assert manifest.dagster_run_id == result.run_id
        # Under its own name, or under the one that a person reads first.
        numbers = {entry.value for entry in metadata.values() if isinstance(entry.value, int | float)}
        assert set(manifest.metrics.values()) <= numbers


def test_every_materialization_shows_the_images_a_person_would_look_at(first_run):
    _, result = first_run
    for step, event in materializations(result).items():
        for name in PICTURES_SHOWN.get(step, ()):
            assert event.metadata[name].md_str.startswith("![](data:image/")
            assert len(event.metadata[name].md_str) < 130_000
        for name in TABLES_SHOWN.get(step, ()):
            assert event.metadata[name].md_str.startswith("| ")


# What the page of an asset begins with, in this order; tables and plots are behind a click there.
BEGINS_WITH = {
    "images": {
        "images used": 120, "images of None": 60, "images of Roadwork": 60,
        "groups of images": 120, "images without a group": 120, "images put aside": 0,
    },
    "conditions": {"conditions": "as_is of", "levels in the report": "camera of"},
    "backbone": {"architecture": "test_resnet", "source": "random", "licence": "none"},
    "phase1_checkpoint": {"MCC on val_select": 0, "best epoch": " of 6", "method": "finetune"},
    "splits": {f"images of {role}": 0 for role in ("train", "val_select", "val_calib", "val_test")},
    "val_calib_logits": {"MCC on val_calib at 0.5": 0, "FNR on val_calib at 0.5": 0},
    "thresholds": {
        "decision threshold": 0, "MCC on val_calib at 0.5": 0, "MCC on val_calib at the threshold": 0,
    },
    "gate": {"confidence by": "margin"},
    "scrc": {"promise": "calibration"},
    "evaluation": {f"MCC on val_test, {kind}": "" for kind in POLICIES},
    "bundle": {"model": "-roadwork, test_resnet", "policy": "threshold", "MCC on val_test": "over groups:"},
}  # fmt: skip


# Metrics that the page shows under a name for people, and so not once more under their own.
RENAMED = {
    "images": {"pictures", "none", "roadwork", "groups", "ungrouped", "quarantined", "corrected"},
    "splits": {"train", "val_select", "val_calib", "val_test"},
    "phase1_checkpoint": {"val_mcc"},
    "val_calib_logits": {"mcc", "fnr"},
    "thresholds": {"mcc", "threshold", "val_calib_mcc"},
}


def assert_page(manifest, metadata):
    """The page begins with what a person came for and ends with the digests."""
    names = list(metadata)
    assert names[-5:] == ["git_sha", "code_version", "config_hash", "manifest_sha256", "digest"]
    assert names.index("path") > names.index("duration_seconds")
    first = BEGINS_WITH.get(manifest.step_name, {})
    assert names[: len(first)] == list(first), manifest.step_name
    renamed = RENAMED.get(manifest.step_name, set())
    assert renamed <= manifest.metrics.keys()
    assert manifest.metrics.keys() & metadata.keys() == manifest.metrics.keys() - renamed
    for name, says in first.items():
        value = metadata[name].value
        assert says in value if isinstance(says, str) else isinstance(value, int | float), name
    for metric, name in (("val_mcc", "MCC on val_select"), ("roadwork", "images of Roadwork")):
        if name in first:
            assert metadata[name].value == manifest.metrics[metric]


def test_a_page_begins_with_what_a_person_came_for_and_ends_with_the_digests(first_run):
    graph, result = first_run
    for step, event in materializations(result).items():
        assert_page(graph.current(step).manifest, event.metadata)


def test_the_page_of_what_was_taken_over_begins_like_any_other(graph, pictures):
    result = graph.materialize(pictures)
    assert result.success
    for step, event in materializations(result).items():
        assert step == "images" or graph.current(step).manifest.reused_from is not None
        assert_page(graph.current(step).manifest, event.metadata)


def test_the_manifests_record_inputs_roles_and_configuration(first_run):
    graph, _ = first_run
    definitions = graph.current("phase1_checkpoint").manifest
    assert set(definitions.input_artifacts) == {"images", "splits", "backbone", "conditions"}
    assert definitions.config["optimizer"]["learning_rate"] == 3e-3
    assert definitions.config["optimizer"]["layer_decay"] == 1.0  # a default, resolved
    for step in STEPS:
        manifest = graph.current(step).manifest
        assert tuple(manifest.roles) == tuple(sorted(TABLE[step].roles)) or step == "backbone"
        for name, given in manifest.input_artifacts.items():
            assert given == graph.current(name).reference


def test_the_run_id_is_the_same_for_every_step_and_names_the_dagster_run(first_run):
    graph, result = first_run
    runs = {graph.current(step).manifest.run_id for step in STEPS}
    assert runs == {store_run_id(graph.instance, result.run_id)}
    moment, _, short = runs.pop().partition("-")
    assert short == result.run_id[:8]
    assert (
        abs((datetime.now(tz=UTC) - datetime.strptime(f"{moment}+0000", "%Y%m%dT%H%M%S%z")).total_seconds())
        < 3600
    )


def test_the_same_images_code_and_configuration_give_the_same_bytes(graph, pictures):
    before = {step: graph.current(step).manifest for step in STEPS}
    assert graph.materialize(pictures).success
    for step in STEPS:
        after = graph.current(step).manifest
        assert after.run_id != before[step].run_id
        assert after.data_version == before[step].data_version, step
        assert after.step_key == before[step].step_key


def test_moving_the_images_changes_no_data_version(graph, pictures, tmp_path):
    moved = shutil.copytree(pictures, tmp_path / "moved")
    before = {step: graph.current(step).manifest.data_version for step in ("images", "splits")}
    assert graph.materialize(moved, "images", "splits").success
    assert {step: graph.current(step).manifest.data_version for step in before} == before


def test_the_verify_job_runs_every_check_and_materializes_nothing(graph):
    result = graph.run("verify")
    assert result.success
    assert evaluations(result).keys() == {
        (key.asset_key.path[-1], key.name) for key in defs.resolve_asset_graph().asset_check_keys
    }
    assert not materializations(result)


def test_a_changed_byte_in_any_artifact_fails_verify_and_is_named(graph):
    names = {step: max(graph.current(step).manifest.output_artifacts) for step in STEPS}
    for step, name in names.items():
        damage(graph.current(step).path(name))
    result = graph.run("verify")
    assert not result.success
    checks = evaluations(result)
    for step, name in names.items():
        assert not checks[step, "integrity"].passed
        assert f"{name} has other content" in checks[step, "integrity"].description


def test_a_damaged_input_stops_the_step_that_reads_it_and_harms_nothing(graph, pictures):
    damage(graph.current("phase1_checkpoint").path("model_best.safetensors"))
    before = graph.current("val_calib_logits")
    result = graph.materialize(pictures, "val_calib_logits", reuse=False)
    assert not result.success
    assert "model_best.safetensors" in paragraph(result)
    assert graph.current("val_calib_logits") == before


def test_a_changed_image_is_noticed_when_it_is_read(graph, tmp_path, pictures):
    moved = shutil.copytree(pictures, tmp_path / "moved")
    assert graph.materialize(moved, "images", "splits").success
    changed = next(iter((moved / "None").iterdir()))
    changed.write_bytes(changed.read_bytes() + b"\0")
    everything = ("phase1_checkpoint", "val_calib_logits", "thresholds", "evaluation", "bundle")
    result = graph.materialize(moved, *everything, reuse=False)
    assert not result.success
    assert changed.name in paragraph(result)


def test_a_failed_step_leaves_what_was_published(graph, pictures):
    before = {step: graph.current(step) for step in STEPS}
    result = graph.materialize(pictures, phase1_checkpoint={"learning_rate": 1e30})
    assert not result.success
    assert "finite" in paragraph(result)
    untouched = [step for step in STEPS if CHECKPOINT in behind(step)]
    assert all(graph.current(step) == before[step] for step in untouched)
    assert all(before[step].problems() == [] for step in STEPS)


def test_an_upstream_that_was_never_materialized_is_a_paragraph(tmp_path, pictures):
    from tests.assets.graph import Graph

    empty = Graph(tmp_path)
    result = empty.materialize(pictures, "bundle")
    assert not result.success
    assert "to have been materialized, but found nothing published" in paragraph(result)
    assert "-c presets/folder.yaml" in paragraph(result)


def test_a_newer_upstream_is_a_warning_not_an_error(graph, pictures):
    assert graph.materialize(pictures, "images", "splits", splits={"seed": 5}).success
    result = graph.run("verify")
    assert result.success
    check = evaluations(result)["phase1_checkpoint", "lineage"]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert "splits has been published anew" in check.description


def test_parts_of_two_chains_never_become_a_bundle(graph, pictures):
    """Another split and another model, but the old policy: the bundle alone must refuse."""
    changed = ("images", "splits", "backbone", "phase1_checkpoint")
    assert graph.materialize(pictures, *changed, splits={"seed": 5}).success
    before = graph.current("bundle")
    result = graph.materialize(pictures, "bundle")
    assert not result.success
    assert "made from another" in paragraph(result)
    assert graph.current("bundle") == before


def test_a_step_that_read_a_role_it_may_not_read_fails_its_lineage_check(graph):
    published = graph.current("thresholds")
    forged = published.manifest.model_copy(update={"roles": ["val_test"]})
    path = published.directory / "manifest.json"
    path.unlink()
    graph.store.publish(published.directory, forged)
    check = evaluations(graph.run("verify"))["thresholds", "lineage"]
    assert not check.passed
    assert "thresholds read val_test" in check.description


def test_the_published_bundle_verifies_where_it_lies(first_run):
    graph, _ = first_run
    verify_bundle(graph.current("bundle").directory, deep=True)


def test_inputs_come_from_the_own_run_then_from_the_named_one_then_from_the_pointer(
    graph, pictures, tmp_path
):
    first = graph.current("splits")
    second = graph.materialize(pictures, "images", "splits", splits={"seed": 5})
    newest = graph.current("splits")
    assert newest.manifest.data_version != first.manifest.data_version
    key, current = dg.AssetKey("splits"), second.run_id

    def resolve(instance, named):
        return resolve_published(graph.store, instance, key, current_run=current, named_run=named)

    assert resolve(graph.instance, current) == newest
    assert resolve(graph.instance, first.manifest.dagster_run_id) == first
    assert resolve(graph.instance, None) == newest
    (tmp_path / "wiped").mkdir()
    wiped = dg.DagsterInstance.local_temp(str(tmp_path / "wiped"))
    assert resolve(wiped, None) == newest
    wiped.dispose()
    # The pointer is behind what Dagster names: Dagster is believed, as the design says.
    graph.store.publish(first.directory, first.manifest)
    assert graph.current("splits") == first
    assert resolve(graph.instance, None) == newest


def test_a_run_that_lost_its_own_artifact_does_not_take_another(graph, pictures):
    result = graph.materialize(pictures, "images", "splits")
    shutil.rmtree(graph.current("splits").directory)
    with pytest.raises(Exception, match="a published artifact"):
        resolve_published(
            graph.store,
            graph.instance,
            dg.AssetKey("splits"),
            current_run=result.run_id,
            named_run=result.run_id,
        )


def test_a_named_parent_run_that_lost_its_artifact_is_not_replaced_by_another(graph):
    """Continuing a failed run must never mix in what some other run published."""
    with pytest.raises(MissingArtifactError, match="what the parent run deadbeef published as splits"):
        resolve_published(
            graph.store,
            graph.instance,
            dg.AssetKey("splits"),
            current_run="11111111-run",
            named_run="deadbeef-run",
        )


def test_a_relative_path_of_the_images_works_from_every_directory(graph, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(pictures.parent)
    assert graph.materialize(pictures.name, "images", "splits").success
    recorded = graph.current("images").config()["folder"]["path"]
    monkeypatch.chdir(tmp_path)
    assert recorded == str(pictures)
    assert graph.materialize(pictures, "val_calib_logits").success


def test_a_step_that_took_what_it_may_not_take_fails_its_lineage_check(graph):
    """val_test's decisions are in evaluation: a threshold made from them would have seen val_test."""
    published = graph.current("thresholds")
    inputs = {
        **published.manifest.input_artifacts,
        "evaluation": graph.current("evaluation").reference,
    }
    forged = published.manifest.model_copy(update={"input_artifacts": inputs})
    (published.directory / "manifest.json").unlink()
    graph.store.publish(published.directory, forged)
    check = evaluations(graph.run("verify"))["thresholds", "lineage"]
    assert not check.passed
    assert "thresholds was made from evaluation, which it may not be" in check.description
