"""The training recipe as configuration: the defaults stand here and nowhere else.

The settings of a choice live inside it: `method: {lora: {rank: 8}}`. What a method does not use is refused
where it is set, and is left out of what is recorded of the recipe, so that no step key depends on it.
Older versions recorded the recipe flat; `recorded.py` reads both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import pydantic
from pydantic import Field

from streetvision_core.errors import ConfigError, field_faults
from streetvision_core.graph import CHECKPOINT
from streetvision_core.models.config import LARGEST_HEAD, Grid, Settings, Whole
from streetvision_core.models.views import ATTENTION
from streetvision_core.recorded import NOT_OF_A_PROBE, from_recorded, leave_out_unused

if TYPE_CHECKING:
    from collections.abc import Mapping

FINETUNE = "finetune"
PROBE = "probe"
LP_FT = "lp_ft"
LORA = "lora"
# What changes how fast it trains and not a bit of what comes out.
SPEED_SETTINGS = ("num_workers",)


class Finetune(Settings):
    """All weights are trained."""

    kind: Literal["finetune"] = "finetune"


class Probe(Settings):
    """The head alone is trained, on features of the backbone as it is; several heads at once."""

    kind: Literal["probe"] = "probe"


class LpFt(Settings):
    """A probe, then all weights from its head."""

    kind: Literal["lp_ft"] = "lp_ft"


class Lora(Settings):
    """Adapters on the attention are trained, and the head."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(8, ge=1, le=1024, description="rank of the adapters")


class Optimizer(Settings):
    """AdamW, and what becomes of its steps; a probe uses ema_decay alone."""

    learning_rate: float = Field(
        3e-3, gt=0, description="AdamW's largest; it rises to it, and then falls as a cosine"
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor of the learning rate from each layer to the one below it"
    )
    ema_decay: float = Field(
        0.99,
        ge=0,
        lt=1,
        description="decay a step of the averaged weights, approached from below; 0 for none",
    )


class CrossEntropy(Settings):
    """Cross-entropy, of softened labels."""

    kind: Literal["cross_entropy"] = "cross_entropy"

    @property
    def gamma(self) -> float:
        """Cross-entropy is focal loss that discounts nothing."""
        return 0.0


class Focal(Settings):
    """Focal loss."""

    kind: Literal["focal"] = "focal"
    gamma: float = Field(2.0, gt=0, le=10, description="how far it discounts easy images")


class Crop(Settings):
    """A random crop, mirror image and colours."""

    kind: Literal["crop"] = "crop"


class Trivial(Settings):
    """The same after one operation of TrivialAugment."""

    kind: Literal["trivial"] = "trivial"


class Plain(Settings):
    """No augmentation: the image as in validation."""

    kind: Literal["none"] = "none"


Augmentation = Crop | Trivial | Plain


class Hardware(Settings):
    """Processes of the computation; OMP_NUM_THREADS sets the threads of each process."""

    devices: int = Field(
        1, ge=1, le=64, description="GPUs to train on together, or processes where there is none"
    )
    accumulate: int = Field(
        1, ge=1, le=1024, description="parts in which a batch goes through the model, to save memory"
    )
    num_workers: int = Field(
        -1,
        ge=-1,
        le=64,
        description="processes that augment images ahead; changes the speed, not the weights; -1 chooses:"
        " none on a CPU, one for each core but one (16 at most) on a GPU",
    )


