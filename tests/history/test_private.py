"""Machines and paths in the history; they lie beside the manifests and not in them."""

import json
import shutil

import pytest

from streetvision_core.cli import main
from streetvision_core.history.remove import collect
from streetvision_core.history.verify import verify_everything
from streetvision_core.io.private import environment
from tests.history.conftest import FIRST
from tests.history.made import make

FOLDER = {"folder": {"path": "/home/anna/photographs", "roadwork": "Roadwork"}}
RUN = "20261123T110000-dddddddd"


@pytest.fixture
def images(store):
    return make(store, RUN, "images", config=FOLDER)


def run(store, capsys, *words):
    code = main([*words[:1], "--store", str(store.root), *words[1:]])
    output = capsys.readouterr()
    return code, output.out + output.err


def test_lineage_names_the_machine_and_the_folder(store, images, capsys):
    code, text = run(store, capsys, "lineage", "images")
    assert code == 0
    assert f"on {environment().hostname} (cpu)" in text
    assert "folder: path /home/anna/photographs" in text


def test_runs_names_the_folder_and_without_the_side_file_its_kind(store, images, capsys):
    text = run(store, capsys, "runs", "images")[1]
    assert "folder photograp" in text, text
    (images.directory / "private.json").unlink()
    assert "folder, 12" in run(store, capsys, "runs", "images")[1]


def test_a_diff_names_both_folders(store, images, capsys):
    elsewhere = {"folder": {**FOLDER["folder"], "path": "/x"}}
    make(store, "20261124T110000-eeeeeeee", "images", config=elsewhere, reuse=False)
    _, text = run(store, capsys, "diff", "--json", RUN, "20261124T110000-eeeeeeee")
    assert {"kind": "config", "name": "folder.path", "a": FOLDER["folder"]["path"], "b": "/x",
            "difference": None} in json.loads(text)["steps"]["images"]  # fmt: skip


@pytest.mark.parametrize("command", ["lineage", "diff", "verify"])
def test_a_lost_side_file_is_a_paragraph(store, images, capsys, command):
    (images.directory / "private.json").unlink()
    words = {"lineage": ["images"], "diff": [RUN, FIRST], "verify": [RUN]}[command]
    code, text = run(store, capsys, command, *words)
    assert code == 1
    assert "private.json" in text
    assert "Materialize the step again, or restore the file from a copy" in text


def test_a_lost_side_file_of_an_input_is_told_in_the_tree(store, capsys):
    bundle = store.resolve("bundle")
    (store.input_of(bundle, "images").directory / "private.json").unlink()
    code, text = run(store, capsys, "lineage", "bundle")
    assert code == 1
    assert "BROKEN" in text


def test_a_folder_without_the_side_files_tells_everything_else(store, images, capsys, tmp_path):
    """Redaction leaves the manifests, and nothing beside them."""
    folder = shutil.copytree(images.directory, tmp_path / "images")
    (folder / "private.json").unlink()
    assert main(["lineage", str(folder)]) == 1  # nobody said that it was left out on purpose
    assert "private.json" in capsys.readouterr().err


def test_verification_reads_the_side_files(store, images):
    assert verify_everything(store).good
    path = images.directory / "private.json"
    path.write_bytes(path.read_bytes().replace(b"anna", b"otto"))
    assert not verify_everything(store).good


def test_a_collection_takes_the_side_file_with_its_artifact(store, images):
    make(store, "20261124T110000-eeeeeeee", "images", config=FOLDER)
    plan = collect(store, keep_runs=0)
    assert (RUN, "images") in {place.key for place in plan.artifacts}
    assert not images.directory.exists()
    assert verify_everything(store).good
