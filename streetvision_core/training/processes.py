"""Several processes that train one model together, one for each device; this one is the first of them.

The others are new interpreters (a fork would inherit a GPU that is in use, and locks of threads that are
not there). They run the same function with the same arguments, write nothing, and end with this process,
however it ends: what is staged, saved and reported is this one's. An error of theirs ends the training with
their words, unless this process has an error of its own to tell.

They find each other through a file in a directory that only this user can enter, and talk over the loopback
interface. Nobody else can join, which matters, because torch's processes believe each other.

Where another process dies at once, the first one learns it when the group's time is over (`MEETING`).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import distributed

from streetvision_core.errors import ConfigError, StreetVisionError, TrainingError
from streetvision_core.io.system import temporary_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

T = TypeVar("T")
MEETING = timedelta(minutes=10)
_JOIN_SECONDS = 30
_INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True)
class Processes:
    """The number of processes that train together, the rank of this one from 0, and the file they meet at."""

    count: int = 1
    rank: int = 0
    meeting: str = ""


ONE = Processes()


class Environment(LightningEnvironment):
    """The processes as Lightning meets them: started already, and known to each other."""

    def __init__(self, processes: Processes) -> None:
        super().__init__()
        self._processes = processes

    @property
    def creates_processes_externally(self) -> bool:
        """True: Lightning leaves the start of the other processes to us."""
        return True

    def local_rank(self) -> int:
        """Return which process of this machine this is."""
        return self._processes.rank


def count_devices(wanted: int) -> int:
    """Return how many processes train, one for each device.

    Raises:
        ConfigError: more GPUs are wanted than there are, on a machine that has some.
    """
    there = torch.cuda.device_count()
    if there and wanted > there:
        expected = f"devices up to the {there} GPUs of this machine"
        raise ConfigError(expected, str(wanted), "devices of the training", "Lower it.")
    return wanted


def gather_in_order(parts: list[T]) -> list[T]:
    """Return the parts of all processes, in the order in which they were dealt to the processes in turn."""
    if not distributed.is_initialized():
        return parts
    everyone: list[list[T]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(everyone, parts)
    longest = max(map(len, everyone))
    return [own[i] for i in range(longest) for own in everyone if i < len(own)]


@contextmanager
def group_of(processes: Processes) -> Iterator[None]:
    """Hold the process group, which Lightning then finds, for the block; a single process needs no group."""
    if processes.count == 1:
        yield
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(processes.rank)
    with _on_loopback():
        distributed.init_process_group(
            "nccl" if gpu else "gloo",
            store=distributed.FileStore(processes.meeting, processes.count),  # type: ignore[attr-defined]  # it is
            rank=processes.rank,
            world_size=processes.count,
            timeout=MEETING,
        )
        try:
            yield
        finally:
            distributed.destroy_process_group()


@contextmanager
def _on_loopback() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _INTERFACES}
    os.environ.update(dict.fromkeys(_INTERFACES, "lo"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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
    with temporary_directory("what the processes of a training meet by") as directory:
        meeting = str(directory / "meeting")
        heard, telling = context.Pipe(duplex=False)
        lifeline, held = context.Pipe(duplex=False)
        others = [
            context.Process(
                target=_follow,
                args=(work, Processes(count, rank, meeting), arguments),
                kwargs={"telling": telling, "lifeline": lifeline, "held": held},
            )
            for rank in range(1, count)
        ]
        try:
            for other in others:
                other.start()
            telling.close()
            lifeline.close()
            yield Processes(count, 0, meeting)
        except RuntimeError as error:
            # When another process dies, this one fails to talk to it; theirs is the error that explains it.
            if isinstance(error, StreetVisionError) or not (failure := _read_failure(heard)):
                raise
            expected, action = "every process to train its share", "Mend that, and run again."
            raise TrainingError(expected, failure, "training on several devices", action) from error
        else:
            for other in others:
                other.join(_JOIN_SECONDS)
        finally:
            for other in others:
                if other.pid is not None:
                    other.kill()
                    other.join()
            held.close()
            heard.close()


def _follow(
    work: Callable[..., object],
    processes: Processes,
    arguments: dict[str, Any],
    *,
    telling: Connection,
    lifeline: Connection,
    held: Connection,
) -> None:
    held.close()  # so that the first process alone holds it, and its end is noticed
    # Every process meets what there is to tell, such as an image that cannot be read; the first one tells it.
    logging.getLogger("streetvision_core").setLevel(logging.CRITICAL)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    try:
        work(processes=processes, **arguments)
    except BaseException as error:
        telling.send((isinstance(error, StreetVisionError), f"process {processes.rank}: {error}"))
        raise


def _end_with(lifeline: Connection) -> None:
    """Wait until the first process is gone, and end at once: nobody is left to train with."""
    try:
        lifeline.recv()
    except EOFError:
        os._exit(1)


def _read_failure(heard: Connection) -> str:
    """Return the text of another process's error; ours come before those that followed from them."""
    messages: list[tuple[bool, str]] = []
    try:
        while heard.poll(1):
            messages.append(heard.recv())
    except EOFError:
        pass  # they are all gone
    ours = [text for is_ours, text in messages if is_ours]
    return next(iter([*ours, *(text for _, text in messages)]), "")