class TrainingConfig(Settings):
    """The training recipe; the defaults train the default backbone on the demo images."""

    method: Finetune | Probe | LpFt | Lora = Field(
        Finetune(),
        discriminator="kind",
        description="finetune (all weights), probe (the head alone, on features of the backbone as it is),"
        " lp_ft (a probe, then all weights from its head) or lora (adapters on the attention, and the head)",
    )
    views: Whole | Grid = Field(
        Whole(),
        discriminator="kind",
        description="whole looks at the image once; grid at the image and at overlapping crops of it, which"
        " see what is small, at a multiple of the time",
    )
    epochs: int = Field(7, ge=1, le=10_000, description="passes over the train role")
    batch_size: int = Field(32, ge=2, le=65_536, description="images a step of the optimizer")
    head_hidden: int = Field(
        0, ge=0, le=LARGEST_HEAD, description="width of a hidden layer in the head; 0 for a linear head"
    )
    optimizer: Optimizer = Optimizer()
    loss: CrossEntropy | Focal = Field(CrossEntropy(), discriminator="kind")
    augmentation: Augmentation = Field(
        Crop(),
        discriminator="kind",
        description="crop (random crop, mirror image, colours), trivial (the same with TrivialAugment)"
        " or none; what images go through in use is a matter of conditions",
    )
    mixup: float = Field(0.0, ge=0, le=10, description="alpha of mixup's Beta distribution; 0 for none")
    seed: int = Field(0, ge=0, description="seed of the order of the images, the augmentation and mixing")
    hardware: Hardware = Hardware()

    @pydantic.model_validator(mode="after")
    def _check_what_a_probe_uses(self) -> Self:
        if not isinstance(self.method, Probe):
            return self
        for group, names in NOT_OF_A_PROBE.items():
            given = getattr(self, group)
            _refuse_unused({f"{group}.{name}": getattr(given, name) for name in names}, type(given)())
        _refuse_unused({"mixup": self.mixup}, None)
        if self.augmentation.kind != Crop().kind:
            raise ConfigError(
                "no augmentation of a probe, which sees each image as it is",
                f"augmentation: {self.augmentation.kind}",
                "augmentation of the training",
                "Leave it out, or train by another method.",
            )
        return self

    @pydantic.model_validator(mode="after")
    def _check_attention(self) -> Self:
        learned = isinstance(self.views, Grid) and self.views.pooling.kind == ATTENTION
        if learned and not isinstance(self.method, Probe):
            raise ConfigError(
                "a training that learns how to weigh the views",
                f"pooling: attention with method: {self.method.kind}",
                "views of the training",
                "Only method: probe learns it, on features of all views; choose that, or another pooling.",
            )
        return self

    @pydantic.model_validator(mode="after")
    def _check_parts(self) -> Self:
        parts = self.hardware.accumulate * self.hardware.devices
        if self.batch_size % parts:
            raise ConfigError(
                "a batch_size that accumulate times devices divides",
                f"{self.batch_size} images in {self.hardware.accumulate} parts on {self.hardware.devices}"
                " devices",
                "batch_size of the training",
                "Choose another batch_size, so that each part holds as many images.",
            )
        return self

    @pydantic.model_serializer(mode="wrap")
    def _leave_out_what_is_not_used(self, handler: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        recorded: dict[str, Any] = handler(self)
        if isinstance(self.method, Probe):
            leave_out_unused(recorded)
        return recorded


def read_recipe(recorded: Mapping[str, Any]) -> TrainingConfig:
    """Return the recipe that the manifest of a checkpoint records, of whichever version wrote it.

    Raises:
        ConfigError: it has settings that this version has not.
    """
    try:
        return TrainingConfig.model_validate(from_recorded(CHECKPOINT, recorded))
    except pydantic.ValidationError as error:
        raise ConfigError(
            "a checkpoint with settings of this version",
            field_faults(error),
            CHECKPOINT,
            "Train it again; the changelog says what these settings are now.",
        ) from error


def recipe_of(config: pydantic.BaseModel) -> dict[str, Any]:
    """Return settings as JSON values, on every level without those that change the speed alone."""
    return config.model_dump(mode="json", exclude=_speed_settings(config))


def _speed_settings(config: pydantic.BaseModel) -> dict[str, Any]:
    inner = {name: getattr(config, name) for name in type(config).model_fields}
    below = {
        name: _speed_settings(value) for name, value in inner.items() if isinstance(value, pydantic.BaseModel)
    }
    return {name: True for name in SPEED_SETTINGS if name in inner} | {k: v for k, v in below.items() if v}


def _refuse_unused(given: Mapping[str, Any], defaults: Settings | None) -> None:
    for name, value in given.items():
        if value != (getattr(defaults, name.rpartition(".")[2]) if defaults else 0):
            raise ConfigError(
                "only settings that a probe uses",
                f"{name}: {value}",
                f"{name} of the training",
                "Leave it out, or train by another method: a probe tries learning rates and weight decays of"
                " its own, and trains on features, in one process.",
            )
