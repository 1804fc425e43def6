"""The commands as a person types them: exit codes, where the store is, how quickly they start."""

import json
import shutil
import subprocess
import sys

import pytest

from streetvision_core.cli import main
from tests.history.conftest import FIRST

COMMANDS = (
    ["runs"],
    ["lineage", "bundle"],
    ["diff", FIRST, "current"],
    ["verify"],
    ["path"],
    ["gc"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_the_store_is_where_the_environment_says_or_where_it_is_given(
    template, command, monkeypatch, tmp_path
):
    monkeypatch.setenv("STREETVISION_STORE", str(template.root))
    assert main(command) == 0
    monkeypatch.setenv("STREETVISION_STORE", str(tmp_path / "nowhere"))
    assert main(command) == 1
    assert main([*command, "--store", str(template.root)]) == 0


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_store_that_does_not_exist_is_a_paragraph_and_is_not_made(tmp_path, command, capsys):
    root = tmp_path / "nowhere"
    assert main([*command, "--store", str(root)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Expected a store in which something was made, but found no such folder")
    assert not root.exists()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_looking_changes_nothing(template, command, capsys):
    before = {path: path.lstat() for path in template.root.rglob("*")}
    main([*command, "--store", str(template.root)])
    after = {path: path.lstat() for path in template.root.rglob("*")}
    assert {path: status.st_mtime_ns for path, status in after.items()} == {
        path: status.st_mtime_ns for path, status in before.items()
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs", "--limit", "-1"),
        ("runs", "--limit", "many"),
        ("lineage",),
        ("lineage", "bundle", "--json", "--mermaid"),
        ("diff", FIRST),
        ("verify", "a", "--all"),
        ("gc", "--keep-runs", "-1"),
        ("gc", "--delete", "--dry-run"),
        ("gc", "everything"),
        ("verify", "a", "b"),
        ("predict", "x"),
    ],
)
def test_wrong_usage_is_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"Expected usage: streetvision {arguments[0]} ")
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "guess"),
    [
        ((), "arguments are required: COMMAND (the command line). 'streetvision --help'"),
        (("verfy",), "Did you mean verify? 'streetvision --help'"),
        (("gc", "--keepruns", "3"), "Did you mean --keep-runs? 'streetvision gc --help'"),
        (("path", "--lim=1"), "(the command line). 'streetvision path --help'"),
    ],
)
def test_no_command_or_an_unknown_one_or_an_unknown_option_is_one_paragraph_with_a_guess(
    arguments, guess, capsys
):
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert guess in printed
    assert printed.count("\n") == 1


def test_a_run_of_a_bundles_folder_is_wrong_usage(template):
    with pytest.raises(SystemExit) as caught:
        main(["lineage", str(template.resolve("bundle").directory), "--run", FIRST])
    assert caught.value.code == 2


def test_a_folder_here_that_holds_a_manifest_is_a_bundle_and_another_is_not(
    store, tmp_path, monkeypatch, capsys
):
    """A folder of images named like a step does not hide the step."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    assert main(["lineage", "images", "--store", str(store.root)]) == 0
    shutil.copytree(store.resolve("bundle").directory, tmp_path / "model")
    shutil.rmtree(store.root)
    capsys.readouterr()
    assert main(["lineage", "model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nodes"][-1]["step"] == "bundle"


def test_deep_also_answers_the_golden_images_of_a_bundle_in_the_store(template, monkeypatch):
    from streetvision_core import bundle

    class Summary:
        def summary(self):
            return "answered again"

    seen = []

    def answer(path, *, deep, **settings):
        seen.append((path, deep))
        return Summary()

    monkeypatch.setattr(bundle, "verify_bundle", answer)
    assert main(["verify", FIRST, "--deep", "--store", str(template.root)]) == 0
    assert seen == [(str(template.directory(FIRST, "bundle")), True)]


@pytest.mark.e2e
def test_no_command_loads_what_it_does_not_need(template):
    code = (
        "import sys, streetvision_core.cli as cli\n"
        "assert cli.main(sys.argv[1:]) == 0\n"
        "heavy = {'torch', 'dagster', 'numpy', 'pyarrow', 'PIL', 'sklearn', 'scipy', 'timm', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    for command in COMMANDS:
        arguments = [sys.executable, "-c", code, *command, "--store", str(template.root)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", command


@pytest.mark.e2e
def test_a_reader_that_has_enough_is_no_traceback(template):
    command = f"{sys.executable} -m streetvision_core.cli runs --json --store {template.root} | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
