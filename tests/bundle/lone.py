"""Environments that hold named distributions and what these need, and nothing else of the one that runs.

Nothing is downloaded or copied: the packages are linked from where they are installed.
"""

import os
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement


def needed(names):
    """Return the distributions of these names and of everything that they require here."""
    done, waiting = {}, [*map(Requirement, names)]
    while waiting:
        asked = waiting.pop()
        package = distribution(asked.name)
        if (asked.name, *sorted(asked.extras)) not in done:
            done[asked.name, *sorted(asked.extras)] = package
            required = map(Requirement, package.requires or ())
            waiting += [each for each in required if _applies(each.marker, {"", *asked.extras})]
    return [*done.values()]


def _applies(marker, extras):
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras)


def make_alone(folder, *names):
    """Make an environment below `folder` that can import these distributions alone; return its Python."""
    venv.create(folder, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    for package in needed(names):
        for file in package.files or ():
            _link(Path(package.locate_file("")), site, file.parts)
    return folder / "bin/python"


def _link(source, site, parts):
    """Link the package that a file belongs to; of a package without a file of its own (nvidia), its parts."""
    if parts[0] in {"..", "__pycache__"} or parts[0].endswith(".pth"):
        return
    deep = len(parts) > 2 and not (source / parts[0] / "__init__.py").exists()
    place = Path(*parts[: 2 if deep else 1])
    if not os.path.lexists(site / place):
        (site / place).parent.mkdir(exist_ok=True)
        (site / place).symlink_to(source / place)


def ask(python, *arguments):
    """Start a program in an environment, deaf to the variables and the folder of the one that runs."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "SystemRoot"}}
    quiet = {**kept, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HOME": str(python.parent)}
    command = [python, "-I", "-W", "ignore", *map(str, arguments)]
    return subprocess.Popen(command, env=quiet, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answered(process):
    """Return what a program printed, which must have ended well."""
    printed, complained = process.communicate(timeout=240)
    assert process.returncode == 0, complained
    return printed


def can_import(python, *modules):
    """Return which of these modules an environment can import."""
    code = f"from importlib.util import find_spec; print(*(m for m in {modules!r} if find_spec(m)))"
    return answered(ask(python, "-c", code)).split()


assert sys.prefix != sys.base_prefix, "tests run in an environment of their own"
