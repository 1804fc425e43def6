"""The learning rate over a training, as a share of the largest one."""

from __future__ import annotations

import math


def learning_rate_factor(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Return the share of the largest learning rate at a step from 0: a linear rise, then half a cosine."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
