"""Random numbers that depend on what they are for, and on nothing that came before.

Every draw has a seed of its own, derived from the training's seed, the epoch and the picture. So neither
the number of worker processes nor where a training was interrupted changes what is drawn, and a resumed
training needs no random state from disk.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


class Purpose(IntEnum):
    """What a seed is for; two purposes never share one."""

    ORDER = 1
    AUGMENTATION = 2
    MODEL = 3
    VIEW = 4
    ADAPTATION = 10


def derive_seed(seed: int, purpose: Purpose, *path: int) -> int:
    """Return a 32-bit seed for one purpose at one place, an epoch or an epoch and a picture."""
    return int(np.random.SeedSequence([seed, purpose, *path]).generate_state(1)[0])


def seed_transforms(seed: int) -> None:
    """Seed the two global generators that timm's and torchvision's transforms draw from."""
    random.seed(seed)
    # Not torch.manual_seed: it also queues a seeding of every GPU, which costs more than the augmentation.
    torch.default_generator.manual_seed(seed)


@contextmanager
def isolated_random() -> Iterator[None]:
    """Give the global generators of Python, NumPy and torch (CPU) back as they were."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - to restore it
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - as above
        torch.set_rng_state(cpu)
