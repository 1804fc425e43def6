"""The manifest of a step: one JSON file, written last, that says what was made from what, and how.

It is strict in both directions. An unknown field, a missing one, a name that leaves its directory or
a newer schema is refused. A manifest carries its own digest (``manifest_digest``, over all its other
fields) and is accepted only in the exact bytes this module writes, so one changed byte anywhere in
it is noticed even where no pointer vouches for it, as in a bundle that was copied elsewhere. This
detects damage, not forgery: who can rewrite every file can also compute digests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, Field, FiniteFloat, StringConstraints, ValidationError

from streetvision_core.errors import ConfigError, IntegrityError, SchemaError, StoreError
from streetvision_core.io.artifact import content_digest
from streetvision_core.io.atomic import compute_file_sha256, write_file_atomic
from streetvision_core.io.encode import json_bytes, json_digest
from streetvision_core.io.names import check_relative_name, check_segment
from streetvision_core.io.provenance import environment, git_state, iso_utc, utc_now

SCHEMA_VERSION = 1

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
GitSha = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|unknown)$")]
UtcTime = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]
StepName = Annotated[str, AfterValidator(lambda name: check_segment(name, kind="step name"))]
InputName = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^/\x00]+$")]
FileName = Annotated[str, AfterValidator(check_relative_name)]


class _Record(BaseModel, frozen=True, extra="forbid", strict=True):
    """A record on disk: no unknown field, no silent conversion."""


class InputArtifact(_Record):
    """What a step read: the data version, and the run and manifest that published it.

    ``run_id`` and ``manifest_sha256`` are empty for a plain file that no store has published.
    """

    data_version: Sha256
    run_id: str = ""
    manifest_sha256: Sha256 | Annotated[str, StringConstraints(max_length=0)] = ""


class OutputFile(_Record):
    """One file of an artifact: its SHA-256 (hex) and its size in bytes."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0)]


