"""Several processes that train one model together, one for each device; this one is the first of them.

The others are new interpreters (a fork would inherit a GPU that is in use, and locks of threads that are
not there). They run the same function with the same arguments and talk to this one over the loopback
interface. They write nothing: what is staged, saved and reported is this process's. They end with it, and
an error of theirs ends the training with their words.
"""

from __future__ import annotations

import multiprocessing
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment, find_free_network_port
from torch import distributed

from streetvision_core.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

T = TypeVar("T")
_JOIN_SECONDS = 30


@dataclass(frozen=True)
class Processes:
    """How many processes train together, which of them this is (from 0), and the port they meet at."""

    count: int = 1
    rank: int = 0
    port: int = 0


ONE = Processes()


class Environment(LightningEnvironment):
    """Tells Lightning of processes that are there already."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self._processes = processes
        self._main_port = processes.port

    @property
    def creates_processes_externally(self) -> bool:
        """Whether Lightning is to leave the other processes to us."""
        return True

    @property
    def main_address(self) -> str:
        """The loopback interface."""
        return "127.0.0.1"

    def local_rank(self) -> int:
        """Return which process of this machine this is."""
        return self._processes.rank

    def teardown(self) -> None:
        """Leave no group of processes behind: another training may follow."""
        super().teardown()
        if distributed.is_initialized():
            distributed.destroy_process_group()


def count_devices(wanted: int) -> int:
    """Return how many processes train: as many as wanted, for 0 one for each GPU, and one without any.

    Raises:
        ConfigError: more GPUs are wanted than there are, on a machine that has some.
    """
    there = torch.cuda.device_count()
    if there and wanted > there:
        raise ConfigError(
            f"devices up to the {there} GPUs of this machine",
            str(wanted),
            "devices of the training",
            "Lower it.",
        )
    return wanted or max(1, there)


def gather_in_order(parts: list[T]) -> list[T]:
    """Return the parts of all processes as one would have them that was dealt every so manieth to each."""
    if not distributed.is_initialized():
        return parts
    everyone: list[list[T]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(everyone, parts)
    longest = max(map(len, everyone))
    return [own[i] for i in range(longest) for own in everyone if i < len(own)]


@contextmanager
def companions(count: int, work: Callable[..., object], **arguments: Any) -> Iterator[Processes]:
    """Run `work(processes=..., **arguments)` in the other processes during the block; yield this one's.

    Args:
        count: Processes in all; with 1 there are no others.
        work: A function of a module, with arguments that can be sent to another process.
        arguments: What it is called with, besides `processes`.

    Raises:
        TrainingError: another process has failed; the text is that of its error.
    """
    if count == 1:
        yield ONE
        return
    context = multiprocessing.get_context("spawn")
    port = find_free_network_port()
    here, there = context.Pipe(duplex=False)
    others = [
        context.Process(
            target=_follow, args=(there, work, Processes(count, rank, port), arguments), daemon=True
        )
        for rank in range(1, count)
    ]
    try:
        for other in others:
            other.start()
        there.close()
        yield Processes(count, 0, port)
    except RuntimeError as error:
        # When another process dies, this one fails to talk to it; theirs is the error that explains it.
        raise _explained(here, error) from error
    else:
        for other in others:
            other.join(_JOIN_SECONDS)
    finally:
        for other in others:
            if other.pid is not None:
                other.kill()
                other.join()


def _follow(
    errors: Connection, work: Callable[..., object], processes: Processes, arguments: dict[str, Any]
) -> None:
    try:
        work(processes=processes, **arguments)
    except BaseException as error:
        errors.send(f"process {processes.rank}: {error}")
        raise


def _explained(errors: Connection, error: RuntimeError) -> RuntimeError:
    try:
        told = errors.recv() if errors.poll(1) else ""
    except EOFError:
        told = ""
    if not told:
        return error
    return TrainingError(
        "every process to train its share", told, "training on several devices", "Mend that, and run again."
    )
