"""`dagster dev` in processes of its own, and what its page asks for."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress

import pytest

from tests.e2e.place import PATIENCE


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def serving(place, *, cwd):
    """Start `dagster dev`, give its address once it answers, and stop all of its processes."""
    port, log = free_port(), cwd.with_suffix(".log")
    command = place.command("dagster", "dev", "--host", "127.0.0.1", "--port", port)
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=cwd, env=place.environment, stdout=output, stderr=output, start_new_session=True
        ) as process,
    ):
        try:
            wait_until_it_answers(f"http://127.0.0.1:{port}/server_info", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            stop(process)


def wait_until_it_answers(address, process, log):
    deadline = time.monotonic() + PATIENCE / 2
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(urllib.error.URLError, ConnectionError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.3)
    pytest.fail(f"dagster dev does not answer at {address}:\n{log.read_text()}")


def stop(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=3)  # tidying up takes ten seconds and more, and no test is about it
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def ask(address, query):
    request = urllib.request.Request(
        f"{address}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]
