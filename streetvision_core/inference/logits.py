"""Logits: what a classifier says of the images of a role, before anything is decided.

Those of val_calib go with random projections of the features, and with the sample of both that new images
are later compared with (`eval.use.drift`).

Round trip: `Logits.from_artifact(published)` equals the logits whose `to_artifact()` was published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from streetvision_core.errors import DataError
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.intervals import mcc_group_interval
from streetvision_core.eval.metrics import compute_all_metrics, confusion_by_group
from streetvision_core.eval.use.drift import DRIFT_NAME, SEED, Reference, project, reference_of
from streetvision_core.io import Artifact, PublishedArtifact, StagedFile, json_bytes, tensors_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from streetvision_core.data import ImageIndex
    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.data.index import IndexedImage

TENSORS_NAME = "logits.safetensors"
IDS_NAME = "ids.json"
GROUPS_NAME = "groups.json"


@dataclass(frozen=True, eq=False)
class Logits:
    """Logits float32 [N, 2], labels int64 [N] and groups of the images `ids`, in one order; all finite.

    `projections`, float32 [N, k], are of the features of the same images; None where none were recorded.

    Raises:
        DataError: shapes or dtypes that do not fit, labels that are not 0 or 1, numbers that are not finite.
    """

    ids: tuple[str, ...]
    logits: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    groups: tuple[str, ...]
    projections: npt.NDArray[np.float32] | None = None

    @property
    def groups_known(self) -> bool:
        """True if the data names a group for any image; an image without one has a group of its own name."""
        return self.groups != self.ids

    def __post_init__(self) -> None:
        number = len(self.ids)
        wrong = (
            self.logits.shape != (number, 2)
            or self.labels.shape != (number,)
            or self.logits.dtype != np.float32
            or self.labels.dtype != np.int64
            or len(set(self.ids)) != number
            or len(self.groups) != number
            or not np.isin(self.labels, (0, 1)).all()
            or not np.isfinite(self.logits).all()
            or not self._projects(number)
        )
        if wrong:
            raise DataError(
                f"finite float32 logits [{number}, 2], int64 labels [{number}] and as many groups and names",
                f"{self.logits.dtype} {self.logits.shape}, {self.labels.dtype} {self.labels.shape}"
                f" and {len(self.groups)} groups",
                "the logits of a role",
                "Materialize the step that makes them again.",
            )

    def _projects(self, number: int) -> bool:
        """Tell whether there are no projections, or finite ones of so many images."""
        rows = self.projections
        return rows is None or bool(
            rows.ndim == 2 and len(rows) == number and rows.dtype == np.float32 and np.isfinite(rows).all()
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Logits)
            and self.ids == other.ids
            and self.groups == other.groups
            and self.tensors.keys() == other.tensors.keys()
            and all(np.array_equal(tensor, other.tensors[name]) for name, tensor in self.tensors.items())
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash either

    def to_files(self, *, prefix: str = "") -> dict[str, bytes]:
        """Return `logits.safetensors`, `ids.json` and `groups.json`, with `prefix` before their names."""
        return {
            prefix + TENSORS_NAME: tensors_bytes(self.tensors),
            prefix + IDS_NAME: json_bytes(list(self.ids)),
            prefix + GROUPS_NAME: json_bytes(list(self.groups)),
        }

    @property
    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that there are, by name."""
        projected = {} if self.projections is None else {"projections": self.projections}
        return {"logits": self.logits, "labels": self.labels, **projected}

    @classmethod
    def from_files(cls, published: PublishedArtifact, *, prefix: str = "") -> Self:
        """Read back what `to_files` gave."""
        tensors = published.read_tensors(prefix + TENSORS_NAME)
        ids, groups = (tuple(published.read_json(prefix + name)) for name in (IDS_NAME, GROUPS_NAME))
        return cls(ids, tensors["logits"], tensors["labels"], groups, tensors.get("projections"))

    def to_artifact(self) -> Artifact:
        """Return `logits.safetensors`, `ids.json`, `groups.json` and `drift.json`, with metrics at 0.5.

        Of no images there is no `drift.json`.
        """
        counts = {"pictures": len(self.ids), "roadwork": int(self.labels.sum())}
        drift = {DRIFT_NAME: self._reference().to_bytes()} if self.ids else {}
        return Artifact({**self.to_files(), **drift}, {**counts, **self.metrics()})

    def _reference(self) -> Reference:
        rows = np.zeros((len(self.ids), 0)) if self.projections is None else self.projections
        return reference_of(margin_vector(self.logits), rows, self.groups, groups_known=self.groups_known)

    def metrics(self) -> dict[str, float | int]:
        """Return the metrics at probability 0.5, before any tuning; of no images there are none.

        The MCC has its interval over groups beside it (mcc_low, mcc_high).
        """
        if not self.ids:
            return {}
        predicted = margin_vector(self.logits) > 0
        interval = mcc_group_interval(confusion_by_group(self.labels, predicted, self.groups))
        metrics = compute_all_metrics(y_true=self.labels, y_pred=predicted)
        return {**metrics, "mcc_low": interval.low, "mcc_high": interval.high}

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave."""
        return cls.from_files(published)


def drift_problems(published: PublishedArtifact) -> list[str]:
    """Tell where the `drift.json` of published logits does not follow from them; older versions have none."""
    if DRIFT_NAME not in published.manifest.output_artifacts:
        return []
    files = Logits.from_artifact(published).to_artifact().files
    good = published.read_bytes(DRIFT_NAME) == files.get(DRIFT_NAME)
    return [] if good else [f"{DRIFT_NAME} does not follow from the logits beside it"]


class TrainedClassifier(Protocol):
    """The view of a checkpoint that steps after training have."""

    @property
    def weights(self) -> StagedFile:
        """The file of the weights."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration in timm's hub format."""

    @property
    def val_select(self) -> Logits:
        """The logits of these weights on val_select."""

    def load_model(self) -> Any:
        """Build the `torch.nn.Module` from the verified bytes, in evaluation mode on the CPU."""


