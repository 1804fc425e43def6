"""The guarantee of a certificate in words: what is promised, of what, and what voids it.

The words follow from the configuration alone, so that whoever reads a policy can hold them against its
numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streetvision_core.policies.config import ScrcConfig


def words_of(config: ScrcConfig) -> str:
    """Return the guarantee and its conditions in words."""
    alpha, miss, alarm = map(percent, (config.alpha, config.alpha_miss, config.alpha_alarm))
    likely = f"With probability at least {percent(1 - config.delta)} over the calibration pictures, at most"
    promised = {
        "error": f"{likely} {alpha} of the answered pictures are answered wrongly.",
        "two_sided": f"{likely} {miss} of the pictures answered none show roadwork, and at"
        f" most {alarm} of those answered roadwork show none.",
        "expected": f"On average over calibration sets and new pictures, at most {alpha} of all"
        " pictures are answered wrongly; about this very calibration set nothing is promised.",
    }
    drawn = (
        "one picture drawn from each group, the groups independent of each other"
        if config.one_per_group
        else "one by one, independently of each other, whatever group they belong to"
    )
    return (
        f"{promised[config.promise]} Conditions: new pictures come as those of val_calib did, {drawn};"
        " weights, preprocessing and this file are as they were certified; no other certificate was tried on"
        " the same pictures before this one. A change of camera, place, season, share of roadwork or"
        " preprocessing voids it."
    )


def percent(share: float) -> str:
    """Write a share as a percentage with all its digits: a promise is not rounded."""
    return f"{100 * share:.12g}%"
