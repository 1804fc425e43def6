"""The guarantee of a certificate in words: what is promised, of which images, and what voids it.

The words follow from the configuration, and from whether groups are known, alone, so that whoever reads a
policy can hold them against its numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from streetvision_core.eval.decisions import percent
from streetvision_core.policies.config import GroupUnit, ImageUnit

if TYPE_CHECKING:
    from streetvision_core.policies.config import RecordedScrc

Schema: TypeAlias = Literal[1, 2]
FIRST_SCHEMA: Schema = 1
SCHEMA: Schema = 2


def words_of(config: RecordedScrc, groups_known: bool | None = None, *, schema: Schema = SCHEMA) -> str:
    """Return the guarantee and its conditions in words; older ones did not know `groups_known`."""
    if schema == FIRST_SCHEMA:
        promised, drawn = _words_of_first_schema(config)
    else:
        promised, drawn = _promised(config, groups_known), "the groups independent of each other"
    if groups_known is False:
        drawn = "images taken as independent, because no groups are known"
    return (
        f"{promised} Conditions: new images come as those of val_calib did, {drawn};"
        f" weights, preprocessing and this file are as they were certified; {tried(config.looks)}."
        " A change of camera, place, season, share of roadwork or preprocessing voids it."
    )


def _promised(config: RecordedScrc, groups_known: bool | None) -> str:
    """Return the promise in a sentence that names its unit."""
    likely = f"With probability at least {percent(1 - config.delta)} over the calibration images,"
    image, promise = _unit_of(config, groups_known), config.promise
    if promise.kind == "two_sided":
        return (
            f"{likely} {image}, where it is answered none, shows roadwork with probability at most"
            f" {percent(promise.miss)}, and where it is answered roadwork, shows none with probability at"
            f" most {percent(promise.alarm)}."
        )
    if promise.kind == "error":
        return (
            f"{likely} {image}, where it is answered, is answered wrongly with probability at most"
            f" {percent(promise.alpha)}."
        )
    return (
        f"On average over calibration sets, {image} is answered wrongly with probability at most"
        f" {percent(promise.alpha)}; about this very calibration set nothing is promised."
    )


def _unit_of(config: RecordedScrc, groups_known: bool | None) -> str:
    if groups_known is False:
        return "an image drawn at random (images taken as independent, because no groups are known)"
    if isinstance(config.unit, ImageUnit):
        cap = config.unit.cap
        return (
            f"an image drawn at random (a group of more than {cap} images, a longer video, counts as {cap})"
        )
    return "an image drawn from a randomly drawn group"


def _words_of_first_schema(config: RecordedScrc) -> tuple[str, str]:
    """Return the promise of an older version, which named its unit among the conditions, and that unit."""
    likely = f"With probability at least {percent(1 - config.delta)} over the calibration images, at most"
    promise = config.promise
    if promise.kind == "two_sided":
        promised = (
            f"{likely} {percent(promise.miss)} of the images answered none show roadwork, and at"
            f" most {percent(promise.alarm)} of those answered roadwork show none."
        )
    elif promise.kind == "error":
        promised = f"{likely} {percent(promise.alpha)} of the answered images are answered wrongly."
    else:
        promised = (
            f"On average over calibration sets and new images, at most {percent(promise.alpha)} of all"
            " images are answered wrongly; about this very calibration set nothing is promised."
        )
    drawn = (
        "one image drawn from each group, the groups independent of each other"
        if isinstance(config.unit, GroupUnit)
        else "one by one, independently of each other, whatever group they belong to"
    )
    return promised, drawn


def tried(looks: int | None, kind: str = "certificate") -> str:
    """Return the condition on other promises about the same images; `kind` says what keeps this one."""
    if looks is None or looks == 1:
        return f"no other {kind} was tried on the same images before this one"
    return (
        f"at most {looks} {kind}s share images of val_calib, each at 1/{looks} of that probability of"
        " failing, and what is promised follows from no earlier look"
    )
