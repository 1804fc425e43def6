"""Labels that do not fit the image, as a queue for a person: `review.csv`.

An image of train or val_select is listed where

- models that saw nothing of its group contradict its label, or
- confident learning suspects the label: the model is as sure of the other one here as it is, on average,
  where that is the label, or
- a near-duplicate carries the other label, or
- an earlier review has corrected it, so that the file that goes back in holds all corrections.

The most surprising come first: by the out-of-fold probability of the label that the image has. Images of
val_calib and val_test are never listed, whatever was cross-validated: looking only at those that the model
contradicts would leave the errors that agree with it, and break a certificate (`data/corrections.py`).

Columns of `review.csv`: `name`, `label` (as the source lists it), `model_says`, `probability` (of the label
that the image has now, in [0, 1]), `why`, and `corrected_label`, which a person fills in.

Source: Northcutt, Jiang and Chuang, Confident Learning, JAIR 70 (2021), 1373-1411: thresholds are the mean
probabilities of each class (equation 2), suspects are off the diagonal of the confident joint (equation 1).

Round trip: `LabelAudit.from_artifact(published)` equals the one whose `to_artifact()` was published.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from streetvision_core.data.corrections import CONTRADICTED, CORRECTED, LABEL, NAME, TRAINED_ON
from streetvision_core.data.duplicates import near_duplicates
from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.errors import DataError
from streetvision_core.eval.inputs import binary_vector, probability_vector, require_equal_length
from streetvision_core.eval.thresholds import positive_probability
from streetvision_core.io import Artifact, PublishedArtifact, csv_bytes, read_csv

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streetvision_core.data.index import ImageIndex, IndexedImage
    from streetvision_core.data.splits import Splits
    from streetvision_core.eval.inputs import Bools, Floats, Values
    from streetvision_core.training.out_of_fold.record import CrossValidation

REVIEW_NAME = "review.csv"
COLUMNS = (NAME, LABEL, "model_says", "probability", "why", CORRECTED)


@dataclass(frozen=True)
class Doubt:
    """One image to look at; the fields are the columns of `review.csv`."""

    name: str
    label: str
    model_says: str
    probability: float
    why: str
    corrected_label: str


@dataclass(frozen=True)
class LabelAudit:
    """The images to look at, the most surprising first."""

    doubts: tuple[Doubt, ...]

    def to_artifact(self) -> Artifact:
        """Return `review.csv`, and how many images it lists."""
        rows = map(asdict, self.doubts)
        return Artifact(
            files={REVIEW_NAME: csv_bytes(rows, columns=COLUMNS)}, metrics={"to_review": len(self.doubts)}
        )

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave."""
        rows: list[dict[str, Any]] = [*read_csv(published.read_bytes(REVIEW_NAME))]
        return cls(tuple(Doubt(**row | {"probability": float(row["probability"])}) for row in rows))


def suspected_labels(probability: Values, labels: Values) -> Bools:
    """Tell which labels confident learning suspects, bool [N].

    Args:
        probability: Out-of-fold probabilities of roadwork, [N] in [0, 1].
        labels: Labels, [N] of 0/1 or bool.

    Raises:
        DataError: shapes that do not fit, or a number outside [0, 1].
    """
    roadwork = probability_vector(probability, name="probability")
    truth = binary_vector(labels, name="labels")
    require_equal_length(probability=roadwork, labels=truth)
    sure_of = [
        own >= (own[members].mean() if members.any() else np.inf)
        for own, members in ((1 - roadwork, ~truth), (roadwork, truth))
    ]
    # Where it is sure of both, the more probable one counts.
    none_sure = sure_of[0] & ~(sure_of[1] & (roadwork > 0.5))
    roadwork_sure = sure_of[1] & ~(sure_of[0] & (roadwork <= 0.5))
    return np.where(truth, none_sure, roadwork_sure)


def audit_labels(result: CrossValidation, *, index: ImageIndex, splits: Splits) -> LabelAudit:
    """List the images of train and val_select whose label somebody should look at.

    Args:
        result: Out-of-fold logits; of several repeats the mean probability counts.
        index: The images and their labels.
        splits: Which image plays which role.

    Raises:
        DataError: an image of these roles was not cross-validated.
    """
    image_of = {image.name: image for image in index.pictures}
    images = [image_of[name] for name in sorted(name for role in TRAINED_ON for name in splits.roles[role])]
    probability = _probabilities(result, images)
    labels = np.array([image.label for image in images], dtype=np.int64)
    suspected = suspected_labels(probability, labels)
    near = near_duplicates(images, labels.tolist(), max_distance=splits.config.max_distance).other
    # Rounded, so that another machine's last digits change neither the order nor the file.
    own = np.round(np.where(labels == 1, probability, 1 - probability), 6)
    doubts = []
    for place in np.argsort(own, kind="stable").tolist():
        image, other = images[place], near[place]
        neighbour, contradicted = images[other] if other >= 0 else None, own[place] < 0.5
        suspect = bool(suspected[place])
        why = "; ".join(_reasons(image, contradicted=contradicted, suspected=suspect, neighbour=neighbour))
        if why:
            doubts.append(_doubt(image, float(own[place]), why))
    return LabelAudit(tuple(doubts))


def _probabilities(result: CrossValidation, images: Sequence[IndexedImage]) -> Floats:
    """Return the mean out-of-fold probability of roadwork of each image, float64 [N]."""
    mean: Floats = np.mean([positive_probability(logits) for logits in result.logits], axis=0)
    probability_of: Mapping[str, float] = dict(zip(result.ids, mean.tolist(), strict=True))
    if missing := [image.name for image in images if image.name not in probability_of]:
        expected = f"out-of-fold logits of every image of {' and '.join(TRAINED_ON)}"
        action = "Materialize cross_validation again on these images and splits."
        raise DataError(expected, f"none of {missing[0]}", "cross_validation", action)
    return np.array([probability_of[image.name] for image in images])


def _reasons(
    image: IndexedImage, *, contradicted: bool, suspected: bool, neighbour: IndexedImage | None
) -> Iterator[str]:
    other = LABEL_NAMES[1 - image.label]
    if suspected:
        yield f"the model is as sure of {other} as where that is the label"
    elif contradicted:
        yield f"the model leans to {other}"
    if neighbour is not None:
        yield f"nearly the same image as {neighbour.name}, which is labelled {other}"
    if image.corrected == CONTRADICTED:
        yield "corrected before"


def _doubt(image: IndexedImage, probability: float, why: str) -> Doubt:
    return Doubt(
        name=image.name,
        label=LABEL_NAMES[image.listed_label],
        model_says=LABEL_NAMES[image.label if probability >= 0.5 else 1 - image.label],
        probability=probability,
        why=why,
        corrected_label=LABEL_NAMES[image.label] if image.corrected == CONTRADICTED else "",
    )
