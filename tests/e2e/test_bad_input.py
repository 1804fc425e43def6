"""Bad input is one paragraph and an exit code, and what was published before stays as it was.

Half of these go through the real command line; the others, where that would add only its start-up time,
through the same graph in this process, with the same eyes on what the terminal shows.
"""

import json
import shutil
import subprocess
from dataclasses import replace

import pytest

from streetvision_core.bundle import verify_bundle
from streetvision_core.io import bytes_digest, json_bytes
from streetvision_core.io.manifest import SCHEMA_VERSION
from tests.e2e.place import assert_one_paragraph, damage, unharmed

pytestmark = pytest.mark.e2e


def from_folder(path, **settings):
    return {"folder": {"path": str(path), **settings}}


@pytest.fixture
def read_only(place, tmp_path):
    """The place with its store on a disk that has become read-only."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: a read-only disk. Mounting one needs root and CAP_SYS_ADMIN")
    try:
        shutil.copytree(place.store.root, disk / "store")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        yield replace(place, overrides={"STREETVISION_STORE": str(disk / "store")})
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_wrong_path(place, tmp_path):
    with unharmed(place.store):
        finished = place.materialize("*bundle", images=from_folder(tmp_path / "nowhere"))
    assert_one_paragraph(finished, f"found nothing at this path ({tmp_path / 'nowhere'}). Correct the path")


def test_an_empty_folder(place, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with unharmed(place.store):
        finished = place.materialize_here(capsys, images=from_folder(tmp_path / "empty"))
    assert_one_paragraph(finished, "found no folder at all", "Sort the images into two folders")


def test_one_class_only(place, tmp_path, capsys):
    shutil.copytree(place.pictures / "None", tmp_path / "streets/None")
    with unharmed(place.store):
        finished = place.materialize_here(capsys, images=from_folder(tmp_path / "streets"))
    assert_one_paragraph(finished, "only None (60 images)", "Add images of the other class")


def test_fewer_groups_than_roles(place, capsys):
    one_group = from_folder(place.pictures, group_pattern=r"^(\d)")
    assert place.materialize_here(capsys, "images", images=one_group).code == 0
    with unharmed(place.store):
        finished = place.materialize_here(capsys, "splits")
    assert_one_paragraph(finished, "for each of the 4 roles", "found 1 group", "Add images of other places")


def test_an_unknown_model_name_offers_close_ones(place):
    with unharmed(place.store):
        finished = place.materialize("backbone", backbone={"architecture": "test_resnt"})
    assert_one_paragraph(finished, "unknown 'test_resnt' (architecture of the backbone)", "test_resnet")


def test_a_setting_that_is_not_allowed(place):
    """A mistake in a later step is refused before the first one runs; `assets/test_refusals.py` has more."""
    with unharmed(place.store):
        finished = place.materialize("*bundle", scrc={"delta": 2.0})
    assert_one_paragraph(finished, "a number less than 1, but found 2.0 (delta of scrc)")
    assert "images" not in finished.terminal


def test_a_rule_across_steps(place, tmp_path):
    empty = replace(place, overrides={"STREETVISION_STORE": str(tmp_path / "store")})
    finished = empty.materialize("images,bundle", bundle={"policy": "gate"})
    assert_one_paragraph(finished, "the policy gate", "Select gate too")


def test_a_file_where_the_store_should_be(place, tmp_path):
    file = tmp_path / "store"
    file.write_text("not a store")
    lost = replace(place, overrides={"STREETVISION_STORE": str(file)})
    with unharmed(place.store):
        finished = lost.materialize("bundle")
    assert_one_paragraph(finished, "an empty folder, or a store", str(file), "Set STREETVISION_STORE")
    assert file.read_text() == "not a store"


def test_a_directory_where_the_pointer_of_an_upstream_should_be(place, new_place, capsys):
    """A new event log, so that the store has only its pointers to go by."""
    shutil.copytree(place.store.root, new_place.store.root)
    pointer = new_place.store.root / "latest/images.json"
    pointer.unlink()
    pointer.mkdir()
    with unharmed(new_place.store):
        finished = new_place.materialize_here(capsys, "splits")
    assert_one_paragraph(finished, "a store that can be read", str(pointer), "Check STREETVISION_STORE")


def test_a_read_only_disk(read_only):
    with unharmed(read_only.store):
        finished = read_only.materialize("images")
    assert_one_paragraph(finished, "a store that can be written", "Read-only file system", "disk/store/runs/")


def test_a_bundle_on_a_read_only_disk_can_still_be_verified(read_only):
    verify_bundle(read_only.bundle, deep=True)


def test_a_store_written_by_a_newer_version(place, capsys):
    checkpoint = place.store.resolve("phase1_checkpoint")
    manifest = checkpoint.directory / "manifest.json"
    newer = json_bytes({**json.loads(manifest.read_bytes()), "schema_version": SCHEMA_VERSION + 1, "more": 1})
    pointer = place.store.root / "latest/phase1_checkpoint.json"
    vouched = {**json.loads(pointer.read_bytes()), "sha256": bytes_digest(newer)}
    manifest.write_bytes(newer)
    pointer.write_bytes(json_bytes(vouched))
    with unharmed(place.store):
        finished = place.materialize_here(capsys, "val_calib_logits")
    assert_one_paragraph(
        finished, f"version {SCHEMA_VERSION + 1} ({manifest})", "newer StreetVision; update this installation"
    )


def test_an_upstream_that_was_never_materialized(new_place):
    finished = new_place.materialize("bundle")
    assert_one_paragraph(
        finished, "to have been materialized, but found nothing published", "presets/folder.yaml"
    )
    assert not new_place.store.root.exists()


def test_a_changed_byte_in_an_upstream_artifact(place):
    weights = place.store.resolve("phase1_checkpoint").path("model_best.safetensors")
    damage(weights)
    with unharmed(place.store):
        finished = place.materialize("val_calib_logits", reuse=False)
    assert_one_paragraph(finished, "other content", str(weights), "restore the file from a copy")
