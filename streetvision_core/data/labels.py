"""The meaning of a label: one rule for all sources.

Names decide. A value of the data is compared as a word: case and blanks do not matter, 1.0 is 1. What is
configured (`none:`, `roadwork:`) wins; a side that is not configured is its own name, None or Roadwork, or
the bare number 0 or 1. Class names that the data brings with it stand in place of its numbers, so that a
number never says more than its name. A word that no rule covers is an error that counts every word; an empty
cell is no word, and whoever lists the images decides about it.

The same reading serves every other column of words, the roles for instance.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from streetvision_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T")

LABEL_NAMES = ("None", "Roadwork")
PANDAS_ADVICE = (
    "A cell may be empty because pandas reads the text None as missing: read with keep_default_na=False and"
    ' write with na_rep="None", or set none: ["None", ""] where empty means none.'
)
_WHOLE_NUMBER = re.compile(r"(-?\d+)\.0*")
_NUMBER = re.compile(r"[-+]?[\d.]+")
_EMPTY = frozenset({"", "nan", "<na>"})
_DENIAL = re.compile(r"(no|non|none|not|nothing|normal|negative|false|without|clear|0)(?![^\W_])")
_MOST_WORDS = 1000  # that are told apart: a column of free text must not fill the memory
_SHOWN_WORDS = 20
# YAML reads each of these words, unquoted, as a truth value.
_TRUTHS = {True: ("true", "yes", "on"), False: ("false", "no", "off")}


def parse_words(value: Any) -> tuple[str, ...]:
    """Return the words of a setting: a list, or one word or number alone; none of them for None.

    An unquoted yes or no comes as a truth value: it stands for every word that YAML reads so.

    Raises:
        ConfigError: something in it is neither a word nor a number.
    """
    words: list[str] = []
    for item in value if isinstance(value, list | tuple) else () if value is None else (value,):
        if isinstance(item, bool):
            words += _TRUTHS[item]
        elif isinstance(item, str | int | float) and not (isinstance(item, float) and math.isnan(item)):
            words.append(text_of(item))
        else:
            raise ConfigError(
                "words and numbers", repr(item), "a list of words", "Put quotes around each word of it."
            )
    return tuple(words)


def text_of(value: Any) -> str:
    """Return a value of the data as text on one line, empty where it is missing or not a number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join((value.decode(errors="replace") if isinstance(value, bytes) else str(value)).split())


def fold(text: str) -> str:
    """Return the form in which words are compared."""
    folded = unicodedata.normalize("NFC", " ".join(text.split())).casefold()
    number = _WHOLE_NUMBER.fullmatch(folded)
    return number[1] if number else folded


def denies(word: str) -> bool:
    """Tell whether a word says by itself that something is not there."""
    return _DENIAL.match(fold(word)) is not None


def label_meanings(
    none: Sequence[str], roadwork: Sequence[str], names: Sequence[str] | None = None
) -> dict[str, int]:
    """Return the label of each word, folded.

    Args:
        none: The configured words of label 0; empty for the default.
        roadwork: Those of label 1.
        names: The class names of the data by number, where it has any. A configured number is then the name
            of that class, unless a class is named so itself.

    Raises:
        ConfigError: a word stands for both labels.
    """
    given = [
        {_named(word, names) for word in words if words != (default,)}  # so older versions wrote the default
        for words, default in zip((none, roadwork), LABEL_NAMES, strict=True)
    ]
    if both := sorted(given[0] & given[1]):
        raise ConfigError(
            "words that mean either none or roadwork",
            f"{_quoted(both)} in both lists",
            "none: and roadwork:",
            "Leave each in one list. YAML reads an unquoted yes, no, on, off, true or false as a truth value:"
            " put quotes around it.",
        )
    meanings: dict[str, int] = {}
    for label, (words, default) in enumerate(zip(given, LABEL_NAMES, strict=True)):
        own = words or {fold(default), str(label)} - given[1 - label]
        meanings |= dict.fromkeys(own, label)
    return meanings


def _named(word: str, names: Sequence[str] | None) -> str:
    folded = fold(word)
    own = [fold(name) for name in names or ()]
    if folded.isdecimal() and folded not in own and int(folded) < len(own):
        return own[int(folded)]
    return folded


