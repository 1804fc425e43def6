import json
import os
import shutil
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from streetvision_core.errors import IntegrityError, MissingArtifactError, SchemaError, StoreError
from streetvision_core.io import (
    Artifact,
    ArtifactStore,
    StagedFile,
    StepRun,
    default_store,
    describe_step,
    read_artifact,
    tensors_bytes,
    write_checkpoint_atomic,
    write_file_atomic,
)

FILES = {"index.csv": b"name,label\n", "sub/scores.safetensors": tensors_bytes({"x": np.arange(3.0)})}


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store")


def publish(store, files=FILES, *, run_id="r1", step="images", directory=None, config=None, private=None):
    directory = directory or store.stage(run_id, step)
    moment = datetime.now(tz=UTC)
    artifact = Artifact(files)
    manifest = describe_step(
        StepRun(
            step_name=step,
            run_id=run_id,
            dagster_run_id=f"{run_id}-dagster",
            code_version="c",
            config=config or {},
            outputs=store.write(directory, artifact),
            started=moment,
            finished=moment,
            private_sha256=store.write_private(directory, private) if private else None,
        )
    )
    assert manifest.data_version == artifact.digest
    return store.publish(directory, manifest)


def test_what_is_published_resolves_by_pointer_and_by_run_and_reads_back(store):
    published = publish(store)
    for artifact in (store.resolve("images"), store.resolve("images", run_id="r1")):
        assert artifact == published
        assert artifact.problems() == []
        assert artifact.read_bytes("index.csv") == FILES["index.csv"]
        assert artifact.read_tensors("sub/scores.safetensors")["x"].tolist() == [0, 1, 2]


def test_the_pointer_follows_the_newest_publication_and_runs_stay_apart(store):
    first = publish(store, {"a": b"1"}, run_id="r1")
    second = publish(store, {"a": b"2"}, run_id="r2")
    assert store.resolve("images") == second
    assert store.resolve("images", run_id="r1") == first


def test_the_pointer_has_the_form_of_the_design(store):
    published = publish(store)
    pointer = json.loads((store.root / "latest" / "images.json").read_text())
    assert pointer == {"manifest": "runs/r1/images/manifest.json", "sha256": published.manifest_sha256}


def test_the_marker_comes_first_and_the_manifest_after_the_files_and_before_the_pointer(store, monkeypatch):
    renamed = []
    replace = os.replace

    def record(source, target, **kwargs):
        renamed.append(target)
        replace(source, target, **kwargs)

    monkeypatch.setattr(os, "replace", record)
    publish(store)
    key = store.resolve("images").manifest.step_key
    files = ["index.csv", "scores.safetensors"]
    assert renamed == ["store.json", *files, "manifest.json", "images.json", f"{key}.json"]


def test_the_digest_is_of_names_and_content_alone_and_leaves_lineage_out():
    base = Artifact({"a": b"1", "b": b"2"})
    assert base.digest == Artifact({"b": b"2", "a": b"1"}, metrics={"x": 1}).digest
    assert base.digest == Artifact({**base.files, "lineage/images.json": b"3"}).digest
    assert base.digest != Artifact({"a": b"2", "b": b"1"}).digest
    assert base.digest != Artifact({**base.files, "c": b""}).digest


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_changed_byte_is_found_by_the_reader_and_by_the_check(store, name):
    published = publish(store)
    path = published.directory / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=path.name):
        published.read_bytes(name)
    assert published.problems() == [f"{name} has other content than was published"]


def test_missing_longer_foreign_and_irregular_files_are_found(store):
    published = publish(store, {"gone": b"1", "longer": b"2", "linked": b"3"})
    (published.directory / "gone").unlink()
    (published.directory / "longer").write_bytes(b"22")
    (published.directory / "linked").unlink()
    (published.directory / "linked").symlink_to(published.directory / "longer")
    (published.directory / "stranger").write_bytes(b"")
    assert published.problems() == [
        "gone cannot be read: No such file or directory",
        "linked is not a regular file",
        "longer has 2 bytes instead of 1",
        "stranger is not listed in the manifest",
    ]


