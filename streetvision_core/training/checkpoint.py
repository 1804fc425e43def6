"""The trained classifier: the best epoch's weights, the means to build their model, and their origin.

Files: `model_best.safetensors`, `config.json` (hub format), `metrics.csv` (a row an epoch, no times),
`val_select_logits.safetensors`, `val_select_ids.json` and `val_select_groups.json` (the logits that the very
weights in the file give, and their images). Where a probe was trained also `probe_head.safetensors` (the best
head) and `probe.csv` (a row a head), where adapters were trained `adapters.safetensors` (they and the head,
before merging). `tensors.json` has the SHA-256 of each tensor of the weights: in a bundle all but those of
the last layer are the same.

Round trip: `Checkpoint.from_artifact(published)` equals the checkpoint whose `to_artifact()` was published.

`checkpoint_problems` and `logits_problems` look for faults in a checkpoint and in logits, from their files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from streetvision_core.errors import StreetVisionError
from streetvision_core.eval.metrics import compute_mcc
from streetvision_core.inference.logits import Logits
from streetvision_core.io import Artifact, PublishedArtifact, StagedFile, csv_bytes, json_bytes, read_csv
from streetvision_core.models import load_classifier
from streetvision_core.models.weights import published_file, read_state
from streetvision_core.training.report import (
    CANDIDATE_COLUMNS,
    EPOCH_COLUMNS,
    CandidateRow,
    EpochRow,
    best_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


WEIGHTS_NAME = "model_best.safetensors"
CONFIG_NAME = "config.json"
METRICS_NAME = "metrics.csv"
PROBE_NAME = "probe_head.safetensors"
CANDIDATES_NAME = "probe.csv"
ADAPTERS_NAME = "adapters.safetensors"
TENSORS_NAME = "tensors.json"
VAL_SELECT = "val_select_"


@dataclass(frozen=True)
class Checkpoint:
    """Averaged weights of the best epoch; `config` is the hub's config.json, `epochs` every epoch trained.

    `val_select` holds the logits of the staged weights on that role. `candidates` are the heads of a probe,
    `parts` what was trained where that is not the whole of the weights, by file name. `tensors` has the
    SHA-256 (hex) of the raw bytes of each tensor, by its name; what older versions wrote has none. `metrics`
    are numbers to show: val_mcc and its interval over groups (mcc_low, mcc_high), val_loss, best_epoch,
    epochs_run, what `throughput` measures and more. What was measured is in there and not in a file, so that
    the same training has the same digest. `device` is where it was trained.
    """

    weights: StagedFile
    config: Mapping[str, Any]
    epochs: tuple[EpochRow, ...]
    val_select: Logits
    candidates: tuple[CandidateRow, ...] = ()
    parts: Mapping[str, StagedFile] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    device: str = "cpu"

    @property
    def best(self) -> EpochRow:
        """The epoch whose weights these are."""
        return best_of(self.epochs)

    def load_model(self) -> Any:
        """Build the `torch.nn.Module` from the verified bytes, in evaluation mode on the CPU.

        Raises:
            IntegrityError: the weights are not those that were staged.
        """
        return load_classifier(self.config, read_state(self.weights))

    def to_artifact(self) -> Artifact:
        """Return the files: seven, and those of the parts."""
        rows, sweep = ([row.to_csv_row() for row in of] for of in (self.epochs, self.candidates))
        files: dict[str, bytes | StagedFile] = {
            WEIGHTS_NAME: self.weights,
            CONFIG_NAME: json_bytes(self.config),
            METRICS_NAME: csv_bytes(rows, columns=EPOCH_COLUMNS),
            **self.val_select.to_files(prefix=VAL_SELECT),
            **self.parts,
        }
        if self.tensors:
            files[TENSORS_NAME] = json_bytes(self.tensors)
        if self.candidates:
            files[CANDIDATES_NAME] = csv_bytes(sweep, columns=CANDIDATE_COLUMNS)
        return Artifact(files, self.metrics)

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave; the weights are verified when they are loaded."""
        rows = read_csv(published.read_bytes(METRICS_NAME))
        names = published.manifest.output_artifacts
        sweep = read_csv(published.read_bytes(CANDIDATES_NAME)) if CANDIDATES_NAME in names else []
        parts = [name for name in (PROBE_NAME, ADAPTERS_NAME) if name in names]
        return cls(
            weights=published_file(published, WEIGHTS_NAME),
            config=published.read_json(CONFIG_NAME),
            epochs=tuple(EpochRow.from_csv_row(row) for row in rows),
            val_select=Logits.from_files(published, prefix=VAL_SELECT),
            candidates=tuple(CandidateRow.from_csv_row(row) for row in sweep),
            parts={name: published_file(published, name) for name in parts},
            tensors=published.read_json(TENSORS_NAME) if TENSORS_NAME in names else {},
            metrics=published.manifest.metrics,
            device=published.manifest.device,
        )


def checkpoint_problems(checkpoint: Checkpoint, *, names: Sequence[str]) -> list[str]:
    """Load the weights and judge what they said of val_select; one sentence a fault, none when good.

    Args:
        checkpoint: The checkpoint.
        names: The images of val_select.
    """
    import torch

    problems = logits_problems(checkpoint.val_select, role="val_select", names=names)
    try:
        state = checkpoint.load_model().state_dict()
    except StreetVisionError as error:
        return [*problems, str(error)]
    problems += [
        f"the weights {name} are not finite" for name, w in state.items() if not torch.isfinite(w).all()
    ]
    predicted = np.argmax(checkpoint.val_select.logits, axis=1)
    if (mcc := compute_mcc(checkpoint.val_select.labels, predicted)) <= 0:
        problems.append(_no_better(mcc, checkpoint.val_select))
    return problems


def logits_problems(logits: Logits, *, role: str, names: Sequence[str]) -> list[str]:
    """Tell where logits are not of exactly the images of a role; their record proves the rest."""
    missing, foreign = sorted(set(names) - set(logits.ids)), sorted(set(logits.ids) - set(names))
    problems = []
    if missing:
        problems.append(f"{len(missing)} images of {role} have no logits, {missing[0]} for instance")
    if foreign:
        problems.append(f"{len(foreign)} images have logits but are not of {role}, {foreign[0]} for instance")
    return problems


def _no_better(mcc: float, logits: Logits) -> str:
    roadwork = int(logits.labels.sum())
    counts = f"{logits.labels.size - roadwork} None and {roadwork} Roadwork images"
    return (
        f"it is no better than the majority class: MCC {mcc:.3f} on val_select, which has {counts}"
        f" of {len(set(logits.groups))} groups. With few of a class: add images of it, from other places."
        " Otherwise: train for more epochs, start from pretrained weights, or check the labels"
    )
