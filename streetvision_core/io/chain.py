"""The test that artifacts belong together: each was made from the others as they are here.

A manifest records the data version of every input. Artifacts form one chain where no two of them disagree
about an input, neither with the artifact itself nor with what another one was made from. Runs do not
matter: the same content published again by a later run is the same input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streetvision_core.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streetvision_core.io.manifest import StepManifest
    from streetvision_core.io.published import PublishedArtifact


@dataclass(frozen=True)
class Clash:
    """A step that was made from another artifact ``name`` than the one here; both by data version."""

    step: str
    name: str
    recorded: str
    here: str

    def __str__(self) -> str:
        return (
            f"{self.step} was made from another {self.name} (data version {self.recorded[:12]})"
            f" than the one here ({self.here[:12]})"
        )


def disagreements(manifests: Mapping[str, StepManifest]) -> list[Clash]:
    """Return where manifests, given by step, do not form one chain, in their order."""
    versions = {step: manifest.data_version for step, manifest in manifests.items()}
    clashes = []
    for step, manifest in manifests.items():
        clashes += list(_clashes(step, manifest, versions))
        for name, given in manifest.input_artifacts.items():
            versions.setdefault(name, given.data_version)
    return clashes


def belonging(
    required: Mapping[str, PublishedArtifact], optional: Mapping[str, PublishedArtifact | None]
) -> tuple[dict[str, PublishedArtifact], list[str]]:
    """Return the optional artifacts that are of one chain with the required ones, and why others are not.

    Args:
        required: Artifacts by step, of one chain (:func:`require_one_chain`); they decide which it is.
        optional: Artifacts by step, the one to be preferred first; None where nothing was published.

    Returns:
        Those that belong, by step, and a sentence for each that was left out though it was published.
    """
    chain = {step: artifact.manifest for step, artifact in required.items()}
    kept, sentences = {}, []
    for step, artifact in optional.items():
        if artifact is None:
            continue
        # The others agree already, so every clash is of this one.
        clashes = disagreements({**chain, step: artifact.manifest})
        if clashes:
            sentences.append(f"{step} is left out: {clashes[0]}; materialize {step} again to include it")
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
            "; ".join(map(str, clashes)),
            step,
            f"Materialize {clashes[0].step} again, and what follows from it.",
        )


def _clashes(step: str, manifest: StepManifest, versions: Mapping[str, str]) -> Iterator[Clash]:
    for name, given in sorted(manifest.input_artifacts.items()):
        here = versions.get(name, given.data_version)
        if here != given.data_version:
            yield Clash(step, name, given.data_version, here)