def test_a_changed_manifest_is_refused_by_the_pointer(store):
    published = publish(store, run_id="r1")
    other = publish(store, {"a": b"2"}, run_id="r2", step="other")
    shutil.copy(other.directory / "manifest.json", published.directory / "manifest.json")
    with pytest.raises(IntegrityError, match="vouched for"):
        store.resolve("images")


def test_nothing_published_is_a_paragraph_with_the_way_out(store):
    with pytest.raises(MissingArtifactError, match=r"images to have been materialized.*presets/folder.yaml"):
        store.resolve("images")
    with pytest.raises(MissingArtifactError):
        store.resolve("images", run_id="r1")


@pytest.mark.parametrize(
    "pointer",
    [
        b"",
        b"{}",
        b"[]",
        b'{"manifest": "../x/manifest.json", "sha256": "0"}',
        b'{"manifest": 3, "sha256": "0"}',
    ],
)
def test_a_damaged_pointer_is_refused(store, pointer):
    publish(store)
    (store.root / "latest" / "images.json").write_bytes(pointer)
    with pytest.raises(SchemaError):
        store.resolve("images")


def test_a_pointer_of_a_newer_version_says_so(store):
    publish(store)
    path = store.root / "latest" / "images.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "shard": 1}))
    with pytest.raises(SchemaError, match=r"shard.*newer StreetVision"):
        store.resolve("images")


def test_a_second_attempt_in_one_run_is_refused_before_it_can_harm_what_was_published(store):
    """Large files are staged under their final names, so the refusal has to come before the staging."""
    first = publish(store)
    before = {path: path.read_bytes() for path in first.directory.rglob("*") if path.is_file()}
    for attempt in (lambda: store.stage("r1", "images"), lambda: publish(store, directory=first.directory)):
        with pytest.raises(StoreError, match=r"has been published .* never overwritten"):
            attempt()
    forged = first.manifest.model_copy(update={"metrics": {"mcc": 1.0}})
    with pytest.raises(StoreError, match="has been published"):
        store.publish(first.directory, forged)
    assert {path: path.read_bytes() for path in first.directory.rglob("*") if path.is_file()} == before
    assert store.publish(first.directory, first.manifest) == first


def test_staging_again_clears_what_a_dead_attempt_left(store):
    directory = store.stage("r1", "images")
    (directory / "half").write_bytes(b"x")
    assert list(store.stage("r1", "images").iterdir()) == []


def test_a_stray_file_stops_the_publication_and_a_dead_writers_file_is_swept(store):
    directory = store.stage("r1", "images")
    (directory / "sub").mkdir()
    (directory / "sub" / ".a.0123456789abcdef.partial").write_bytes(b"half")
    (directory / "sub" / "stray").write_bytes(b"x")
    with pytest.raises(StoreError, match="also sub/stray"):
        publish(store, directory=directory)
    assert not (directory / "manifest.json").exists()
    assert [path.name for path in (directory / "sub").iterdir() if path.name.startswith(".")] == []


def test_a_disk_that_keeps_other_bytes_than_it_was_given_is_caught(store, monkeypatch):
    """A writer that lies: the published digest is that of the file, not of the intended content."""
    from streetvision_core.io import store as module

    def lie(path, data):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])

    monkeypatch.setattr(module, "write_file_atomic", lie)
    with pytest.raises(IntegrityError, match="other bytes on the disk"):
        publish(store)


def test_large_files_are_adopted_where_they_were_staged(store):
    directory = store.stage("r1", "model")
    path = directory / "model.safetensors"
    staged = StagedFile.at(path, write_checkpoint_atomic(path, {"w": torch.ones(1000)}))
    inode = path.stat().st_ino
    published = publish(store, {"model.safetensors": staged}, step="model", directory=directory)
    assert path.stat().st_ino == inode
    assert published.problems() == []


