"""Weights on disk: a staged safetensors file that proves its SHA-256 on the very bytes that are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.errors import MissingArtifactError
from streetvision_core.io import PublishedArtifact, StagedFile, bytes_digest
from streetvision_core.io.published import damaged

if TYPE_CHECKING:
    import torch


def published_file(published: PublishedArtifact, name: str) -> StagedFile:
    """Return a published file as what was staged; its bytes are verified when they are read.

    Raises:
        MissingArtifactError: the manifest lists no such file, or it is gone.
    """
    path = published.path(name)
    try:
        return StagedFile.at(path, published.manifest.output_artifacts[name].sha256)
    except FileNotFoundError as error:
        raise MissingArtifactError(
            "the file as it was published", "nothing", path, "Materialize the step again."
        ) from error


def read_state(weights: StagedFile) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file by name, on the CPU.

    Raises:
        IntegrityError: the file is gone, or its bytes are not those that were staged.
    """
    from safetensors.torch import load

    try:
        data = weights.path.read_bytes()
    except OSError as error:
        raise damaged(weights.path, f"the error '{error.strerror}'") from error
    if bytes_digest(data) != weights.sha256:
        raise damaged(weights.path, "other content")
    return dict(load(data))
