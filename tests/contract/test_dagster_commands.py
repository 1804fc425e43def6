"""`streetvision path` and `streetvision report`: where the bundle and its report lie."""

import webbrowser
from pathlib import Path

import pytest

from streetvision_core.cli import main
from streetvision_core.io import ArtifactStore
from tests.history.made import damage, make

FIRST, SECOND = "20261121T090000-aaaaaaaa", "20261121T100000-bbbbbbbb"
PAGE = {"report.html": b"<html>good</html>"}


@pytest.fixture
def store(tmp_path):
    store = ArtifactStore(tmp_path / "a store")
    for run_id in (FIRST, SECOND):
        make(store, run_id, "evaluation", files=PAGE, inputs={}, reuse=False)
        make(store, run_id, "bundle", files={"bundle.json": b"{}"}, inputs={}, reuse=False)
    return store


def run(capsys, *arguments):
    code = main(list(map(str, arguments)))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_path_prints_where_the_current_bundle_lies_and_nothing_else(store, capsys):
    code, out, err = run(capsys, "path", "--store", store.root)
    assert (code, err) == (0, "")
    assert out == f"{store.directory(SECOND, 'bundle')}\n"


def test_path_takes_a_step_and_a_run(store, capsys):
    code, out, _ = run(capsys, "path", "evaluation", "--run", FIRST, "--store", store.root)
    assert code == 0
    assert out == f"{store.directory(FIRST, 'evaluation')}\n"


def test_path_is_absolute_where_the_store_is_given_from_here(store, capsys, monkeypatch):
    monkeypatch.chdir(store.root.parent)
    _, out, _ = run(capsys, "path", "bundle", "--store", store.root.name)
    assert Path(out.rstrip("\n")) == store.directory(SECOND, "bundle")


@pytest.mark.parametrize(
    "arguments", [("path", "gate"), ("path", "--run", "20990101"), ("path", "gate", "--run", FIRST)]
)
def test_what_is_not_there_is_a_paragraph_and_exit_1(store, capsys, arguments):
    code, out, err = run(capsys, *arguments, "--store", store.root)
    assert (code, out) == (1, "")
    assert err.startswith("Expected ")
    assert err.count("\n") == 1


def test_report_prints_the_page_of_the_current_evaluation_or_of_a_run(store, capsys):
    _, out, err = run(capsys, "report", "--store", store.root)
    assert err == "val_test: look number not recorded.\n"
    assert out == f"{store.directory(SECOND, 'evaluation') / 'report.html'}\n"
    _, out, _ = run(capsys, "report", "--run", FIRST, "--store", store.root)
    assert out == f"{store.directory(FIRST, 'evaluation') / 'report.html'}\n"


def test_report_says_which_look_at_val_test_it_is(store, capsys):
    looked = {"look_number": 3, "looks_so_far": 5}
    make(store, "20261122T110000-cccccccc", "evaluation", files=PAGE, inputs={}, reuse=False, metrics=looked)
    code, out, err = run(capsys, "report", "--store", store.root)
    assert (code, out.count("\n"), err) == (0, 1, "val_test: look number 3 of 5 so far.\n")


def test_a_changed_report_is_neither_printed_nor_opened(store, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    damage(store.directory(SECOND, "evaluation") / "report.html")
    code, out, err = run(capsys, "report", "--open", "--store", store.root)
    assert (code, out, opened) == (1, "", [])
    assert "other content" in err


def test_report_opens_the_page_as_an_address_of_this_machine(store, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: not opened.append(address))
    assert run(capsys, "report", "--open", "--store", store.root)[0] == 0
    assert opened == [(store.directory(SECOND, "evaluation") / "report.html").as_uri()]


def test_without_a_browser_the_path_is_printed_and_a_paragraph_says_why(store, capsys, monkeypatch):
    monkeypatch.setenv("BROWSER", "/nowhere/browser")
    monkeypatch.setattr(webbrowser, "_tryorder", [])
    code, out, err = run(capsys, "report", "--open", "--store", store.root)
    assert code == 1
    assert out.endswith("report.html\n")
    assert err.splitlines()[-1].startswith("Expected a browser on this machine")
