"""The rules by which the settings of a source choose its rows and give them labels and roles.

A source asks for each row while it lists them, and calls `check` once it has listed all: only then are the
words and their counts known that an error has to show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from streetvision_core.data.config import RowsConfig, role_meanings
from streetvision_core.data.labels import LabelReader, WordReader, fold
from streetvision_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streetvision_core.data.config import CocoConfig, CsvConfig, LabelledConfig, ParquetConfig

    ColumnsConfig: TypeAlias = CsvConfig | ParquetConfig | CocoConfig


class RowRules:
    """The rules of one source, and what its rows were read as."""

    def __init__(self, config: LabelledConfig, where: str, *, names: Sequence[str] | None = None) -> None:
        """Begin a listing.

        Args:
            config: The settings of the source.
            where: The source, for errors.
            names: The class names of its labels by number, where the data has any.
        """
        rows = config if isinstance(config, RowsConfig) else RowsConfig()
        self._where = where
        self._labels = LabelReader(config.none, config.roadwork, names)
        self._role_column = rows.role_column
        self._roles = WordReader(role_meanings(rows.roles))
        self._keep = {
            column: WordReader(dict.fromkeys(map(fold, words), True)) for column, words in rows.keep.items()
        }
        self._rows = self._kept = 0

    def keeps(self, cells: Mapping[str, Any]) -> bool:
        """Tell whether a row is one of those to use; `cells` has the columns of the setting `keep`."""
        self._rows += 1
        agreeing = [reader.read(cells[column]) for column, reader in self._keep.items()]
        self._kept += (kept := all(agreeing))
        return kept

    def label(self, value: Any) -> int | None:
        """Return the label of a row, None for an empty one; a list is roadwork where one word in it is."""
        if isinstance(value, list):
            labels = [self._labels.read(item) for item in value or [None]]
            return max((label for label in labels if label is not None), default=None)
        return self._labels.read(value)

    def role(self, cells: Mapping[str, Any]) -> str | None:
        """Return the role that a row has of its own."""
        return None if self._role_column is None else self._roles.read(cells[self._role_column])

    def check(self) -> None:
        """Check the rows that were listed.

        Raises:
            DataError: the filter kept nothing, or a label or a role is a word that no rule covers.
        """
        if self._rows and not self._kept:
            values = "; ".join(f"{column}: {reader.told()}" for column, reader in self._keep.items())
            found, action = f"none of {self._rows} ({values})", "Correct its values, or leave it out."
            raise DataError("rows that the setting keep: leaves", found, self._where, action)
        self._labels.check(f"labels of {self._where}")
        if self._roles.unknown:
            raise DataError(
                "words for the roles train, val_select, val_calib and val_test",
                self._roles.told(),
                f"column {self._role_column!r} of {self._where}",
                "Map each word in the settings of the source: roles: {train: [...], val_select: [...],"
                " val_calib: [...], val_test: [...]}, or leave rows out by keep: {COLUMN: VALUE}.",
            )

    def note(self) -> str:
        """Return what a person must know of how labels were read, after a comma; else nothing."""
        note = self._labels.note()
        return f", {note}" if note else ""


def named_columns(config: RowsConfig) -> list[str]:
    """Return the columns that the filter and the role of a source need."""
    return [*config.keep, *([config.role_column] if config.role_column is not None else [])]


def columns_in_words(columns: Iterable[str]) -> str:
    """Return the names of columns in words, the first twenty of them."""
    return ", ".join(list(columns)[:20]) or "no columns at all"


def chosen_group_column(config: ColumnsConfig) -> str | None:
    """Return the group column that somebody has named; the default one may be absent."""
    default = type(config).model_fields["group_column"].default
    return None if config.group_column == default else config.group_column


def check_columns(
    wanted: Iterable[str],
    missing: Sequence[str],
    among: str,
    where: str,
    *,
    action: str = "Name the columns in the settings of the source.",
) -> None:
    """Raise DataError where some of the columns that the settings name are not there."""
    if missing:
        found = f"no {', '.join(missing)} among {among}"
        raise DataError(f"the columns {', '.join(wanted)}", found, where, action)


def no_column(expected: str, names: Sequence[str], present: Iterable[str], where: str) -> DataError:
    """Return the error of a list that has none of the columns by which it could be read."""
    found = f"the columns {', '.join(list(present)[:20]) or '(none)'}"
    action = "Name the column that holds the paths by --column."
    return DataError(f"{expected} {' or '.join(names)}", found, where, action)