class WordReader(Generic[T]):
    """Reads a column of words by what each means, and counts what it reads."""

    def __init__(self, meanings: Mapping[str, T]) -> None:
        self._meanings = meanings
        self._spelling: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def read(self, value: Any) -> T | None:
        """Return what a value means, or None: then it is empty, or `unknown` tells of it."""
        text = text_of(value)
        word = fold(text)
        if word not in self._meanings and word in _EMPTY:
            word = text = ""
        elif word not in self._spelling and len(self._spelling) == _MOST_WORDS:
            word = text = "others"
        self._spelling.setdefault(word, text)
        self.counts[word] += 1
        return self._meanings.get(word)

    @property
    def unknown(self) -> bool:
        """True if a word was read that no rule covers."""
        return any(word and word not in self._meanings for word in self.counts)

    @property
    def words(self) -> list[str]:
        """The words that were read, as they are spelled, the empty one left out."""
        return sorted(self._spelling[word] for word in self.counts if word)

    def told(self) -> str:
        """Return each word with its count: `no x 10, yes x 10, empty x 3`."""
        return counted({self._spelling[word]: count for word, count in self.counts.items()})


def counted(counts: Mapping[str, int]) -> str:
    """Return words with their counts, the empty one last, the first twenty by name."""
    ordered = sorted(counts.items(), key=lambda item: (item[0] == "", item[0]))
    shown = [f"{word[:100] or 'empty'} x {count}" for word, count in ordered[:_SHOWN_WORDS]]
    more = len(ordered) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


class LabelReader(WordReader[int]):
    """Reads the labels of one source."""

    def __init__(
        self, none: Sequence[str], roadwork: Sequence[str], names: Sequence[str] | None = None
    ) -> None:
        super().__init__(label_meanings(none, roadwork, names))
        self._configured = {_named(word, names) for word in (*none, *roadwork)}

    def check(self, where: str) -> None:
        """Raise DataError with every value and its count where one of them has no meaning."""
        if self.unknown:
            empty = f" {PANDAS_ADVICE}" if self.counts[""] else ""
            raise DataError(
                "labels that are None or Roadwork, 0 or 1, or words of the settings none: and roadwork:",
                self.told(),
                where,
                f"{label_advice(self.words, self._meanings)}{empty}",
            )

    def note(self) -> str:
        """Tell which bare numbers were taken as labels only because nothing says otherwise; else nothing."""
        bare = [label for label in (0, 1) if self.counts[str(label)] and str(label) not in self._configured]
        if not bare:
            return ""
        names = " and ".join(LABEL_NAMES[label].lower() for label in bare)
        return f"{' and '.join(map(str, bare))} taken as {names}"


def label_advice(words: Iterable[str], meanings: Mapping[str, int] | None = None) -> str:
    """Return the settings to write for labels in these words.

    What already has a meaning keeps it. Of the others a word that denies is none in the example; a number
    is never guessed.
    """
    words, known = list(words), meanings or {}
    guessed = {word: known.get(fold(word), 0 if denies(word) else 1) for word in words}
    none, roadwork = ([word for word in words if guessed[word] == label] for label in (0, 1))
    bare = any(_NUMBER.fullmatch(fold(word)) and fold(word) not in known for word in words)
    if none and roadwork and not bare:
        example = f"for example none: [{_quoted(none)}] and roadwork: [{_quoted(roadwork)}]"
    else:
        example = f"none: [...] and roadwork: [...], with each of {_quoted(words)} in one of them"
    return (
        f"Tell in the settings of the source what they mean: {example}."
        " Rows that are neither are left out by keep: {COLUMN: VALUE}."
    )


def check_some_of_each(labels: Mapping[int | None, int], where: str) -> None:
    """Raise DataError where labels are empty and those that are not are all of one class."""
    if labels.get(None) and not (labels.get(0) and labels.get(1)):
        named = {LABEL_NAMES[label]: labels.get(label, 0) for label in (0, 1) if labels.get(label)}
        raise DataError("labels of both classes", counted({**named, "": labels[None]}), where, PANDAS_ADVICE)


def _quoted(words: Iterable[str]) -> str:
    """Return words as YAML reads them back whatever they are, the first twenty of them."""
    return ", ".join(json.dumps(word[:100], ensure_ascii=False) for word in list(words)[:_SHOWN_WORDS])
