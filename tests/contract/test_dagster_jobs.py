"""Each way to start the system is a job: the phases that were asked for, the presets, and the checks."""

import subprocess

import dagster as dg
import pytest
import yaml

from streetvision_assets.commands.launch import main
from streetvision_assets.definitions import defs
from streetvision_assets.presets import first_comment, preset_jobs, read_preset
from streetvision_core.errors import ConfigError
from streetvision_core.io.private import git_state
from tests.assets.graph import BESIDE, STEPS, Graph, paragraph
from tests.bundle.chain import draw_images
from tests.e2e.place import REPOSITORY

PHASE_1 = {"images", "splits", "backbone", "conditions", "phase1_checkpoint"}
PHASES_1_2 = PHASE_1 | {"val_calib_logits", "thresholds"}
STEPS_OF = {
    "phase1": PHASE_1,
    "phase1_2": PHASES_1_2,
    "phase1_2_6": PHASES_1_2 | {"bundle"},
    "make_bundle": set(STEPS),
    "cross_validate": PHASE_1 | {"cross_validation"},
    "audit_labels": PHASE_1 | {"cross_validation", "label_audit"},
    "verify": set(),
}
PRESETS = sorted((REPOSITORY / "presets").glob("*.yaml"))


def assets_of(job):
    return {key.path[-1] for key in defs.resolve_job_def(job).asset_layer.selected_asset_keys}


@pytest.mark.parametrize("job", STEPS_OF)
def test_a_job_makes_the_steps_of_its_phases_with_their_checks(job):
    assert assets_of(job) == STEPS_OF[job]
    keys = defs.resolve_job_def(job).asset_layer.asset_graph.asset_check_keys
    checked = {key.asset_key.path[-1] for key in keys}
    assert checked == (STEPS_OF[job] or {*STEPS, *BESIDE})


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_is_a_job_with_its_own_configuration(path):
    job = defs.resolve_job_def(f"preset_{path.stem}")
    assert job.run_config == yaml.safe_load(path.read_text())
    assert job.tags["preset"] == path.stem
    assert job.description == first_comment(path.read_text())
    assert len(job.description) > 20
    assert assets_of(job.name) == set(STEPS)
    assert dg.validate_run_config(job, job.run_config)


def test_without_a_folder_of_presets_there_are_no_such_jobs(tmp_path):
    assert preset_jobs(dg.AssetSelection.all(), folder=tmp_path / "none") == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("broken.yaml", "ops: [", "no YAML"),
        ("list.yaml", "- images", "found list"),
        ("empty.yaml", "", "found NoneType"),
        ("flat.yaml", "images: {demo: {}}", "found images"),
        ("latin.yaml", b"# \xe9", "utf-8"),
        ("two words.yaml", "ops: {}", "Rename it"),
        ("python.yaml", "ops: !!python/object/apply:os.getcwd []", "no YAML"),
        ("twice.yaml", "ops: {splits: {config: {}}}\nops: {}", "'ops' stands twice in one place"),
        ("deep.yaml", "ops: {splits: {config: {seed: 1, seed: 2}}}", "'seed' stands twice in one place"),
    ],
)
def test_a_preset_that_is_no_run_configuration_is_one_paragraph(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        preset_jobs(dg.AssetSelection.all(), folder=tmp_path)
    text = str(caught.value)
    assert says in text
    assert str(path) in text
    assert "\n" not in text


def test_a_name_that_is_merged_in_and_written_stands_once(tmp_path):
    path = tmp_path / "merged.yaml"
    path.write_text("ops:\n  splits: &same {config: {seed: 1}}\n  gate: {<<: *same, config: {}}\n")
    assert read_preset(path) == {"ops": {"splits": {"config": {"seed": 1}}, "gate": {"config": {}}}}


def test_a_run_is_tagged_with_its_code_and_its_source(tmp_path):
    draw_images(tmp_path / "own")
    graph = Graph(tmp_path)
    own = {"images": {"config": {"folder": {"path": str(tmp_path / "own")}}}}
    for steps, config in ((["images"], own), (["images"], {}), (["splits"], {})):
        result = graph.run("make_bundle", steps=steps, config=config)
        assert result.success, paragraph(result)
        tags = graph.instance.get_run_by_id(result.run_id).tags
        state = git_state()
        assert tags["commit"] == state.sha[:12]
        assert tags["dirty"] == str(state.dirty).lower()
        assert tags["source"] == f"folder {tmp_path / 'own'}"
    graph.instance.dispose()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("job", "content", "says"),
    [
        ("make_bundel", "ops: {}", "make_bundle, phase1, "),
        ("phase1", None, "no such file"),
        ("phase1", "ops: {images: {config: {foldr: {path: x}}}}", "foldr"),
        ("phase1", "ops:\n  images: ]", "line 2"),
        ("phase1", "- images", "found list"),
        ("phase1", "images", "found str"),
    ],
)
def test_what_cannot_be_launched_is_one_paragraph_and_no_run(home, capsys, job, content, says):
    preset = home / "preset.yaml"
    if content is not None:
        preset.write_text(content)
    assert main([job, "-c", str(preset)]) == 1
    text = capsys.readouterr().err
    assert text.startswith("Expected ")
    assert text.count("\n") == 1
    assert says in text
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs() == []


def test_of_several_files_the_bad_one_is_named(home, capsys):
    good, bad = home / "good.yaml", home / "bad.yaml"
    good.write_text("ops: {}")
    bad.write_text("ops: [")
    assert main(["phase1", "-c", str(good), "-c", str(bad), "-c", str(good)]) == 1
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert str(bad) in text
    assert str(good) not in text


def test_a_run_of_several_presets_bears_all_their_names(home, monkeypatch):
    monkeypatch.setenv("STREETVISION_STORE", str(home / "store"))
    for name in ("one", "two"):
        (home / f"{name}.yaml").write_text("loggers: {console: {}}")
    # The store is empty, so that the run ends before its first check.
    assert main(["verify", "-c", str(home / "one.yaml"), "-c", str(home / "two.yaml")]) == 1
    with dg.DagsterInstance.from_config(str(home)) as instance:
        [run] = instance.get_runs()
    assert run.tags["preset"] == "one two"
    assert run.remote_job_origin.job_name == "verify"


def test_make_verify_is_a_run_that_the_page_of_jobs_lists():
    make = ["make", "--no-print-directory", "--dry-run", "-o", ".venv/runtime", "verify"]
    shown = subprocess.run(make, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert shown.endswith("python -P -m streetvision_assets.commands.launch verify\n")
