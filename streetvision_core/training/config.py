"""How a classifier is trained, as configuration: the recipe's defaults stand here and nowhere else."""

from __future__ import annotations

from typing import Self

import pydantic
from pydantic import Field

from streetvision_core.errors import ConfigError, check_choice
from streetvision_core.models.config import LARGEST_HEAD, WHOLE, ViewsConfig

FINETUNE = "finetune"
PROBE = "probe"
LP_FT = "lp_ft"
LORA = "lora"
METHODS = (FINETUNE, PROBE, LP_FT, LORA)
CLASS_WEIGHTS = ("balanced", "none")
LOSSES = ("cross_entropy", "focal")
AUGMENTATIONS = ("crop", "trivial", "validator", "none")
PRECISIONS = ("auto", "float32")
# What decides how a picture is augmented.
AUGMENTATION_SETTINGS = ("augmentation", "scale_min", "hflip", "color_jitter")
# What changes how fast it trains, or what is told of it, and not a bit of what comes out.
SPEED_SETTINGS = ("num_workers", "cache_mb", "tensorboard")

_CHOICES = {
    "method": METHODS,
    "class_weights": CLASS_WEIGHTS,
    "loss": LOSSES,
    "augmentation": AUGMENTATIONS,
    "precision": PRECISIONS,
}


