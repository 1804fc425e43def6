"""Disks that are full, read-only or lose power: tmpfs, and ext4 in an image file.

A power cut is a copy of the image at that moment: what the kernel still holds in memory is not in it. The
file system never flushes by itself (`commit=300`), nor guesses that whoever renames a file meant to flush
it (`noauto_da_alloc`), so only what a program flushed is in the copy. A cut may also come after the
journal was written and before the data was: `commit_journal` brings that about.
"""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path


@contextlib.contextmanager
def mounted(device, directory, *, kind, options):
    """Mount `device` at `directory` for the block."""
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", kind, "-o", options, device, directory], check=True, capture_output=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def tmpfs(directory, *options):
    """Mount a file system in memory, with options such as `size=64k` or `nr_inodes=10`."""
    return mounted("tmpfs", directory, kind="tmpfs", options=",".join(("mode=0755", *options)))


def resize(directory, **limits):
    """Leave the file system in memory at `directory` room for so many more bytes or names."""
    used = os.statvfs(directory)
    blocks = used.f_blocks - used.f_bfree
    options = {
        "bytes": lambda count: f"size={blocks * used.f_frsize + count}",
        "names": lambda count: f"nr_inodes={used.f_files - used.f_ffree + count}",
    }
    wanted = ",".join(options[name](count) for name, count in limits.items())
    subprocess.run(["mount", "-o", f"remount,{wanted}", directory], check=True)


class PowerlessDisk:
    """An ext4 file system, mounted at `directory` for the block, whose power can be cut."""

    def __init__(self, scratch):
        self._scratch, self.directory = scratch, scratch / "disk"
        self._image = scratch / "disk.img"
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with self._image.open("wb") as file:
            file.truncate(16 * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-J", "size=4", self._image], check=True)
        self._stack.enter_context(_ext4(self._image, self.directory))
        return self

    def __exit__(self, *_):
        self._stack.close()

    def commit_journal(self):
        """Flush a file of our own: the names go to the disk with it, the data of other files does not."""
        descriptor = os.open(self.directory / "other", os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"x")
        os.fsync(descriptor)
        os.close(descriptor)

    @property
    def switch(self):
        """A file; a 1 written to it makes the file system find an error and become read-only."""
        device = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", self.directory], check=True, capture_output=True, text=True
        )
        return f"/sys/fs/ext4/{Path(device.stdout.strip()).name}/trigger_fs_error"

    def repair(self):
        """Mount the read-only disk again, as an administrator would."""
        self._stack.close()
        subprocess.run(["e2fsck", "-fy", self._image], check=False, capture_output=True)
        self._stack.enter_context(_ext4(self._image, self.directory))

    @contextlib.contextmanager
    def cut(self):
        """Give the directory of the disk as it would be found after a power cut at this moment."""
        image = self._scratch / "cut.img"
        shutil.copyfile(self._image, image)
        with _ext4(image, self._scratch / "cut") as directory:
            yield directory
        image.unlink()


def _ext4(image, directory):
    return mounted(image, directory, kind="ext4", options="loop,commit=300,noauto_da_alloc,errors=remount-ro")


def why_not(scratch):
    """Return why file systems cannot be mounted here, or nothing."""
    if os.geteuid() != 0:
        return "mounting needs root"
    try:
        with tmpfs(scratch / "try"), PowerlessDisk(scratch) as disk:
            return "" if os.access(disk.switch, os.W_OK) else f"{disk.switch} cannot be written"
    except (OSError, subprocess.CalledProcessError) as error:
        return str(error)
