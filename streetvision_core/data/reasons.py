"""Why a picture cannot be used: one closed list of reasons, and the error that carries one.

A picture that cannot be used is never a crash: whoever reads it raises `UnusablePictureError`, and the
index turns that into one line of its quarantine.
"""

from __future__ import annotations

from enum import StrEnum

from streetvision_core.errors import DataError


class Reason(StrEnum):
    """Why a picture is in quarantine; the value is what a person reads there."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    EMPTY = "empty"
    NOT_A_PICTURE = "not a picture"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    TOO_LARGE = "too large"
    UNLABELLED = "unlabelled"
    OUTSIDE = "outside the data folder"
    LISTED_TWICE = "listed twice"
    CONTRADICTING = "contradicting labels"


class UnusablePictureError(DataError):
    """One picture cannot be used; `reason` says why and `detail` is the quarantine's second column."""

    def __init__(self, reason: Reason, detail: str, where: str = "a picture") -> None:
        super().__init__(
            "a picture that can be used",
            f"one that is {reason}: {detail}",
            where,
            "Repair or remove it, or leave it in quarantine.",
        )
        self.args = (reason, detail, where)  # what pickle calls the class with
        self.reason = reason
        self.detail = detail
