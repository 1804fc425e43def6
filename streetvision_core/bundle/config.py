"""The settings of a bundle: its policy, its name card and the number of images that prove it."""

from __future__ import annotations

import re
from typing import Literal

import pydantic
from pydantic import Field

from streetvision_core.bundle.hub.front_matter import HUB_ID, LONGEST_ID
from streetvision_core.bundle.model_card import address_fault, is_time, is_version
from streetvision_core.bundle.onnx.extra import require_extra
from streetvision_core.errors import ConfigError
from streetvision_core.graph import POLICIES
from streetvision_core.report.release import ReleaseRules


class BundleConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """The bundle's settings; nothing in them is taken from the machine or the clock."""

    policy: Literal[*POLICIES] = Field(  # type: ignore[valid-type]  # the table of the graph is the one list
        "threshold", description="the one policy that is shipped"
    )
    model_name: str = Field(
        "streetvision-roadwork", min_length=1, max_length=200, description="name of the model on its card"
    )
    version: str = Field("0.1.0", description="version of the model, X.Y.Z")
    submitted_by: str = Field("", description="hotkey address of the miner (SS58, begins with 5), or empty")
    submission_time: str = Field("", description="when it is submitted, ISO 8601 or Unix seconds, or empty")
    datasets: list[str] = Field(
        default_factory=list,
        max_length=500,  # at most 48 KiB of the 64 that a reader takes of a front matter
        description="names on the hub of the data sets that it was trained on, at most 500",
    )
    license: str = Field(
        "",
        max_length=200,
        description="licence of the weights; empty: that of the starting weights, or MIT for random ones;"
        " one that is unknown, non-commercial or forbids to hand on has to be named, if you may all the same",
    )
    golden: int = Field(
        8,
        ge=0,
        le=64,
        description="how many val_test images are shipped, pixels only, with the logits they must give",
    )
    lineage: Literal["full", "redacted"] = Field(
        "full",
        description="'full' ships host names, platforms and paths of whoever made it, and image names;"
        " 'redacted' leaves them out and names images by SHA-256",
    )
    onnx: bool = Field(
        False,
        description="also ship the same function as model.onnx, proved on val_test; needs the extra onnx",
    )
    allow_degenerate: bool = Field(
        False,
        description="export a policy that answers one class only, or whose promise one constant"
        " answer keeps; the bundle then says so",
    )
    release: ReleaseRules = Field(
        ReleaseRules(),
        description="what the bad ends of intervals on val_test have to keep, for it to be releasable",
    )

    @pydantic.field_validator("version")
    @classmethod
    def _check_version(cls, value: str) -> str:
        if not is_version(value):
            raise ConfigError("a version X.Y.Z", repr(value), "version", "Write for example 0.1.0.")
        return value

    @pydantic.field_validator("submitted_by")
    @classmethod
    def _check_address(cls, value: str) -> str:
        if value and (fault := address_fault(value)):
            raise ConfigError(
                "the address of a hotkey (SS58), or nothing",
                f"{value!r}, {fault}",
                "submitted_by",
                "Copy it from your wallet: it is the public ss58Address.",
            )
        return value

    @pydantic.field_validator("submission_time")
    @classmethod
    def _check_time(cls, value: str) -> str:
        if value and not is_time(value):
            raise ConfigError(
                "a time in ISO 8601 or in Unix seconds, or nothing",
                repr(value),
                "submission_time",
                "2026-11-21T09:30:00Z, say, or '1795253400'.",
            )
        return value

    @pydantic.field_validator("onnx")
    @classmethod
    def _check_onnx(cls, value: bool) -> bool:
        if value:
            require_extra()
        return value

    @pydantic.field_validator("datasets")
    @classmethod
    def _check_datasets(cls, value: list[str]) -> list[str]:
        for name in value:
            if len(name) > LONGEST_ID or not re.fullmatch(HUB_ID, name):
                expected = f"data sets by their names on the hub, of at most {LONGEST_ID} letters"
                raise ConfigError(expected, repr(name), "datasets", "Write OWNER/NAME.")
        return value
