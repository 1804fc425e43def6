"""The settings by which weights are adapted without labels (ExPLoRA), as `backbone.json` records them.

`BackboneConfig` holds those that a person chooses.
"""

from __future__ import annotations

import pydantic
from pydantic import Field

from streetvision_core.errors import check_choice

NONE, SIMCLR = "none", "simclr"
ADAPTATIONS = (NONE, SIMCLR)


class ExploraConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """Self-supervised adaptation on the train role; only vision transformers can be adapted."""

    adaptation: str = Field(
        NONE, description="'none', or 'simclr': continue without labels on the train role"
    )
    explora_unfrozen_blocks: int = Field(
        1, ge=0, description="last blocks that are trained whole; the others get adapters on Q and V"
    )
    explora_rank: int = Field(8, ge=1, description="rank of the adapters")
    explora_epochs: int = Field(20, ge=1, le=10_000, description="passes over the train role")
    explora_batch_size: int = Field(
        64, ge=2, le=65_536, description="images a step; all others of them are the negatives"
    )
    explora_micro_batch: int = Field(
        0, ge=0, description="views in memory at once, two of each image; 0 for the whole batch"
    )
    explora_learning_rate: float = Field(1e-3, gt=0, description="AdamW's largest learning rate")
    seed: int = Field(0, ge=0, description="seed of random weights and of the adaptation")
    num_workers: int = Field(
        -1,
        ge=-1,
        le=64,
        description="processes that draw views ahead, -1 for none on a CPU and some for a GPU; changes the"
        " speed, not the weights",
    )
    cache_mb: int = Field(
        1024, ge=0, description="memory for decoded images in MiB; what does not fit is decoded each time"
    )

    @pydantic.field_validator("adaptation")
    @classmethod
    def _check_adaptation(cls, value: str) -> str:
        return check_choice(value, choices=ADAPTATIONS, where="adaptation of the backbone")
