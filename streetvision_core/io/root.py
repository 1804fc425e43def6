"""The root of a store: a directory that is marked as one, and nothing else.

`store.json` in the root says that the directory is a store, and of which format. It is written, durable,
before anything else but the lock. A root that is neither empty nor marked is refused before anything in it
is read, written or removed: it may be a project of somebody who mistyped a path.

A root counts as empty, too, if it holds nothing but our own lock, a marker that a kill left unfinished, and
what systems put on every disk (`lost+found`, `.DS_Store`).

A store of the last version has no marker. It is recognised when nothing else lies in it but what that
version made: its directories, runs with its ids, and in these a manifest, a pointer or a claim of ours. It
can be read as it is, and is marked when it is written to for the first time.

One rule holds for STREETVISION_STORE, DAGSTER_HOME and the like (`directory_named`). A directory is named by
an absolute path, or by one below the home directory (`~/store`). A relative path would be another directory
in every working directory, and an address is none at all: both are refused.
"""

from __future__ import annotations

import enum
import json
import re
from pathlib import Path

from streetvision_core.errors import StoreError, StreetVisionError
from streetvision_core.io.claims import CLAIM_FILES, is_claim, refuse_links, remove_own
from streetvision_core.io.manifest import read_fields
from streetvision_core.io.names import CHAMPION, MANIFEST_NAME, is_partial, parse_pointer
from streetvision_core.io.published import unreadable
from streetvision_core.io.writers import write_json_atomic

MARKER = "store.json"
LOCK = ".lock"
PLACES = ("runs", "latest", "keys", "resume", "features", "tensorboard", "ledger", CHAMPION)
KIND, FORMAT = "streetvision artifact store", 1
RUN_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
_OF_THE_SYSTEM = {"lost+found", ".DS_Store", "Thumbs.db", "desktop.ini"}
_AT_MOST = 3
# A lock is empty, but where a system has none filelock keeps a process id and a host name in its file.
_LARGEST_LOCK = 1024


class Root(enum.Enum):
    """The state of a directory: a place for a store, a store, or a store of the last version."""

    EMPTY = "empty"
    MARKED = "marked"
    UNMARKED = "unmarked"


def recognise(root: Path) -> Root:
    """Tell what `root` is; nothing is changed.

    Raises:
        StoreError: it is somebody else's, cannot be read, or is a store of a newer version.
    """
    try:
        if _is_marked(root):
            return Root.MARKED
        foreign = [name for name in _names(root) if not _is_leftover(root, name)]
        if not foreign:
            return Root.EMPTY
        if _is_of_last_version(root, foreign):
            return Root.UNMARKED
    except OSError as error:
        raise unreadable(root, error) from error
    raise _refused(_described(foreign), root)


def _names(root: Path) -> list[str]:
    try:
        return sorted(path.name for path in root.iterdir())
    except FileNotFoundError as error:
        if root.is_symlink():
            raise _refused("a link that leads nowhere", root) from error
        return []
    except NotADirectoryError as error:
        raise _refused("a file", root) from error


def mark(root: Path) -> None:
    """Mark `root`, which must be locked, as a store, unless it is marked; return when that is durable.

    Raises:
        StoreError: it is somebody else's, or the file system refused.
    """
    if recognise(root) is not Root.MARKED:
        write_json_atomic(root / MARKER, {"kind": KIND, "format": FORMAT})


def sweep_root(root: Path) -> None:
    """Remove the unfinished markers that kills have left in `root`, which must be locked.

    Raises:
        StoreError: one cannot be removed.
    """
    for path in sorted(root.glob(f".{MARKER}.*.partial")):
        if is_partial(path.name):
            remove_own(path, root=root)


def refuse_linked_places(root: Path) -> None:
    """Make sure that the store's own directories are no links; raises StoreError."""
    for name in PLACES:
        refuse_links(root / name, root=root)


