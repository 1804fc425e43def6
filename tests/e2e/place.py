"""A place to work in: a DAGSTER_HOME and a store of its own, and the real commands run there.

Its layout (`dagster`, `store`) is that of the in-process `Graph`, so a test may go on with either.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from streetvision_core.graph import CONDITIONS
from streetvision_core.io import ArtifactStore
from tests.assets.graph import Graph, reusing, small_config
from tests.zygote import PATIENCE, REPOSITORY, Call, zygote

PROGRAMS = Path(sys.executable).parent
READABLE = {"loggers": {"console": {}}}
PARAGRAPH = re.compile(r"^.*\bExpected .+, but found .+ \(.+\)\. [A-Z].+[.?]$", re.MULTILINE)
OURS = ("DAGSTER", "STREETVISION", "PYTHON", "MAKE", "MFLAGS")
# What the two commands run once they are loaded.
FUNCTIONS = {
    "dagster": "streetvision_assets.commands.dagster_command:main",
    "streetvision": "streetvision_core.cli:main",
}


@dataclass(frozen=True)
class Finished:
    """The exit code and the terminal that a person is left with."""

    code: int
    output: str
    errors: str

    @property
    def terminal(self):
        return self.output + self.errors


@dataclass(frozen=True)
class Place:
    root: Path
    pictures: Path
    activate: Path
    overrides: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if not self.home.exists():
            self.home.mkdir(parents=True)
            shutil.copy(REPOSITORY / "dagster_home/dagster.yaml", self.home)

    @property
    def home(self):
        return self.root / "dagster"

    @property
    def store(self):
        return ArtifactStore(Path(self.overrides.get("STREETVISION_STORE", self.root / "store")))

    @property
    def bundle(self):
        return self.store.resolve("bundle").directory

    @property
    def environment(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        ours = {
            "DAGSTER_HOME": str(self.home),
            "STREETVISION_STORE": str(self.root / "store"),
            "OMP_NUM_THREADS": "1",
        }
        return {**kept, **ours, **self.overrides}

    def command(self, *words):
        """Return the words as typed after `source .venv/bin/activate`."""
        return ["bash", "-c", 'source "$0" && "$@"', str(self.activate), *map(str, words)]

    def run(self, *words, cwd=None):
        """Run a command, by default from a folder that is not the repository."""
        done = subprocess.run(
            self.command(*words),
            cwd=cwd or self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def call(self, words, *, output, errors, cwd=None):
        """Return the call of a command that does what `run` does, without the loading."""
        program, *arguments = map(str, words)
        environment = {**self.environment, "DAGSTER_MODULE_NAME": "streetvision_assets.definitions"}
        files = {"output": str(output), "errors": str(errors)}
        folder = str(cwd or self.root)
        return Call(FUNCTIONS[program], [arguments], **files, folder=folder, environment=environment)

    def run_loaded(self, *words, cwd=None):
        """Do what `run` does in a process that has loaded everything already."""
        with TemporaryDirectory() as folder:
            output, errors = Path(folder, "output"), Path(folder, "errors")
            code = zygote().run(self.call(words, output=output, errors=errors, cwd=cwd))
            return Finished(code, output.read_text(), errors.read_text())

    def preset(self, *, reuse=True, **changes):
        """Write a preset for tiny images and return its path; `changes` are per step."""
        path = self.root / "preset.yaml"
        given = {"ops": small_config(self.pictures, **changes), **reusing(reuse), **READABLE}
        path.write_text(yaml.safe_dump(given))
        return path

    def materialize(self, selection, **changes):
        """Run `dagster asset materialize` with a preset for tiny images, in a process that is loaded."""
        words = ("dagster", "asset", "materialize", "--select", selection)
        return self.run_loaded(*words, "-c", self.preset(**changes))

    def materialize_here(self, capsys, *steps, **changes):
        """Do the same in this process, which saves the seconds a process takes to start."""
        capsys.readouterr()
        graph = Graph(self.root)
        try:
            result = graph.materialize(self.pictures, *steps, **changes)
        finally:
            graph.instance.dispose()
        captured = capsys.readouterr()
        return Finished(0 if result.success else 1, captured.out, captured.err)


def activate_file(folder):
    """Write what `source .venv/bin/activate` does to a shell, in the environment that runs the tests."""
    path = folder / "activate"
    venv = f"export VIRTUAL_ENV={shlex.quote(sys.prefix)} PATH={shlex.quote(str(PROGRAMS))}:$PATH\n"
    path.write_text(venv + (REPOSITORY / "activate.sh").read_text())
    return path


def exports(activate, environment):
    """Return the variables of ours that a bash of this environment has after `source activate`."""
    done = subprocess.run(
        ["bash", "-c", 'source "$0" && env -0', activate],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    pairs = (entry.partition("=") for entry in done.stdout.split("\0") if entry)
    return {name: value for name, _, value in pairs if name.startswith(OURS)}


def published(store):
    """Return the SHA-256 of every pointer and of every file beside a manifest.

    But for `conditions`, which needs no images: a run whose source is refused publishes it all the same.
    """
    manifests = store.root.glob("runs/*/*/manifest.json")
    files = [file for manifest in manifests for file in manifest.parent.rglob("*")]
    return {
        str(path.relative_to(store.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [*files, *store.root.glob("latest/*")]
        if path.is_file() and CONDITIONS not in (path.stem, *path.relative_to(store.root).parts)
    }


@contextmanager
def unharmed(store):
    """Assert that the published files stay as they were, byte for byte, and that none is added."""
    before = published(store)
    yield
    assert published(store) == before


def damage(path):
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def assert_one_paragraph(finished, *says):
    """Assert that the command failed with one paragraph that holds these words, and no traceback."""
    assert finished.code == 1, finished.terminal
    paragraphs = PARAGRAPH.findall(finished.terminal)
    assert len(paragraphs) == 1, finished.terminal
    for words in says:
        assert words in paragraphs[0]
    assert_readable(finished)


def assert_readable(finished):
    """Assert that no line of the terminal is meant for the authors of Dagster, pydantic or this project."""
    for noise in ("Traceback", "Stack Trace", 'File "', "Warning", "dagster._core", "pydantic"):
        assert noise not in finished.terminal, finished.terminal
