"""The machine and its paths, beside the manifest and not in it."""

import json
import os
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from streetvision_core.data.config import SourceConfig
from streetvision_core.errors import IntegrityError, SchemaError, StoreError
from streetvision_core.io import ArtifactStore, PrivateRecord, bytes_digest
from streetvision_core.io.manifest import StepManifest, read_fields
from streetvision_core.io.private import (
    HIDDEN,
    environment,
    local_path,
    local_paths,
    part_config,
    read_private,
)
from streetvision_core.models.config import BackboneConfig
from tests.io.test_store import publish
from tests.io.test_take_over import take_over

PATHS = {"folder.path": "/home/anna/photographs"}
CONFIG = {"folder": {"path": HIDDEN, "roadwork": "Roadwork"}, "share": 0.05}


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def published(store):
    return publish(store, config=CONFIG, private=PrivateRecord.of_this_machine(PATHS))


class Inner(pydantic.BaseModel):
    path: str = Field("", json_schema_extra=local_path())
    note: str = ""


class Outer(pydantic.BaseModel):
    inner: Inner | None = None
    weights: str = Field("random", json_schema_extra=local_path(unless=("random",)))
    word: str = ""
    words: list[str] = []


def part(config):
    return part_config(config.model_dump(mode="json"), declared=local_paths(config))


def test_a_declared_path_is_hidden_relative_or_not_and_a_word_in_its_place_is_not():
    public, paths = part(Outer(inner=Inner(path="photographs", note="of May"), weights="mine.safetensors"))
    assert public == {
        "inner": {"path": HIDDEN, "note": "of May"}, "weights": HIDDEN, "word": "", "words": [],
    }  # fmt: skip
    assert paths == {"inner.path": "photographs", "weights": "mine.safetensors"}
    assert part(Outer(weights="random"))[1] == {}


@pytest.mark.parametrize("path", ["/data/x", r"C:\Users\anna\x", r"\\host\share\x", HIDDEN])
def test_what_is_absolute_is_hidden_wherever_it_stands(path):
    public, paths = part(Outer(word=path, words=["a", path]))
    assert (public["word"], public["words"]) == (HIDDEN, ["a", HIDDEN])
    assert paths == {"word": path, "words.1": path}


def test_a_path_that_is_not_given_is_nothing_to_hide():
    assert part(Outer(inner=Inner()))[1] == {}


@pytest.mark.parametrize(
    ("config", "hidden"),
    [
        (SourceConfig(folder={"path": "x"}), {"folder.path"}),
        (SourceConfig(csv={"path": "x.csv"}), {"csv.path"}),
        (SourceConfig(parquet={"path": "x"}), {"parquet.path"}),
        (SourceConfig(demo={}), set()),
        (BackboneConfig(weights="pretrained"), set()),
        (
            BackboneConfig(weights="a.safetensors", license="x", license_file="b.txt"),
            {"weights", "license_file"},
        ),
    ],
)
def test_the_paths_of_the_project_are_declared(config, hidden):
    public, paths = part(config)
    assert set(paths) == hidden
    assert not any(path in json.dumps(public) for path in paths.values())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([HIDDEN, "/a", "b/c"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), inner),
)
configs = st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), json_values)


@given(configs, st.sets(st.from_regex("[a-z]{1,5}(\\.[a-z]{1,5})?", fullmatch=True)))
def test_what_was_parted_comes_together_again(config: dict[str, Any], declared: set[str]):
    public, paths = part_config(config, declared=declared)
    assert PrivateRecord.of_this_machine(paths).restore(public) == config


def test_the_manifest_names_the_digest_and_nothing_of_the_machine(published):
    text = (published.directory / "manifest.json").read_bytes()
    machine = environment()
    for trace in (machine.hostname, machine.platform, "anna", "hostname", '"platform"'):
        assert trace.encode() not in text
    side = (published.directory / "private.json").read_bytes()
    assert published.manifest.schema_version == 3
    assert published.manifest.private_sha256 == bytes_digest(side)
    assert json.loads(side).keys() == {"salt", "hostname", "platform", "paths"}


def test_the_artifact_gives_the_whole_configuration_back(store, published):
    artifact = store.resolve("images")
    assert artifact.config() == {
        "folder": {"path": PATHS["folder.path"], "roadwork": "Roadwork"},
        "share": 0.05,
    }
    assert artifact.private().hostname == environment().hostname
    assert artifact.problems() == []


