"""What a person does in the browser, through the webserver behind it: a real ``dagster dev``."""

import json
import time
import urllib.request

import pytest

from tests.assets.graph import STEPS, paragraph
from tests.assets.graph import Graph as InProcess
from tests.bundle.chain import draw_pictures
from tests.e2e.place import PATIENCE, Place, activate_file
from tests.e2e.test_ui import serving

pytestmark = pytest.mark.e2e
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
def made(tmp_path_factory):
    """A place in which everything was materialized once."""
    root, pictures = tmp_path_factory.mktemp("place"), tmp_path_factory.mktemp("own")
    draw_pictures(pictures)
    graph = InProcess(root)
    result = graph.materialize(pictures)
    assert result.success, paragraph(result)
    graph.instance.dispose()
    return Place(root, pictures, activate_file(tmp_path_factory.mktemp("environment")))


@pytest.fixture(scope="module")
def server(made, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with serving(made, cwd=elsewhere) as address:
        yield address


def ask(address, query, **variables):
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"{address}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        replied = json.load(answer)
    assert "errors" not in replied, replied["errors"]
    return replied["data"]


def launch(address, *, job="__ASSET_JOB", assets=(), checks=None, config=None):
    """Launch what a button of the UI launches, wait for its end, and return (status, run id, tags)."""
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
    replied = ask(address, LAUNCH, params=params)["launchRun"]
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
    found = {}
    for told in (event["evaluation"] for event in events if event.get("evaluation")):
        numbers = {
            entry["label"]: entry.get("intValue", entry.get("floatValue"))
            for entry in told["metadataEntries"]
            if "intValue" in entry or "floatValue" in entry
        }
        found[told["assetKey"]["path"][-1], told["checkName"]] = (told["success"], numbers)
    return found


def failures(address, run_id):
    events = ask(address, EVALUATIONS, id=run_id)["logsForRun"]["events"]
    return [event["error"]["message"] for event in events if event.get("error")]


def all_checks(address):
    return {
        (node["assetKey"]["path"][-1], check["name"]): check["canExecuteIndividually"]
        for node in ask(address, CHECKS)["assetNodes"]
        for check in node["assetChecksOrError"]["checks"]
    }


def test_every_check_offers_its_button(server):
    checks = all_checks(server)
    assert {asset for asset, _ in checks} == set(STEPS)
    assert set(checks.values()) == {"CAN_EXECUTE"}


@pytest.mark.parametrize("check", [("splits", "integrity"), ("splits", "lineage"), ("splits", "no_leakage")])
def test_one_check_runs_alone(server, check):
    status, run_id, _ = launch(server, checks=[check])
    assert status == "SUCCESS", failures(server, run_id)
    assert set(evaluated(server, run_id)) == {check}


def test_execute_all_runs_every_check_of_an_asset_also_after_a_failed_run(server, made):
    before = made.store.resolve("splits").manifest.run_id
    impossible = {"ops": {"splits": {"config": {"train": 2.0}}}}
    assert launch(server, assets=["splits"], checks=[], config=impossible)[0] == "FAILURE"
    own = {check for check in all_checks(server) if check[0] == "splits"}
    status, run_id, _ = launch(server, checks=sorted(own))
    assert status == "SUCCESS", failures(server, run_id)
    found = evaluated(server, run_id)
    assert set(found) == own
    assert all(passed for passed, _ in found.values())
    assert made.store.resolve("splits").manifest.run_id == before


def test_all_checks_of_all_assets_run_together_and_tell_numbers(server, made):
    every = sorted(all_checks(server))
    status, run_id, _ = launch(server, checks=every)
    assert status == "SUCCESS", failures(server, run_id)
    found = evaluated(server, run_id)
    assert set(found) == set(every)
    assert all(passed and numbers["problems"] == 0 for passed, numbers in found.values())
    files = made.store.resolve("bundle").manifest.output_artifacts
    _, integrity = found["bundle", "integrity"]
    assert integrity["files"] == len(files)
    assert integrity["bytes"] == sum(file.size_bytes for file in files.values())
    assert found["splits", "lineage"][1]["inputs"] == 1
    assert found["splits", "no_leakage"][1]["images"] == 120