def labels_of(names: Sequence[str], index: ImageIndex) -> list[int]:
    """Return the label of each named image.

    Raises:
        DataError: the index does not hold an image.
    """
    return [image.label for image in _images_of(names, index)]


def groups_of(names: Sequence[str], index: ImageIndex) -> tuple[str, ...]:
    """Return the group of each named image.

    Raises:
        DataError: the index does not hold an image.
    """
    return tuple(image.group for image in _images_of(names, index))


def predict_role(
    checkpoint: TrainedClassifier,
    names: Sequence[str],
    *,
    index: ImageIndex,
    images: ImageReader,
    device: Any = None,
    cache: Path | None = None,
    projected: bool = False,
) -> Logits:
    """Return the checkpoint's logits of the named images, on the first GPU where there is one.

    Args:
        checkpoint: The classifier.
        names: The images, in the order of the result.
        index: Holds their labels and groups.
        images: Reads them; under its conditions they are seen.
        device: Another device.
        cache: Where features of images are kept (`cached_features`): one that is there is not computed
            again, and its image not read. The logits are the same.
        projected: Whether projections of the features are recorded as well, where the model gives features.

    Raises:
        DataError: the index does not hold an image.
        IntegrityError: the weights or an image are not what they were.
    """
    from streetvision_core.inference.cached_features import gives_features, measure_images

    labels, groups = labels_of(names, index), groups_of(names, index)
    wanted = projected and gives_features(checkpoint)
    measured = measure_images(checkpoint, names, images, cache=cache, features=wanted, device=device)
    rows = measured.extras.get("features")
    projections = None if rows is None else project(rows, seed=SEED)
    return Logits(tuple(names), measured.logits, np.array(labels, dtype=np.int64), groups, projections)


def _images_of(names: Sequence[str], index: ImageIndex) -> list[IndexedImage]:
    known = {image.name: image for image in index.pictures}
    unknown = [name for name in names if name not in known]
    if unknown:
        found = f"{len(unknown)} that it does not hold, {unknown[0]!r} for instance"
        action = "Materialize splits again; they were made from another index."
        raise DataError("images of the index", found, "the splits", action)
    return [known[name] for name in names]
