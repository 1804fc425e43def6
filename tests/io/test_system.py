"""The other systems, as far as they run here: Windows with plain paths, macOS with a stand-in for fcntl."""

import ast
import errno
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import streetvision_core.io
from streetvision_core.errors import StoreError
from streetvision_core.io import atomic_file, system, write_file_atomic
from streetvision_core.io.atomic import link_file_durably, sweep_partials

F_FULLFSYNC = 51


@pytest.fixture
def windows(monkeypatch):
    """Write as on Windows, where these names do not exist and nothing is reached through a directory."""
    monkeypatch.setattr(system, "THIS_SYSTEM", system.WINDOWS)
    monkeypatch.setattr(system, "_FLAGS", 0)
    monkeypatch.setattr(shutil, "_use_fd_functions", False)
    for name in ("O_DIRECTORY", "O_NOFOLLOW", "fchmod"):
        monkeypatch.delattr(os, name)
    for name in ("open", "stat", "mkdir", "rmdir", "unlink", "link", "replace"):
        monkeypatch.setattr(os, name, without_directories(getattr(os, name)))


def without_directories(call):
    def checked(*args, **kwargs):
        assert not [name for name, value in kwargs.items() if name.endswith("dir_fd") and value is not None]
        if call.__name__ == "open" and Path(args[0]).is_dir():
            raise PermissionError(errno.EACCES, "directories cannot be opened", str(args[0]))
        return call(*args, **kwargs)

    return checked


@pytest.fixture
def macos(monkeypatch):
    """Write as on macOS; gives the calls of fcntl, and what the next ones raise."""
    full = SimpleNamespace(flushed=[], refusal=None)

    def fcntl(descriptor, command):
        assert command == F_FULLFSYNC
        if full.refusal:
            raise OSError(full.refusal, os.strerror(full.refusal))
        full.flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setitem(sys.modules, "fcntl", SimpleNamespace(fcntl=fcntl, F_FULLFSYNC=F_FULLFSYNC))
    monkeypatch.setattr(system, "THIS_SYSTEM", system.MACOS)
    return full


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def test_windows_writes_links_copies_and_sweeps_with_plain_paths(windows, tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    for content in (b"old", b"new\n"):
        write_file_atomic(path, content)
        assert path.read_bytes() == content
    with atomic_file(path) as target:
        target.temporary.write_bytes(b"of a library")
    link_file_durably(path, path.with_name("link"))
    assert path.with_name("link").samefile(path)
    monkeypatch.setattr(os, "link", refusal(errno.EINVAL))
    link_file_durably(path, path.with_name("copy"))
    assert path.with_name("copy").read_bytes() == b"of a library"
    (path.parent / ".file.0123456789abcdef.partial").mkdir()
    sweep_partials(path.parent)
    assert names_in(path.parent) == ["copy", "file", "link"]


def refusal(code):
    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    return refuse


def test_windows_flushes_the_file_before_the_rename(windows, tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("flush"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *a, **k: (calls.append("rename"), replace(*a, **k)))
    write_file_atomic(tmp_path / "file", b"x")
    with atomic_file(tmp_path / "file") as target:
        target.temporary.write_bytes(b"y")
    assert calls == ["flush", "rename"] * 2


def test_a_target_that_windows_holds_open_is_a_paragraph_and_the_old_file_stays(
    windows, tmp_path, monkeypatch
):
    path = tmp_path / "file"
    write_file_atomic(path, b"old")
    monkeypatch.setattr(os, "replace", refusal(errno.EACCES))
    with pytest.raises(StoreError, match=r"Permission denied.*file"):
        write_file_atomic(path, b"new")
    with pytest.raises(StoreError, match=r"Permission denied.*file"), atomic_file(path) as target:
        target.temporary.write_bytes(b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_macos_flushes_through_the_cache_of_the_disk(macos, tmp_path):
    write_file_atomic(tmp_path / "file", b"x")
    assert len(macos.flushed) == 2
    assert macos.flushed[0].endswith(".partial")
    assert macos.flushed[1] == tmp_path.name


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOTTY, errno.EINVAL])
def test_macos_flushes_as_well_as_the_file_system_can(code, macos, tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (flushed.append(descriptor), fsync(descriptor)))
    macos.refusal = code
    write_file_atomic(tmp_path / "file", b"x")
    assert len(flushed) == 2


def test_a_flush_that_failed_on_macos_is_not_tried_in_another_way(macos, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("a second flush hides the first error"))
    macos.refusal = errno.EIO
    with pytest.raises(StoreError, match="Input/output error"):
        write_file_atomic(tmp_path / "file", b"x")
    assert names_in(tmp_path) == []


def test_importing_the_package_needs_no_module_that_only_posix_has():
    posix_only = {"fcntl", "grp", "pwd", "resource", "termios"}
    for path in Path(streetvision_core.io.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = (
                {alias.name for alias in getattr(node, "names", [])}
                if isinstance(node, ast.Import)
                else set()
            )
            names |= {node.module} if isinstance(node, ast.ImportFrom) else set()
            assert not names & posix_only, path
