import json
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streetvision_core.errors import ConfigError, IntegrityError, SchemaError, StoreError, StreetVisionError
from streetvision_core.io import (
    InputArtifact,
    OutputFile,
    StepManifest,
    StepRun,
    create_step_manifest,
    describe_step,
    json_bytes,
    json_digest,
    step_key,
    write_file_atomic,
)
from streetvision_core.io.manifest import read_fields

SHA = "ab" * 32


@pytest.fixture(scope="module")
def manifest():
    moment = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
    return describe_step(
        StepRun(
            step_name="splits",
            run_id="20261121T093000-0123abcd",
            dagster_run_id="0123abcd-rest",
            code_version="c0de",
            config={"seed": 3, "path": "dépôt", "nested": {"b": [1, 2.5, None]}},
            inputs={"images": InputArtifact(data_version=SHA, run_id="r", manifest_sha256=SHA)},
            roles=("val_select", "train"),
            outputs={"splits.json": OutputFile(sha256=SHA, size_bytes=17)},
            metrics={"mcc": 0.856, "n": 3},
            started=moment,
            finished=moment,
            seed=3,
        )
    )


def test_a_manifest_reads_back_as_it_was_written(manifest, tmp_path):
    manifest.save(tmp_path / "manifest.json")
    assert StepManifest.load(tmp_path / "manifest.json") == manifest
    assert manifest.roles == ["train", "val_select"]


def test_a_manifest_has_the_fields_of_the_design(manifest):
    assert set(json.loads(manifest.to_bytes())) == {
        "schema_version",
        "run_id",
        "dagster_run_id",
        "step_name",
        "git_sha",
        "git_dirty",
        "code_version",
        "config",
        "config_hash",
        "step_key",
        "input_artifacts",
        "roles",
        "output_artifacts",
        "data_version",
        "metrics",
        "started_at",
        "finished_at",
        "duration_seconds",
        "device",
        "python_version",
        "packages",
        "seed",
        "manifest_digest",
    }


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_one_changed_byte_anywhere_is_refused(manifest, data):
    content = bytearray(manifest.to_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StreetVisionError):
        StepManifest.from_bytes(bytes(content), where="test")


def _resealed(manifest, **changes):
    """Return the manifest that an editor who also recomputes the digest would write."""
    record = {**json.loads(manifest.to_bytes()), **changes}
    record.pop("manifest_digest")
    return json_bytes({**record, "manifest_digest": json_digest(record)})


@pytest.mark.parametrize(
    "changes",
    [
        {"surprise": 1},
        {"step_name": "../splits"},
        {"git_sha": "abc"},
        {"config_hash": SHA + "\n"},
        {"output_artifacts": {"../../etc/passwd": {"sha256": SHA, "size_bytes": 1}}},
        {"output_artifacts": {"/etc/passwd": {"sha256": SHA, "size_bytes": 1}}},
        {"output_artifacts": {"a/./b": {"sha256": SHA, "size_bytes": 1}}},
        {"output_artifacts": {".hidden": {"sha256": SHA, "size_bytes": 1}}},
        {"output_artifacts": {"a": {"sha256": SHA, "size_bytes": -1}}},
        {"output_artifacts": {"a": {"sha256": SHA, "size_bytes": True}}},
        {"output_artifacts": {"a": {"sha256": SHA.upper(), "size_bytes": 1}}},
        {"input_artifacts": {"images": {"data_version": SHA, "run_id": "r", "manifest_sha256": SHA, "x": 1}}},
        {"input_artifacts": {"images": "latest"}},
        {"metrics": {"mcc": "good"}},
        {"metrics": {"mcc": True}},
        {"started_at": "yesterday"},
        {"duration_seconds": "3"},
        {"seed": 1.5},
        {"git_dirty": 0},
        {"schema_version": 0},
        {"schema_version": True},
    ],
)
def test_a_well_sealed_manifest_that_breaks_the_schema_is_refused(manifest, changes):
    with pytest.raises(SchemaError):
        StepManifest.from_bytes(_resealed(manifest, **changes), where="test")


def test_a_missing_field_is_refused_by_name(manifest):
    record = json.loads(manifest.to_bytes())
    del record["config_hash"], record["manifest_digest"]
    sealed = json_bytes({**record, "manifest_digest": json_digest(record)})
    with pytest.raises(SchemaError, match="config_hash"):
        StepManifest.from_bytes(sealed, where="test")


def test_a_newer_schema_says_that_it_is_newer(manifest):
    with pytest.raises(SchemaError, match=r"version 3.*written by a newer StreetVision; update"):
        StepManifest.from_bytes(_resealed(manifest, schema_version=4, new_field=1), where="test")


