"""A process that has loaded everything and forks a process for each call, which so begins at once.

A call is a function in a process (and process group) of its own, which can be killed like any other. One line
of JSON asks for it, see `Call`. The answer is its process id at once, and its exit code when it has
ended. Of a command that is typed, only the shell and the loading are left out; the tests of those start it
themselves.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import traceback
from atexit import register
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from queue import Queue

REPOSITORY = Path(__file__).parents[1]
PATIENCE = 280  # seconds; a busy machine takes ten times as long as an idle one
HEAVY = (
    "lightning", "matplotlib.pyplot", "scipy.optimize", "sklearn.linear_model", "sklearn.metrics", "timm",
    "streetvision_assets.commands.dagster_command", "streetvision_core.bundle", "streetvision_core.cli",
    "tests.assets.graph",
)  # fmt: skip


@dataclass(frozen=True)
class Call:
    """A function, `module:name`, of words; what it returns, 0 for None, is the exit code."""

    function: str
    arguments: list
    output: str
    errors: str
    folder: str = str(REPOSITORY)
    environment: Mapping[str, str] | None = None


class Zygote:
    """The test's side: starts processes and waits for them."""

    def __init__(self):
        quiet = re.search(r"quiet='[^i]*(ignore.*)'", (REPOSITORY / "activate.sh").read_text())[1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": quiet},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._ended = {}
        self._started = Queue()
        self._news = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, call):
        """Start a call and return its process id."""
        self._process.stdin.write(json.dumps(asdict(call)) + "\n")
        self._process.stdin.flush()
        return self._started.get(timeout=PATIENCE)

    def wait(self, pid, timeout=PATIENCE):
        """Return the exit code of a process, negative for the signal that ended it."""
        with self._news:
            assert self._news.wait_for(lambda: pid in self._ended, timeout=timeout), "the process hangs"
        return self._ended.pop(pid)

    def run(self, call, timeout=PATIENCE):
        return self.wait(self.start(call), timeout)

    def kill(self, pid):
        """SIGKILL, unless it has ended already."""
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=PATIENCE)
        self._process.stdout.close()

    def _listen(self):
        for line in self._process.stdout:
            word, pid, *code = line.split()
            if word == "started":
                self._started.put(int(pid))
            else:
                with self._news:
                    self._ended[int(pid)] = int(code[0])
                    self._news.notify_all()


@cache
def zygote():
    """The process of these tests, which all files of a pytest process share; it ends with them."""
    started = Zygote()
    register(started.close)
    return started


def serve():
    # Loaded here, so that every process has it already.
    for heavy in HEAVY:
        import_module(heavy)

    from streetvision_assets.definitions import defs

    defs.resolve_job_def("make_bundle")
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os._exit(execute(Call(**json.loads(line))))
        answer("started", pid)
        threading.Thread(target=reap, args=(pid,)).start()


def reap(pid):
    _, status = os.waitpid(pid, 0)
    answer("ended", pid, os.waitstatus_to_exitcode(status))


def answer(*words):
    """Write a line at once: threads that print would mix theirs where two processes end together."""
    os.write(1, f"{' '.join(map(str, words))}\n".encode())


def execute(call):
    """Make the call in the forked process and return its exit code; what it says goes to its files."""
    for descriptor, path in ((1, call.output), (2, call.errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.chdir(call.folder)
    if call.environment is not None:
        os.environ.clear()
        os.environ.update(call.environment)
    module, _, name = call.function.partition(":")
    try:
        return getattr(import_module(module), name)(*call.arguments) or 0
    except SystemExit as ended:
        return ended.code or 0
    except BaseException:  # noqa: BLE001 - as the interpreter itself does at the end
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    serve()
