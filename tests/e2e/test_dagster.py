"""The commands of the README, typed as they stand there."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from streetvision_assets.definitions import defs
from tests.assets.graph import BESIDE, STEPS
from tests.e2e.place import REPOSITORY, assert_readable, damage, exports, unharmed

pytestmark = pytest.mark.e2e
EXPORTED = {
    "DAGSTER_MODULE_NAME",
    "DAGSTER_HOME",
}


def checks_by_step_key(*steps):
    keys = defs.resolve_asset_graph().asset_check_keys
    return {f"{key.asset_key.path[-1]}_{key.name}" for key in keys if key.asset_key.path[-1] in steps}


def steps_that_logged(finished, words):
    """Return the steps that logged a line which starts with these words."""
    lines = (line.split(maxsplit=2) for line in finished.terminal.splitlines())
    return [line[1] for line in lines if len(line) == 3 and line[2].startswith(words)]


def metadata_of_every_file(root):
    return {str(path): path.lstat().st_mtime_ns for path in sorted(root.rglob("*"))}


def test_everything_materializes_and_the_terminal_tells_it_in_one_line_each(first_run):
    place, finished = first_run
    assert finished.code == 0
    assert tuple(steps_that_logged(finished, "published ")) == STEPS
    assert set(steps_that_logged(finished, "passed: ")) == checks_by_step_key(*STEPS)
    assert_readable(finished)
    for step in STEPS:
        assert place.store.resolve(step).problems() == []


def test_the_terminal_shows_every_epoch_with_loss_mcc_and_time_left(first_run):
    _, finished = first_run
    epochs = [line for line in finished.terminal.splitlines() if "train loss" in line]
    assert [line.split(" epoch ")[1][:3] for line in epochs] == [f"{number}/6" for number in range(1, 7)]
    assert all("val MCC" in line and line.endswith(" left") for line in epochs)


def test_the_literal_command_works_from_another_directory(place, tmp_path):
    before = place.store.resolve("bundle").manifest
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    finished = place.run("dagster", "asset", "materialize", "--select", "bundle", cwd=elsewhere)
    assert finished.code == 0, finished.terminal
    after = place.store.resolve("bundle").manifest
    assert after.run_id != before.run_id
    assert after.data_version == before.data_version
    assert list(elsewhere.iterdir()) == []


def test_verify_runs_every_check_and_touches_nothing(place):
    before = metadata_of_every_file(place.store.root)
    with unharmed(place.store):
        finished = place.run("dagster", "job", "execute", "-j", "verify")
    assert finished.code == 0, finished.terminal
    assert set(steps_that_logged(finished, "passed: ")) == checks_by_step_key(*STEPS, *BESIDE)
    assert steps_that_logged(finished, "published ") == []
    assert_readable(finished)
    assert metadata_of_every_file(place.store.root) == before


def test_verify_fails_after_one_changed_byte_and_names_the_file(place):
    damage(place.store.resolve("splits").path("splits.json"))
    finished = place.run_loaded("dagster", "job", "execute", "-j", "verify")
    assert finished.code == 1
    assert "splits_integrity                  ERROR: splits.json has other content" in finished.terminal
    assert "splits_integrity" not in steps_that_logged(finished, "passed: ")
    assert "images_integrity" in steps_that_logged(finished, "passed: ")
    assert_readable(finished)


def test_the_definitions_validate_from_the_repository_without_any_variable(new_place):
    words = ("env", "-u", "DAGSTER_MODULE_NAME", "dagster", "definitions", "validate")
    finished = new_place.run(*words, cwd=REPOSITORY)
    assert finished.code == 0, finished.terminal
    assert "Validation successful for code location streetvision_assets.definitions" in finished.terminal


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("bundle", "python -P -m streetvision_assets.commands.launch make_bundle -c presets/demo.yaml"),
        ("verify", "python -P -m streetvision_assets.commands.launch verify"),
    ],
)
def test_make_runs_the_commands_that_are_tested_here(new_place, target, command):
    done = subprocess.run(
        ["make", "--dry-run", target],
        cwd=REPOSITORY, env=new_place.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert shlex.split(done.stdout.splitlines()[-1]) == [
        ".",
        ".venv/bin/activate",
        "&&",
        *shlex.split(command),
    ]


def test_make_appends_what_is_sourced_here_to_activate(new_place):
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", ".venv/runtime"],
        cwd=REPOSITORY, env=new_place.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "cat activate.sh >> .venv/bin/activate" in done.stdout


def test_activate_exports_all_that_dagster_needs_and_keeps_a_dagster_home(activate, tmp_path):
    bare = {"PATH": "/usr/bin:/bin"}
    exported = exports(activate, bare)
    assert set(exported) == EXPORTED
    assert exported["DAGSTER_MODULE_NAME"] == "streetvision_assets.definitions"
    assert Path(exported["DAGSTER_HOME"]).name == "dagster_home"
    assert exports(activate, {**bare, "DAGSTER_HOME": str(tmp_path)})["DAGSTER_HOME"] == str(tmp_path)


def test_activate_of_this_environment_exports_the_same(activate):
    own, bare = Path(sys.prefix) / "bin/activate", {"PATH": "/usr/bin:/bin"}
    if not own.exists() or "DAGSTER_MODULE_NAME" not in own.read_text():
        pytest.skip(f"NOT TESTED: {own} was not made by make, so sourcing it exports nothing of ours")
    assert exports(own, bare) == exports(activate, bare)
