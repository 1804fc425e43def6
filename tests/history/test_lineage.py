"""`streetvision lineage`: the chain down to the images, from a store or from a bundle carried away."""

import json
import re
import shutil

import pytest

from streetvision_core.cli import main
from streetvision_core.history.lineage import chain_in_store, chain_of_folder, mermaid_text
from streetvision_core.io import StepManifest
from streetvision_core.io.private import environment
from tests.history.conftest import FIRST, SECOND
from tests.history.made import CHAIN, damage, make


@pytest.fixture
def carried(store, tmp_path):
    return shutil.copytree(store.resolve("bundle").directory, tmp_path / "elsewhere" / "model")


def plain(text):
    """The tree without digests, machine and commit."""
    lines = [line for line in text.splitlines() if not re.search(r"(data|code|computed|manifest) \w", line)]
    return "\n".join(lines)


def test_the_tree_reads_down_to_the_images_and_draws_what_is_shared_once(store):
    """The splits that were current when the second run was made, not those of the third."""
    assert plain(chain_in_store(store, "thresholds").text()) == "\n".join(
        [
            f"thresholds  run {SECOND}",
            f"├─ val_calib_logits  run {SECOND}",
            f"│  ├─ phase1_checkpoint  run {SECOND}",
            f"│  │  ├─ backbone  run {SECOND}",
            f"│  │  │  │  reused from run {FIRST},",
            f"│  │  │  ├─ splits  run {SECOND}",
            f"│  │  │  │  │  reused from run {FIRST},",
            f"│  │  │  │  └─ images  run {SECOND}",
            f"│  │  │  │        reused from run {FIRST},",
            "│  │  │  │        demo: pictures 12, seed 0; 12 pictures",
            "│  │  │  └─ from above: images",
            "│  │  └─ from above: images, splits",
            "│  └─ from above: images, splits",
            "└─ from above: phase1_checkpoint",
        ]
    )


def test_each_node_says_what_made_it(store):
    manifest = store.resolve("splits").manifest
    lines = chain_in_store(store, "splits").text().splitlines()
    assert (
        lines[1]
        == f"│  data {manifest.data_version[:12]}, manifest {store.resolve('splits').manifest_sha256[:12]}"
    )
    assert f"version {manifest.code_version}, configuration {manifest.config_hash[:12]}" in lines[2]
    host = environment().hostname
    assert lines[3] == f"│  computed 2026-11-21 09:30:00 UTC on {host} (cpu), 0.0 s"


def test_an_asset_is_what_is_current_or_what_the_run_made(store):
    assert chain_in_store(store, "bundle").top.run_id == SECOND
    assert chain_in_store(store, "bundle", run_id=FIRST).top.run_id == FIRST


def test_a_bundle_that_was_carried_away_tells_the_same_without_a_store(store, carried):
    here = chain_in_store(store, "bundle")
    expected = {key: node.facts() for key, node in here.nodes.items()}
    shutil.rmtree(store.root)
    chain = chain_of_folder(carried)
    assert {key: node.facts() for key, node in chain.nodes.items()} == expected
    assert chain.good


def test_the_facts_are_the_manifests_and_their_links(store, capsys):
    assert main(["lineage", "bundle", "--json", "--store", str(store.root)]) == 0
    facts = json.loads(capsys.readouterr().out)
    nodes = {node["manifest_sha256"]: node for node in facts["nodes"]}
    assert nodes[facts["subject"]]["step"] == "bundle"
    assert {node["step"] for node in nodes.values()} == set(CHAIN)
    for node in nodes.values():
        published = store.resolve(node["step"], run_id=node["run_id"])
        assert StepManifest.model_validate(node["manifest"]) == published.manifest
        given = published.manifest.input_artifacts
        assert node["inputs"] == {name: artifact.manifest_sha256 for name, artifact in given.items()}
        assert all(digest in nodes for digest in node["inputs"].values())


def test_the_graph_has_a_node_for_each_artifact_and_an_arrow_for_each_input(store):
    chain = chain_in_store(store, "bundle")
    first, *lines = mermaid_text(chain).splitlines()
    assert first == "graph TD"
    nodes = {m[1]: m[2] for line in lines if (m := re.fullmatch(r'  (n\d+)\["([^"]+)"\]', line))}
    arrows = [m.groups() for line in lines if (m := re.fullmatch(r"  (n\d+) --> (n\d+)", line))]
    assert len(nodes) + len(arrows) == len(lines)
    steps = {name: label.split("<br/>")[0] for name, label in nodes.items()}
    drawn = sorted((steps[reader], steps[read]) for read, reader in arrows)
    assert drawn == sorted((step, name) for step, inputs in CHAIN.items() for name in inputs)


def test_no_value_can_break_the_graph_or_steer_the_terminal(store, capsys):
    hostile = 'a"]\n  x --> y; <b>`#1` %%\x1b[2J'
    make(store, "20261123T000000-dddddddd", "images", config={"folder": {"path": hostile}})
    assert main(["lineage", "images", "--mermaid", "--store", str(store.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    label = re.fullmatch(r'  n0\["(.*)"\]', lines[1])[1]
    assert not set('"<>`\x1b') & set(label.replace("<br/>", ""))
    assert re.sub(r"#(\w+);", "", label).count("#") == 0
    assert main(["lineage", "images", "--store", str(store.root)]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("harm", [damage, lambda path: path.unlink()])
def test_a_missing_or_damaged_upstream_is_a_node_that_says_so_and_exit_1(store, harm, capsys):
    harm(store.root / "runs" / SECOND / "splits" / "manifest.json")
    assert main(["lineage", "bundle", "--store", str(store.root)]) == 1
    printed = capsys.readouterr()
    assert "BROKEN: Expected" in printed.out
    assert "images  run" in printed.out
    assert printed.err == ""
    assert main(["lineage", "bundle", "--mermaid", "--store", str(store.root)]) == 1
    assert re.search(r"class n\d+ bad$", capsys.readouterr().out.strip())


def test_another_manifest_than_the_one_it_was_made_from_is_a_fault(store):
    """The chain is followed by the manifest's digest, not by what lies there."""
    shutil.copy(
        store.resolve("splits").directory / "manifest.json",
        store.directory(SECOND, "splits") / "manifest.json",
    )
    assert not chain_in_store(store, "bundle").good


def test_a_carried_bundle_with_a_changed_manifest_is_refused(carried, capsys):
    damage(carried / "lineage" / "images.json")
    assert main(["lineage", str(carried)]) == 1
    assert capsys.readouterr().err.startswith("Expected the file as it was published")


def test_what_was_never_made_is_a_paragraph(store, capsys):
    assert main(["lineage", "guess", "--store", str(store.root)]) == 1
    assert main(["lineage", "bundle", "--run", "cccccccc", "--store", str(store.root)]) == 1
    assert main(["lineage", "./nowhere"]) == 1
    assert capsys.readouterr().err.count("\n") == 3
