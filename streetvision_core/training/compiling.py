"""torch.compile where it works, and the model as it is, with a word about it, where it does not.

Whether it works shows only when a batch has gone forward and back: a compiler may be missing, or an operation
of the model unknown to it. So a copy of the model tries that first, and no weight or statistic of the model
itself has seen the try.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


def compile_if_possible(model: Any, example: torch.Tensor, *, on_notice: Callable[[str], None]) -> bool:
    """Compile a model in place, its names unchanged; tell whether that was possible.

    Args:
        model: On its device, in training mode.
        example: A batch as the model will be given, float32 [B, 3, H, W].
        on_notice: Told why the model stays as it is.
    """
    trial = copy.deepcopy(model)
    trial.compile()
    try:
        trial(example).sum().backward()
    except RuntimeError as error:  # every error of torch's compilers is one
        reason = (str(error) or type(error).__name__).splitlines()[0]
        on_notice(f"Training without torch.compile, which fails on this model or machine: {reason}")
        return False
    model.compile()
    return True
