"""Hostile text is shown as itself, wherever it is shown; records give back the very text."""

import html
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import Environment
from markdown_it import MarkdownIt

from streetvision_core.escape import (
    JOINER,
    LIMIT,
    for_csv,
    for_html,
    for_json_text,
    for_markdown,
    for_mermaid,
    for_terminal,
    from_csv,
    from_markdown,
    one_line,
)

PIECES = (
    "![x](/graphql?query=mutation{wipe})", "[a](http://b.example)", "<img src=x onerror=alert(1)>", "**b**",
    "_i_", "`c`", "```", "~~s~~", "| a | b |", "\\", "\\|", "&lt;", "&#33;", "<!-- x -->", "[a]: /b", "# h",
    "1. a", "2) a", "- a", "+ a", "=== ", "---", ":-:", "    code", "https://a.example/x", "www.a.example",
    "a@b.example", "<http://a.example>", "javascript:alert(1)", "$x$", "$$", "[^1]", "- [ ] x",
    "![", "](", ")", "\n", "\r", "\t", "\0", "\x1b[2J", "\x7f", "\x9b31m", "\u202e", "\u2066", "\u2028",
    "\udcff", "%%{init: {}}%%",
    '"]', "#quot;", ";", "end", "=1+1", "+1", "-1", "@SUM(A1)", "'=1", "''", "'", " =1", "a;=1", "a\t=1",
    "\uff1d1",
    "{{ x }}", "{% x %}", "</td><script>", "' onload='", "name.jpg", "\u7167\u7247", "\U0001f6a7",
)  # fmt: skip
HOSTILE = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=6).map("".join)
# The addresses that remark-gfm, which Dagster's page renders with, finds in the text of a parsed document.
AUTOLINKS = re.compile(r"(https?://|www(?=\.))[-.\w]+|[-.\w+]+@[-\w]+(\.[-\w]+)+", re.IGNORECASE | re.ASCII)
# One document for each place where text is put; the text stands where the word is.
PLACES = (
    "TEXT",
    "before TEXT",
    "before TEXT after",
    "# TEXT",
    "- TEXT",
    "- before TEXT: after",
    "**TEXT**: after",
    "a paragraph\n\nTEXT\n\nanother",
    "a paragraph\nTEXT\nthe same",
    "| head | other |\n| --- | --- |\n| TEXT | after |\n| again | TEXT |",
)
RENDERER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def shape(document):
    """Return what the document is made of, without its text, and the text of each part."""
    tokens = [part for token in RENDERER.parse(document) for part in ([token, *(token.children or [])])]
    kinds = [(token.type, token.tag, dict(token.attrs)) for token in tokens if token.type != "inline"]
    merged = [kind for i, kind in enumerate(kinds) if kind[0] != "text" or kinds[i - 1][0] != "text"]
    texts = "".join(
        token.content for token in tokens if token.type in {"text", "code_inline", "html_inline", "fence"}
    )
    return merged, texts


@pytest.mark.parametrize("place", PLACES)
@given(text=HOSTILE)
@example("![x](/graphql?query=mutation{wipe})")
@example("1. a")
@example("---")
def test_markdown_shows_the_text_and_nothing_else(place, text):
    escaped = for_markdown(text)
    as_it_is = " ".join(one_line(text).split())
    plain = "x" if as_it_is else ""
    kinds, shown = shape(place.replace("TEXT", escaped))
    assert shape(place.replace("TEXT", plain))[0] == kinds
    assert shape(place.replace("TEXT", "\ue000" if as_it_is else ""))[1].replace("\ue000", as_it_is) == (
        shown.replace(JOINER, "")
    )
    assert not AUTOLINKS.search(shown)


@given(HOSTILE)
@example("\\[a\\]")
def test_markdown_can_be_turned_back_into_the_words_for_a_terminal(text):
    assert from_markdown(for_markdown(text)) == " ".join(one_line(text).split()).replace(JOINER, "")


@given(HOSTILE)
def test_html_shows_the_text_and_nothing_else(text):
    page = Environment(autoescape=True).from_string("<td title=\"{{ a }}\" lang='{{ a }}'>{{ a }}</td>")
    escaped = str(for_html(text))
    assert not set(escaped) & set("<>\"'")
    assert html.unescape(escaped) == one_line(text, limit=3000)
    assert page.render(a=for_html(text)) == f"<td title=\"{escaped}\" lang='{escaped}'>{escaped}</td>"


@given(HOSTILE)
def test_a_mermaid_label_holds_codes_for_all_but_the_plainest_letters(text):
    label = for_mermaid(text)
    assert re.fullmatch(r"(?:[A-Za-z0-9 .,/+_-]|#\d+;)*", label)
    assert re.sub(r"#(\d+);", lambda code: chr(int(code[1])), label) == one_line(text)


@given(HOSTILE)
@example("\x1b]0;title\x07")
def test_nothing_steers_a_terminal(text):
    shown = for_terminal(text)
    assert all(line.replace("\xa0", " ").isprintable() or spaces(line) for line in shown.split("\n"))
    assert shown.count("\n") == text.count("\n")
    shown.encode()  # no surrogates either, which nothing can write


def spaces(line):
    """Tell whether what is not printable is only one of the wide and narrow spaces."""
    return all(letter.isprintable() or letter.isspace() for letter in line) and "\r" not in line


@given(st.recursive(HOSTILE, lambda inner: st.lists(inner, max_size=3)))
def test_json_reads_back_and_steers_no_terminal(value):
    line = for_json_text(json.dumps(value))
    assert line.isprintable()
    assert json.loads(line) == value


@given(HOSTILE)
@example("'=1")
@example("''=1")
@example("'-5")
@example("\t=1")
@example("\u00a0=1+1")
@example("\ufeff=1+1")
@example("\u200b=cmd|x")
def test_a_cell_reads_back_and_is_no_formula(text):
    cell = for_csv(text)
    assert from_csv(cell) == text
    for part in re.split(r"[;\t\r\n]", cell):
        assert part.strip(" \u00a0\ufeff\u200b")[:1] not in set("=@\uff1d\uff0b\uff0d\uff20") | {
            "+",
            "-",
        } or is_number(cell)


def is_number(cell):
    return re.fullmatch(r"[+-]?\d+(\.\d+)?", cell)


@pytest.mark.parametrize("blank", ["\u115f", "\u3164", "\u2800", "\u200b", "\u202e"])
def test_what_cannot_be_seen_is_spelled_out(blank):
    assert one_line(f"a{blank}b") == f"a{blank.encode('unicode_escape').decode()}b"


def test_no_scheme_of_an_address_is_left_for_a_renderer():
    for address in ("http://a.example", "https://a.example", "ftp://a.example", "www.a.example"):
        assert JOINER in for_markdown(address)


def test_long_text_is_cut_and_says_how_much_is_missing():
    shown = one_line("x" * 10_000)
    assert shown == f"{'x' * LIMIT}... (9700 more characters)"
    for escape in (for_markdown, for_mermaid, for_html, for_terminal):
        assert len(escape("|" * 10**6)) < 20_000


def test_plain_names_stay_as_they_are():
    for name in (
        "roadwork/img-001.jpg",
        "a (1).jpg",
        "caf\u00e9 \u7167\u7247.jpg",
        "50 % of it, at night: wet",
    ):
        assert one_line(name) == for_markdown(name) == for_terminal(name) == for_csv(name) == name