def test_a_staged_file_that_was_touched_or_lies_elsewhere_is_refused(store, tmp_path):
    directory = store.stage("r1", "model")
    staged = StagedFile.at(directory / "m", write_file_atomic(directory / "m", b"abc"))
    (directory / "m").write_bytes(b"abd")
    with pytest.raises(IntegrityError, match="touched"):
        publish(store, {"m": staged}, step="model", directory=directory)
    elsewhere = StagedFile.at(tmp_path / "m", write_file_atomic(tmp_path / "m", b"abc"))
    with pytest.raises(StoreError, match="own directory"):
        publish(store, {"m": elsewhere}, step="model", directory=directory)
    assert not (directory / "manifest.json").exists()


@pytest.mark.parametrize("name", ["../escape", "/abs", "a/../../b", "", ".hidden", "a\\b", "a//b", "a/"])
def test_no_file_name_leaves_its_directory(store, name):
    with pytest.raises(SchemaError):
        publish(store, {name: b"x"})
    assert not (store.root / "latest").exists()


@pytest.mark.parametrize("name", ["..", "a/b", "", ".x"])
def test_no_run_or_step_name_leaves_the_store(store, name):
    with pytest.raises(SchemaError):
        store.stage(name, "images")
    with pytest.raises(SchemaError):
        store.resolve(name)


def test_a_file_that_vanished_before_publication_stops_it(store, monkeypatch):
    directory = store.stage("r1", "images")
    write = store.write

    def write_and_lose(*args):
        outputs = write(*args)
        (directory / "index.csv").unlink()
        return outputs

    monkeypatch.setattr(store, "write", write_and_lose)
    with pytest.raises(IntegrityError, match=r"index\.csv"):
        publish(store, directory=directory)
    assert not (directory / "manifest.json").exists()


def test_a_run_is_found_by_the_id_that_dagster_gave_it(store):
    publish(store, run_id="20261121T093000-aaaaaaaa")
    assert store.find_run("aaaaaaaa-else", "images") is None
    assert store.find_run("20261121T093000-aaaaaaaa-dagster"[16:], "images") is None
    moment_run = "20261121T093000-bbbbbbbb"
    directory = store.stage(moment_run, "images")
    now = datetime.now(tz=UTC)
    manifest = describe_step(
        StepRun(
            step_name="images",
            run_id=moment_run,
            dagster_run_id="bbbbbbbb-1111",
            outputs=store.write(directory, Artifact(FILES)),
            started=now,
            finished=now,
        )
    )
    store.publish(directory, manifest)
    assert store.find_run("bbbbbbbb-1111", "images") == moment_run
    assert store.find_run("bbbbbbbb-1111", "splits") is None


def test_an_unlisted_name_is_refused(store):
    with pytest.raises(MissingArtifactError, match=r"only index\.csv"):
        publish(store).read_bytes("weights.bin")


def test_a_directory_without_a_manifest_was_never_published(tmp_path):
    with pytest.raises(MissingArtifactError):
        read_artifact(tmp_path)


def test_a_store_that_cannot_be_made_is_a_paragraph(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"found a file .*STREETVISION_STORE"):
        ArtifactStore(tmp_path / "file").stage("r1", "images")
    store = ArtifactStore(tmp_path / "taken meanwhile")
    (tmp_path / "taken meanwhile").write_bytes(b"")
    with pytest.raises(StoreError, match="found a file"):
        store.stage("r1", "images")


def test_the_store_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("STREETVISION_STORE", raising=False)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(StoreError, match=r"source \.venv/bin/activate"):
        default_store()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    assert default_store() == tmp_path / "artifacts"
    monkeypatch.setenv("STREETVISION_STORE", str(tmp_path / "s"))
    assert default_store() == tmp_path / "s"
