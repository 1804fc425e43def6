"""`lineage/provenance.json`: where a bundle comes from, in words that other tools read.

It is an in-toto Statement v1 with the SLSA provenance v1 predicate. Its subject are the files that the
manifest of the bundle lists, but for itself. All else is taken from the manifests in `lineage/`; the run is
that of the training. So it holds nothing that these do not tell, and whoever has them can write it again,
byte for byte. Nobody has signed it: it says no more than they do, and is of SLSA's build level 1.

Specifications: https://in-toto.io/Statement/v1 and https://slsa.dev/spec/v1.0/provenance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streetvision_core.graph import CHECKPOINT
from streetvision_core.io import json_bytes
from streetvision_core.io.private import UNKNOWN
from streetvision_core.io.published import PROVENANCE, file_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from streetvision_core.io import StagedFile, StepManifest

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
# docs/bundle.md says what they mean; another content of this file gets another version here.
BUILD_TYPE, BUILDER = "urn:streetvision:bundle:v1", "urn:streetvision:pipeline"
_WEIGHTS_END = ".safetensors"


def with_provenance(
    files: Mapping[str, bytes | StagedFile], lineage: Mapping[str, StepManifest]
) -> dict[str, bytes | StagedFile]:
    """Return all files of a bundle but its manifest, and their provenance."""
    digests = {name: file_digest(content) for name, content in files.items()}
    return {**files, PROVENANCE: provenance(digests, lineage)}


def provenance(digests: Mapping[str, str], lineage: Mapping[str, StepManifest]) -> bytes:
    """Return the canonical bytes of the provenance.

    Args:
        digests: The SHA-256 (hex) of the files that the manifest of the bundle lists, by name.
        lineage: The manifests in `lineage/` by step.
    """
    steps, trained = [lineage[step] for step in sorted(lineage)], lineage[CHECKPOINT]
    build = {
        "buildType": BUILD_TYPE,
        "externalParameters": {made.step_name: dict(made.config) for made in steps},
        "resolvedDependencies": [*_data(lineage), *_code(steps)],
    }
    run = {
        "builder": {"id": BUILDER, "version": dict(trained.packages)},
        "metadata": {
            "invocationId": trained.run_id,
            "startedOn": trained.started_at,
            "finishedOn": trained.finished_at,
        },
    }
    statement = {
        "_type": STATEMENT,
        "subject": [_descriptor(name, digests[name]) for name in sorted(digests) if name != PROVENANCE],
        "predicateType": PREDICATE,
        "predicate": {"buildDefinition": build, "runDetails": run},
    }
    return json_bytes(statement)


def _data(lineage: Mapping[str, StepManifest]) -> Iterator[dict[str, Any]]:
    """Give the images, by the data version of their index, and the files of the starting weights."""
    yield _descriptor("images", lineage["images"].data_version)
    for name, file in sorted(lineage["backbone"].output_artifacts.items()):
        if name.endswith(_WEIGHTS_END):
            yield _descriptor(f"backbone/{name}", file.sha256)


def _code(steps: Iterable[StepManifest]) -> Iterator[dict[str, Any]]:
    """Give the commit of each step's code where it is known, and say where the work tree differed from it."""
    for made in steps:
        if made.git_sha != UNKNOWN:
            name = f"code of {made.step_name}{' (dirty)' * made.git_dirty}"
            yield {"name": name, "digest": {"gitCommit": made.git_sha}}


def _descriptor(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}
