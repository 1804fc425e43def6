"""`streetvision diff`: where two runs differ, side by side."""

import json
import shutil

import pytest

from streetvision_core.cli import main
from streetvision_core.history.diff import compare
from streetvision_core.history.find import find_made
from tests.history.conftest import FIRST, SECOND, THIRD
from tests.history.made import CHAIN, damage, make

FOURTH = "20261123T000000-dddddddd"


def difference(store, a, b):
    return compare(*(find_made(name, store_path=str(store.root)) for name in (a, b)))


def changes(diff, step):
    return {(change.kind, change.name): (change.before, change.after) for change in diff.by_step[step]}


def test_two_runs_of_the_same_differ_in_nothing(store, capsys):
    for step in ("images", "splits"):
        make(store, FOURTH, step)
    make(store, "20261124T000000-eeeeeeee", "images")
    make(store, "20261124T000000-eeeeeeee", "splits")
    assert main(["diff", "dddddddd", "eeeeeeee", "--store", str(store.root)]) == 0
    printed = capsys.readouterr().out
    assert "Nothing differs: 2 steps, the same in content, code and configuration." in printed


def test_a_changed_setting_is_named_with_what_followed_from_it(store):
    diff = difference(store, FIRST, SECOND)
    assert [diff.only_a, diff.only_b, diff.everywhere] == [[], [], []]
    unchanged = {"images", "splits", "backbone"}
    assert {step for step, some in diff.by_step.items() if not some} == unchanged
    trained = changes(diff, "phase1_checkpoint")
    assert trained["config", "optimizer.learning_rate"] == (None, 0.01)
    assert set(trained) == {("config", "optimizer.learning_rate"), ("content", "data")}
    a, b = (store.resolve("phase1_checkpoint", run_id=run_id).manifest for run_id in (FIRST, SECOND))
    assert changes(diff, "val_calib_logits")["input", "phase1_checkpoint"] == (
        a.data_version,
        b.data_version,
    )


def test_nested_settings_and_metrics_are_compared_one_by_one(store):
    config = {"demo": {"pictures": 13, "seed": 0}, "limit": None}
    make(store, FOURTH, "images", config=config, metrics={"pictures": 13, "share": 0.5})
    entries = changes(difference(store, FIRST, FOURTH), "images")
    assert entries["config", "demo.images"] == (12, 13)
    assert ("config", "demo.seed") not in entries
    assert ("config", "limit") in entries
    assert entries["metric", "pictures"] == (12, 13)
    assert entries["metric", "share"] == (None, 0.5)


def test_steps_that_only_one_has_are_listed(store):
    diff = difference(store, THIRD, FIRST)
    assert (diff.only_a, diff.only_b) == ([], sorted(set(CHAIN) - {"splits"}))
    assert "Only B made backbone, bundle, evaluation" in diff.text()


def test_what_every_step_has_in_common_is_said_once(store, monkeypatch):
    from streetvision_core.io import private

    monkeypatch.setattr(private, "git_state", lambda: private.GitState("f" * 40, dirty=False))
    make(store, FOURTH, "images", reuse=False)
    make(store, FOURTH, "splits", reuse=False)
    diff = difference(store, FIRST, FOURTH)
    assert [(change.kind, change.name) for change in diff.everywhere] == [("code", "commit")]
    assert not any(diff.by_step.values())
    assert not diff.nothing
    assert diff.text().count("commit") == 1


def test_the_table_has_both_values_and_the_difference(store):
    make(store, FOURTH, "evaluation", metrics={"mcc": 0.75}, reuse=False)
    lines = difference(store, SECOND, FOURTH).text().splitlines()
    assert lines[-1].split() == ["metric", "mcc", "0.5", "0.75", "+0.25"]


def test_a_run_is_named_by_a_part_of_its_id_or_as_current_or_by_its_bundle(store, tmp_path):
    carried = shutil.copytree(store.resolve("bundle").directory, tmp_path / "model")
    for name in ("bbbbbbbb", "20261121T10", SECOND, str(carried)):
        assert (
            find_made(name, store_path=str(store.root)).manifests
            == find_made(SECOND, store_path=str(store.root)).manifests
        )
    assert difference(store, "current", SECOND).only_a == []
    assert set(find_made(str(carried), store_path=None).manifests) == set(CHAIN)


@pytest.mark.parametrize("name", ["2026", "20261121", "nothing", ""])
def test_what_fits_several_runs_or_none_is_a_paragraph(store, name, capsys):
    assert main(["diff", name, FIRST, "--store", str(store.root)]) == 1
    printed = capsys.readouterr()
    assert "streetvision runs --all" in printed.err
    assert printed.out == ""


def test_a_damaged_run_is_exit_1_and_the_facts_are_whole(store, capsys):
    assert main(["diff", FIRST, SECOND, "--json", "--store", str(store.root)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["a"], facts["b"]) == (FIRST, SECOND)
    assert facts["steps"]["phase1_checkpoint"][1]["b"] == 0.01
    damage(store.root / "runs" / FIRST / "splits" / "manifest.json")
    assert main(["diff", FIRST, SECOND, "--store", str(store.root)]) == 1
    assert capsys.readouterr().err.startswith("Expected ")
