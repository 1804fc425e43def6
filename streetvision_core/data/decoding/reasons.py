"""The reasons why an image cannot be used, a closed list with advice for each, and the error that has one.

An image that cannot be used is never a crash: whoever reads it raises `UnusableImageError`, and the
index turns that into one line of its quarantine.
"""

from __future__ import annotations

from enum import StrEnum

from streetvision_core.errors import DataError

MAX_PIXELS = 200_000_000  # of an image; a larger one is `TOO_LARGE`


class Reason(StrEnum):
    """The reason why an image is in quarantine; its value is the text that a person reads there."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    EMPTY = "empty"
    NOT_AN_IMAGE = "not an image"
    UNSUPPORTED = "format not read"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    TOO_LARGE = "too large"
    UNLABELLED = "unlabelled"
    OUTSIDE = "outside the data folder"
    LISTED_TWICE = "listed twice"
    CONTRADICTING = "contradicting labels"

    @classmethod
    def _missing_(cls, value: object) -> Reason | None:
        return cls.NOT_AN_IMAGE if value == "not an image" else None  # as commit 705fcbb wrote it

    @property
    def advice(self) -> str:
        """The sentence that says what to do about images with this reason."""
        return _ADVICE[self]


_ADVICE = {
    Reason.MISSING: "Put the missing files where the source lists them, or correct the paths.",
    Reason.UNREADABLE: "Give the files permissions to be read and names in UTF-8.",
    Reason.EMPTY: "Copy the empty files again from where they came.",
    Reason.NOT_AN_IMAGE: "Remove the files that are no images; the quarantine says what each is.",
    Reason.UNSUPPORTED: "Convert these formats to JPEG; the quarantine says what each needs.",
    Reason.TRUNCATED: "Copy or download the truncated files again: their end is missing.",
    Reason.DAMAGED: "Copy the damaged files again, or leave them out.",
    Reason.TOO_LARGE: "Scale the large ones down, or save them as plain JPEG.",
    Reason.UNLABELLED: "Label them, or say with none: and roadwork: which labels mean what.",
    Reason.OUTSIDE: "Put these files into the data folder, or name the folder that holds them all.",
    Reason.LISTED_TWICE: "List each file once.",
    Reason.CONTRADICTING: "Decide which label is right and correct the other.",
}


class UnusableImageError(DataError):
    """One image cannot be used; `reason` says why and `detail` is the quarantine's second column."""

    def __init__(self, reason: Reason, detail: str, where: str = "an image") -> None:
        super().__init__("an image that can be used", f"one that is {reason}: {detail}", where, reason.advice)
        self.args = (reason, detail, where)  # what pickle calls the class with
        self.reason = reason
        self.detail = detail
