"""Labels that can be told without looking at the street: from size, format, brightness, camera or source.

Where all roadwork comes from one camera, a model learns the camera, every figure on held-out images is
excellent, and in use nothing works. `find_shortcuts` looks for it in the index alone, before any training:

1. A feature is the width, height, aspect, bytes a pixel, mean brightness or format of an image, or an
   attribute whose name speaks of its origin (`ORIGINS`: `source`, `camera_model` ...). Other attributes, such
   as a description of the works, are no property of the pixels, and nothing is said of them. EXIF is not
   read. Those that are not of the content (`OF_CONTENT`) are one more together.
2. A shallow tree predicts the label from the feature, cross-validated over whole groups, so that a column of
   unique values, or of one value a group, predicts nothing. Its classes are balanced: a fold with more
   roadwork than the others moves no score.
3. The AUROC of these predictions has an interval over groups, its level corrected for the number of features
   (Bonferroni). A finding needs an AUROC of at least `LEAST_AUROC` and a lower end above `LEAST_LOW`, or
   above `LEAST_LOW_OF_CONTENT` where the works themselves change the feature. All together are named only
   where no single feature is.

Beyond `MOST_IMAGES` images of a class an even sample is looked at, drawn by content: AUROC does not depend on
prevalence. What no image of an older index recorded is skipped. Nothing is found where a class has fewer than
`FOLDS` groups: that would be chance.

What is not promised: that there is no shortcut. A watermark or a season is not among the features.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.data.groups import groups_known
from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.eval.folds import split_folds, units_of_classes
from streetvision_core.eval.ranking import auroc, auroc_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from streetvision_core.data.index import ImageIndex, IndexedImage
    from streetvision_core.eval.inputs import Bools, Floats
    from streetvision_core.eval.intervals import Interval

LEAST_AUROC, LEAST_LOW = 0.65, 0.60
# Works have edges and colours of their own: without any shortcut these tell something of the label.
OF_CONTENT = frozenset({"bytes per pixel", "brightness"})
LEAST_LOW_OF_CONTENT = 0.85
LEVEL = 0.95
FOLDS = 5
MOST_IMAGES = 2_500
# A value rarer than the 20 commonest of its column is one of the rest: trees of depth 3 use no more.
MOST_VALUES = 20
ORIGINS = frozenset(
    {"source", "origin", "dataset", "provider", "camera", "device", "make", "model", "sensor", "vehicle"}
)
JOINT = "size, format and origin together"
WHAT_TO_DO = (
    "a model may learn this instead of the works: take both classes from every source, size and format, or"
    " make them alike (same size and encoding), and look at the figures inside each"
)
# Of worlds without a shortcut 57 % were warned of where frames had no group, 0.5 % where they had.
WHERE_UNGROUPED = " this may be chance: name their groups first"
Columns = dict[str, "Floats"]


@dataclass(frozen=True)
class Shortcut:
    """A feature that tells the label; `typical` describes it for images of None and of Roadwork."""

    feature: str
    auroc: float
    interval: Interval
    typical: tuple[str, str]

    def __str__(self) -> str:
        """Return one sentence for a person."""
        none, roadwork = self.typical
        described = f": {LABEL_NAMES[0]} {none}, {LABEL_NAMES[1]} {roadwork}" if none else ""
        return (
            f"the label can be told from {self.feature} alone, AUROC {self.auroc:.2f}"
            f" [{self.interval.low:.2f}, {self.interval.high:.2f}]{described}"
        )


def shortcut_warnings(index: ImageIndex, shortcuts: Sequence[Shortcut]) -> list[str]:
    """Return a sentence for each shortcut of `index`, then what to do about them; empty without any."""
    if not shortcuts:
        return []
    chance = [] if groups_known(index.pictures) else [WHERE_UNGROUPED]
    return [*map(str, shortcuts), *chance, WHAT_TO_DO]


def find_shortcuts(index: ImageIndex) -> tuple[Shortcut, ...]:
    """Return the features that tell the label of the images of `index`, the strongest first."""
    images = _sample(index)
    truth = np.array([image.label == 1 for image in images])
    group = np.unique([image.group for image in images], return_inverse=True)[1]
    columns = features(images)
    if not columns or min(units_of_classes(truth, group).values()) < FOLDS:
        return ()
    joined = [values for name, values in columns.items() if name not in OF_CONTENT]
    if len(joined) > 1:
        columns[JOINT] = np.column_stack(joined)
    folds = list(split_folds(truth, group, folds=FOLDS, seed=0, purpose="shortcuts"))
    level = 1 - (1 - LEVEL) / len(columns)
    scores = {name: _predict(values, truth, folds) for name, values in columns.items()}
    strong = []
    for name, values in scores.items():
        area, interval = auroc(values, truth), auroc_interval(values, truth, group, level=level)
        least = LEAST_LOW_OF_CONTENT if name in OF_CONTENT else LEAST_LOW
        if area >= LEAST_AUROC and interval.low > least:
            strong.append(Shortcut(name, area, interval, _describe(name, images)))
    single = [shortcut for shortcut in strong if shortcut.feature != JOINT]
    return tuple(sorted(single or strong, key=lambda shortcut: (-shortcut.auroc, shortcut.feature)))


def _sample(index: ImageIndex) -> list[IndexedImage]:
    ordered = sorted(index.pictures, key=lambda image: (image.sha256, image.name))
    by_label = [[image for image in ordered if image.label == label] for label in (0, 1)]
    return [image for images in by_label for image in images[:MOST_IMAGES]]


def features(images: Sequence[IndexedImage]) -> Columns:
    """Return the features that differ between the images, each [N, C]; texts are one column a value."""
    numbers = {name: np.array(values, float)[:, None] for name, values in _numbers(images).items()}
    texts = {name: _indicators(values) for name, values in _texts(images).items()}
    return {name: values for name, values in {**numbers, **texts}.items() if np.ptp(values, axis=0).any()}


def _numbers(images: Sequence[IndexedImage]) -> dict[str, list[float]]:
    brightness = [image.brightness for image in images if image.brightness is not None]
    return {
        "width": [image.width for image in images],
        "height": [image.height for image in images],
        "aspect": [image.width / image.height for image in images],
        "bytes per pixel": [image.size_bytes / (image.width * image.height) for image in images],
        **({"brightness": list(brightness)} if len(brightness) == len(images) else {}),
    }


def _texts(images: Sequence[IndexedImage]) -> dict[str, list[str]]:
    names = sorted({name for image in images for name in image.attributes})
    origins = [name for name in names if ORIGINS & set(re.split(r"[^a-z]+", name.lower()))]
    texts = {f"attribute {name}": [image.attributes.get(name, "") for image in images] for name in origins}
    formats = [image.format for image in images]
    return texts | ({"format": formats} if all(formats) else {})


def _indicators(values: Sequence[str]) -> Floats:
    """Return one column for each of the commonest values, [N, at most MOST_VALUES]."""
    common = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))[:MOST_VALUES]
    indicators: Floats = np.array([[value == category for category, _ in common] for value in values], float)
    return indicators


def _predict(
    values: Floats, truth: Bools, folds: Sequence[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]
) -> Floats:
    """Return the out-of-fold probability of roadwork, [N]."""
    from sklearn.tree import DecisionTreeClassifier

    scores = np.empty(truth.size)
    for fitting, judging in folds:
        tree = DecisionTreeClassifier(
            max_depth=3, min_samples_leaf=5, class_weight="balanced", random_state=0
        ).fit(values[fitting], truth[fitting])
        scores[judging] = tree.predict_proba(values[judging])[:, 1]
    return scores


def _describe(feature: str, images: Sequence[IndexedImage]) -> tuple[str, str]:
    """Return the median or the commonest value of the images of each class, with one of them for example."""
    numbers, texts = _numbers(images), _texts(images)
    if feature == JOINT:
        return "", ""
    none, roadwork = ([n for n, image in enumerate(images) if image.label == label] for label in (0, 1))
    if feature in numbers:
        return _median(numbers[feature], none, images), _median(numbers[feature], roadwork, images)
    return _commonest(texts[feature], none, images), _commonest(texts[feature], roadwork, images)


def _median(values: Sequence[float], members: Sequence[int], images: Sequence[IndexedImage]) -> str:
    middle = sorted(members, key=lambda n: (values[n], images[n].name))[len(members) // 2]
    return f"{values[middle]:.4g} in the middle ({images[middle].name})"


def _commonest(values: Sequence[str], members: Sequence[int], images: Sequence[IndexedImage]) -> str:
    value, count = min(Counter(values[n] for n in members).items(), key=lambda item: (-item[1], item[0]))
    example = min(images[n].name for n in members if values[n] == value)
    return f"{count / len(members):.0%} {value or 'nothing'!r} ({example})"
