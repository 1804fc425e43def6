"""Out-of-fold logits, and the figures that follow from them.

Files of the artifact:

- `out_of_fold.safetensors`: `logits` float32 [R, N, 2], by repeat, image and class; `fold` int64 [R, N], the
  fold that held the image back in that repeat; `labels` int64 [N]. Where the learning curve was drawn also
  `curve` float32 [S, N, 2], of the folds of the first repeat with a smaller share of the images to train on.
- `ids.json`, `groups.json`: names [N], sorted, and united groups [N] of the images. No group is in two folds.
- `cross_validation.json`: how it was done (`folds`, `roles`, `method`, `shares` [S + 1], the last of which is
  1, and the mean number of images trained on, `trained_on`) and `figures`, which the check counts again.

Figures pool the repeats: a group counts by its mean table over them, so repeats make no interval narrower
than the images and groups allow. The interval is that of reports (`eval/intervals.py`). It does not know that
the models of two folds share most of what they were trained on.

Round trip: `CrossValidation.from_artifact(published)` equals the one whose `to_artifact()` was published.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from streetvision_core.errors import SchemaError
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.intervals import mcc_group_interval
from streetvision_core.eval.metrics import confusion_by_group, mcc_of_counts
from streetvision_core.io import Artifact, PublishedArtifact, json_bytes, tensors_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt


SCHEMA_VERSION = 1
TENSORS_NAME, IDS_NAME, GROUPS_NAME = "out_of_fold.safetensors", "ids.json", "groups.json"
RECORD_NAME = "cross_validation.json"
# The same numbers to the last digits: another NumPy may round them otherwise.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Figure:
    """The MCC of decisions at probability 0.5, and its 95 % interval over groups."""

    mcc: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Logits of images by models that saw nothing of their groups; the module says which shapes.

    `metrics` are numbers to show; they stand in no file.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    fold: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float32]
    curve: npt.NDArray[np.float32]
    shares: tuple[float, ...]
    trained_on: tuple[float, ...]
    roles: tuple[str, ...]
    method: str
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def repeats(self) -> int:
        """The number of times that the folds were dealt."""
        return len(self.logits)

    @property
    def folds(self) -> int:
        """The number of folds."""
        return int(self.fold.max()) + 1

    @property
    def pooled(self) -> Figure:
        """The figure over all repeats."""
        return self.figure(self.logits)

    def figure(
        self, logits: npt.NDArray[np.float32], *, members: npt.NDArray[np.bool_] | None = None
    ) -> Figure:
        """Return the pooled figure of logits [R, N, 2], of all images or of the `members` [N]."""
        kept = np.ones(len(self.ids), np.bool_) if members is None else members
        groups = np.asarray(self.groups)[kept]
        predicted = [margin_vector(repeat[kept]) > 0 for repeat in logits]
        tables = [confusion_by_group(self.labels[kept], decisions, groups) for decisions in predicted]
        counts = np.sum(tables, axis=0) / len(tables)
        interval = mcc_group_interval(counts)
        return Figure(float(mcc_of_counts(counts.sum(axis=0))), interval.low, interval.high)

    def rows_of_sizes(self) -> list[dict[str, float]]:
        """Return one row a share of the first repeat: images trained on, MCC and its interval."""
        curve = (*self.curve, self.logits[0])
        return [
            {"share": share, "images": images, **asdict(self.figure(logits[None]))}
            for share, images, logits in zip(self.shares, self.trained_on, curve, strict=True)
        ]

    def rows_of_repeats(self) -> list[dict[str, float]]:
        """Return one row a repeat: its MCC and the interval."""
        return [
            {"repeat": number, **asdict(self.figure(logits[None]))}
            for number, logits in enumerate(self.logits, start=1)
        ]

    def figures(self) -> dict[str, Any]:
        """Return everything that is counted from the logits, as JSON values."""
        rows = {"by_size": self.rows_of_sizes(), "by_repeat": self.rows_of_repeats()}
        return {"pooled": asdict(self.pooled), **rows}

    def to_artifact(self) -> Artifact:
        """Return the four files, with the MCC and the counts as metrics."""
        tensors = {"logits": self.logits, "fold": self.fold, "labels": self.labels, "curve": self.curve}
        record = {
            "schema_version": SCHEMA_VERSION,
            "folds": self.folds,
            "roles": list(self.roles),
            "method": self.method,
            "shares": list(self.shares),
            "trained_on": list(self.trained_on),
            "figures": self.figures(),
        }
        files = {
            TENSORS_NAME: tensors_bytes(tensors),
            IDS_NAME: json_bytes(list(self.ids)),
            GROUPS_NAME: json_bytes(list(self.groups)),
            RECORD_NAME: json_bytes(record),
        }
        counts = {
            "mcc": self.pooled.mcc,
            "images": len(self.ids),
            "groups": len(set(self.groups)),
            "folds": self.folds,
            "repeats": self.repeats,
        }
        return Artifact(files, {**counts, **self.metrics})

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave.

        Raises:
            SchemaError: another version wrote it.
        """
        record, tensors = published.read_json(RECORD_NAME), published.read_tensors(TENSORS_NAME)
        if record["schema_version"] != SCHEMA_VERSION:
            expected = f"{RECORD_NAME} of schema version {SCHEMA_VERSION}"
            found = f"version {record['schema_version']}"
            action = "Materialize cross_validation again with this version of the project."
            raise SchemaError(expected, found, str(published.directory), action)
        ids, groups = (tuple(published.read_json(name)) for name in (IDS_NAME, GROUPS_NAME))
        lists: dict[str, Any] = {name: tuple(record[name]) for name in ("shares", "trained_on", "roles")}
        arrays: dict[str, Any] = tensors
        return cls(ids, groups, **arrays, **lists, method=record["method"])


def cross_validation_problems(
    published: PublishedArtifact, *, names: Sequence[str], labels: Sequence[int]
) -> list[str]:
    """Count again what was published; one sentence a fault, none when good.

    Args:
        published: The artifact.
        names: The images that it must judge, in the order of the record: sorted.
        labels: Their labels.
    """
    result = CrossValidation.from_artifact(published)
    problems = []
    if result.ids != tuple(names):
        differing = sorted(set(names) ^ set(result.ids))
        problems.append(f"it judged other images than the roles hold, {differing[:1]} for instance")
    elif result.labels.tolist() != list(labels):
        problems.append("it has other labels than the images")
    problems += _shared_groups(result)
    if not _close(published.read_json(RECORD_NAME)["figures"], result.figures()):
        problems.append("the recorded figures do not follow from the recorded logits")
    return problems


def _shared_groups(result: CrossValidation) -> list[str]:
    """Tell of each repeat in which a group is in two folds."""
    problems = []
    for repeat, fold in enumerate(result.fold.tolist(), start=1):
        folds_of = defaultdict(set)
        for group, number in zip(result.groups, fold, strict=True):
            folds_of[group].add(number)
        if shared := [group for group, numbers in folds_of.items() if len(numbers) > 1]:
            problems.append(f"repeat {repeat} has {shared[0]!r} in two folds, of {len(shared)} such groups")
    return problems


def _close(recorded: Any, counted: Any) -> bool:
    if isinstance(counted, dict):
        same = isinstance(recorded, dict) and recorded.keys() == counted.keys()
        return same and all(_close(recorded[name], value) for name, value in counted.items())
    if isinstance(counted, list):
        same = isinstance(recorded, list) and len(recorded) == len(counted)
        return same and all(map(_close, recorded, counted))
    return bool(abs(recorded - counted) <= _TOLERANCE)
