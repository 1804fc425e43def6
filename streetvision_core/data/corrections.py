"""Corrected labels: a reviewed `review.csv` of `label_audit`, read back in.

A file has the columns `name`, `label` (as the source lists it) and `corrected_label`; a row whose last cell
is empty corrects nothing. There are two kinds of review, and whoever names a file says which it was:

- `corrections`: of images that somebody looked at because the model contradicts their label. A wrong label
  that the model shares is never looked at, so it stays. That is fine for training. On images that judge or
  certify it is not, because the errors that are left agree with the model: in simulation a certificate at
  true risk .08 and alpha .07 was given in .33 of the trials instead of .01. So `splits` refuses them outside
  of `TRAINED_ON`.
- `blind_corrections`: of all images of a role, or of a random sample, by somebody who did not see what the
  model says. They may correct every role.

The index holds the corrected label and which review it is from. Roles are drawn by the labels as they are
listed, so that a correction moves no image from one role to another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streetvision_core.data.index import ImageIndex, IndexedImage, contradicting
from streetvision_core.data.labels import LABEL_NAMES, PANDAS_ADVICE, fold, label_meanings
from streetvision_core.data.sources.rules import check_columns, columns_in_words
from streetvision_core.data.sources.table import column_key, read_table
from streetvision_core.errors import ConfigError, DataError
from streetvision_core.escape import from_csv

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


NAME, LABEL, CORRECTED = "name", "label", "corrected_label"
CONTRADICTED, BLIND = "corrections", "blind_corrections"
# The roles whose labels may be corrected where the model contradicts them.
TRAINED_ON = ("train", "val_select")
_WORDS = label_meanings((), ())


@dataclass(frozen=True)
class Correction:
    """One filled row: the label that it says is listed, if any, and the corrected one."""

    name: str
    listed: int | None
    label: int


def read_corrections(path: Path, known: Mapping[str, IndexedImage]) -> Iterator[Correction]:
    """Yield the rows of a review that say what the label should be.

    Args:
        path: The file, as it was written or as a spreadsheet has saved it.
        known: The images of the index, by name.

    Raises:
        ConfigError: there is no such file.
        DataError: it is no such table, a label in it is no label, or an image is not in the index.
    """
    where = str(path)
    if not path.is_file():
        action = "Correct the path, or leave it out."
        raise ConfigError("a CSV file of reviewed labels", "no file", where, action)
    table = read_table(path, wanted=(NAME, LABEL, CORRECTED), where=where)
    places = {column_key(name): place for place, name in enumerate(table.header)}
    missing = [name for name in (NAME, LABEL, CORRECTED) if name not in places]
    action = "Fill in the review.csv of label_audit, or write a file with these columns."
    check_columns((NAME, LABEL, CORRECTED), missing, columns_in_words(table.header), where, action=action)
    for line, row in zip(table.lines, table.rows, strict=True):
        name, listed, corrected = (row[places[column]] for column in (NAME, LABEL, CORRECTED))
        if not corrected.strip():
            continue
        at = f"line {line} of {where}"
        # A spreadsheet keeps the guard of what would be a formula, and drops the quotes that tell of it.
        own = from_csv(name) if from_csv(name) in known else name
        if own not in known:
            raise DataError(
                "the name of an image of the index",
                repr(name),
                at,
                "Correct the name or take the row out. An image that was put aside has no label to correct.",
            )
        yield Correction(own, _label(listed, at) if listed.strip() else None, _label(corrected, at))


def apply_corrections(index: ImageIndex, files: Mapping[str, Path]) -> ImageIndex:
    """Return the index with the labels of the reviews in `files`, by the kind of review.

    Raises:
        ConfigError, DataError: as `read_corrections`, or a row does not fit what is listed, an image is
            corrected in two ways, or copies of one image would carry both labels.
    """
    known = {image.name: image for image in index.pictures}
    corrected: dict[str, IndexedImage] = {}
    seen: dict[str, int] = {}
    for review, path in files.items():
        for row in read_corrections(path, known):
            _check_listed(row, known[row.name].label, str(path))
            if seen.setdefault(row.name, row.label) != row.label:
                both = f"both for {row.name}"
                raise DataError("one corrected label for an image", both, str(path), "Keep one of them.")
            if row.label != known[row.name].label:
                corrected[row.name] = replace(known[row.name], label=row.label, corrected=review)
    images = tuple(corrected.get(image.name, image) for image in index.pictures)
    if clash := next(contradicting(images), None):
        found, where = f"{clash.name}: {clash.detail}", " and ".join(map(str, files.values()))
        raise DataError("one label for all copies of an image", found, where, "Correct all copies alike.")
    return replace(index, pictures=images)


def not_to_be_corrected(images: Iterable[IndexedImage], role_of: Mapping[str, str]) -> list[str]:
    """Return the names of the images that no review of contradicted labels may correct."""
    return [
        image.name
        for image in images
        if image.corrected == CONTRADICTED and role_of.get(image.name) not in TRAINED_ON
    ]


def check_corrected_roles(images: Iterable[IndexedImage], role_of: Mapping[str, str]) -> None:
    """Refuse corrections by what the model contradicts where images judge or certify.

    Raises:
        DataError: one of the images of val_calib or val_test was corrected so.
    """
    if names := not_to_be_corrected(images, role_of):
        raise DataError(
            f"corrections of {' and '.join(TRAINED_ON)} alone, where the model chose what was looked at",
            f"{len(names)} of other roles: {names[0]} is in {role_of[names[0]]}",
            f"{CONTRADICTED} of images",
            "Take these rows out: correcting only what the model contradicts leaves the errors that agree"
            " with it, and breaks a certificate. To correct val_calib or val_test, review the whole role or a"
            f" random sample of it without seeing what the model says, and name that file {BLIND}.",
        )


def _check_listed(row: Correction, label: int, where: str) -> None:
    if row.listed is None:
        raise DataError(
            "the listed label of each corrected image", f"none for {row.name}", where, PANDAS_ADVICE
        )
    if row.listed != label:
        raise DataError(
            f"the label that is listed for {row.name}, {LABEL_NAMES[label]}",
            LABEL_NAMES[row.listed],
            where,
            "The review is of other labels than the source has now: materialize label_audit again, and carry"
            " the corrections over.",
        )


def _label(word: str, where: str) -> int:
    label = _WORDS.get(fold(word))
    if label is None:
        action = "Correct the word, or leave the cell empty."
        raise DataError(" or ".join(LABEL_NAMES), repr(word), where, action)
    return label
