"""Whether artifacts belong together: each was made from the others as they are here.

A manifest records the data version of every input. Artifacts form one chain where no two of them disagree
about an input, neither with the artifact itself nor with what another one was made from. Runs do not
matter: the same content published again by a later run is the same input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streetvision_core.io.manifest import StepManifest
    from streetvision_core.io.published import PublishedArtifact


def disagreements(manifests: Mapping[str, StepManifest]) -> list[str]:
    """Return where manifests, given by step, do not form one chain: one sentence a fault, in their order."""
    versions = {step: manifest.data_version for step, manifest in manifests.items()}
    sentences = []
    for step, manifest in manifests.items():
        sentences += list(_clashes(step, manifest, versions))
        for name, given in manifest.input_artifacts.items():
            versions.setdefault(name, given.data_version)
    return sentences


def belonging(
    required: Mapping[str, PublishedArtifact], optional: Mapping[str, PublishedArtifact | None]
) -> tuple[dict[str, PublishedArtifact], list[str]]:
    """Return the optional artifacts that are of one chain with the required ones, and why others are not.

    Args:
        required: Artifacts by step; they decide which chain it is.
        optional: Artifacts by step, the one to be preferred first; None where nothing was published.

    Returns:
        Those that belong, by step, and a sentence for each that was left out though it was published.
    """
    chain = {step: artifact.manifest for step, artifact in required.items()}
    kept, sentences = {}, []
    for step, artifact in optional.items():
        if artifact is None:
            continue
        clashes = disagreements({**chain, step: artifact.manifest})
        if clashes:
            sentences.append(f"{step} is left out. {clashes[0]}. Materialize {step} again to include it.")
        else:
            kept[step] = artifact
            chain[step] = artifact.manifest
    return kept, sentences


def require_one_chain(inputs: Mapping[str, PublishedArtifact], *, step: str) -> None:
    """Refuse inputs of a step that were not made from each other.

    Raises:
        IntegrityError: two of them disagree about what they were made from.
    """
    clashes = disagreements({name: artifact.manifest for name, artifact in inputs.items()})
    if clashes:
        raise IntegrityError(
            f"inputs of {step} that were made from each other",
            "; ".join(clashes),
            step,
            "Materialize the first step that differs, and what follows from it.",
        )


def _clashes(step: str, manifest: StepManifest, versions: Mapping[str, str]) -> Iterator[str]:
    for name, given in sorted(manifest.input_artifacts.items()):
        version = versions.get(name, given.data_version)
        if version != given.data_version:
            yield (
                f"{step} was made from another {name} (data version {given.data_version[:12]})"
                f" than the one here ({version[:12]})"
            )
