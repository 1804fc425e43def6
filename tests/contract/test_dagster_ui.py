"""Actions of a person in the browser, through the webserver behind it: a real `dagster dev`."""

import json
import shlex
import subprocess
import time
import urllib.error
import urllib.request

import pytest
import yaml

from streetvision_core.io.private import git_state
from tests.assets.graph import BESIDE, STEPS, copy_of, small_config
from tests.e2e.place import PATIENCE, READABLE, REPOSITORY, Place, activate_file
from tests.e2e.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.long]
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}
CHECKS = """{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks {
    name canExecuteIndividually } } } } }"""
LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status tags { key value } } } }"
EVALUATIONS = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
    ... on AssetCheckEvaluationEvent { evaluation { assetKey { path } checkName success description
        metadataEntries { label ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue }
    } } } ... on ExecutionStepFailureEvent { error { message } } } } } }"""


@pytest.fixture(scope="module")
def made(whole_run, pictures, tmp_path_factory):
    """A place in which everything was materialized once."""
    graph, _ = whole_run
    root = tmp_path_factory.mktemp("place")
    copy_of(graph, root).instance.dispose()
    return Place(root, pictures, activate_file(tmp_path_factory.mktemp("environment")))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The working directory of the server, which has nothing to do with the repository."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def server(made, elsewhere):
    with serving(made, cwd=elsewhere) as address:
        yield address


MADE = "{ assetNodes { assetKey { path } latest: assetMaterializations(limit: 1) { runId } } }"


def ask(address, query, **variables):
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            replied = json.load(answer)
    except urllib.error.HTTPError as refused:  # the answer is in its body all the same
        replied = json.load(refused)
    assert "errors" not in replied, replied["errors"]
    return replied["data"]


# What the timeline draws: a run whose repository is known, in the row of its job.
RUNS = """query($job: String!) { runsOrError(filter: {pipelineName: $job}) { ... on Runs { results {
    runId status tags { key value } repositoryOrigin { repositoryName repositoryLocationName } } } } }"""
JOBS = """{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
    ... on RepositoryLocation { repositories { pipelines { name description runs(limit: 20) { runId }
    } } } } } } } }"""


def answer_to_launch(address, *, job="__ASSET_JOB", assets=(), checks=None, config=None):
    """Ask for what a button of the UI launches, and return the answer."""
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "streetvision_assets.definitions",
        "pipelineName": job,
    }
    if assets or checks is not None:
        selector["assetSelection"] = [{"path": [asset]} for asset in assets]
        selector["assetCheckSelection"] = [
            {"assetKey": {"path": [asset]}, "name": name} for asset, name in checks or ()
        ]
    params = {"selector": selector, "runConfigData": config or {}, "mode": "default"}
    return ask(address, LAUNCH, params=params)["launchRun"]


def launch(address, **asked):
    """Launch what a button of the UI launches, wait for its end, and return (status, run id, tags)."""
    replied = answer_to_launch(address, **asked)
    assert replied["__typename"] == "LaunchRunSuccess", replied
    run_id, deadline = replied["run"]["runId"], time.monotonic() + PATIENCE / 2
    while time.monotonic() < deadline:
        run = ask(address, STATUS, id=run_id)["runOrError"]
        if run["status"] in ENDED:
            return run["status"], run_id, {tag["key"]: tag["value"] for tag in run["tags"]}
        time.sleep(0.5)
    raise AssertionError(f"{run_id} did not end")


def evaluated(address, run_id):
    """Return every check that the run evaluated: (asset, check) -> (passed, its numbers)."""
    events = ask(address, EVALUATIONS, id=run_id)["logsForRun"]["events"]
    checks = {}
    for evaluation in (event["evaluation"] for event in events if event.get("evaluation")):
        numbers = {
            entry["label"]: entry.get("intValue", entry.get("floatValue"))
            for entry in evaluation["metadataEntries"]
            if "intValue" in entry or "floatValue" in entry
        }
        checks[evaluation["assetKey"]["path"][-1], evaluation["checkName"]] = (evaluation["success"], numbers)
    return checks


def failures(address, run_id):
    events = ask(address, EVALUATIONS, id=run_id)["logsForRun"]["events"]
    return [event["error"]["message"] for event in events if event.get("error")]


def all_checks(address):
    return {
        (node["assetKey"]["path"][-1], check["name"]): check["canExecuteIndividually"]
        for node in ask(address, CHECKS)["assetNodes"]
        for check in node["assetChecksOrError"]["checks"]
    }


def test_the_page_knows_what_was_made_and_nothing_appears_in_the_working_directory(server, elsewhere):
    nodes = ask(server, MADE)["assetNodes"]
    made = {node["assetKey"]["path"][-1]: bool(node["latest"]) for node in nodes}
    assert made == dict.fromkeys(STEPS, True) | dict.fromkeys(BESIDE, False)
    assert list(elsewhere.iterdir()) == []


def test_every_check_offers_its_button(server):
    checks = all_checks(server)
    assert {asset for asset, _ in checks} == {*STEPS, *BESIDE}
    assert set(checks.values()) == {"CAN_EXECUTE"}


@pytest.mark.parametrize("check", [("splits", "integrity"), ("splits", "lineage"), ("splits", "no_leakage")])
def test_one_check_runs_alone(server, check):
    status, run_id, _ = launch(server, checks=[check])
    assert status == "SUCCESS", failures(server, run_id)
    assert set(evaluated(server, run_id)) == {check}


def test_execute_all_runs_every_check_of_an_asset_also_after_a_failed_run(server, made):
    before = made.store.resolve("images").manifest.run_id
    impossible = {"ops": {"images": {"config": {"folder": {"path": str(made.root / "nowhere")}}}}}
    assert launch(server, assets=["images"], checks=[], config=impossible)[0] == "FAILURE"
    own = {check for check in all_checks(server) if check[0] == "images"}
    status, run_id, _ = launch(server, checks=sorted(own))
    assert status == "SUCCESS", failures(server, run_id)
    checks = evaluated(server, run_id)
    assert set(checks) == own
    assert all(passed for passed, _ in checks.values())
    assert made.store.resolve("images").manifest.run_id == before


@pytest.mark.parametrize(
    ("step", "settings", "says"),
    [
        ("scrc", {"delta": 2.0}, "a number less than 1, but found 2.0 (delta of scrc)"),
        ("splits", {"val_test": 0.9}, "shares that add up to less than 1"),
    ],
)
def test_a_bad_value_is_refused_in_our_words_and_no_run_is_created(server, made, step, settings, says):
    before = ask(server, RUNS, job="__ASSET_JOB")["runsOrError"]["results"]
    config = {"ops": {step: {"config": settings}}}
    replied = answer_to_launch(server, assets=[step], checks=[], config=config)
    assert says in replied["message"]
    assert ask(server, RUNS, job="__ASSET_JOB")["runsOrError"]["results"] == before


def test_all_checks_of_all_assets_run_together_and_tell_numbers(server, made):
    every = sorted(check for check in all_checks(server) if check[0] not in BESIDE)
    status, run_id, _ = launch(server, checks=every)
    assert status == "SUCCESS", failures(server, run_id)
    checks = evaluated(server, run_id)
    assert set(checks) == set(every)
    assert all(passed and numbers["problems"] == 0 for passed, numbers in checks.values())
    files = made.store.resolve("bundle").manifest.output_artifacts
    _, integrity = checks["bundle", "integrity"]
    assert integrity["files"] == len(files)
    assert integrity["bytes"] == sum(file.size_bytes for file in files.values())
    assert checks["splits", "lineage"][1]["inputs"] == 1
    assert checks["splits", "no_leakage"][1]["images"] == 120


def jobs_on_the_page(address):
    (entry,) = ask(address, JOBS)["workspaceOrError"]["locationEntries"]
    (repository,) = entry["locationOrLoadError"]["repositories"]
    return {job["name"]: job for job in repository["pipelines"] if not job["name"].startswith("__")}


def test_make_bundle_is_a_run_of_a_job_with_its_tags(server, made, tmp_path):
    """The command of the Makefile; everything is taken over, so that it takes seconds."""
    preset = tmp_path / "own.yaml"
    preset.write_text(yaml.safe_dump({"ops": small_config(made.pictures), **READABLE}))
    make = ["make", "--no-print-directory", "--dry-run", "bundle", f"PRESET={preset}"]
    shown = subprocess.run(make, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    finished = made.run(*shlex.split(shown.splitlines()[-1])[3:])
    assert finished.code == 0, finished.terminal
    run = ask(server, RUNS, job="make_bundle")["runsOrError"]["results"][0]
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    state = git_state()
    assert run["status"] == "SUCCESS"
    assert tags["preset"] == "own"
    assert tags["source"] == f"folder {made.pictures}"
    assert tags["commit"] == state.sha[:12]
    assert tags["dirty"] == str(state.dirty).lower()
    assert [listed["runId"] for listed in jobs_on_the_page(server)["make_bundle"]["runs"]] == [run["runId"]]
    assert run["repositoryOrigin"] == {
        "repositoryName": "__repository__",
        "repositoryLocationName": "streetvision_assets.definitions",
    }


def test_presets_are_jobs_that_the_page_launches(server, made):
    jobs = jobs_on_the_page(server)
    presets = {f"preset_{path.stem}" for path in (REPOSITORY / "presets").glob("*.yaml")}
    phases = {"make_bundle", "phase1", "phase1_2", "phase1_2_6"}
    own = {*phases, "verify", "cross_validate", "audit_labels", "promote"}
    assert set(jobs) == {*own, *presets}
    assert all(jobs[name]["description"] for name in jobs)
    # A preset is launched as the page launches it: with its own configuration in the editor, here a path.
    config = yaml.safe_load((REPOSITORY / "presets/folder.yaml").read_text())
    config["ops"] |= small_config(made.pictures)
    status, run_id, tags = launch(server, job="preset_folder", config=config)
    assert status == "SUCCESS", failures(server, run_id)
    assert tags["preset"] == "folder"
    assert tags["source"] == f"folder {made.pictures}"


def test_plain_materialize_of_images_takes_their_own_source(server, made):
    before = made.store.resolve("images").manifest
    status, run_id, tags = launch(server, assets=["images"], checks=[])
    assert status == "SUCCESS", failures(server, run_id)
    after = made.store.resolve("images").manifest
    assert after.run_id != before.run_id
    assert after.config == before.config
    assert tags["source"] == f"folder {made.pictures}"
