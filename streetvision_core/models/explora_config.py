"""Whether and how starting weights are adapted without labels (ExPLoRA), as configuration.

The fields lie flat in `BackboneConfig`, because Dagster takes no nested records; hence their prefix. The
settings of speed have the names they have everywhere.
"""

from __future__ import annotations

import pydantic
from pydantic import Field

from streetvision_core.errors import check_choice

NONE, SIMCLR, DISTILLATION = "none", "simclr", "distillation"
ADAPTATIONS = (NONE, SIMCLR, DISTILLATION)


class ExploraConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Self-supervised adaptation on the train role; only vision transformers can be adapted."""

    adaptation: str = Field(
        NONE,
        description="'none', or continue without labels on the train role: 'simclr' or 'distillation'",
    )
    explora_unfrozen_blocks: int = Field(
        1, ge=0, description="last blocks that are trained whole; the others get adapters on Q and V"
    )
    explora_rank: int = Field(8, ge=1, description="rank of the adapters")
    explora_alpha: int = Field(16, ge=1, description="the adapters' product is scaled by alpha / rank")
    explora_dropout: float = Field(0.0, ge=0, lt=1, description="share of the adapters' inputs dropped")
    explora_dora: bool = Field(False, description="train magnitude and direction apart (DoRA)")
    explora_rslora: bool = Field(False, description="scale by alpha / sqrt(rank) instead (rsLoRA)")
    explora_epochs: int = Field(20, ge=1, le=10_000, description="passes over the train role")
    explora_batch_size: int = Field(
        64, ge=2, le=65_536, description="pictures a step; with 'simclr' all others are the negatives"
    )
    explora_micro_batch: int = Field(
        0, ge=0, description="views in memory at once, two of each picture; 0 for the whole batch"
    )
    explora_learning_rate: float = Field(1e-3, gt=0, description="AdamW's largest learning rate")
    explora_weight_decay: float = Field(0.05, ge=0, description="of all weights but norms and biases")
    explora_gradient_clip: float = Field(
        1.0, ge=0, description="largest norm of a step's gradient; 0 for no limit"
    )
    explora_temperature: float = Field(
        0.1, gt=0, description="of the contrastive loss, or of the student of 'distillation'"
    )
    explora_teacher_temperature: float = Field(0.04, gt=0, description="of the teacher of 'distillation'")
    explora_teacher_momentum: float = Field(
        0.99, ge=0, lt=1, description="decay a step of the teacher's averaged weights"
    )
    explora_projection: int = Field(128, ge=2, description="width of what the views are compared in")
    explora_prototypes: int = Field(1024, ge=2, description="outputs of the head of 'distillation'")
    explora_scale_min: float = Field(
        0.3, gt=0, le=1, description="smallest share of the area that a view keeps"
    )
    explora_color_jitter: float = Field(
        0.4, ge=0, lt=1, description="largest change of brightness, contrast and saturation of a view"
    )
    explora_seed: int = Field(0, ge=0, description="seed of adapters, order, views and the comparison")
    explora_threads: int = Field(0, ge=0, description="threads torch adapts with; 0 leaves its own choice")
    num_workers: int = Field(
        -1,
        ge=-1,
        le=64,
        description="processes that draw views ahead, -1 for none on a CPU and some for a GPU; changes the"
        " speed, not the weights",
    )
    cache_mb: int = Field(
        1024, ge=0, description="memory for decoded pictures in MiB; what does not fit is decoded each time"
    )

    @pydantic.field_validator("adaptation")
    @classmethod
    def _check_adaptation(cls, value: str) -> str:
        return check_choice(value, choices=ADAPTATIONS, where="adaptation of the backbone")
