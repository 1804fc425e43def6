"""The final report: val_test, once, through the very predictor that the bundle ships.

Each decision is kept with its picture and its group, so that every figure can be counted again; what the
figures are is told in `bundle.figures`. Slices are the values of every attribute of the index; a slice
with fewer than 30 pictures is marked as too small to read, and an attribute with more than 20 values is no
way to slice and is only named. Optimism is the MCC on val_calib, whose pictures chose the threshold, minus
the MCC here.

A picture that cannot be read is an error: a report never covers fewer pictures than the role has.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, FiniteFloat, field_validator

from streetvision_core.bundle.figures import (
    Calibrations,
    Intervals,
    Ranking,
    calibrations_of,
    intervals_of,
    ranking_of,
)
from streetvision_core.bundle.records import Record, read_record
from streetvision_core.errors import DataError
from streetvision_core.eval.metrics import Confusion, count_confusion
from streetvision_core.eval.policy import ThresholdPolicy, one_class_only
from streetvision_core.io import Artifact, csv_bytes, json_bytes, read_csv

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from streetvision_core.bundle.predictor import Prediction, Predictor
    from streetvision_core.data.index import ImageIndex, Picture
    from streetvision_core.data.pictures import PictureReader
    from streetvision_core.eval.policy import Decision
    from streetvision_core.io import PublishedArtifact

EVALUATION_NAME, PREDICTIONS_NAME = "evaluation.json", "predictions.csv"
SMALLEST_SLICE, MOST_SLICES = 30, 20
SCHEMA_VERSION: Literal[2] = 2


def _complete(metrics: dict[str, int | float]) -> dict[str, int | float]:
    missing = Confusion(0, 0, 0, 0).metrics().keys() - metrics.keys()
    if missing:
        raise ValueError(f"no {', '.join(sorted(missing))}")
    return metrics


Metrics = Annotated[dict[str, int | FiniteFloat], AfterValidator(_complete)]


class Counts(Record):
    """How many pictures were tested, of each label."""

    n: int
    roadwork: int
    none: int


class Slice(Record):
    """The pictures with one value of one attribute."""

    n: int
    too_small: bool
    metrics: Metrics


class Report(Record):
    """``evaluation.json``; ``slices`` are by attribute and value."""

    schema_version: Literal[2] = SCHEMA_VERSION
    role: Literal["val_test"] = "val_test"
    counts: Counts
    metrics: Metrics
    intervals: Intervals
    ranking: Ranking
    calibration: Calibrations
    slices: dict[str, dict[str, Slice]]
    not_sliced: tuple[str, ...]
    policy: ThresholdPolicy
    optimism: FiniteFloat

    @field_validator("schema_version", mode="before")
    @classmethod
    def _of_this_version(cls, version: Any) -> Any:
        # It is the first field, so this stands before what another version has or lacks.
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"it is {version}, where this version reads {SCHEMA_VERSION};"
                " materialize evaluation and bundle again, or use the version that wrote it"
            )
        return version

    def degeneracies(self) -> list[str]:
        """Say why these decisions are worth nothing, one sentence a reason; none for useful ones."""
        return one_class_only(self.metrics, role="val_test")


@dataclass(frozen=True)
class TestedPicture:
    """One picture of val_test, and what the predictor said; logits have the operating point folded in."""

    name: str
    sha256: str
    group: str
    label: int
    logit_none: float
    logit_roadwork: float
    probability: float
    decision: Decision

    @property
    def is_wrong(self) -> bool:
        """Whether the decision contradicts the label."""
        return (self.decision == "roadwork") != (self.label == 1)


@dataclass(frozen=True)
class Evaluation:
    """The decisions on val_test, in the order of the role, and what is counted from them.

    Round trip: `Evaluation.from_artifact(published)` equals what was published by `to_artifact`.
    """

    tested: tuple[TestedPicture, ...]
    report: Report

    @property
    def confusion(self) -> Confusion:
        """How often each decision met each label."""
        return _count(self.tested)

    def slice_table(self) -> list[dict[str, object]]:
        """Return one row a slice: attribute, value, n, mcc, accuracy, recall, fpr, reading."""
        shown = ("mcc", "accuracy", "recall", "fpr")
        everything: dict[str, dict[str, Slice]] = {"all": {"": self._whole()}}
        return [
            {
                "attribute": attribute,
                "value": value,
                "n": part.n,
                **{name: part.metrics[name] for name in shown},
                "reading": "too small to read" if part.too_small else "",
            }
            for attribute, parts in (everything | self.report.slices).items()
            for value, part in parts.items()
        ]

    def _whole(self) -> Slice:
        n = self.report.counts.n
        return Slice(n=n, too_small=n < SMALLEST_SLICE, metrics=self.report.metrics)

    def mistakes(self) -> list[TestedPicture]:
        """Return the wrongly decided pictures, the most confident mistake first."""
        wrong = [one for one in self.tested if one.is_wrong]
        return sorted(wrong, key=lambda one: (-abs(one.logit_roadwork - one.logit_none), one.name))

    def to_artifact(self) -> Artifact:
        """Return `evaluation.json` and `predictions.csv`."""
        rows = [asdict(one) for one in self.tested]
        return Artifact(
            files={
                EVALUATION_NAME: json_bytes(self.report.model_dump(mode="json")),
                PREDICTIONS_NAME: csv_bytes(rows, columns=list(TestedPicture.__dataclass_fields__)),
            },
            metrics={**self.report.metrics, "optimism": self.report.optimism},
        )

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave.

        Raises:
            BundleError: it was written by another version.
        """
        where = str(published.path(EVALUATION_NAME))
        # First the report: it knows its version, and predictions.csv does not.
        report = read_record(Report, published.read_bytes(EVALUATION_NAME), where=where)
        return cls(tuple(map(_tested, read_csv(published.read_bytes(PREDICTIONS_NAME)))), report)


