"""The ways to train, as what they make of a backbone: what learns, and what comes out of it.

`trainable_classifier` is where training starts; `finished_classifier` puts what was trained (the staged
tensors of the best epoch) into the plain classifier that everything after training uses. Where adapters were
trained they are merged, and the merged model is proven to say what the adapted one says, and what the trained
one said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streetvision_core.errors import TrainingError
from streetvision_core.models import build_classifier
from streetvision_core.models.adapters import add_adapters, merged_copy, require_parity
from streetvision_core.models.zoo import load_exactly
from streetvision_core.training.config import Lora, TrainingConfig
from streetvision_core.training.probe import POOLING_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import torch

    from streetvision_core.models.backbone import Backbone

PARITY_IMAGES = 4
# The adapters' product is scaled by this divided by their rank. It is fixed, so that the learning rate that
# suits one rank suits another (Hu et al., LoRA, 2106.09685, section 4.1).
LORA_ALPHA = 16
# How far the loss of a model may lie from that of the same model, in nats or as a share of it.
SAME_LOSS, SAME_LOSS_ON_A_GPU = 2e-4, 2e-2


def trainable_classifier(
    backbone: Backbone, *, config: TrainingConfig, head: Mapping[str, torch.Tensor] | None = None
) -> Any:
    """Return the classifier whose parameters that require a gradient are to be trained.

    Args:
        backbone: The starting weights.
        config: The recipe.
        head: Tensors of the head by their names in the classifier; None for a new one.

    Raises:
        ConfigError: adapters are asked for, and the architecture has no attention to put them on.
    """
    model = build_classifier(backbone, head_hidden=config.head_hidden, seed=config.seed)
    if head:
        load_exactly(model, {**model.state_dict(), **head}, where="the head of the probe")
    if isinstance(config.method, Lora):
        add_adapters(model, rank=config.method.rank, alpha=LORA_ALPHA, seed=config.seed)
        model.get_classifier().requires_grad_(requires_grad=True)
    return model


def finished_classifier(
    backbone: Backbone, trained: Mapping[str, torch.Tensor], *, config: TrainingConfig
) -> Any:
    """Return the plain classifier with what was trained in it.

    Args:
        backbone: The starting weights.
        trained: The trained tensors by name, as `TrainingModule.trained_state` gives them.
        config: The recipe.

    Raises:
        ConfigError: the tensors do not fit.
        TrainingError: merged adapters do not say what they said before.
    """
    model = trainable_classifier(backbone, config=config)
    own = {name: tensor for name, tensor in trained.items() if not name.startswith(POOLING_PREFIX)}
    load_exactly(model, {**model.state_dict(), **own}, where="what was trained")
    if not isinstance(config.method, Lora):
        return model
    merged = merged_copy(model)
    require_parity(model, merged, _any_images(backbone))
    return merged


def require_what_was_trained(
    logits: npt.NDArray[np.float32], labels: Sequence[int], *, validated: float, where: Path
) -> None:
    """Prove that weights which were read back from the disk say of val_select what was validated.

    The trained model of the best epoch is gone by then, or was another process's; its loss is known. On a GPU
    validation may have rounded to bf16, so there only a larger difference tells.

    Args:
        logits: What the weights say of val_select, [N, 2].
        labels: Of the same images, [N].
        validated: The loss on val_select of what was trained, in nats an image.
        where: The file that was read back.

    Raises:
        TrainingError: the losses differ by more than rounding.
    """
    from streetvision_core.eval.calibration import negative_log_likelihood
    from streetvision_core.inference.predict import choose_device

    loss = negative_log_likelihood(logits, labels)
    tolerance = SAME_LOSS if choose_device().type == "cpu" else SAME_LOSS_ON_A_GPU
    if not abs(loss - validated) <= tolerance * max(1.0, validated):
        raise TrainingError(
            f"a loss on val_select of {validated:.6g}, that of what was trained, from its adapters on fresh"
            " starting weights",
            f"{loss:.6g}",
            where,
            "Run the step again; report it where that does not help.",
        )


def learned_attention(trained: Mapping[str, torch.Tensor]) -> tuple[float, ...] | None:
    """Return the parameters of a learned attention as `make_views` takes them, None where there is none."""
    tensors = [trained.get(f"{POOLING_PREFIX}attention.{part}") for part in ("weight", "bias")]
    values = [float(value) for tensor in tensors if tensor is not None for value in tensor.flatten()]
    return tuple(values) or None


def _any_images(backbone: Backbone) -> torch.Tensor:
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randn(PARITY_IMAGES, *backbone.pretrained_cfg["input_size"], generator=generator)