class TrainingConfig(ViewsConfig, frozen=True, extra="forbid"):
    """The training recipe; the defaults train the default backbone on the demo pictures.

    It is flat, because Dagster takes no nested pydantic models as configuration.
    """

    method: str = Field(
        FINETUNE,
        description="'finetune' (all weights), 'probe' (the head alone, on features of the backbone as it"
        " is), 'lp_ft' (a probe, then all weights from its head) or 'lora' (adapters on the attention, and"
        " the head)",
    )
    head_hidden: int = Field(
        0, ge=0, le=LARGEST_HEAD, description="width of a hidden layer in the head; 0 for a linear head"
    )
    epochs: int = Field(7, ge=1, le=10_000, description="passes over the train role")
    batch_size: int = Field(32, ge=2, le=65_536, description="pictures a step of the optimizer")
    accumulate: int = Field(
        1, ge=1, le=1024, description="parts in which a batch goes through the model, to save memory"
    )
    learning_rate: float = Field(3e-3, gt=0, description="AdamW's largest learning rate")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor of the learning rate from each layer to the one below it"
    )
    weight_decay: float = Field(0.05, ge=0, description="of all weights but norms and biases")
    warmup_epochs: float = Field(
        1.0, ge=0, description="epochs in which the learning rate rises linearly, before it falls as a cosine"
    )
    probe_epochs: int = Field(30, ge=1, le=10_000, description="epochs of the probe that lp_ft begins with")
    probe_batch_size: int = Field(64, ge=2, le=65_536, description="pictures a step of a probe")
    probe_learning_rates: list[float] = Field(
        [0.0003, 0.001, 0.003, 0.01], description="a probe trains a head for each of them at once"
    )
    probe_weight_decays: list[float] = Field(
        [0.0, 0.05, 0.5], description="and for each of these; val_select chooses among all heads"
    )
    probe_views: int = Field(
        0,
        ge=0,
        le=1000,
        description="augmented views of each picture that a probe takes in turn; 0 for the plain one",
    )
    cache_features: bool = Field(
        True, description="let a probe keep the features of each picture instead of computing them each time"
    )
    lora_rank: int = Field(8, ge=1, le=1024, description="rank of the adapters")
    lora_alpha: int = Field(16, ge=1, description="scale of the adapters, divided by their rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="share of the adapters' inputs dropped")
    loss: str = Field("cross_entropy", description="'cross_entropy' or 'focal'")
    focal_gamma: float = Field(2.0, ge=0, le=10, description="how far focal loss discounts easy pictures")
    label_smoothing: float = Field(
        0.05, ge=0, lt=1, description="share of each label spread over both classes"
    )
    class_weights: str = Field("balanced", description="'balanced' (both classes count the same) or 'none'")
    mixup: float = Field(0.0, ge=0, le=10, description="alpha of mixup's Beta distribution; 0 for none")
    cutmix: float = Field(0.0, ge=0, le=10, description="alpha of cutmix's Beta distribution; 0 for none")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the features dropped before the head")
    ema_decay: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="decay a step of the averaged weights, approached from below; 0 for none",
    )
    gradient_clip: float = Field(
        1.0, ge=0, description="largest norm of a step's gradient, but for probes; 0 for no limit"
    )
    patience: int = Field(8, ge=1, description="epochs without a better one on val_select before it stops")
    augmentation: str = Field(
        "crop",
        description="'crop' (random crop, mirror image, colours), 'trivial' (the same with TrivialAugment),"
        " 'validator' (what the validators of the StreetVision subnet send) or 'none'",
    )
    scale_min: float = Field(
        0.7, gt=0, le=1, description="smallest share of the area that a random crop keeps"
    )
    hflip: float = Field(0.5, ge=0, le=1, description="probability of a mirror image")
    color_jitter: float = Field(
        0.2, ge=0, lt=1, description="largest change of brightness, contrast and saturation; 0 for none"
    )
    seed: int = Field(0, ge=0, description="seed of the order of the pictures, the augmentation and dropout")
    precision: str = Field("auto", description="'auto' (bf16 where a GPU has it) or 'float32'")
    compile: bool = Field(False, description="compile the model with torch.compile, where that works")
    devices: int = Field(
        1, ge=1, le=64, description="GPUs to train on together, or processes where there is none"
    )
    max_unreadable: int = Field(
        0,
        ge=0,
        description="pictures of train that may turn out unreadable and are left out; with one more the step"
        " fails. No later run takes over what was trained without some",
    )
    num_workers: int = Field(
        -1,
        ge=-1,
        le=64,
        description="processes that augment pictures ahead; changes the speed, not the weights; -1 chooses:"
        " none on a CPU, one for each core but one (16 at most) on a GPU",
    )
    threads: int = Field(0, ge=0, description="threads torch computes with; 0 leaves its own choice")
    cache_mb: int = Field(
        1024, ge=0, description="memory for decoded pictures in MiB; what does not fit is decoded each time"
    )
    tensorboard: bool = Field(
        True, description="write the learning curve for TensorBoard, below tensorboard/ in the store"
    )

    @pydantic.field_validator(*_CHOICES)
    @classmethod
    def _check_choice(cls, value: str, info: pydantic.ValidationInfo) -> str:
        name = str(info.field_name)
        return check_choice(value, choices=_CHOICES[name], where=f"{name} of the training")

    @pydantic.field_validator("probe_learning_rates", "probe_weight_decays")
    @classmethod
    def _check_candidates(cls, values: list[float], info: pydantic.ValidationInfo) -> list[float]:
        zero_too = info.field_name == "probe_weight_decays"
        if not values or any(value < 0 or (value == 0 and not zero_too) for value in values):
            raise ConfigError(
                "one or more numbers that are not negative" if zero_too else "one or more positive numbers",
                repr(values),
                f"{info.field_name} of the training",
                "Give at least one number that a head is to be trained with.",
            )
        return values

    @pydantic.model_validator(mode="after")
    def _check_views_of_probe(self) -> Self:
        if self.probe_views and self.views != WHOLE:
            raise ConfigError(
                "augmented views of whole pictures, or a grid of views",
                f"probe_views: {self.probe_views} and views: {self.views}",
                "probe_views of the training",
                "Set probe_views to 0, or views to whole.",
            )
        return self

    @pydantic.model_validator(mode="after")
    def _check_warmup(self) -> Self:
        if self.warmup_epochs > self.epochs:
            raise ConfigError(
                f"a warm-up within the {self.epochs} epochs",
                f"one of {self.warmup_epochs:g} epochs",
                "warmup_epochs of the training",
                "Lower it, or train longer: the learning rate would never reach its largest value.",
            )
        return self

    @pydantic.model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.method != PROBE and self.batch_size % (self.accumulate * self.devices):
            raise ConfigError(
                "a batch_size that accumulate times devices divides",
                f"{self.batch_size} pictures in {self.accumulate} parts on {self.devices} devices",
                "batch_size of the training",
                "Choose another batch_size, so that each part holds as many pictures.",
            )
        return self
