"""The manifest of a step: one JSON file, written last, that says what was made from what, and how.

It is strict in both directions. An unknown field, a missing one, a name that leaves its directory or
a newer schema is refused. A manifest carries its own digest (`manifest_digest`, over all its other
fields) and is accepted only in the exact bytes this module writes, so one changed byte anywhere in
it is noticed even where no pointer vouches for it, as in a bundle that was copied elsewhere. This
detects damage, not forgery: who can rewrite every file can also compute digests.

A manifest of schema 3 names neither the machine nor a path of it: they lie in a side file
(`private.py`), of which the manifest holds the SHA-256. Where it holds none, nothing of the kind was
recorded. A manifest of schema 1 or 2 names them itself; one of schema 1 is written to this day for a step
outside the graph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, FiniteFloat, StringConstraints, ValidationError, model_validator
from pydantic_core import from_json

from streetvision_core.errors import IntegrityError, SchemaError, StoreError, field_faults, os_errors_as
from streetvision_core.io.atomic import write_file_atomic
from streetvision_core.io.encode import bytes_digest, check_nesting, json_bytes, json_digest
from streetvision_core.io.names import check_relative_name, check_segment
from streetvision_core.io.records import Record

SCHEMA_VERSION = 3
OPEN_VERSION = 1  # that of a manifest which names the machine itself; 2 if it has reused_from as well

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
GitSha = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|unknown)$")]
UtcTime = Annotated[
    str,
    StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"),
    AfterValidator(lambda text: datetime.fromisoformat(text) and text),  # raises for the 31st of June
]
StepName = Annotated[str, AfterValidator(lambda name: check_segment(name, kind="step name"))]
InputName = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^/\x00]+$")]
FileName = Annotated[str, AfterValidator(check_relative_name)]
_OF_THE_MACHINE = frozenset({"hostname", "platform"})
_OPTIONAL = _OF_THE_MACHINE | {"private_sha256", "reused_from"}
_OWN_DIGEST = re.compile(rb'\n "manifest_digest": "[0-9a-f]{64}",(?=\n "metrics": )')


class InputArtifact(Record):
    """An input that a step read: its data version, and the run and manifest that published it.

    `run_id` and `manifest_sha256` are empty for a plain file that no store has published.
    """

    data_version: Sha256
    run_id: str = ""
    manifest_sha256: Sha256 | Annotated[str, StringConstraints(max_length=0)] = ""


class OutputFile(Record):
    """One file of an artifact: its SHA-256 (hex) and its size in bytes."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0)]


class Origin(Record):
    """The run whose content a later run took over, and the manifest that the content was published with."""

    run_id: str
    dagster_run_id: str
    manifest_sha256: Sha256


class StepManifest(Record):
    """One published step. `StepManifest.from_bytes(m.to_bytes()) == m` holds for every manifest.

    `private_sha256` is the SHA-256 of the side file with the machine and the paths, which in `config` are
    `<private>`. `hostname` and `platform` are those of a manifest before schema 3.

    `roles` are the roles of the images that the step opened (see `graph`), sorted.

    Where `reused_from` is given, the run `run_id` took the content from the run named there instead of
    computing it again. Everything else then says how the content was computed: commit, machine, versions,
    times; only the inputs are those of `run_id`, with the data versions it was computed from.
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
    hostname: str | None = None
    platform: str | None = None
    private_sha256: Sha256 | None = None
    device: str
    python_version: str
    packages: Mapping[str, str]
    seed: int | None
    reused_from: Origin | None = None

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of the manifest, its own digest included."""
        record = self.model_dump(exclude={name for name in _OPTIONAL if getattr(self, name) is None})
        return json_bytes({**record, "manifest_digest": json_digest(record)})

    @model_validator(mode="after")
    def _names_the_machine_where_its_schema_does(self) -> Self:
        named = {name for name in _OPTIONAL - {"reused_from"} if getattr(self, name) is not None}
        if not _fits_schema(named, self.schema_version):
            raise ValueError(f"schema {self.schema_version} with {', '.join(sorted(named)) or 'no machine'}")
        return self

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
            raise _refused("the fields of a manifest", field_faults(error), where) from error
        _check_own_digest(promised, data, where=where)
        return manifest

    def save(self, path: Path) -> str:
        """Write the manifest durably and return the SHA-256 (hex) of the file."""
        return write_file_atomic(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the manifest at `path` strictly; see `from_bytes`."""
        action = "Check the path and its permissions."
        with os_errors_as(StoreError, "a readable manifest", path, action):
            data = Path(path).read_bytes()
        return cls.from_bytes(data, where=path)


def read_fields(data: bytes, *, where: str | Path) -> dict[str, Any]:
    """Return the fields of a manifest in the very bytes that were written, for a caller that reads thousands.

    Its own digest and the names of its fields are checked. The values are not, which would cost twice as
    much: this module validated them when it wrote them.

    Raises:
        SchemaError: not a manifest, a newer schema, an unknown or missing field.
        IntegrityError: it was changed after it was written.
    """
    record = _parse(data, where=where)
    promised = record.pop("manifest_digest", None)
    wrong = {*_OPTIONAL, *record} ^ set(StepManifest.model_fields)
    named = record.keys() & (_OPTIONAL - {"reused_from"})
    if not _fits_schema(named, record["schema_version"]):
        wrong |= named or _OF_THE_MACHINE
    if wrong:
        raise _refused("the fields of a manifest", f"other ones ({', '.join(sorted(wrong))})", where)
    _check_own_digest(promised, data, where=where)
    return record


def _fits_schema(named: AbstractSet[str], schema_version: int) -> bool:
    """Tell whether a manifest names the machine as its schema asks: itself, or in its side file."""
    return named == _OF_THE_MACHINE if schema_version < SCHEMA_VERSION else named <= {"private_sha256"}


def _parse(data: bytes, *, where: str | Path) -> dict[str, Any]:
    """Decode the JSON of a manifest and check that this version can read its schema."""
    try:
        record = from_json(data)
        check_nesting(record)
    except ValueError as error:
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


def _check_own_digest(promised: object, data: bytes, *, where: str | Path) -> None:
    if promised != _digest_of_the_rest(data):
        raise IntegrityError(
            f"the manifest in the very bytes that were written (digest {str(promised)[:12]})",
            "other bytes",
            where,
            "It was changed after it was written; take a whole copy, or make the artifact again.",
        )


def _digest_of_the_rest(data: bytes) -> str:
    """Return the digest of the manifest without its own, which stands on a line of its own before metrics.

    It is taken from the very bytes, so that no other spelling of the same values is accepted.
    """
    rest, lines = _OWN_DIGEST.subn(b"", data)
    return bytes_digest(rest) if lines == 1 else ""


def _refused(expected: str, found: str, where: str | Path) -> SchemaError:
    return SchemaError(expected, found, where, "This is not a manifest StreetVision wrote, or it is damaged.")
