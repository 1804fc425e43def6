"""The features of a classifier: what goes into its last layer, read while the model runs.

They are read with a hook on the very pass that gives the logits, so no architecture needs a second way
through, and features and logits belong together bit for bit.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from streetvision_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def classifier_inputs(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collect what goes into the model's last layer meanwhile.

    Raises:
        ConfigError: the model's classifier is not one layer.
    """
    classifier, seen = model.get_classifier(), []
    if not isinstance(classifier, torch.nn.Module):
        raise _no_features(f"a {type(classifier).__name__} of layers")
    hook = classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def only_features(seen: list[torch.Tensor], *, passes: int = 1) -> torch.Tensor:
    """Return what `classifier_inputs` collected in so many passes of the model, float32 [N, D].

    Raises:
        ConfigError: the layer was not called once a pass, or takes something else than [N, D].
    """
    if len(seen) != passes or any(one.ndim != 2 for one in seen):
        raise _no_features(" and ".join(str(list(one.shape)) for one in seen) or "one that is not called")
    return torch.cat(seen).float()


def _no_features(found: str) -> ConfigError:
    return ConfigError(
        "a classifier of one layer that takes features [N, D]",
        found,
        "the features of the gate",
        "Choose another architecture, or leave the gate to the margin.",
    )