def _is_marked(root: Path) -> bool:
    path = root / MARKER
    if path.is_symlink() or not path.is_file():
        return False
    try:
        marker = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    if not isinstance(marker, dict) or marker.get("kind") != KIND:
        return False
    if marker.get("format") != FORMAT:
        raise StoreError(
            f"a store of format {FORMAT}",
            f"format {marker.get('format')!r}",
            path,
            "It was made by a newer StreetVision; update this installation.",
        )
    return True


def _is_leftover(root: Path, name: str) -> bool:
    """Tell whether `name` may lie in any directory, and so says nothing of its owner."""
    path = root / name
    if path.is_symlink():
        return False
    if name == LOCK:
        return path.is_file() and path.stat().st_size <= _LARGEST_LOCK
    return name in _OF_THE_SYSTEM or (name.startswith(f".{MARKER}.") and is_partial(name))


def _is_of_last_version(root: Path, names: list[str]) -> bool:
    if not set(names) <= set(PLACES) or not all((root / name).is_dir() for name in names):
        return False
    runs = [path for path in _listed(root / "runs") if path.is_dir() and not path.is_symlink()]
    if not all(RUN_ID.fullmatch(run.name) for run in runs):
        return False
    return any(map(_is_pointer, _listed(root / "latest"))) or any(map(_is_run, runs))


def _is_run(run: Path) -> bool:
    """Tell whether a claim or a manifest of ours lies in a run, or its own claim beside it."""
    claims = [run.with_name(f".{run.name}.claim"), *run.glob(CLAIM_FILES)]
    return any(map(is_claim, claims)) or any(_is_manifest(step / MANIFEST_NAME) for step in _listed(run))


def _is_manifest(path: Path) -> bool:
    """Tell whether `path` is the manifest, in our very bytes, of the run and step that it lies in."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        fields = read_fields(path.read_bytes(), where=path)
    except (StreetVisionError, OSError):
        return False
    return (fields["run_id"], fields["step_name"]) == (path.parent.parent.name, path.parent.name)


def _is_pointer(path: Path) -> bool:
    try:
        manifest, *_ = parse_pointer(path.read_bytes(), where=path)
    except (StreetVisionError, OSError):
        return False
    match manifest.split("/"):
        case ["runs", run_id, _, name]:
            return name == MANIFEST_NAME and RUN_ID.fullmatch(run_id) is not None
    return False


def _listed(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _described(names: list[str]) -> str:
    more = f" and {len(names) - _AT_MOST} more" if len(names) > _AT_MOST else ""
    return f"{', '.join(names[:_AT_MOST])}{more}, which no StreetVision has marked as one"


def _refused(found: str, root: Path) -> StoreError:
    return StoreError(
        "an empty folder, or a store that StreetVision has made",
        found,
        root,
        "Nothing was written or removed. Set STREETVISION_STORE (or --store) to a folder of its own, which"
        " need not exist; if this is a store, take everything else out of it.",
    )


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def directory_named(value: str, *, by: str) -> Path:
    """Return the directory that a setting names, as an absolute path; it need not exist.

    Args:
        value: The text of the setting.
        by: The setting, for the error.

    Raises:
        StoreError: it is a relative path, an address (`s3://...`), or below the home of another user.
    """
    if value.startswith("~") and value.partition("/")[0] != "~":
        raise _refusal(value, by, "The home of another user is not looked up: write its path out.")
    try:
        path = Path(value).expanduser()
    except RuntimeError as error:
        raise _refusal(value, by, "The home directory is not known: set HOME.") from error
    if _ADDRESS.match(value):
        raise _refusal(value, by, "Name a directory of this machine; addresses are not understood yet.")
    if not path.is_absolute():
        raise _refusal(value, by, f"Seen from the working directory it would be {path.absolute()}.")
    return path


def _refusal(value: str, by: str, action: str) -> StoreError:
    return StoreError("an absolute path, or one that begins with ~/", repr(value), by, action)