def evaluate(
    predictor: Predictor, names: Sequence[str], *, index: ImageIndex, pictures: PictureReader
) -> Evaluation:
    """Decide every picture of val_test once and count.

    Args:
        predictor: The classifier with its policy folded in.
        names: The pictures of val_test.
        index: Labels, digests and attributes of at least these pictures.
        pictures: Reads their bytes, each verified against the index.

    Raises:
        DataError: no pictures, one that the index lacks, or one that cannot be read.
        IntegrityError: a picture's bytes are not those that were indexed.
    """
    chosen = _choose(names, index)
    predictions = predictor.predict(pictures.read(one.name) for one in chosen)
    tested = tuple(map(_test, chosen, predictions))
    return Evaluation(tested, _report(chosen, tested, policy=predictor.policy))


def decision_problems(
    predictor: Predictor, evaluation: Evaluation, *, pictures: PictureReader, tolerance: float = 1e-3
) -> list[str]:
    """Decide every picture of the report again; return what differs, one sentence a picture.

    A decision whose margin is within the tolerance (of logits, absolute and relative) may differ:
    another machine rounds otherwise.
    """
    answers = predictor.predict(pictures.read(one.name) for one in evaluation.tested)
    return [
        f"{one.name} was decided {one.decision} with logits ({one.logit_none:.4f}, {one.logit_roadwork:.4f}),"
        f" and is now decided {now.decision} with ({now.logits[0]:.4f}, {now.logits[1]:.4f})"
        for one, now in zip(evaluation.tested, answers, strict=True)
        if not agrees((one.logit_none, one.logit_roadwork), one.decision, now, tolerance=tolerance)
    ]


def agrees(logits: tuple[float, float], decision: Decision, now: Prediction, *, tolerance: float) -> bool:
    """Tell whether a prediction reproduces recorded logits within a tolerance, and their decision."""
    close = all(
        math.isclose(was, is_now, rel_tol=tolerance, abs_tol=tolerance)
        for was, is_now in zip(logits, now.logits, strict=True)
    )
    undecided = abs(logits[1] - logits[0]) <= 2 * tolerance * max(1.0, *map(abs, logits))
    return close and (undecided or now.decision == decision)


def _report(
    pictures: Sequence[Picture], tested: Sequence[TestedPicture], *, policy: ThresholdPolicy
) -> Report:
    labels = np.array([one.label == 1 for one in tested])
    decided = np.array([one.decision == "roadwork" for one in tested])
    margins = np.array([one.logit_roadwork - one.logit_none for one in tested])
    metrics = count_confusion(labels, decided).metrics()
    slices, not_sliced = _slice(pictures, tested)
    roadwork = int(labels.sum())
    return Report(
        counts=Counts(n=len(tested), roadwork=roadwork, none=len(tested) - roadwork),
        metrics=metrics,
        intervals=intervals_of(labels, decided, [one.group for one in tested]),
        ranking=ranking_of(labels, margins),
        calibration=calibrations_of(labels, margins, threshold=policy.threshold),
        slices=slices,
        not_sliced=not_sliced,
        policy=policy,
        optimism=policy.val_calib.metrics["mcc"] - metrics["mcc"],
    )


def _choose(names: Sequence[str], index: ImageIndex) -> list[Picture]:
    by_name = {picture.name: picture for picture in index.pictures}
    missing = [name for name in names if name not in by_name]
    if missing or not names:
        raise DataError(
            "pictures of val_test that are in the index",
            f"{missing[0]} and {len(missing) - 1} others that are not" if missing else "no pictures",
            "the evaluation",
            "Materialize images and splits again, from the same source.",
        )
    return [by_name[name] for name in names]


def _test(picture: Picture, said: Prediction) -> TestedPicture:
    return TestedPicture(
        picture.name,
        picture.sha256,
        picture.group,
        picture.label,
        *said.logits,
        said.probability,
        said.decision,
    )


def _count(tested: Iterable[TestedPicture]) -> Confusion:
    pairs = [(one.label, one.decision == "roadwork") for one in tested]
    return count_confusion([label for label, _ in pairs], [decided for _, decided in pairs])


def _slice(
    pictures: Sequence[Picture], tested: Sequence[TestedPicture]
) -> tuple[dict[str, dict[str, Slice]], tuple[str, ...]]:
    grouped: defaultdict[str, defaultdict[str, list[TestedPicture]]] = defaultdict(lambda: defaultdict(list))
    for picture, one in zip(pictures, tested, strict=True):
        for attribute, value in picture.attributes.items():
            grouped[attribute][value].append(one)
    readable = {name: values for name, values in grouped.items() if len(values) <= MOST_SLICES}
    slices = {name: dict(_slices_of(values)) for name, values in sorted(readable.items())}
    return slices, tuple(sorted(grouped.keys() - readable.keys()))


def _slices_of(values: Mapping[str, list[TestedPicture]]) -> Iterator[tuple[str, Slice]]:
    for value, members in sorted(values.items()):
        size = len(members)
        yield value, Slice(n=size, too_small=size < SMALLEST_SLICE, metrics=_count(members).metrics())


def _tested(row: Mapping[str, str]) -> TestedPicture:
    numbers = {name: float(row[name]) for name in ("logit_none", "logit_roadwork", "probability")}
    decision: Decision = "roadwork" if row["decision"] == "roadwork" else "none"
    return TestedPicture(
        name=row["name"],
        sha256=row["sha256"],
        group=row["group"],
        label=int(row["label"]),
        decision=decision,
        **numbers,
    )
