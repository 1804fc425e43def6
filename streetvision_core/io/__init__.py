"""Durable files, manifests, provenance and the artifact store."""

from streetvision_core.io.atomic import (
    StagedFile,
    atomic_file,
    compute_file_sha256,
    make_directory,
    write_file_atomic,
)
from streetvision_core.io.describe import (
    StepRun,
    create_step_manifest,
    describe_reuse,
    describe_step,
    manifest_problems,
    step_key,
)
from streetvision_core.io.encode import bytes_digest, csv_bytes, json_bytes, json_digest, read_csv
from streetvision_core.io.manifest import InputArtifact, OutputFile, StepManifest
from streetvision_core.io.private import PrivateRecord
from streetvision_core.io.published import Artifact, PublishedArtifact, content_digest, read_artifact
from streetvision_core.io.store import ArtifactStore, default_store
from streetvision_core.io.tensors import tensors_bytes
from streetvision_core.io.writers import write_checkpoint_atomic, write_json_atomic, write_tensors_atomic

__all__ = [
    "Artifact",
    "ArtifactStore",
    "InputArtifact",
    "OutputFile",
    "PrivateRecord",
    "PublishedArtifact",
    "StagedFile",
    "StepManifest",
    "StepRun",
    "atomic_file",
    "bytes_digest",
    "compute_file_sha256",
    "content_digest",
    "create_step_manifest",
    "csv_bytes",
    "default_store",
    "describe_reuse",
    "describe_step",
    "json_bytes",
    "json_digest",
    "make_directory",
    "manifest_problems",
    "read_artifact",
    "read_csv",
    "step_key",
    "tensors_bytes",
    "write_checkpoint_atomic",
    "write_file_atomic",
    "write_json_atomic",
    "write_tensors_atomic",
]
