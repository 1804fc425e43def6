"""The final evaluation: val_test, once, on the path from bytes to logits that the bundle's predictor takes.

Each image goes through the checkpoint's network once; every policy folds its operating point into these
logits and decides. The logits of each image and the decision of each policy are kept with its digest and its
group, so that every figure can be counted again. `report` defines the figures, `pages` draws them.

An image that cannot be read is an error: a report never covers fewer images than the role has.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

from streetvision_core.data.conditions.profile import AS_IT_IS
from streetvision_core.data.groups import groups_known
from streetvision_core.errors import DataError
from streetvision_core.eval.curves import CURVE_PREFIX
from streetvision_core.eval.decisions import DECISIONS
from streetvision_core.inference.predictor import ImageClassifier
from streetvision_core.inference.reproduce import TOLERANCE, Recorded, reproduction_problems
from streetvision_core.io import Artifact, csv_bytes, json_bytes, read_csv
from streetvision_core.io.records import read_record
from streetvision_core.report.curves import tabulate_curves
from streetvision_core.report.in_use import tabulate_use
from streetvision_core.report.pages import PAGE_NAME, PLOT_PREFIX, draw_report
from streetvision_core.report.report import Decided, Levels, Report, Tested, report_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from streetvision_core.data.conditions import Conditions
    from streetvision_core.data.decoding.decode import ImageReader
    from streetvision_core.data.index import ImageIndex, IndexedImage
    from streetvision_core.eval.decisions import Decision, OperatingPoint, Policy
    from streetvision_core.inference.logits import TrainedClassifier
    from streetvision_core.inference.predictor import ImageLike, Predictor
    from streetvision_core.io import PublishedArtifact

    _Decisions: TypeAlias = tuple[npt.NDArray[np.float64], Mapping[str, Decided]]

EVALUATION_NAME, PREDICTIONS_NAME, LEVELS_PREFIX = "evaluation.json", "predictions.csv", "levels/"
_BY = "by_"
_COLUMNS = ("name", "sha256", "group", "label", "logit_none", "logit_roadwork")


@dataclass(frozen=True)
class TestedImage:
    """One image of val_test: the checkpoint's logits, and the decision of each policy by its type."""

    name: str
    sha256: str
    group: str
    label: int
    logit_none: float
    logit_roadwork: float
    decisions: Mapping[str, Decision]

    def folded(self, point: OperatingPoint) -> tuple[float, float]:
        """Return the logits with an operating point folded in."""
        none, roadwork = point.fold([[self.logit_none, self.logit_roadwork]])[0].tolist()
        return none, roadwork

    def to_csv_row(self) -> dict[str, object]:
        """Return the row of `predictions.csv`."""
        known = {name: getattr(self, name) for name in _COLUMNS}
        return known | {f"{_BY}{kind}": decision for kind, decision in self.decisions.items()}

    @classmethod
    def from_csv_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row back."""
        decisions = {name.removeprefix(_BY): cell for name, cell in row.items() if name.startswith(_BY)}
        if not set(decisions.values()) <= set(DECISIONS):
            raise DataError(
                f"decisions among {', '.join(DECISIONS)}",
                ", ".join(sorted(set(decisions.values()) - set(DECISIONS))),
                f"the row of {row['name']}",
                "Materialize evaluation again.",
            )
        numbers = {"label": int(row["label"])} | {
            name: float(row[name]) for name in ("logit_none", "logit_roadwork")
        }
        known: dict[str, Any] = {name: row[name] for name in ("name", "sha256", "group")} | numbers
        return cls(**known, decisions=decisions)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation: the decisions on val_test in the order of the role, their report, and its pages.

    `pages` are files by name: the plots, their curves in numbers, and the report in HTML. `levels` are the
    same images at each level of the conditions, by its name; those of `as_is` only where `tested` are not.

    Round trip: `Evaluation.from_artifact(published)` equals what was published by `to_artifact`.
    """

    tested: tuple[TestedImage, ...]
    report: Report
    pages: Mapping[str, bytes]
    levels: Mapping[str, tuple[TestedImage, ...]] = field(default_factory=dict)

    def recorded(self, policy: Policy) -> list[Recorded]:
        """Return what a predictor with this policy must give again, in the order of the role."""
        folded = policy.point.fold([[image.logit_none, image.logit_roadwork] for image in self.tested])
        return [
            Recorded(image.name, (none, roadwork), image.decisions[policy.type])
            for image, (none, roadwork) in zip(self.tested, folded.tolist(), strict=True)
        ]

    def to_artifact(self) -> Artifact:
        """Return `evaluation.json`, `predictions.csv`, `report.html` and the plots."""
        rows = [image.to_csv_row() for image in self.tested]
        return Artifact(
            files={
                EVALUATION_NAME: json_bytes(self.report.model_dump(mode="json")),
                PREDICTIONS_NAME: csv_bytes(rows, columns=list(rows[0])),
                **{
                    f"{LEVELS_PREFIX}{name}.csv": csv_bytes(
                        [image.to_csv_row() for image in level], columns=list(rows[0])
                    )
                    for name, level in self.levels.items()
                },
                **self.pages,
            },
            metrics=self.report.figures(),
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
        levels = [name for name in published.content if name.startswith(LEVELS_PREFIX)]
        prefixes = (PLOT_PREFIX, CURVE_PREFIX)
        drawn = [name for name in published.content if name == PAGE_NAME or name.startswith(prefixes)]
        return cls(
            _read_rows(published, PREDICTIONS_NAME),
            report,
            {name: published.read_bytes(name) for name in drawn},
            {
                name.removeprefix(LEVELS_PREFIX).removesuffix(".csv"): _read_rows(published, name)
                for name in levels
            },
        )


def _read_rows(published: PublishedArtifact, name: str) -> tuple[TestedImage, ...]:
    return tuple(map(TestedImage.from_csv_row, read_csv(published.read_bytes(name))))


def evaluate(
    checkpoint: TrainedClassifier,
    policies: Mapping[str, Policy],
    names: Sequence[str],
    *,
    index: ImageIndex,
    images: ImageReader,
) -> Evaluation:
    """Decide every image of val_test by every policy, again at each level, and count and draw the results.

    Args:
        checkpoint: The classifier, as it was trained.
        policies: The policies side by side, by their types; at least one.
        names: The images of val_test.
        index: Labels, digests, groups and attributes of at least these images.
        images: Reads their bytes, each verified against the index. They are seen under its conditions,
            and at each of their levels; without conditions as they are, and at no levels.

    Raises:
        DataError: no images, one that the index lacks, or one that cannot be read.
        IntegrityError: the weights or an image's bytes are not what they were.
    """
    chosen = _choose(names, index)
    decide = partial(_decide, ImageClassifier(checkpoint.load_model(), config=checkpoint.config), policies)
    logits, decided = decide(in_use([image.name for image in chosen], images))
    tested = Tested(
        logits=logits,
        labels=np.array([image.label == 1 for image in chosen]),
        groups=[image.group for image in chosen],
        attributes=attributes_of(chosen),
        groups_known=groups_known(chosen),
    )
    levels = _decide_levels(decide, chosen, (tested, decided), images)
    report = report_of(tested, decided, levels=levels)
    pages = draw_report(tested, decided, report, chosen, model=_model(checkpoint), images=images)
    return Evaluation(
        _rows(chosen, tested, decided),
        report,
        {**pages, **tabulate_curves(tested, decided), **tabulate_use(tested, decided, report)},
        {
            name: _rows(chosen, *seen)
            for name, seen in (levels.at if levels else {}).items()
            if name != AS_IT_IS or seen[1] is not decided
        },
    )


def in_use(names: Iterable[str], images: ImageReader) -> Iterator[ImageLike]:
    """Yield images as they arrive in use: their bytes, or their pixels where the conditions change them."""
    plain = images.conditions is None or images.conditions.is_as_is
    return (images.read(name) if plain else images.image(name) for name in names)


def _decide_levels(
    decide: Callable[[Iterable[ImageLike]], _Decisions],
    chosen: Sequence[IndexedImage],
    used: tuple[Tested, Mapping[str, Decided]],
    images: ImageReader,
) -> Levels | None:
    """Decide the images at every level, and as they are where the conditions of use are others."""
    conditions, (tested, _) = images.conditions, used
    if conditions is None:
        return None
    plain = used
    if not conditions.is_as_is:
        logits, decided = decide(images.read(image.name) for image in chosen)
        plain = replace(tested, logits=logits), decided
    names = conditions.reported.names
    logits, decided = decide(_at_every_level(chosen, images, conditions))
    at = {
        name: (
            replace(tested, logits=logits[place :: len(names)]),
            {kind: outcome.every(place, len(names)) for kind, outcome in decided.items()},
        )
        for place, name in enumerate(names)
    }
    return Levels(conditions.reported.title, tuned=not conditions.is_as_is, at={AS_IT_IS: plain, **at})


def _at_every_level(
    chosen: Sequence[IndexedImage], images: ImageReader, conditions: Conditions
) -> Iterator[ImageLike]:
    """Yield each image at all levels, one after the other: it is read and decoded once."""
    from streetvision_core.data.decoding.decode import decode

    for image in chosen:
        pixels = decode(images.read(image.name))
        for name in conditions.reported.names:
            yield conditions.see_at(name, pixels, image.sha256)


def _rows(
    chosen: Sequence[IndexedImage], tested: Tested, decided: Mapping[str, Decided]
) -> tuple[TestedImage, ...]:
    return tuple(
        TestedImage(
            image.name, image.sha256, image.group, image.label, none, roadwork,
            {kind: outcome.decisions[position] for kind, outcome in decided.items()},
        )
        for position, (image, (none, roadwork)) in enumerate(zip(chosen, tested.logits.tolist(), strict=True))
    )  # fmt: skip


def decision_problems(
    predictor: Predictor, evaluation: Evaluation, *, images: ImageReader, tolerance: float = TOLERANCE
) -> list[str]:
    """Decide every image of the report again; return what differs, one sentence an image."""
    again = in_use((image.name for image in evaluation.tested), images)
    recorded = evaluation.recorded(predictor.policy)
    return reproduction_problems(predictor, recorded, again, tolerance=tolerance)


def attributes_of(chosen: Sequence[IndexedImage]) -> dict[str, list[str]]:
    """Return each attribute of the index as a column; "unknown" where an image has none."""
    names = sorted({name for image in chosen for name in image.attributes})
    return {name: [image.attributes.get(name) or "unknown" for image in chosen] for name in names}


def _model(checkpoint: TrainedClassifier) -> dict[str, str]:
    architecture = checkpoint.config["architecture"]
    return {"model": f"{architecture}, weights SHA-256 {checkpoint.weights.sha256[:16]}"}


def _decide(
    classifier: ImageClassifier, policies: Mapping[str, Policy], images: Iterable[ImageLike]
) -> _Decisions:
    """Return the checkpoint's logits, float64 [N, 2], and what each policy makes of the images."""
    extras = {name for policy in policies.values() for name in policy.extras}
    logits: list[Any] = []
    decisions: dict[str, list[Decision]] = {kind: [] for kind in policies}
    confidence: dict[str, list[Any]] = {kind: [] for kind in policies}
    # A batch at a time: the features of all images, which a learned gate looks at, need not be in memory.
    for _, measured in classifier.measure(images, extras=extras):
        logits.append(measured.logits.astype(np.float64))
        for kind, policy in policies.items():
            folded = policy.point.fold(measured.logits)
            decisions[kind] += policy.decide(folded, measured.extras)
            confidence[kind].append(policy.confidence(folded, measured.extras))
    decided = {
        kind: Decided(policy, decisions[kind], np.concatenate(confidence[kind]))
        for kind, policy in policies.items()
    }
    return np.concatenate(logits), decided


def _choose(names: Sequence[str], index: ImageIndex) -> list[IndexedImage]:
    by_name = {image.name: image for image in index.pictures}
    missing = [name for name in names if name not in by_name]
    if missing or not names:
        raise DataError(
            "images of val_test that are in the index",
            f"{missing[0]} and {len(missing) - 1} others that are not" if missing else "no images",
            "the evaluation",
            "Materialize images and splits again, from the same source.",
        )
    return [by_name[name] for name in names]
