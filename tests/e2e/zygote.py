"""A process that has loaded everything and forks a process for each run, so that 12 kills take a minute.

A run is the real job in a process (and a process group) of its own, which can be killed like any other.
One line of JSON asks for it: {"root": ..., "pictures": ..., "changes": {step: {setting: value}}}. The answer
is its process id at once, and its exit code when it has ended.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path
from queue import Queue

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 280  # seconds; a busy machine takes ten times as long as an idle one


class Zygote:
    """The test's side: starts runs and waits for them."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.zygote"],
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._ended = {}
        self._started = Queue()
        self._news = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, root, pictures, **changes):
        """Start a run in a place and return its process id."""
        order = {"root": str(root), "pictures": str(pictures), "changes": changes}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._started.get(timeout=PATIENCE)

    def wait(self, pid):
        """Return the exit code of a run, negative for the signal that ended it."""
        with self._news:
            assert self._news.wait_for(lambda: pid in self._ended, timeout=PATIENCE), "the run hangs"
        return self._ended.pop(pid)

    def run(self, root, pictures, **changes):
        return self.wait(self.start(root, pictures, **changes))

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


def serve():
    # Loaded here, so that every run has it already.
    for heavy in ("lightning", "matplotlib.pyplot", "scipy.optimize", "sklearn.metrics", "timm"):
        import_module(heavy)

    from streetvision_assets.definitions import defs

    defs.resolve_job_def("make_bundle")
    answers = sys.stdout
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os._exit(run(json.loads(line)))
        print("started", pid, file=answers, flush=True)
        threading.Thread(target=reap, args=(pid, answers)).start()


def reap(pid, answers):
    _, status = os.waitpid(pid, 0)
    print("ended", pid, os.waitstatus_to_exitcode(status), file=answers, flush=True)


def run(order):
    """Execute the job in the forked process; what it says goes to a file in its place."""
    from tests.assets.graph import Graph

    root = Path(order["root"])
    root.mkdir(exist_ok=True)
    log = os.open(root / f"{os.getpid()}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    graph = Graph(root)
    return 0 if graph.materialize(Path(order["pictures"]), **order["changes"]).success else 1


if __name__ == "__main__":
    serve()
