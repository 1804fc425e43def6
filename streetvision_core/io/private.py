"""The origin of a result: code, process and libraries, and the side file with its machine and paths.

`git_state`, `process_run_id` and `environment` read the git commit of the code, the process, and the machine
with its libraries.

The side file is `private.json` beside `manifest.json`. It names the machine that a step ran on, and the paths
where its inputs lay. The manifest holds the SHA-256 of its very bytes and, where the configuration names a
path of this machine, only `<private>`. So a manifest can be handed on alone. Whoever gets the side file as
well can prove that the two belong together. Whoever does not cannot guess its content, not even by trying
every likely host name: its salt has 32 random bytes.

Fields of a configuration declare which settings are paths (`local_path`). Any other value that is an absolute
path is taken for one too. Equal public configurations have equal keys (`describe.step_key`), so a result that
depends on a private value must not be reused by its key.

Round trip: where `public, paths = part_config(config, declared=...)`, a record with these paths restores
`config` from `public`.
"""

from __future__ import annotations

import os
import platform
import secrets
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Self

from pydantic import BaseModel
from pydantic_core import from_json

from streetvision_core.errors import IntegrityError, SchemaError
from streetvision_core.io.encode import bytes_digest
from streetvision_core.io.manifest import Sha256, StepManifest
from streetvision_core.io.records import Record

UNKNOWN = "unknown"
# What can change a number: the rest of the environment is pinned by requirements.txt.
PACKAGES = (
    "dagster", "ImageHash", "lightning", "numpy", "pillow", "pyarrow", "pydantic", "safetensors",
    "scikit-learn", "scipy", "streetvision", "timm", "torch", "torchvision",
)  # fmt: skip
_RUN_IDS: dict[int, str] = {}  # by process, so that a fork does not go on with that of its parent


@dataclass(frozen=True)
class GitState:
    """`sha` is the full commit (40 hex) or "unknown"; `dirty` says that the work tree differs from it."""

    sha: str
    dirty: bool


def git_state(directory: Path | None = None) -> GitState:
    """Return the commit of the repository that tracks `directory`, by default this package's source.

    An installed package may lie inside somebody else's repository (a `.venv` does), so a directory
    of which git tracks no file counts as outside: `GitState("unknown", False)`, as does a machine
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
    """Return StreetVision's version and, where it is known, its commit: `streetvision 0.1.0 705fcbb...`."""
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
    """Return the run id of this process: `YYYYMMDDTHHMMSS-<8 hex>`, one for all its life.

    A process that was forked has one of its own.
    """
    # Two threads that come first at once get the same: setting a default is one step.
    return _RUN_IDS.setdefault(os.getpid(), f"{utc_now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}")


def utc_now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(tz=UTC)


def iso_utc(moment: datetime) -> str:
    """Return `moment` in ISO 8601, in UTC with microseconds: `2026-11-21T09:30:00.000000Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


HIDDEN = "<private>"
_MARK = "local_path"


class PrivateRecord(Record):
    """`private.json`: the machine, and the paths in the configuration by dotted name.

    `salt` is 32 random bytes in hex.
    """

    salt: Sha256
    hostname: str
    platform: str
    paths: Mapping[str, str]

    @classmethod
    def of_this_machine(cls, paths: Mapping[str, str]) -> Self:
        """Describe this machine and these paths, with a salt of their own."""
        machine = environment()
        return cls(
            salt=secrets.token_hex(32),
            hostname=machine.hostname,
            platform=machine.platform,
            paths=dict(paths),
        )

    def restore(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a public configuration with the paths in their places."""
        return _each_text(config, lambda name, text: self.paths[name] if text == HIDDEN else text)


def local_path(*, unless: Collection[str] = ()) -> dict[str, Any]:
    """Return the `json_schema_extra` of a setting that is a path of this machine.

    Args:
        unless: The words that may stand there instead of a path; they are public.
    """
    return {_MARK: list(unless)}


def local_paths(config: BaseModel) -> frozenset[str]:
    """Return the dotted names of the settings of `config` that are paths, as their fields declare."""
    return frozenset(_declared(config))


