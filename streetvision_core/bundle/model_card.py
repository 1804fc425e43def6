"""`model_card.json`, and the rules of its fields: version, time and address, each by its own format.

The time and the version of a card are checked wherever it is read. The address is checked when a bundle is
exported: older versions took any text, and what they wrote is read.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, FiniteFloat

from streetvision_core.io.records import Record

_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BYTES = 1 + 32 + 2  # the format, the public key and the checksum
# The format of Substrate chains without one of their own, Bittensor among them: the address begins with 5.
_FORMAT = 42
# From 2001 to 2100: what lies outside is milliseconds, or a date without its separators.
_SECONDS = range(10**9, 4_102_444_800)


def is_version(text: str) -> bool:
    """Tell whether this is a version X.Y.Z."""
    return _VERSION.fullmatch(text) is not None


def is_time(text: str) -> bool:
    """Tell whether this is a time in ISO 8601, or in Unix seconds as real cards have it."""
    if is_unix_time(text):
        return True
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return not text.isdecimal()


def is_unix_time(text: str) -> bool:
    """Tell whether this is a time in Unix seconds."""
    return text.isascii() and text.isdecimal() and int(text) in _SECONDS


def address_fault(text: str) -> str | None:
    """Return what is wrong with an SS58 address of Bittensor; None if nothing is."""
    if not 0 < len(text) < 64 or set(text) - set(_ALPHABET):
        return "no SS58 address"
    number = 0
    for character in text:
        number = number * 58 + _ALPHABET.index(character)
    if number.bit_length() > 8 * _BYTES:
        return "an address that is too long"
    data = number.to_bytes(_BYTES, "big")
    if data[0] != _FORMAT:
        return "an address that does not begin with 5, as one of Bittensor does"
    checksum = hashlib.blake2b(b"SS58PRE" + data[:-2]).digest()[:2]
    return None if data[-2:] == checksum else "an address whose checksum is wrong: a letter was mistyped"


def _checked_version(value: str) -> str:
    if not is_version(value):
        raise ValueError(f"a version X.Y.Z, not {value!r}")
    return value


def _checked_time(value: str | int) -> str | int:
    if value != "" and not is_time(str(value)):
        raise ValueError(f"a time in ISO 8601 or Unix seconds, or nothing, not {value!r}")
    return value


class ModelCard(Record):
    """`model_card.json`: the five fields that the StreetVision subnet asks for, the licence and figures."""

    model_name: str
    description: str
    version: Annotated[str, AfterValidator(_checked_version)]
    submitted_by: str
    submission_time: Annotated[str | int, AfterValidator(_checked_time)]
    license: str
    metrics: dict[str, int | FiniteFloat]
    degenerate: tuple[str, ...]
