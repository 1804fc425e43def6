"""Content that is published again by a later run instead of being computed again."""

import errno
import os
import shutil

import pytest

from streetvision_core.errors import IntegrityError, MissingArtifactError, SchemaError, StoreError
from streetvision_core.io import Artifact, ArtifactStore, describe_reuse
from streetvision_core.io.manifest import StepManifest
from tests.io.test_store import FILES, publish


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store")


def take_over(store, origin, *, run_id="r2", lineage=None):
    """Publish what `origin` published again, as a step of another run."""
    directory = store.stage(run_id, origin.manifest.step_name)
    artifact = store.take_over(directory, step_key=origin.manifest.step_key)
    extra = store.write(directory, Artifact(lineage or {}))
    manifest = describe_reuse(
        artifact.manifest,
        manifest_sha256=artifact.manifest_sha256,
        run_id=run_id,
        dagster_run_id=f"{run_id}-dagster",
        inputs={},
        outputs=artifact.content | extra,
    )
    return store.publish(directory, manifest)


def test_what_is_taken_over_has_the_same_content_in_the_same_files(store):
    origin = publish(store)
    taken = take_over(store, origin)
    assert taken.manifest.data_version == origin.manifest.data_version
    assert taken.problems() == []
    assert store.resolve("images") == taken
    for name in FILES:
        assert taken.path(name).samefile(origin.path(name))


def test_the_manifest_says_who_computed_and_in_what_surroundings(store):
    origin = publish(store)
    taken = take_over(store, origin).manifest
    assert (taken.run_id, taken.dagster_run_id) == ("r2", "r2-dagster")
    assert taken.reused_from.run_id == "r1"
    assert taken.reused_from.dagster_run_id == "r1-dagster"
    assert taken.reused_from.manifest_sha256 == origin.manifest_sha256
    same = ("git_sha", "packages", "started_at", "duration_seconds", "hostname", "step_key", "metrics")
    assert all(getattr(taken, name) == getattr(origin.manifest, name) for name in same)


def test_the_third_run_names_the_one_that_computed_not_the_second(store):
    origin = publish(store)
    third = take_over(store, take_over(store, origin), run_id="r3")
    assert third.manifest.reused_from.run_id == "r1"


def test_a_manifest_without_an_origin_reads_as_it_did_before_there_were_any(store):
    manifest = publish(store).manifest
    assert b"reused_from" not in manifest.to_bytes()
    taken = take_over(store, store.resolve("images")).manifest
    assert StepManifest.from_bytes(taken.to_bytes(), where="") == taken


def test_lineage_is_not_taken_over(store):
    origin = publish(store, {**FILES, "lineage/old.json": b"{}"})
    taken = take_over(store, origin, lineage={"lineage/new.json": b"[]"})
    assert "lineage/old.json" not in taken.manifest.output_artifacts
    assert taken.read_bytes("lineage/new.json") == b"[]"
    assert taken.manifest.data_version == origin.manifest.data_version
    assert taken.problems() == []


def test_nothing_published_under_the_key_is_nothing_to_take_over(store):
    publish(store)
    assert store.take_over(store.stage("r2", "images"), step_key="0" * 64) is None


def harm_pointer(store, origin, pointer):
    pointer.write_bytes(b"{}")


def harm_manifest(store, origin, pointer):
    (origin.directory / "manifest.json").write_bytes(b"{}")


def harm_file(store, origin, pointer):
    origin.path("index.csv").write_bytes(b"tampered with")


def lose_file(store, origin, pointer):
    origin.path("index.csv").unlink()


def lose_directory(store, origin, pointer):
    shutil.rmtree(origin.directory)


def swap_pointers(store, origin, pointer):
    other = publish(store, run_id="r0", step="splits")
    shutil.copy(store.root / "keys" / "splits" / f"{other.manifest.step_key}.json", pointer)


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (harm_pointer, SchemaError),
        (harm_manifest, IntegrityError),
        (harm_file, IntegrityError),
        (lose_file, StoreError),
        (lose_directory, MissingArtifactError),
        (swap_pointers, IntegrityError),
    ],
)
def test_what_is_damaged_is_refused_and_leaves_an_empty_directory(harm, error, store):
    origin = publish(store)
    harm(store, origin, store.root / "keys" / "images" / f"{origin.manifest.step_key}.json")
    directory = store.stage("r2", "images")
    with pytest.raises(error):
        store.take_over(directory, step_key=origin.manifest.step_key)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM])
def test_where_there_are_no_links_the_files_are_copied(code, store, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    origin = publish(store)
    monkeypatch.setattr(os, "link", refuse)
    taken = take_over(store, origin)
    assert taken.problems() == []
    assert not taken.path("index.csv").samefile(origin.path("index.csv"))
