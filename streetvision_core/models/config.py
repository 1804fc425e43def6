"""The configuration of the model that training starts from, and of its view of an image.

The defaults stand here and nowhere else.
"""

from __future__ import annotations

import re
from typing import Literal, Self

import pydantic
from pydantic import Field

from streetvision_core.errors import ConfigError
from streetvision_core.io.private import local_path
from streetvision_core.models.views import LARGEST_GRID

RANDOM = "random"
PRETRAINED = "pretrained"
PACKAGED = "packaged"
CROP_MODES = ("center", "squash", "border")
LARGEST_HEAD = 8192
SEED = 0  # of random weights and of the adaptation
# What the licence of random weights is called; nobody can state it of others.
NO_LICENCE = "none"


class Settings(pydantic.BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Settings that know each other, of a step or of one of its choices."""


class NoAdaptation(Settings):
    """The starting weights as they are."""

    kind: Literal["none"] = "none"


class SimClr(Settings):
    """ExPLoRA: self-supervised training goes on on the train role; only vision transformers take it."""

    kind: Literal["simclr"] = "simclr"
    epochs: int = Field(20, ge=1, le=10_000, description="passes over the train role")
    batch_size: int = Field(
        64, ge=2, le=65_536, description="images a step; all others of them are the negatives"
    )


class BackboneConfig(Settings):
    """A timm model, its weights, the size at which it sees images, and how it is adapted, if at all."""

    architecture: str = Field(
        "test_resnet", min_length=1, description="timm model name, with or without a weights tag"
    )
    weights: str = Field(
        RANDOM,
        description="'random', 'packaged' (for tf_efficientnet_lite0), 'pretrained' (from the hub), or the"
        " path of a .safetensors file",
        json_schema_extra=local_path(unless=(RANDOM, PACKAGED, PRETRAINED)),
    )
    input_size: int = Field(
        128, ge=16, le=2048, description="width and height in pixels at which the model sees an image"
    )
    revision: str = Field(
        "", description="branch, tag or commit of the hub's repository; empty: its main branch"
    )
    sha256: str = Field(
        "", description="SHA-256 that the file of the weights must have; empty: any, and it is recorded"
    )
    license: str = Field(
        "", max_length=100, description="licence of the weights, where timm does not say; mit, for example"
    )
    license_file: str = Field(
        "",
        description="path of the text of that licence, which then goes along into the bundle",
        json_schema_extra=local_path(),
    )

    adaptation: NoAdaptation | SimClr = Field(
        NoAdaptation(),
        discriminator="kind",
        description="none, or simclr: continue without labels on the train role",
    )

    @property
    def is_adapted(self) -> bool:
        """True if the weights are adapted before anything is trained."""
        return isinstance(self.adaptation, SimClr)

    @property
    def is_decisive(self) -> bool:
        """True if equal settings are meant to give an equal result, so that an earlier result can be reused.

        A local file may hold something else the next time, unless its digest is given. The hub's main branch
        may change as well, but without a revision an earlier result is what is wanted.
        """
        return not self.license_file and (self.weights in (RANDOM, PACKAGED, PRETRAINED) or bool(self.sha256))

    @pydantic.field_validator("weights")
    @classmethod
    def _check_weights(cls, value: str) -> str:
        if value not in (RANDOM, PACKAGED, PRETRAINED) and not value.endswith(".safetensors"):
            raise ConfigError(
                f"'{RANDOM}', '{PACKAGED}', '{PRETRAINED}' or the path of a .safetensors file",
                repr(value),
                "weights of the backbone",
                "Other formats can run code when they are opened; convert the file to safetensors.",
            )
        return value

    @pydantic.field_validator("sha256")
    @classmethod
    def _check_sha256(cls, value: str) -> str:
        if value and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ConfigError(
                "64 hexadecimal digits in lower case, or nothing",
                repr(value),
                "sha256 of the backbone",
                "Take it from backbone.json of a run with these weights, or from sha256sum.",
            )
        return value

    @pydantic.field_validator("revision")
    @classmethod
    def _check_revision(cls, value: str) -> str:
        if value and (not re.fullmatch(r"\w[\w./-]*", value, re.ASCII) or ".." in value):
            raise ConfigError(
                "a branch, a tag or a commit, or nothing",
                repr(value),
                "revision of the backbone",
                "The hub's page of the repository lists its commits.",
            )
        return value

    @pydantic.field_validator("license")
    @classmethod
    def _check_license(cls, value: str) -> str:
        if value and (not re.fullmatch(r"[\w.+-]+", value, re.ASCII) or value == NO_LICENCE):
            raise ConfigError(
                "the identifier of a licence, mit or cc-by-4.0 for example, or nothing",
                repr(value),
                "license of the backbone",
                "Leave it empty if you do not know the licence; 'none' is what random weights have.",
            )
        return value

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        about_given_weights = (
            ("sha256", "license", "license_file") if self.weights in (RANDOM, PACKAGED) else ()
        )
        about_the_hub = ("revision",) if self.weights != PRETRAINED else ()
        for name in (*about_given_weights, *about_the_hub):
            if getattr(self, name):
                raise ConfigError(
                    f"no {name} with weights: {self.weights}",
                    repr(getattr(self, name)),
                    f"{name} of the backbone",
                    "Leave it empty, or choose the weights that it is about.",
                )
        return self


class Whole(Settings):
    """The whole image, once."""

    kind: Literal["whole"] = "whole"


class Mean(Settings):
    """The mean of all views."""

    kind: Literal["mean"] = "mean"


class TopK(Settings):
    """The mean of the two views that say roadwork the loudest."""

    kind: Literal["top_k"] = "top_k"


class Max(Settings):
    """The view that says roadwork the loudest."""

    kind: Literal["max"] = "max"


class Attention(Settings):
    """A mean whose weights a probe learns."""

    kind: Literal["attention"] = "attention"


class Grid(Settings):
    """The whole image and a grid of overlapping crops of it."""

    kind: Literal["grid"] = "grid"
    size: int = Field(3, ge=1, le=LARGEST_GRID, description="rows and columns of the grid of crops")
    pooling: TopK | Mean | Max | Attention = Field(
        TopK(),
        discriminator="kind",
        description="how the views become one answer: mean of all, top_k (mean of those that say roadwork"
        " the loudest), max (the loudest), or attention (learned by a probe)",
    )