def test_the_data_version_does_not_depend_on_it(store, published):
    other = publish(store, config=CONFIG, private=PrivateRecord.of_this_machine(PATHS), run_id="r2")
    assert other.manifest.private_sha256 != published.manifest.private_sha256  # another salt
    assert other.manifest.data_version == published.manifest.data_version
    assert other.manifest.step_key == published.manifest.step_key


def lose(path):
    path.unlink()


def change(path):
    path.write_bytes(path.read_bytes().replace(b"anna", b"otto"))


@pytest.mark.parametrize("harm", [lose, change])
def test_a_side_file_that_is_gone_or_changed_is_a_fault_and_is_not_read(store, published, harm):
    harm(published.directory / "private.json")
    artifact = store.resolve("images")
    (problem,) = artifact.problems()
    assert "private.json" in problem
    with pytest.raises(IntegrityError, match=r"private\.json"):
        artifact.config()


@pytest.mark.parametrize("paths", [{}, {"folder.path": "/x", "csv.path": "/y"}, {"share": "/x"}])
def test_a_side_file_with_other_paths_than_the_configuration_hides_is_refused(published, paths):
    data = PrivateRecord.of_this_machine(paths).to_bytes()
    manifest = published.manifest.model_copy(update={"private_sha256": bytes_digest(data)})
    with pytest.raises(SchemaError, match="paths"):
        read_private(data, manifest, where="test")


def test_nothing_is_published_without_the_side_file_that_the_manifest_names(store):
    directory = store.stage("r1", "images")
    manifest = publish(store, run_id="r0").manifest
    for name in manifest.output_artifacts:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(store.resolve("images").read_bytes(name))
    promised = manifest.model_copy(update={"run_id": "r1", "private_sha256": "a" * 64})
    with pytest.raises(IntegrityError, match=r"private\.json"):
        store.publish(directory, promised)
    assert not (directory / "manifest.json").exists()
    store.write_private(directory, PrivateRecord.of_this_machine({}))
    with pytest.raises(StoreError, match=r"only files that the manifest lists[\s\S]*private\.json"):
        store.publish(directory, manifest.model_copy(update={"run_id": "r1"}))


def test_the_side_file_is_durable_before_the_manifest(store, monkeypatch):
    renamed, replace = [], os.replace

    def record(source, target, **kwargs):
        renamed.append(os.path.basename(target))  # noqa: PTH119 - a name below an open directory
        return replace(source, target, **kwargs)

    monkeypatch.setattr(os, "replace", record)
    publish(store, config=CONFIG, private=PrivateRecord.of_this_machine(PATHS))
    assert renamed.index("private.json") < renamed.index("manifest.json") < renamed.index("images.json")


def test_what_is_taken_over_brings_its_side_file_along(store, published):
    taken = take_over(store, published)
    assert taken.manifest.reused_from is not None
    assert taken.manifest.schema_version == 3
    assert taken.private() == published.private()
    assert taken.problems() == []


def test_what_has_lost_its_side_file_is_not_taken_over(store, published):
    (published.directory / "private.json").unlink()
    with pytest.raises(StoreError):
        store.take_over(store.stage("r2", "images"), step_key=published.manifest.step_key)
    assert list(store.directory("r2", "images").iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [{"hostname": "h"}, {"hostname": "h", "platform": "p"}, {"schema_version": 2}, {"private_sha256": "x"}],
)
def test_a_manifest_that_names_the_machine_against_its_schema_is_refused(published, changes):
    forged = published.manifest.model_copy(update=changes)
    with pytest.raises(SchemaError):
        StepManifest.from_bytes(forged.to_bytes(), where="test")


def test_fields_are_read_of_every_schema(published):
    new = published.manifest
    old = new.model_copy(
        update={"schema_version": 1, "hostname": "h", "platform": "p", "private_sha256": None}
    )
    for manifest in (new, old):
        assert StepManifest.from_bytes(manifest.to_bytes(), where="test") == manifest
        assert read_fields(manifest.to_bytes(), where="test")["run_id"] == "r1"
    with pytest.raises(SchemaError, match="hostname"):
        read_fields(new.model_copy(update={"hostname": "h"}).to_bytes(), where="test")
