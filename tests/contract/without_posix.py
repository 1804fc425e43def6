"""A system without what only POSIX has: imported before anything of ours, in a process of its own.

The names are gone from `os`, their modules cannot be imported, nothing is reached through the descriptor of
a directory, no directory can be opened, and a file that is open can be neither removed nor replaced. All of
that is how Windows behaves. What Windows forbids in names is not emulated.
"""

import errno
import os
import sys
import warnings
from pathlib import Path

from tests.contract.portable_names import POSIX_ONLY

MODULES = ("fcntl", "grp", "pwd", "resource", "syslog", "termios")
FIRST_PATH = ("open", "stat", "lstat", "mkdir", "rmdir", "chmod", "utime", "access", "scandir", "listdir")
REMOVING = ("unlink", "remove")
TWO_PATHS = ("rename", "replace", "link")


def is_open(path):
    descriptors = Path("/proc/self/fd")
    target = os.path.realpath(path)
    return any(os.path.realpath(descriptors / number) == target for number in LIST("/proc/self/fd"))


LIST = os.listdir


def windows(call):
    """Return the call as Windows would make it."""

    def made(*args, **options):
        if [name for name, value in options.items() if name.endswith("dir_fd") and value is not None]:
            raise NotImplementedError("dir_fd unavailable on this platform")
        name = call.__name__
        if name in ("scandir", "listdir") and args and isinstance(args[0], int):
            raise TypeError("a path, not a descriptor")
        if name == "open" and Path(args[0]).is_dir():
            raise PermissionError(errno.EACCES, "directories cannot be opened", str(args[0]))
        held = args[:1] if name in REMOVING else args[:2] if name in ("rename", "replace") else ()
        for path in held:
            if Path(path).is_file() and is_open(path):
                raise PermissionError(errno.EACCES, "a file that a process has open", str(path))
        return call(*args, **options)

    return made


for gone in POSIX_ONLY:
    if hasattr(os, gone):
        delattr(os, gone)
for module in MODULES:
    sys.modules[module] = None
for known in (*FIRST_PATH, *REMOVING, *TWO_PATHS):
    setattr(os, known, windows(getattr(os, known)))
os.supports_dir_fd = os.supports_fd = set()
sys.modules.pop("shutil", None)
import tempfile  # noqa: E402 - it looks at the names above

tempfile.TemporaryFile = tempfile.NamedTemporaryFile  # as it does itself on Windows
# filelock says that it knows no lock of the system here; on Windows it does.
warnings.filterwarnings("ignore", message="only soft file lock is available")
