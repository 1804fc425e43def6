"""How a classifier is trained, as configuration: the recipe's defaults stand here and nowhere else."""

from __future__ import annotations

import pydantic
from pydantic import Field

from streetvision_core.errors import ConfigError
from streetvision_core.models.config import ViewsConfig

CLASS_WEIGHTS = ("balanced", "none")
PRECISIONS = ("auto", "float32")
# What changes how fast it trains, and not a bit of what comes out.
SPEED_SETTINGS = ("num_workers", "cache_mb")


def _check_choice(value: str, *, choices: tuple[str, ...], field: str) -> str:
    if value not in choices:
        raise ConfigError(
            f"one of {', '.join(choices)}", repr(value), f"{field} of the training", "Choose one of them."
        )
    return value


class TrainingConfig(ViewsConfig, frozen=True, extra="forbid"):
    """The training recipe; the defaults train the default backbone on the demo pictures.

    It is flat, because Dagster takes no nested pydantic models as configuration.
    """

    epochs: int = Field(7, ge=1, le=10_000, description="passes over the train role")
    batch_size: int = Field(32, ge=2, le=65_536, description="pictures a step")
    learning_rate: float = Field(3e-3, gt=0, description="AdamW's largest learning rate")
    weight_decay: float = Field(0.05, ge=0, description="of all weights but norms and biases")
    warmup_epochs: float = Field(
        1.0, ge=0, description="epochs in which the learning rate rises linearly, before it falls as a cosine"
    )
    label_smoothing: float = Field(
        0.05, ge=0, lt=1, description="share of each label spread over both classes"
    )
    class_weights: str = Field("balanced", description="'balanced' (both classes count the same) or 'none'")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the features dropped before the head")
    ema_decay: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="decay a step of the averaged weights, approached from below; 0 for none",
    )
    freeze_backbone: bool = Field(
        False, description="train the head alone, on features of a backbone that stays as it is (a probe)"
    )
    gradient_clip: float = Field(1.0, ge=0, description="largest norm of a step's gradient; 0 for no limit")
    patience: int = Field(8, ge=1, description="epochs without a better one on val_select before it stops")
    scale_min: float = Field(
        0.7, gt=0, le=1, description="smallest share of the area that a random crop keeps"
    )
    ratio_max: float = Field(
        1.4, ge=1, le=4, description="largest change of the aspect ratio of a random crop, either way"
    )
    hflip: float = Field(0.5, ge=0, le=1, description="probability of a mirror image")
    vflip: float = Field(0.0, ge=0, le=1, description="probability of turning upside down")
    color_jitter: float = Field(
        0.2, ge=0, lt=1, description="largest change of brightness, contrast and saturation; 0 for none"
    )
    seed: int = Field(0, ge=0, description="seed of the order of the pictures, the augmentation and dropout")
    precision: str = Field("auto", description="'auto' (bf16 where a GPU has it) or 'float32'")
    num_workers: int = Field(
        0,
        ge=0,
        le=64,
        description="processes that augment pictures ahead; changes the speed, not the weights",
    )
    threads: int = Field(0, ge=0, description="threads torch computes with; 0 leaves its own choice")
    cache_mb: int = Field(
        1024, ge=0, description="memory for decoded pictures in MiB; what does not fit is decoded each time"
    )

    @pydantic.field_validator("class_weights")
    @classmethod
    def _check_class_weights(cls, value: str) -> str:
        return _check_choice(value, choices=CLASS_WEIGHTS, field="class_weights")

    @pydantic.field_validator("precision")
    @classmethod
    def _check_precision(cls, value: str) -> str:
        return _check_choice(value, choices=PRECISIONS, field="precision")
