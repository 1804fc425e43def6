import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

from streetvision_core.errors import StoreError
from streetvision_core.io import (
    StagedFile,
    atomic_file,
    compute_file_sha256,
    make_directory,
    write_checkpoint_atomic,
    write_file_atomic,
    write_json_atomic,
    write_tensors_atomic,
)
from streetvision_core.io.atomic import link_file_durably, sweep_partials

WRITERS = {
    "file": lambda path: write_file_atomic(path, b"new"),
    "json": lambda path: write_json_atomic(path, {"mcc": 0.856}),
    "tensors": lambda path: write_tensors_atomic(path, {"x": np.ones((2, 3), np.float32)}),
    "torch tensors": lambda path: write_tensors_atomic(path, {"x": torch.ones(2, 3)}),
    "module": lambda path: write_checkpoint_atomic(path, torch.nn.Linear(2, 2)),
    "archive": lambda path: write_checkpoint_atomic(path, torch.nn.Linear(2, 2).state_dict()),
}
# The ending of a checkpoint names its format.
NAMES = {"module": "file.safetensors", "archive": "file.ckpt"}


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


def raiser(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def recorded_flushes(monkeypatch):
    """Return a list that takes the name of whatever is flushed from here on."""
    flushed, fsync = [], os.fsync

    def record(descriptor):
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return flushed


@pytest.fixture(params=WRITERS)
def writer(request):
    return WRITERS[request.param], NAMES.get(request.param, "file")


def test_every_writer_returns_the_digest_of_what_lies_on_the_disk(writer, tmp_path):
    write, name = writer
    path = tmp_path / "new" / "directory" / name
    digest = write(path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest() == compute_file_sha256(path)
    assert names_in(path.parent) == [name]


def test_every_writer_replaces_an_existing_file(writer, tmp_path):
    write, name = writer
    path = tmp_path / name
    path.write_bytes(b"old" * 1000)
    assert write(path) == compute_file_sha256(path)
    assert b"old" not in path.read_bytes()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_mode_follows_the_umask(writer, umask, tmp_path):
    write, name = writer
    before = os.umask(umask)
    try:
        write(tmp_path / name)
    finally:
        os.umask(before)
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask


def test_an_error_in_the_block_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as target:  # noqa: PT012 - the block is the test
        target.temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_content_is_flushed_before_the_rename_and_the_directory_after_it(tmp_path, monkeypatch):
    """The order is the protocol: without it a power cut leaves nothing, or a file of zeros."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        calls.append("fsync directory" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "fsync file")
        fsync(descriptor)

    def record_replace(*args, **kwargs):
        calls.append("rename")
        replace(*args, **kwargs)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    write_file_atomic(tmp_path / "file", b"x")
    assert calls == ["fsync file", "rename", "fsync directory"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_an_os_error_names_the_file_and_the_cause_and_harms_nothing(call, code, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    monkeypatch.setattr(os, call, raiser(OSError(code, os.strerror(code))))
    with pytest.raises(StoreError, match=os.strerror(code)) as caught:
        write_file_atomic(path, b"new")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_a_target_that_is_a_symlink_is_replaced_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "file").symlink_to(tmp_path / "elsewhere")
    write_file_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
    assert not (tmp_path / "file").is_symlink()


def test_what_already_has_the_temporary_name_is_neither_followed_nor_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / f".file.{'0' * 16}.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="File exists"):
        write_file_atomic(tmp_path / "file", b"new")
    with pytest.raises(StoreError, match="File exists"), atomic_file(tmp_path / "file"):
        pytest.fail("there is no place to write to")
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
    assert len(names_in(tmp_path)) == 2


@pytest.mark.parametrize(
    "name",
    ["x" * 255, "\u00e4" * 127, "\u8857" * 85, "\udcff" * 255],
    ids=["one byte", "two bytes", "three bytes", "not UTF-8"],
)
def test_the_longest_name_works_and_its_temporary_one_is_swept(name, tmp_path):
    path = tmp_path / name
    write_file_atomic(path, b"x")
    with atomic_file(path) as target:
        target.temporary.write_bytes(b"y")
        assert len(names_in(tmp_path)) == 2
    assert path.read_bytes() == b"y"
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as target:  # noqa: PT012 - the block is the test
        assert [sweep_partials(tmp_path), names_in(tmp_path)] == [None, [name]]
        raise KeyboardInterrupt


def test_what_a_kill_leaves_is_recognised_and_swept(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from streetvision_core.io import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as target:\n"
        "    target.temporary.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "file"
    path.write_bytes(b"old")
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -9
    assert path.read_bytes() == b"old"
    assert len(names_in(tmp_path)) == 2
    (tmp_path / ".file.0123456789abcdef.partial").write_bytes(b"of a writer of ours")
    (tmp_path / ".hidden.partial").write_bytes(b"not ours")
    sweep_partials(tmp_path)
    assert names_in(tmp_path) == [".hidden.partial", "file"]


def test_whatever_a_library_puts_beside_its_file_goes_with_the_temporary_directory(tmp_path):
    path = tmp_path / "file"
    with atomic_file(path) as target:
        target.temporary.write_bytes(b"new")
        (target.temporary.parent / "index").mkdir()
        (target.temporary.parent / "index" / ".tmp123456").write_bytes(b"of the library")
    assert names_in(tmp_path) == ["file"]
    with pytest.raises(ValueError, match="midway"), atomic_file(path) as target:  # noqa: PT012 - the block is the test
        (target.temporary.parent / ".tmp123456").write_bytes(b"of the library")
        raise ValueError("midway")
    assert names_in(tmp_path) == ["file"]
    assert path.read_bytes() == b"new"


def test_what_a_library_says_of_a_refused_write_becomes_the_paragraph(tmp_path):
    with (
        pytest.raises(StoreError, match=r"no room in the library' \(.*file\)"),
        atomic_file(tmp_path / "file", failures=(ArithmeticError,)),
    ):
        raise ArithmeticError("no room in the library")
    with pytest.raises(StoreError, match="No such file"), atomic_file(tmp_path / "file"):
        pass
    assert names_in(tmp_path) == []


def test_the_mode_of_a_librarys_file_follows_the_umask_too(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "file") as target:
            save_file({"x": np.zeros(3)}, target.temporary)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert target.sha256 == compute_file_sha256(tmp_path / "file")


def test_a_link_is_the_same_file_and_the_directory_is_made_and_flushed(tmp_path, monkeypatch):
    write_file_atomic(tmp_path / "source", b"x")
    flushed = recorded_flushes(monkeypatch)
    link_file_durably(tmp_path / "source", tmp_path / "new" / "target")
    assert (tmp_path / "new" / "target").samefile(tmp_path / "source")
    assert flushed == [tmp_path.name, "new"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP])
def test_where_there_are_no_links_the_file_is_copied_durably(code, tmp_path, monkeypatch):
    write_file_atomic(tmp_path / "source", b"x" * 100_000)
    monkeypatch.setattr(os, "link", raiser(OSError(code, os.strerror(code))))
    flushed = recorded_flushes(monkeypatch)
    link_file_durably(tmp_path / "source", tmp_path / "target")
    assert not (tmp_path / "target").samefile(tmp_path / "source")
    assert (tmp_path / "target").read_bytes() == b"x" * 100_000
    assert names_in(tmp_path) == ["source", "target"]
    assert flushed == ["target", tmp_path.name]


@pytest.mark.parametrize("code", [0, errno.EPERM])
def test_a_link_or_copy_replaces_nothing(code, tmp_path, monkeypatch):
    if code:
        monkeypatch.setattr(os, "link", raiser(OSError(code, os.strerror(code))))
    for name in ("source", "target"):
        write_file_atomic(tmp_path / name, name.encode())
    with pytest.raises(StoreError, match=r"File exists.*target"):
        link_file_durably(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"target"
    assert names_in(tmp_path) == ["source", "target"]


@pytest.mark.parametrize("code", [0, errno.EPERM])
def test_a_link_to_nothing_is_a_paragraph(code, tmp_path, monkeypatch):
    if code:
        monkeypatch.setattr(os, "link", raiser(OSError(code, os.strerror(code))))
    with pytest.raises(StoreError, match=r"No such file.*target"):
        link_file_durably(tmp_path / "source", tmp_path / "target")
    assert names_in(tmp_path) == []


def test_a_checkpoint_holds_the_weights(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    write_checkpoint_atomic(tmp_path / "model.safetensors", model)
    loaded = load_file(tmp_path / "model.safetensors")
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_a_staged_file_knows_whether_it_was_touched(tmp_path):
    path = tmp_path / "file"
    staged = StagedFile.at(path, write_file_atomic(path, b"abc"))
    assert staged.size_bytes == 3
    assert staged.is_untouched()
    write_file_atomic(path, b"abd")
    assert not staged.is_untouched()
    path.unlink()
    assert not staged.is_untouched()


def test_a_missing_file_has_no_digest(tmp_path):
    with pytest.raises(StoreError, match="No such file"):
        compute_file_sha256(tmp_path / "nothing")


def test_directories_are_made_durable_in_their_parents(tmp_path, monkeypatch):
    flushed = recorded_flushes(monkeypatch)
    make_directory(tmp_path / "a" / "b")
    assert flushed == [tmp_path.name, "a"]
