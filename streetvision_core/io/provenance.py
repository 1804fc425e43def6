"""Where a result came from: the git commit of the code, the process, the machine and its libraries."""

from __future__ import annotations

import os
import platform
import secrets
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

UNKNOWN = "unknown"
# What can change a number: the rest of the environment is pinned by requirements.txt.
PACKAGES = (
    "dagster", "ImageHash", "lightning", "numpy", "pillow", "pyarrow", "pydantic", "safetensors",
    "scikit-learn", "scipy", "streetvision", "timm", "torch", "torchvision",
)  # fmt: skip
_RUN_IDS: dict[int, str] = {}  # by process, so that a fork does not go on with that of its parent


@dataclass(frozen=True)
class GitState:
    """``sha`` is the full commit (40 hex) or "unknown"; ``dirty`` says that the work tree differs from it."""

    sha: str
    dirty: bool


def git_state(directory: Path | None = None) -> GitState:
    """Return the commit of the repository that tracks ``directory``, by default this package's source.

    An installed package may lie inside somebody else's repository (a ``.venv`` does), so a directory
    of which git tracks no file counts as outside: ``GitState("unknown", False)``, as does a machine
    without git.
    """
    where = Path(directory) if directory is not None else Path(__file__).parent
    return _holding_state(where) if _git(where, "ls-files", ".") else GitState(UNKNOWN, dirty=False)


def callers_state(output_dir: Path) -> GitState:
    """Return the commit of the repository that holds a directory, or else the working directory.

    Unlike for code, it does not matter that git tracks nothing there: outputs are mostly ignored. A directory
    that does not exist yet lies where the nearest one above it does.
    """
    directory = Path(output_dir).absolute()
    existing = next(path for path in (directory, *directory.parents) if path.is_dir())
    state = _holding_state(existing)
    return state if state.sha != UNKNOWN else _holding_state(Path.cwd())


def own_code() -> str:
    """Return StreetVision's version and, where it is known, its commit: ``streetvision 0.1.0 705fcbb...``."""
    code, released = git_state(), environment().packages.get("streetvision", UNKNOWN)
    commit = "" if code.sha == UNKNOWN else f" {code.sha}"
    return f"streetvision {released}{commit}{' dirty' if code.dirty else ''}"


def _holding_state(directory: Path) -> GitState:
    sha = _git(directory, "rev-parse", "--verify", "HEAD^{commit}")
    if not sha:
        return GitState(UNKNOWN, dirty=False)
    changes = _git(directory, "status", "--porcelain", "--untracked-files=normal", ":/")
    return GitState(sha, dirty=bool(changes))


def _git(directory: Path, *arguments: str) -> str:
    """Return what git prints, or an empty string where it cannot answer."""
    # GIT_DIR and its kin, set by a hook or a surrounding rebase, would answer for another repository.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", str(directory), "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - fixed program, no shell
            command, capture_output=True, text=True, env=environment, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@dataclass(frozen=True)
class Environment:
    """The machine a step ran on."""

    hostname: str
    platform: str
    python_version: str
    packages: dict[str, str]


@cache
def environment() -> Environment:
    """Describe this machine; a package that is not installed is left out."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return Environment(platform.node(), platform.platform(), platform.python_version(), packages)


def process_run_id() -> str:
    """Return the run id of this process: ``YYYYMMDDTHHMMSS-<8 hex>``, one for all its life.

    A process that was forked has one of its own.
    """
    # Two threads that come first at once get the same: setting a default is one step.
    return _RUN_IDS.setdefault(os.getpid(), f"{utc_now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}")


def utc_now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(tz=UTC)


def iso_utc(moment: datetime) -> str:
    """Return ``moment`` in ISO 8601, in UTC with microseconds: ``2026-11-21T09:30:00.000000Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
