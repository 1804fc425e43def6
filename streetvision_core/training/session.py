"""The surroundings of a training: deterministic, quiet, and given back exactly as they were found.

Inside, torch uses deterministic kernels and the configured number of threads, and Lightning says nothing
of its own; afterwards threads, flags, log levels and the global random generators are what they were.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import lightning  # noqa: F401 - it sets the levels of its loggers when it is imported, so that comes first
import torch

from streetvision_core.training.seeds import isolated_random

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOGGERS = ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
_WARNINGS = (
    ".*does not have many workers.*",  # the number of workers is configured, and measured
    "This DataLoader will create",  # more workers than cores: the configuration asked for them
    ".*module\\(s\\) in eval mode at the start.*",  # the averaged weights, which are never trained
    ".*is smaller than the logging interval.*",  # nothing is logged through Lightning
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # Lightning's own use of torch
    ".*multi-threaded, use of fork\\(\\).*",  # a worker runs Pillow on one thread and takes none of our locks
    ".*Grad strides do not match bucket view strides.*",  # of a part of one picture: a 1 has no stride
    ".*does not have a deterministic implementation.*",  # torch warns instead of failing, on a GPU only
)


@contextmanager
def training_session(*, threads: int) -> Iterator[None]:
    """Hold torch deterministic and Lightning quiet; `threads` of 0 leaves torch's own number."""
    with ExitStack() as stack:
        stack.enter_context(isolated_random())
        stack.enter_context(_deterministic())
        stack.enter_context(torch_threads(threads))
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
    """Let torch compute with so many threads for the block; 0 leaves its own number."""
    before = torch.get_num_threads()
    try:
        if threads:
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
