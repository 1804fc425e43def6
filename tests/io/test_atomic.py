import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from streetvision_core.errors import StoreError
from streetvision_core.io import (
    StagedFile,
    atomic_file,
    compute_file_sha256,
    make_directory,
    write_checkpoint_atomic,
    write_csv_atomic,
    write_file_atomic,
    write_json_atomic,
    write_tensors_atomic,
)
from streetvision_core.io.atomic import sweep_partials

WRITERS = {
    "file": lambda path: write_file_atomic(path, b"new"),
    "json": lambda path: write_json_atomic(path, {"mcc": 0.856}),
    "csv": lambda path: write_csv_atomic(path, [{"a": 1}], columns=["a"]),
    "tensors": lambda path: write_tensors_atomic(path, {"x": np.ones((2, 3), np.float32)}),
    "torch tensors": lambda path: write_tensors_atomic(path, {"x": torch.ones(2, 3)}),
    "module": lambda path: write_checkpoint_atomic(path, torch.nn.Linear(2, 2)),
    "state": lambda path: write_checkpoint_atomic(path, torch.nn.Linear(2, 2).state_dict()),
}


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture(params=WRITERS)
def writer(request):
    return WRITERS[request.param]


def test_every_writer_returns_the_digest_of_what_lies_on_the_disk(writer, tmp_path):
    path = tmp_path / "new" / "directory" / "file"
    digest = writer(path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest() == compute_file_sha256(path)
    assert names_in(path.parent) == ["file"]


def test_every_writer_replaces_an_existing_file(writer, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old" * 1000)
    assert writer(path) == compute_file_sha256(path)
    assert b"old" not in path.read_bytes()


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_mode_follows_the_umask(writer, umask, tmp_path):
    before = os.umask(umask)
    try:
        writer(tmp_path / "file")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


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

    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StoreError, match=os.strerror(code)) as caught:
        write_file_atomic(path, b"new")
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["file"]


def test_a_full_disk_is_one_paragraph_and_the_old_file_stays(tmp_path):
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=False
        ).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs: the full disk was NOT tested")
    try:
        path = tmp_path / "file"
        write_file_atomic(path, b"old")
        with pytest.raises(StoreError, match="No space left on device"):
            write_file_atomic(path, b"x" * 1_000_000)
        with pytest.raises(StoreError, match="No space left on device"):
            write_tensors_atomic(path, {"x": np.zeros(1_000_000, np.uint8)})
        assert path.read_bytes() == b"old"
        assert names_in(tmp_path) == ["file"]
        write_file_atomic(path, b"new")
        assert path.read_bytes() == b"new"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_target_that_is_a_symlink_is_replaced_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "file").symlink_to(tmp_path / "elsewhere")
    write_file_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"
    assert not (tmp_path / "file").is_symlink()


def test_the_longest_name_works(tmp_path):
    write_file_atomic(tmp_path / ("x" * 255), b"x")
    assert (tmp_path / ("x" * 255)).read_bytes() == b"x"


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
    (tmp_path / ".hidden.partial").write_bytes(b"not ours")
    sweep_partials(tmp_path)
    assert names_in(tmp_path) == [".hidden.partial", "file"]


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
    flushed = []
    fsync = os.fsync

    def record_fsync(descriptor):
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record_fsync)
    make_directory(tmp_path / "a" / "b")
    assert flushed == [tmp_path.name, "a"]
