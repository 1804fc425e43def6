"""One action in a process of its own, under a limit of memory: its seconds, its peak, and its answer."""

import json
import re
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.zygote import Call, zygote

# What a process may allocate. An attack must not take down the machine that the tests run on.
LIMIT = 9 * 2**30


@dataclass(frozen=True)
class Cost:
    """The cost of an action, and its answer: the name of its error and the text, or a result.

    `seconds` are those of the processor, which other work on the machine does not lengthen.
    """

    seconds: float
    peak_mib: float
    grown_mib: float
    answer: str


def cost_of(action, *arguments):
    """Run an action of this module; an answer that does not come within two minutes is a failure."""
    with TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        words = [action, *map(str, arguments)]
        call = Call("tests.attacks.measuring:measure", words, output=str(output), errors=str(errors))
        assert zygote().run(call, timeout=120) == 0, errors.read_text()[-2000:]
        return Cost(**json.loads(output.read_text().splitlines()[-1]))


def load(folder):
    from streetvision_core.bundle import load_bundle

    load_bundle(folder)
    return "loaded"


def predict(folder, *images):
    from streetvision_core.bundle import Predictor

    unreadable = []
    answers = Predictor.load(folder).predict(images, on_error=lambda _, error: unreadable.append(str(error)))
    return json.dumps([[answer.logits for answer in answers], unreadable])


def index(path):
    from streetvision_core.data import ParquetConfig, SourceConfig, open_source

    source = open_source(SourceConfig(parquet=ParquetConfig(path=path)))
    names = [entry.name for entry in source.entries()]
    source.read(names[0])
    return f"read one of {len(names)}"


def measure(action, *arguments):
    """Measure the action in the forked process, which has loaded what every action imports."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again here
    before, began = _peak(), time.process_time()
    try:
        answer = globals()[action](*arguments)
    except Exception as error:  # noqa: BLE001 - which error it is, the test judges
        answer = f"{type(error).__name__}: {error}"
    seconds, peak = time.process_time() - began, _peak()
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "grown_mib": peak - before, "answer": answer}))


def _peak():
    # Not ru_maxrss: it goes on from the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
