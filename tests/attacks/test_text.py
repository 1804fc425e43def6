"""Text of a stranger in what a person reads: it is shown, and it does nothing."""

import csv
import io
import logging

import pytest
from markdown_it import MarkdownIt

from streetvision_assets.console import _ReadableFormatter
from streetvision_assets.metadata import table
from streetvision_core.bundle import BundleConfig, Evaluation
from streetvision_core.bundle.card import CardFacts, license_text, readme
from streetvision_core.cli import main
from streetvision_core.data.decoding.reasons import Reason
from streetvision_core.data.index import ImageIndex, Quarantined
from streetvision_core.errors import DataError
from streetvision_core.report.pages import slice_rows
from streetvision_core.report.report import report_of
from tests.bundle.made import decide_all, make_picture, make_policies, make_tested

HOSTILE = "![x](/?q=mutation) <img src=x> [a](//b) | x |\n\n# h\n---\n- a `b` **c**\x1b[2J\u202e"
STEERING = "\x1b]0;owned\x07\x1b[2J\u202egpj\x9b31m"
RENDERER = MarkdownIt("commonmark").enable("table")


def parts(text):
    """Return the kinds of everything that is drawn, text aside."""
    tokens = [part for token in RENDERER.parse(text) for part in [token, *(token.children or [])]]
    return [token.type for token in tokens if token.type not in {"text", "softbreak"}]


def card(text):
    """Return the facts of a bundle in which everything that can be named is named so."""
    policies = make_policies()
    tested = make_tested(groups=[text] * 200, attributes={text: [text] * 100 + ["day"] * 100})
    report = report_of(tested, decide_all(policies, tested))
    return CardFacts(
        config=BundleConfig(model_name=text, license=text),
        policy=policies["threshold"],
        evaluation=Evaluation((), report, {}),
        backbone={
            "architecture": text,
            "source": text,
            "licence": text,
            "origin": {"licence_stated_by": "timm"},
        },
        preprocessing={"input_size": text},
        degenerate=(text,),
    )


def test_the_readme_of_a_bundle_has_no_markup_but_its_own():
    hostile, plain = (readme(card(text)).decode() for text in (HOSTILE, "plain"))
    assert parts(hostile) == parts(plain)
    assert hostile.count("mutation") == plain.count("plain")
    assert not set("\x1b\u202e") & set(hostile)


def test_the_licence_of_a_bundle_has_no_lines_but_its_own():
    hostile, plain = (license_text(card(text)).decode() for text in (HOSTILE, "plain"))
    assert hostile.count("\n") == plain.count("\n")
    assert not set("\x1b\u202e") & set(hostile)


def test_a_table_of_the_ui_has_no_cells_and_no_markup_but_its_own():
    tables = [table(slice_rows(card(text).evaluation.report)).md_str for text in (HOSTILE, "plain")]
    assert parts(tables[0]) == parts(tables[1])


@pytest.mark.parametrize("command", ["lineage", "verify", "predict"])
def test_a_name_steers_no_terminal_from_standard_error(command, capsys):
    extra = ["a.jpg"] if command == "predict" else []
    assert main([command, f"./{STEERING}", *extra]) == 1
    printed = capsys.readouterr()
    assert "owned" in printed.err
    assert printed.err.rstrip("\n").isprintable()
    assert printed.out == ""


def test_an_error_is_one_readable_line_whatever_it_tells_of():
    error = DataError("a name", f"{STEERING}\n{'x' * 10**6}", "a\ud800b", "Rename it.")
    text = str(error)
    assert text.isprintable()
    assert len(text) < 10_000
    assert text.encode()
    assert text.endswith(r"(a\ud800b). Rename it.")


def test_a_message_of_a_run_steers_no_terminal_and_looks_like_one_message():
    record = logging.LogRecord("x", logging.INFO, "", 0, f"{STEERING}\n12:00:00  bundle  passed", None, None)
    first, second = _ReadableFormatter().format(record).split("\n")
    assert first.isprintable()
    assert second == "          12:00:00  bundle  passed"


def test_no_cell_of_the_index_is_a_formula_and_every_name_reads_back():
    names = [
        '=HYPERLINK("http://a.example")',
        "@SUM(A1)",
        "+1-cmd|'/C calc'!A0",
        "-2+3",
        "x;=1+1",
        "'=1",
        "'b",
    ]
    pictures = tuple(make_picture(name, 0, group=name, time=name) for name in sorted(names))
    index = ImageIndex(pictures, (Quarantined("=1+1", Reason.MISSING, "\t=1"),))
    files = index.to_artifact().files
    for data in files.values():
        for row in csv.reader(io.StringIO(data.decode(), newline="")):
            for cell in row:
                assert not any(part.lstrip(" ").startswith(tuple("=+-@")) for part in cell.split(";"))
    assert ImageIndex.from_artifact(Published(files)) == index


class Published:
    """The part of a published artifact that the index reads."""

    def __init__(self, files):
        self.read_bytes = files.__getitem__