def _declared(config: BaseModel, prefix: str = "") -> Iterator[str]:
    for name, field in type(config).model_fields.items():
        value, extra = getattr(config, name), field.json_schema_extra
        if isinstance(value, BaseModel):
            yield from _declared(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], BaseModel):
            for place, inner in enumerate(value):
                yield from _declared(inner, f"{prefix}{name}.{place}.")
        elif isinstance(extra, dict) and _MARK in extra:
            words = extra[_MARK]
            if isinstance(words, list) and value not in words:
                yield f"{prefix}{name}"


def part_config(
    config: Mapping[str, Any], *, declared: Collection[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Part a configuration of JSON values into what everybody may see and the paths of this machine.

    Args:
        config: The configuration.
        declared: The dotted names of the settings that are paths (`local_paths`).

    Returns:
        The configuration with `<private>` in place of each path, and the paths by dotted name. Paths are
        the declared settings that are given, and every other text that is an absolute path.
    """
    paths: dict[str, str] = {}

    def hide(name: str, text: str) -> str:
        # The placeholder itself is hidden as well, so that no text of a person is taken for a hidden one.
        if text and (name in declared or text == HIDDEN or _names_a_place(text)):
            paths[name] = text
            return HIDDEN
        return text

    return _each_text(config, hide), paths


def config_of(manifest: StepManifest, private: PrivateRecord | None) -> dict[str, Any]:
    """Return the whole configuration of a step; without its side file, as far as everybody may see it."""
    return private.restore(manifest.config) if private else dict(manifest.config)


def machine_of(manifest: StepManifest, private: PrivateRecord | None) -> dict[str, str]:
    """Return host name and platform of the machine that computed a step.

    They are `<private>` where the manifest does not tell them and the side file is not there.
    """
    teller = private or manifest
    return {"hostname": teller.hostname or HIDDEN, "platform": teller.platform or HIDDEN}


def read_private(data: bytes, manifest: StepManifest, *, where: str | Path) -> PrivateRecord:
    """Read the side file of a manifest strictly.

    Raises:
        IntegrityError: these are not the bytes that the manifest holds the digest of.
        SchemaError: it is no such record, or it has not the paths that the configuration hides.
    """
    if bytes_digest(data) != manifest.private_sha256:
        raise IntegrityError(
            f"the very bytes whose SHA-256 the manifest of {manifest.step_name} names",
            "other ones",
            where,
            "Take the one that was written with the manifest, or make the artifact again.",
        )
    try:
        record = PrivateRecord.model_validate(from_json(data))
    except ValueError as error:  # pydantic's is one
        found = str(error).splitlines()[0]
        raise _refused("the machine and the paths of a step in JSON", found, where) from error
    if record.paths.keys() != (hidden := _hidden_names(manifest.config)):
        raise _refused(f"the paths {sorted(hidden)}", f"{sorted(record.paths)}", where)
    return record


def _hidden_names(config: Mapping[str, Any]) -> set[str]:
    """Return the dotted names of the settings of a public configuration that are hidden."""
    names: set[str] = set()

    def note(name: str, text: str) -> str:
        if text == HIDDEN:
            names.add(name)
        return text

    _each_text(config, note)
    return names


def _each_text(config: Mapping[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
    """Return a configuration of JSON values with each text in it as `change(dotted name, text)` says."""

    def changed(value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return {key: changed(inner, f"{name}.{key}") for key, inner in value.items()}
        if isinstance(value, list):
            return [changed(inner, f"{name}.{place}") for place, inner in enumerate(value)]
        return change(name, value) if isinstance(value, str) else value

    return {name: changed(value, name) for name, value in config.items()}


def _names_a_place(text: str) -> bool:
    """Tell whether a text as a whole is an absolute path, one below a home, or an address of a local file."""
    is_absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
    return is_absolute or text.startswith(("~", "file:", "local-dir:"))


def _refused(expected: str, found: str, where: str | Path) -> SchemaError:
    action = "This is not a side file that StreetVision wrote, or it is damaged."
    return SchemaError(expected, found, where, action)
