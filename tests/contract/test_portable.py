"""Reading and the store where nothing of POSIX is: what Windows does, as far as it can be run here.

`without_posix.py` takes the names out of `os` in a process of its own, before anything of ours is imported.
What a real Windows does besides is not tested (docs/durability.md).
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from streetvision_core.bundle import load_bundle
from streetvision_core.errors import BundleError, SchemaError
from streetvision_core.io import OutputFile, StepManifest, StepRun, describe_step, system
from streetvision_core.io.private import utc_now
from tests.bundle.chain import copy
from tests.contract.portable_names import POSIX_ONLY

WORK = Path(__file__).with_name("portable_work.py")
PACKAGE = Path(system.__file__).parents[1]


def work(action, *arguments):
    command = [sys.executable, str(WORK), action, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


UNLISTED = {"manifest.json", "private.json"}


def test_a_bundle_is_read_verified_and_asked(bundle):
    first, *answers = work("read_bundle", bundle)
    golden, files = map(int, first.split())
    listed = [path for path in bundle.rglob("*") if path.is_file() and path.name not in UNLISTED]
    assert (golden, files) == (len(answers), len(listed))


def test_the_demo_is_drawn_and_indexed(tmp_path):
    assert work("index_demo", tmp_path) == ["40 True"]


def test_an_artifact_is_published_resolved_taken_over_and_verified(tmp_path):
    newest = "20261121T093000-1a1b2c3d"
    assert work("publish", tmp_path)[:2] == [f"{newest} b'two\\n' ['step']", f"{newest} b'two\\n'"]


@pytest.mark.parametrize("name", ["README.md", "golden"])
def test_a_link_in_a_bundle_is_refused(bundle, tmp_path, name):
    moved = copy(bundle, tmp_path / "moved")
    (moved / name).rename(tmp_path / "elsewhere")
    (moved / name).symlink_to(tmp_path / "elsewhere")
    answer = work("refuse_bundle", moved)[0]
    assert re.search(rf"BundleError.*('{name}', which is a link|the link '{name}')", answer)


def test_a_junction_is_refused_like_a_link(bundle, monkeypatch):
    """A junction is a directory with the reparse tag of a mount point; Linux has none, so lstat says so."""
    status = system.Directory.status

    def junction(directory, name):
        real = status(directory, name)
        return SimpleNamespace(st_mode=real.st_mode, st_reparse_tag=0xA0000003) if name == "golden" else real

    monkeypatch.setattr(system.Directory, "status", junction)
    with pytest.raises(BundleError, match="the link 'golden'"):
        load_bundle(bundle)


@pytest.mark.parametrize("exchanged", ["file", "folder"])
def test_a_file_or_folder_that_is_exchanged_between_the_look_and_the_reading_is_refused(
    bundle, tmp_path, monkeypatch, exchanged
):
    """The same bytes lie at the other place, so that their digest cannot give it away."""
    moved, other = copy(bundle, tmp_path / "moved"), copy(bundle, tmp_path / "other")
    monkeypatch.setattr(system, "THIS_SYSTEM", system.WINDOWS)
    opening = os.open

    def exchange(path, *args, **options):
        if str(path).endswith("expected.json"):
            target = "golden/expected.json" if exchanged == "file" else "golden"
            (moved / target).rename(tmp_path / "gone")
            if exchanged == "file":
                (other / target).rename(moved / target)
            else:
                (moved / target).symlink_to(tmp_path / "gone")
        return opening(path, *args, **options)

    monkeypatch.setattr(os, "open", exchange)
    with pytest.raises(BundleError, match="exchanged"):
        load_bundle(moved)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["below/aux.json"], "'aux.json'"),
        (["NUL"], "'NUL'"),
        (["com1.tar.gz"], "'com1.tar.gz'"),
        (["weights."], "'weights.'"),
        (["A.json", "a.json"], "twice but for its case"),
    ],
)
def test_a_file_that_windows_could_not_hold_is_never_published(names, words):
    with pytest.raises(SchemaError, match=words):
        describe(names)


def test_ordinary_names_are_described():
    names = ["console.json", "a/auxiliary.csv", "b/a", "com.x"]
    assert sorted(describe(names).output_artifacts) == sorted(names)


def test_a_manifest_of_before_that_names_such_a_file_is_still_read():
    """Older versions let these names through on Linux."""
    outputs = {name: OutputFile(sha256="0" * 64, size_bytes=0) for name in ("aux.json", "A", "a")}
    old = describe([]).model_copy(update={"output_artifacts": outputs})
    assert StepManifest.from_bytes(old.to_bytes(), where="") == old


def describe(names):
    now = utc_now()
    return describe_step(
        StepRun(
            step_name="step",
            run_id="r",
            outputs={name: OutputFile(sha256="0" * 64, size_bytes=0) for name in names},
            started=now,
            finished=now,
            seed=0,
        )
    )


def test_what_only_posix_has_is_named_in_one_module_alone():
    """Elsewhere such a name would end the program on Windows."""
    pattern = re.compile(rf"os\.({'|'.join(POSIX_ONLY)})\b|dir_fd=|import (fcntl|pwd|grp|termios)\b")
    naming = {
        path.relative_to(PACKAGE).as_posix(): pattern.findall(path.read_text(encoding="utf-8"))
        for path in PACKAGE.rglob("*.py")
    }
    assert {name for name, names in naming.items() if names} == {"io/system.py"}


def test_the_cores_are_counted_where_the_system_does_not_tell_whose_they_are(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    assert system.usable_cores() == os.cpu_count()
