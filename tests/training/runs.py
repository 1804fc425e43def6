"""Runs of the toy training in processes of their own, which can be killed as a user's run is killed.

The processes are forked from a server that has imported everything, so that one costs a second and not ten.
"""

import json
import multiprocessing
import os
import signal
from contextlib import contextmanager

from tests.hearing import heard
from tests.training.toy import fit, make_toy

LOADED = multiprocessing.get_context("forkserver")
LOADED.set_forkserver_preload(["tests.training.runs", "streetvision_core.training.loop"])
WATCHED = ("link", "replace", "unlink")


class Run:
    """A training in a process; `events` are what it reported so far, in order."""

    def __init__(self, backbone, directory, resume, *, kill_at_call=None, output=None, **changes):
        directory.mkdir(parents=True)
        self._log = directory / "events.jsonl"
        self._log.touch()
        arguments = {"resume": resume, "log": self._log, "kill_at_call": kill_at_call, "output": output}
        self.process = LOADED.Process(
            target=_train, args=(backbone, directory), kwargs={**arguments, **changes}
        )
        self.process.start()

    def events(self, kind):
        lines = self._log.read_text().splitlines()
        return [value for name, value in map(json.loads, lines) if name == kind]

    def wait_for(self, kind, number):
        """Wait until it has reported so many events of a kind, or has ended."""
        while len(self.events(kind)) < number and self.process.is_alive():
            self.process.join(0.002)

    def pause(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.join()

    def finish(self):
        """Wait for its end; return its digest, or None where it was killed."""
        self.process.join()
        assert self.process.exitcode in {0, -signal.SIGKILL}
        return next(iter(self.events("digest")), None)


def _train(backbone, directory, *, resume, log, kill_at_call, output, **changes):
    if output:
        _write_to(output)

    def report(kind, value):
        with log.open("a") as file:
            file.write(json.dumps([kind, value]) + "\n")

    with heard(lambda text: report("notice", text)), _counted_calls(kill_at_call) as calls:
        checkpoint = fit(
            backbone,
            make_toy(),
            directory,
            resume=resume,
            on_epoch=lambda row: report("epoch", row.epoch),
            **changes,
        )
    report("calls", calls)
    report("digest", checkpoint.to_artifact().digest)


def _write_to(path):
    """Send all output of this process to a file, whoever prints it."""
    with path.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


@contextmanager
def _counted_calls(kill_at):
    """Count the calls that change what a reader sees; die of SIGKILL before one of them."""
    calls = []
    originals = {name: getattr(os, name) for name in WATCHED}

    def watch(name):
        def call(*args, **kwargs):
            calls.append(name)
            if len(calls) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return originals[name](*args, **kwargs)

        return call

    for name in WATCHED:
        setattr(os, name, watch(name))
    try:
        yield calls
    finally:
        for name, original in originals.items():
            setattr(os, name, original)