class StepManifest(_Record):
    """One published step. ``StepManifest.from_bytes(m.to_bytes()) == m`` holds for every manifest.

    ``roles`` are the roles of the pictures that the step opened (see ``data.roles``), sorted.
    """

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    run_id: str
    dagster_run_id: str
    step_name: StepName
    git_sha: GitSha
    git_dirty: bool
    code_version: str
    config: Mapping[str, Any]
    config_hash: Sha256
    step_key: Sha256
    input_artifacts: Mapping[InputName, InputArtifact]
    roles: Sequence[str]
    output_artifacts: Mapping[FileName, OutputFile]
    data_version: Sha256
    metrics: Mapping[str, int | FiniteFloat]
    started_at: UtcTime
    finished_at: UtcTime
    duration_seconds: FiniteFloat
    hostname: str
    platform: str
    device: str
    python_version: str
    packages: Mapping[str, str]
    seed: int | None

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of the manifest, its own digest included."""
        record = self.model_dump()
        return json_bytes({**record, "manifest_digest": json_digest(record)})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str | Path) -> Self:
        """Read a manifest strictly.

        Raises:
            SchemaError: not a manifest, a newer schema, an unknown or missing field, a wrong type.
            IntegrityError: it was changed after it was written.
        """
        record = _parse(data, where=where)
        promised = record.pop("manifest_digest", None)
        try:
            manifest = cls.model_validate(record)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
            raise _refused("the fields of a manifest", faults, where) from error
        if promised != json_digest(record) or manifest.to_bytes() != data:
            raise IntegrityError(
                f"the manifest in the very bytes that were written (digest {str(promised)[:12]})",
                "other bytes",
                where,
                "It was changed after it was written; take a whole copy, or make the artifact again.",
            )
        return manifest

    def save(self, path: Path) -> str:
        """Write the manifest durably and return the SHA-256 (hex) of the file."""
        return write_file_atomic(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the manifest at ``path`` strictly; see :meth:`from_bytes`."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise StoreError(
                "a readable manifest",
                f"the error '{error.strerror}'",
                path,
                "Check the path and its permissions.",
            ) from error
        return cls.from_bytes(data, where=path)


def step_key(*, step: str, code_version: str, config_hash: str, inputs: Mapping[str, str]) -> str:
    """Return the digest of everything that decides a step's result: equal keys, equal content.

    Args:
        step: The name of the step.
        code_version: The digest of the code that it runs.
        config_hash: The digest of its resolved configuration.
        inputs: The data version of each input, by name.
    """
    return json_digest([step, code_version, config_hash, dict(inputs)])


def create_step_manifest(
    *,
    step_name: str,
    input_paths: Iterable[Path],
    output_paths: Iterable[Path],
    output_dir: Path,
    config: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
    duration_seconds: float = 0.0,
    run_id: str = "local",
    device: str = "cpu",
    seed: int | None = None,
) -> StepManifest:
    """Describe a step that ran outside the graph, from the files it read and wrote.

    Args:
        step_name: The name of the step.
        input_paths: Files that were read; recorded by file name with their SHA-256.
        output_paths: Files that were written, all of them below ``output_dir``.
        output_dir: The directory of the artifact; output names are relative to it.
        config: The resolved configuration, JSON values only.
        metrics: Finite numbers worth keeping.
        duration_seconds: How long the step took, in seconds.
        run_id: The run it belongs to.
        device: Where it ran, for instance ``cpu`` or ``cuda``.
        seed: The seed it used, if any.

    Raises:
        StoreError: an input or output does not exist. Nothing is listed only "if it exists".
        ConfigError: the configuration or the metrics hold what JSON cannot.
        SchemaError: an output outside ``output_dir``, or two inputs of one name.
    """
    inputs: dict[str, InputArtifact] = {}
    for path in map(Path, input_paths):
        if path.name in inputs:
            raise SchemaError(
                "inputs with distinct file names", f"{path.name} twice", path, "Rename one of them."
            )
        inputs[path.name] = InputArtifact(data_version=compute_file_sha256(path))
    outputs = {_relative_name(path, output_dir): _output_file(path) for path in map(Path, output_paths)}
    finished = utc_now()
    return describe_step(
        step_name=step_name, run_id=run_id, dagster_run_id="", code_version="",
        config=config, inputs=inputs, roles=(), outputs=outputs, metrics=metrics or {},
        started=finished - timedelta(seconds=duration_seconds), finished=finished, device=device, seed=seed,
    )  # fmt: skip


def describe_step(
    *,
    step_name: str,
    run_id: str,
    dagster_run_id: str,
    code_version: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, InputArtifact],
    roles: Iterable[str],
    outputs: Mapping[str, OutputFile],
    metrics: Mapping[str, float],
    started: datetime,
    finished: datetime,
    device: str,
    seed: int | None,
) -> StepManifest:
    """Build the manifest of a step, adding the code's commit, the machine and the derived digests.

    Raises:
        ConfigError: the configuration or the metrics hold what JSON cannot.
    """
    try:
        # A round trip through JSON, so that the record in memory is the one that will be read back.
        plain_config, plain_metrics = json.loads(json_bytes(config)), json.loads(json_bytes(metrics))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "a configuration and metrics of JSON values, all numbers finite",
            str(error),
            step_name,
            "Turn paths into text, and leave out a metric that is not a number.",
        ) from error
    code, machine, config_hash = git_state(), environment(), json_digest(plain_config)
    versions = {name: given.data_version for name, given in inputs.items()}
    return StepManifest(
        run_id=run_id,
        dagster_run_id=dagster_run_id,
        step_name=check_segment(step_name, kind="step name"),
        git_sha=code.sha,
        git_dirty=code.dirty,
        code_version=code_version,
        config=plain_config,
        config_hash=config_hash,
        step_key=step_key(
            step=step_name, code_version=code_version, config_hash=config_hash, inputs=versions
        ),
        input_artifacts=dict(inputs),
        roles=sorted(roles),
        output_artifacts=dict(outputs),
        data_version=content_digest({name: file.sha256 for name, file in outputs.items()}),
        metrics=plain_metrics,
        started_at=iso_utc(started),
        finished_at=iso_utc(finished),
        duration_seconds=round((finished - started).total_seconds(), 6),
        hostname=machine.hostname,
        platform=machine.platform,
        device=device,
        python_version=machine.python_version,
        packages=machine.packages,
        seed=seed,
    )


def _relative_name(path: Path, directory: Path) -> str:
    try:
        return check_relative_name(path.resolve().relative_to(Path(directory).resolve()).as_posix())
    except ValueError as error:
        raise SchemaError(
            "every output below the output directory", str(path), directory, "Write outputs below output_dir."
        ) from error


def _output_file(path: Path) -> OutputFile:
    return OutputFile(sha256=compute_file_sha256(path), size_bytes=path.stat().st_size)


def _parse(data: bytes, *, where: str | Path) -> dict[str, Any]:
    """Decode the JSON of a manifest and check that this version can read its schema."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _refused("a manifest in JSON", f"no JSON ({error})", where) from error
    if not isinstance(record, dict) or not isinstance(record.get("schema_version"), int):
        raise _refused("a manifest with a schema_version", "none", where)
    if record["schema_version"] > SCHEMA_VERSION:
        raise SchemaError(
            f"a manifest of schema version {SCHEMA_VERSION} or older",
            f"version {record['schema_version']}",
            where,
            "It was written by a newer StreetVision; update this installation to read it.",
        )
    return record


def _refused(expected: str, found: str, where: str | Path) -> SchemaError:
    return SchemaError(expected, found, where, "This is not a manifest StreetVision wrote, or it is damaged.")