def test_the_same_content_in_other_bytes_is_refused(manifest):
    reformatted = json.dumps(json.loads(manifest.to_bytes())).encode()
    with pytest.raises(IntegrityError, match="very bytes that were written"):
        StepManifest.from_bytes(reformatted, where="test")
    with pytest.raises(IntegrityError):
        StepManifest.from_bytes(manifest.to_bytes() + b"\n", where="test")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"{}", b'{"schema_version": "1"}', b"\xff\xfe"]
)
def test_what_is_no_manifest_is_refused_in_a_paragraph(content):
    for read in (StepManifest.from_bytes, read_fields):
        with pytest.raises(SchemaError, match="not a manifest"):
            read(content, where="somewhere")


def test_the_fields_that_are_read_quickly_are_those_of_the_manifest(manifest):
    assert StepManifest.model_validate(read_fields(manifest.to_bytes(), where="test")) == manifest


def test_fields_are_given_of_whole_manifests_alone(manifest):
    with pytest.raises(SchemaError, match="surprise"):
        read_fields(_resealed(manifest, surprise=1), where="test")
    with pytest.raises(SchemaError, match="newer StreetVision"):
        read_fields(_resealed(manifest, schema_version=4), where="test")
    reformatted = json.dumps(json.loads(manifest.to_bytes())).encode()
    with pytest.raises(IntegrityError, match="very bytes that were written"):
        read_fields(reformatted, where="test")


def test_the_step_key_follows_code_configuration_and_inputs_alone():
    base = {"step": "s", "code_version": "c", "config_hash": "h", "inputs": {"a": "1", "b": "2"}}
    key = step_key(**base)
    assert key == step_key(**{**base, "inputs": {"b": "2", "a": "1"}})
    for change in (
        {"step": "t"},
        {"code_version": "d"},
        {"config_hash": "i"},
        {"inputs": {"a": "1", "b": "3"}},
    ):
        assert step_key(**{**base, **change}) != key


def test_a_step_outside_the_graph_is_described_from_its_files(tmp_path):
    write_file_atomic(tmp_path / "in.csv", b"input")
    write_file_atomic(tmp_path / "out" / "sub" / "model.bin", b"output")
    manifest = create_step_manifest(
        step_name="phase1_baseline",
        input_paths=[tmp_path / "in.csv"],
        output_paths=[tmp_path / "out" / "sub" / "model.bin"],
        output_dir=tmp_path / "out",
        metrics={"mcc": 0.856},
        duration_seconds=3600.5,
        config={"lr": 0.1},
    )
    manifest.save(tmp_path / "out" / "manifest.json")
    loaded = StepManifest.load(tmp_path / "out" / "manifest.json")
    assert loaded == manifest
    assert loaded.duration_seconds == 3600.5
    assert list(loaded.output_artifacts) == ["sub/model.bin"]
    assert list(loaded.input_artifacts) == ["in.csv"]


def test_a_missing_path_is_an_error_never_left_out(tmp_path):
    write_file_atomic(tmp_path / "there", b"x")
    arguments = {"step_name": "s", "output_dir": tmp_path, "config": {}}
    with pytest.raises(StoreError, match="missing"):
        create_step_manifest(**arguments, input_paths=[tmp_path / "missing"], output_paths=[])
    with pytest.raises(StoreError, match="missing"):
        create_step_manifest(
            **arguments, input_paths=[], output_paths=[tmp_path / "there", tmp_path / "missing"]
        )


def test_outputs_lie_below_the_output_directory_and_inputs_have_distinct_names(tmp_path):
    for path in (tmp_path / "a" / "x", tmp_path / "b" / "x"):
        write_file_atomic(path, b"x")
    with pytest.raises(SchemaError, match="below"):
        create_step_manifest(
            step_name="s",
            input_paths=[],
            output_paths=[tmp_path / "a" / "x"],
            output_dir=tmp_path / "b",
            config={},
        )
    made = create_step_manifest(
        step_name="s",
        input_paths=[tmp_path / "a" / "x", tmp_path / "b" / "x"],
        output_paths=[],
        output_dir=tmp_path,
        config={},
    )
    assert sorted(made.input_artifacts) == ["a:x", "b:x"]


def test_any_file_name_can_be_an_input(tmp_path):
    path = tmp_path / "my file (1).json"
    write_file_atomic(path, b"x")
    made = create_step_manifest(
        step_name="s", input_paths=[path], output_paths=[], output_dir=tmp_path, config={}
    )
    assert list(StepManifest.from_bytes(made.to_bytes(), where="").input_artifacts) == [path.name]


NO_JSON = [{"config": {"rate": float("inf")}}, {"config": {}, "metrics": {"mcc": float("nan")}}]


@pytest.mark.parametrize("given", NO_JSON)
def test_what_json_cannot_hold_is_a_paragraph(tmp_path, given):
    with pytest.raises(ConfigError, match=r"JSON values, all numbers finite.* of s\)"):
        create_step_manifest(step_name="s", input_paths=[], output_paths=[], output_dir=tmp_path, **given)
