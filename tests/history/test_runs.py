"""`streetvision runs`: what was made, when, from what, and how good it is."""

import json
import os

import pytest

from streetvision_core.cli import main
from streetvision_core.history.runs import list_runs
from streetvision_core.history.text import code_text
from streetvision_core.io.claims import claim, release
from tests.history.conftest import FIRST, SECOND, THIRD
from tests.history.made import CHAIN, damage, leave, make, make_run

EXPECTED = """\
run                       when (UTC)        val_mcc  code      images
20261122T110000-cccccccc  2026-11-22 11:00           fffffff+  demo, 12
  computed    splits*
20261121T100000-bbbbbbbb  2026-11-21 10:00  0.938    fffffff+  demo, 12
  computed    phase1_checkpoint* gate* val_calib_logits* scrc* thresholds* evaluation* bundle*
  reused      images* splits backbone*
  looked      (look number not recorded)
20261121T090000-aaaaaaaa  2026-11-21 09:00  0.938    fffffff+  demo, 12
  computed    {computed}
  looked      (look number not recorded)

* is current; a + after the code means uncommitted changes; intervals are at 95 %, over groups.
val_mcc is of val_select, to choose by; --val-test shows val_calib and val_test too.
"""


def test_a_person_reads_what_each_run_computed_reused_and_left_current(store):
    manifest = store.resolve("splits").manifest
    commit = code_text(manifest.git_sha, dirty=manifest.git_dirty)
    lines = list_runs(store).text().replace(commit, "fffffff+").splitlines()
    # By word: the columns are as wide as the commit, with or without changes, and long lines are wrapped.
    assert " ".join(lines).split() == EXPECTED.format(computed=" ".join(CHAIN)).split()
    assert lines[2].startswith("  computed    ")


def test_what_judges_is_shown_on_request_alone(store, capsys):
    """A list with val_test beside every run would invite a choice by it."""
    assert main(["runs", "--store", str(store.root)]) == 0
    text = capsys.readouterr().out
    assert "0.938" in text
    assert not {"0.500", "0.750", "calib_mcc"} & set(text.split())
    assert main(["runs", "--store", str(store.root), "--val-test"]) == 0
    text = capsys.readouterr().out
    assert {"0.938", "0.500", "0.750", "calib_mcc"} <= set(text.split())
    assert "--val-test" not in text


@pytest.mark.parametrize("older", [{"mcc": 0.0}, {}], ids=["older", "today"])
def test_a_run_whose_policy_answers_nothing_shows_no_figure_of_it(store, capsys, older):
    nothing = {"tp": 0, "tn": 0, "fp": 0, "fn": 0, **older}
    make(store, "20261123T110000-dddddddd", "evaluation", config={"new": 1}, metrics=nothing)
    assert main(["runs", "--store", str(store.root), "--val-test"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "dddddddd" in line]
    assert "no answers" in row
    assert "0.000" not in row


def test_each_run_says_which_look_it_was(store):
    looked = {"mcc": 0.5, "look_number": 4, "looks_so_far": 9}
    make(store, "20261123T110000-dddddddd", "evaluation", config={"new": 1}, metrics=looked)
    assert "  looked      evaluation: look number 4 of 9 so far\n" in list_runs(store, limit=1).text()


def test_no_line_is_wider_than_the_terminal(store):
    make(store, "20261123T110000-dddddddd", "images", config={"folder": {"path": f"/pictures/{'x' * 150}"}})
    damage(store.root / "runs" / FIRST / "splits" / "manifest.json")
    lines = list_runs(store).text().splitlines()
    assert any(line.endswith("...") for line in lines)
    assert all(len(line) <= 100 or os.fspath(store.root) in line for line in lines)


def test_the_newest_runs_are_listed_and_the_others_counted(store):
    listing = list_runs(store, limit=1)
    assert [run.run_id for run in listing.runs] == [THIRD]
    assert listing.left_out == 2
    assert "2 older runs left out (--all shows them)" in listing.text()


def test_only_the_runs_that_began_a_step_are_listed(store):
    assert [run.run_id for run in list_runs(store, steps=["bundle"]).runs] == [SECOND, FIRST]
    store.stage(THIRD, "bundle")
    assert [run.run_id for run in list_runs(store, steps=["bundle"], limit=1).runs] == [THIRD]


def test_what_a_kill_left_and_what_is_at_work_are_told_apart(store):
    dead, busy = store.stage(THIRD, "bundle"), store.stage(THIRD, "thresholds")
    leave(dead)
    text = list_runs(store, limit=1).text()
    assert "  at work     thresholds\n  interrupted bundle\n" in text
    release(busy)
    (store.root / "runs" / "20261123T000000-dddddddd").mkdir()
    assert "  nothing published" in list_runs(store, limit=1).text()


def test_a_damaged_manifest_is_a_line_and_exit_1(store, capsys):
    damage(store.root / "runs" / FIRST / "splits" / "manifest.json")
    assert main(["runs", "--store", str(store.root)]) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "DAMAGED" in printed.out
    assert printed.out.count("computed") == 3
    assert main(["runs", "--store", str(store.root), "--limit", "1"]) == 0


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"schema_version": 1}'])
def test_no_content_of_a_manifest_is_a_traceback(store, content, capsys):
    (store.root / "runs" / THIRD / "splits" / "manifest.json").write_bytes(content)
    assert main(["runs", "--store", str(store.root), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["runs"][0]["damaged"]


def test_a_damaged_pointer_is_a_line_and_exit_1(store, capsys):
    (store.root / "latest" / "splits.json").write_text("{}")
    assert main(["runs", "--store", str(store.root)]) == 1
    assert "DAMAGED Expected a pointer" in capsys.readouterr().out


def test_the_facts_are_whole(store, capsys):
    assert main(["runs", "--store", str(store.root), "--json", "--all"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["run_id"] for run in runs] == [THIRD, SECOND, FIRST]
    splits = runs[1]["steps"]["splits"]
    assert splits["reused_from"] == FIRST
    assert splits["current"] is False
    assert runs[1]["steps"]["evaluation"]["metrics"] == {"mcc": 0.5}


def test_the_origin_is_the_run_that_computed_however_often_it_was_reused(store):
    make_run(store, "20261123T000000-dddddddd", steps=("images",))
    (run,) = list_runs(store, limit=1).runs
    assert run.facts()["steps"]["images"]["reused_from"] == FIRST


def test_a_link_among_the_runs_is_no_run(store, tmp_path):
    (store.root / "runs" / "elsewhere").symlink_to(tmp_path)
    assert [run.run_id for run in list_runs(store).runs] == [THIRD, SECOND, FIRST]


def test_a_claim_is_left_as_it_was(store):
    directory = store.stage(THIRD, "bundle")
    list_runs(store)
    claim(directory)
    assert list_runs(store).runs[0].unfinished == {"bundle": True}
