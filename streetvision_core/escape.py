r"""Text from data, made harmless for the place where it is shown: one function for each destination.

Names, groups, attributes, licences, configurations and the words of an error come from whoever made the
data. What is shown to a person stays readable: a line break becomes a space; a character that steers a
terminal, or turns text around, or cannot be seen, is spelled out (`\x1b`, `\u202e`); what is longer than
the limit is cut, and the number of characters that are left out stands there instead. Two different names
can therefore look alike where they are shown. They never do in a record: CSV cells read back exactly.
"""

from __future__ import annotations

import re
import unicodedata

from markupsafe import Markup

# Enough for any name that a person reads, and too little to push the rest of a table off the page.
LIMIT = 300
# For paragraphs: our own are far below it.
PARAGRAPH = 3000
# Invisible and without width. It stands where a renderer would otherwise make a link of bare text, which no
# escape of Markdown prevents: GitHub's flavour looks for addresses in the text after the escapes are undone.
JOINER = "\u2060"

# Letters by category, of which nothing is drawn: fillers of Hangul, the empty pattern of Braille.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_BREAKS = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
# An underscore inside of a word means nothing in Markdown, and names are full of them.
_MARKUP = re.compile(r"[\\`*\[\]<>#|~&$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# What begins a list, a heading or a table only at the beginning of a line.
_BEGINNING = re.compile(r"^(?:(?=[-+=:])|\d+(?=[.)](?:\s|$)))")
_ADDRESS = re.compile(r"(https?:|ftp:|www)(?=[/.])|(@)", re.IGNORECASE)
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_PLAIN_IN_MERMAID = re.compile(r"[^A-Za-z0-9 .,/+_-]")
# Blanks and characters without a width, which a spreadsheet may drop before it looks for a formula.
_DROPPED = " \u00a0\u00ad\u061c\u1680\u180e\u2000-\u200f\u202a-\u202f\u205f-\u206f\u3000\ufeff"
# A spreadsheet takes a cell that begins so for a formula; some begin a new cell at a semicolon or a tab.
_FORMULA = f"(?=['{_DROPPED}]*[=+\\-@\uff1d\uff0b\uff0d\uff20\t\r\n])"
_CELL = r"(?:\A|(?<=[;\t\r\n]))"
_BEFORE_FORMULA = re.compile(f"{_CELL}{_FORMULA}")
_GUARD = re.compile(f"{_CELL}'{_FORMULA}")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|inf)")
# In the text of a whole CSV, where a cell may begin after a comma or a quotation mark as well.
MAY_HOLD_FORMULA = re.compile(rf"(?:\A|[;\t\r\n,\"]){_FORMULA}")


def one_line(text: object, *, limit: int = LIMIT) -> str:
    """Return text on one line of at most about `limit` characters, whatever cannot be seen spelled out."""
    line = _BREAKS.sub(" ", str(text))
    left_out = len(line) - limit
    shown = "".join(map(_spell, line[:limit]))
    return f"{shown}... ({left_out} more characters)" if left_out > 0 else shown


def for_terminal(text: object) -> str:
    """Return text for a terminal: lines stay lines, and nothing in them steers it."""
    return "\n".join(one_line(line, limit=PARAGRAPH) for line in str(text).split("\n"))


def for_markdown(text: object, *, limit: int = LIMIT) -> str:
    """Return Markdown that is shown as this text alone: in a cell, an item, a heading or a paragraph.

    White space is one space, as in every rendering of it. An address keeps its letters and gets an invisible
    `JOINER`, so that it is no link.
    """
    line = " ".join(one_line(text, limit=limit).split())
    line = _BEGINNING.sub(r"\g<0>\\", _MARKUP.sub(r"\\\g<0>", line))
    return _ADDRESS.sub(rf"\g<0>{JOINER}", line)


def from_markdown(text: str) -> str:
    """Return the words of what `for_markdown` gave, for a place that is no page."""
    return _ESCAPED.sub(r"\1", text).replace(JOINER, "")


def for_html(text: object, *, limit: int = PARAGRAPH) -> Markup:
    """Return HTML that is shown as this text alone, also as the value of a quoted attribute."""
    return Markup.escape(one_line(text, limit=limit))


def for_mermaid(text: object) -> str:
    """Return a quoted label of Mermaid, without its quotes: what could end it or mean markup is a code.

    A directive (`%%{init: ...}%%`) acts even inside of quotes, so all but the plainest letters are codes.
    """
    return _PLAIN_IN_MERMAID.sub(lambda letter: f"#{ord(letter[0])};", one_line(text))


def for_json_text(text: str) -> str:
    """Return ASCII JSON that a terminal shows as it is: DEL is the one control character that JSON allows."""
    return text.replace("\x7f", "\\u007f")


def for_csv(text: str) -> str:
    """Return the cell that no spreadsheet takes for a formula; `from_csv` gives the text back."""
    return text if _NUMBER.fullmatch(text) else _BEFORE_FORMULA.sub("'", text)


def from_csv(cell: str) -> str:
    """Return the text of which `for_csv` made the cell."""
    return _GUARD.sub("", cell)


def _spell(letter: str) -> str:
    if letter not in _BLANK and (letter.isprintable() or unicodedata.category(letter) == "Zs"):
        return letter
    return letter.encode("unicode_escape").decode()
