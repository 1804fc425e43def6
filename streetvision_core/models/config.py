"""Which model training starts from, as configuration: its defaults stand here and nowhere else."""

from __future__ import annotations

import pydantic
from pydantic import Field

from streetvision_core.errors import ConfigError
from streetvision_core.models.explora_config import ExploraConfig

RANDOM = "random"
PRETRAINED = "pretrained"
CROP_MODES = ("center", "squash", "border")


class BackboneConfig(ExploraConfig, frozen=True, extra="forbid"):
    """A timm model, its weights, the size at which it sees pictures, and how it is adapted, if at all."""

    architecture: str = Field(
        "test_resnet", min_length=1, description="timm model name, with or without a weights tag"
    )
    weights: str = Field(
        RANDOM, description="'random', 'pretrained' (from the hub), or the path of a .safetensors file"
    )
    input_size: int = Field(
        128, ge=16, le=2048, description="width and height in pixels at which the model sees a picture"
    )
    crop_mode: str = Field(
        "squash",
        description="'center' sees the central square, 'squash' the whole picture squeezed into a square,"
        " 'border' the whole picture with borders",
    )
    seed: int = Field(0, ge=0, description="seed of random weights")

    @pydantic.field_validator("weights")
    @classmethod
    def _check_weights(cls, value: str) -> str:
        if value not in (RANDOM, PRETRAINED) and not value.endswith(".safetensors"):
            raise ConfigError(
                f"'{RANDOM}', '{PRETRAINED}' or the path of a .safetensors file",
                repr(value),
                "weights of the backbone",
                "Other formats can run code when they are opened; convert the file to safetensors.",
            )
        return value

    @pydantic.field_validator("crop_mode")
    @classmethod
    def _check_crop_mode(cls, value: str) -> str:
        if value not in CROP_MODES:
            raise ConfigError(
                f"one of {', '.join(CROP_MODES)}",
                repr(value),
                "crop_mode of the backbone",
                "Choose one of them.",
            )
        return value
