"""Random numbers that depend on what they are for, and on nothing that came before.

Every draw has a seed of its own, derived from the training's seed, the epoch and the image. So neither
the number of worker processes nor where a training was interrupted changes what is drawn, and a resumed
training needs no random state from disk.

In a `training_session` torch uses deterministic kernels, and Lightning logs nothing of its own; afterwards
flags, log levels and the global random generators are what they were.
"""

from __future__ import annotations

import logging
import random
import warnings
from contextlib import ExitStack, contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

import lightning  # noqa: F401 - it sets the levels of its loggers when it is imported, so that comes first
import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


class Purpose(IntEnum):
    """The purpose of a seed; two purposes never share a seed."""

    ORDER = 1
    AUGMENTATION = 2
    MODEL = 3
    CONDITIONS = 5
    ADAPTATION = 10


def derive_seed(seed: int, purpose: Purpose, *path: int) -> int:
    """Return a 32-bit seed for one purpose at one place, an epoch or an epoch and an image."""
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


_LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
_WARNINGS = (
    ".*does not have many workers.*",  # the number of workers is configured, and measured
    "This DataLoader will create",  # more workers than cores: the configuration asked for them
    ".*module\\(s\\) in eval mode at the start.*",  # the averaged weights, which are never trained
    ".*is smaller than the logging interval.*",  # nothing is logged through Lightning
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # Lightning's own use of torch
    ".*multi-threaded, use of fork\\(\\).*",  # a worker runs Pillow on one thread and takes none of our locks
    ".*Grad strides do not match bucket view strides.*",  # of a part of one image: a 1 has no stride
    ".*does not have a deterministic implementation.*",  # torch warns instead of failing, on a GPU only
)


@contextmanager
def training_session() -> Iterator[None]:
    """Hold torch deterministic and Lightning quiet."""
    with ExitStack() as stack:
        stack.enter_context(isolated_random())
        stack.enter_context(_deterministic())
        stack.enter_context(_quiet())
        yield


@contextmanager
def _deterministic() -> Iterator[None]:
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory  # type: ignore[attr-defined]  # a property of the module
    cudnn = torch.backends.cudnn
    deterministic, benchmark = cudnn.deterministic, cudnn.benchmark
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling fresh memory only guards against reading it uninitialised, and costs a pass over it.
        memory.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # as above
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    finally:
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        memory.fill_uninitialized_memory = fill  # type: ignore[attr-defined]  # as above
        cudnn.deterministic, cudnn.benchmark = deterministic, benchmark


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch compute with so many threads for the block."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            for message in _WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
