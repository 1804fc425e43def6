"""Faults by strace: every call of a scenario that touches its directory can be killed or made to fail.

strace counts calls a thread, and our writers flush in a thread of their own. So a call is known by its
name, the path that it touches and its number among the calls of that name, path and thread; `-P` makes
strace count the calls on that path alone. Temporary names that a library draws are new each time; calls
on them are counted among all calls of that name and thread.
"""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import streetvision_core
from tests.faults.scenarios import MANIFEST_TEMPLATE

CHANGES = re.compile(
    r"(write|writev|pwrite64|sendfile|copy_file_range|f(data)?sync|fallocate|f?truncate|fchmod|fchmodat"
    r"|chmod|(rename|link|symlink|unlink|mkdir)(at|at2)?|rmdir)$"
)
_DRAWN = re.compile(r"/\.tmp\w{6}$")  # what safetensors calls its temporary files
_LINE = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?P<arguments>.*)")


@dataclass(frozen=True)
class Call:
    """One system call of a scenario; `path` is relative to the directory of the scenario."""

    name: str
    path: str
    number: int
    overall: int
    arguments: str

    @property
    def changes_the_disk(self):
        return bool(CHANGES.match(self.name)) or (self.name == "openat" and "O_CREAT" in self.arguments)

    def __str__(self):
        return f"{self.name} no. {self.number} on {self.path or 'the directory'}"


@dataclass(frozen=True)
class Outcome:
    """The end of a scenario: the exit code (-9 when killed), its error paragraph, or the crash it had."""

    code: int
    error: str = ""
    crash: str = ""

    @property
    def has_returned(self):
        return self == Outcome(0)


class Worker:
    """A warm process that runs scenarios in children, each under strace where asked."""

    def __init__(self, manifest, log):
        tree = Path(streetvision_core.__file__).parents[1]
        paths = [str(tree), *(path for path in sys.path if path)]
        script = Path(__file__).with_name("worker.py")
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", script, json.dumps(paths)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd="/",
            env={"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", MANIFEST_TEMPLATE: manifest},
        )

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, scenario, root, label, *, strace=(), uid=0, broken_before_flush=None):
        """Run the scenario in the existing directory `root` and return its outcome."""
        job = {"scenario": scenario, "root": str(root), "label": label, "uid": uid}
        job["broken_before_flush"] = broken_before_flush
        self._process.stdin.write(json.dumps(job) + "\n")
        process = int(self._process.stdout.readline())
        tracer = self._attach(process, strace) if strace else None
        self._process.stdin.write("\n")
        answer = json.loads(self._process.stdout.readline())
        if tracer:
            tracer.stderr.close()
            tracer.wait()
        return Outcome(**answer)

    def _attach(self, process, options):
        command = ["strace", "-f", "-y", "-s", "0", "-o", self._log, *options, "-p", str(process)]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        output = []
        while "attached" not in (line := tracer.stderr.readline()):
            output.append(line)
            assert line, f"strace did not start: {''.join(output)}"
        return tracer

    def calls(self, scenario, root, label):
        """Run the scenario undisturbed and return its calls that touch `root`, in their order."""
        outcome = self.run(scenario, root, label, strace=["-e", "trace=all"])
        assert outcome.has_returned, outcome
        return _calls(self._log.read_text(), root)

    def strike(self, scenario, root, label, *, call, fault):
        """Run the scenario with `fault`, such as `error=EIO`, in `call`; it must have struck."""
        if _DRAWN.search(call.path):
            where, number = [], call.overall
        else:
            where, number = ["-P", Path(root, call.path)], call.number
        inject = ["-e", f"trace={call.name}", "-e", f"inject={call.name}:{fault}:when={number}"]
        outcome = self.run(scenario, root, label, strace=[*where, *inject])
        log = self._log.read_text()
        assert "(INJECTED)" in log or "killed by SIGKILL" in log, f"{call} did not come again: {log}"
        return outcome


def _calls(log, root):
    path = re.compile(rf'[<"]{re.escape(str(root))}(?:/(?P<path>[^">]*))?[">]')
    counts, calls = Counter(), []
    for call in filter(None, map(_LINE.match, log.splitlines())):
        name, thread = call["name"], call["thread"]
        counts[thread, name] += 1
        if touched := path.search(call["arguments"].split(" = ")[0]):
            key = (thread, name, touched["path"] or "")
            counts[key] += 1
            calls.append(Call(name, key[2], counts[key], counts[thread, name], call["arguments"]))
    return list({(call.name, call.path, call.number): call for call in calls}.values())


def why_not():
    """Return why strace cannot be used here, or nothing."""
    if not shutil.which("strace"):
        return "strace is not installed"
    traced = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return traced.stderr.decode().strip() if traced.returncode else ""
