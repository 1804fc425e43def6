"""The index of the labelled images: every image read once, measured, and kept or put in quarantine.

`index_source` reads each listed image exactly once. What cannot be used goes to the quarantine with
its reason, never to a crash; exact duplicates that carry both labels go there together. The result does
not depend on the order of the source or on the number of workers. It is refused (`QuarantineError`, which
carries the index and one advice for each reason) when the quarantine is more than a share of the images, and
when no image or only one class is left.

Round trip: `ImageIndex.from_artifact(published)` equals the index whose `to_artifact()` was published.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

from streetvision_core.data.decoding.ahead import run_ahead
from streetvision_core.data.decoding.reasons import MAX_PIXELS, Reason, UnusableImageError
from streetvision_core.data.labels import LABEL_NAMES, check_some_of_each
from streetvision_core.errors import DataError
from streetvision_core.io import Artifact, PublishedArtifact, csv_bytes, read_csv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from streetvision_core.data.sources import Entry, ImageSource

# The demo images, where they were drawn, lie beside their index.
DEMO_FILE = "pictures.parquet"
_NUMBERS = ("label", "size_bytes", "width", "height", "orientation")
_COLUMNS = ("name", "label", "group", "sha256", *_NUMBERS[1:], "phash", "phash_mirrored")
# What no index of commit 705fcbb has: read as not recorded.
_CORRECTED = "corrected"
_LATER = ("format", "brightness", "phash256", "phash256_mirrored", "role")
_ATTRIBUTE = "attribute:"
# Re-encoded, half-size and mirrored copies of street photographs stay within these bits of 64 and of 256.
_COPY_BITS, _COPY_BITS_256 = 4, 16
_AT_A_TIME = 16  # images a thread is handed: handing over one takes a tenth of the time of measuring it
_EXAMPLES = 2  # of each reason, in one line
_KINDS_NAMED = 3  # of formats that are not read
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # no table, terminal or file system carries these on unharmed


@dataclass(frozen=True)
class IndexedImage:
    """One usable image. `name` is unique; an image without a group is a group of its own name.

    Width and height are in pixels and upright; `orientation` is the EXIF value 1 to 8; the hashes are 64
    bits in 16 hex digits, those of 256 bits in 64. `format` is Pillow's name of it, `brightness` the mean
    grey from 0 to 255, `role` the role that the data itself gives the image. These five are empty or
    None where an older index did not record them. `corrected` is the kind of review that changed the label
    (`corrections`), empty where it is the listed one.
    """

    name: str
    label: int
    group: str
    sha256: str
    size_bytes: int
    width: int
    height: int
    orientation: int
    phash: str
    phash_mirrored: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    format: str = ""
    brightness: int | None = None
    phash256: str = ""
    phash256_mirrored: str = ""
    role: str | None = None
    corrected: str = ""

    @property
    def listed_label(self) -> int:
        """The label as the source lists it."""
        return 1 - self.label if self.corrected else self.label


@dataclass(frozen=True)
class Quarantined:
    """One image that is not used, and why."""

    name: str
    reason: Reason
    detail: str


@dataclass(frozen=True)
class ImageIndex:
    """The usable images and the quarantine, each sorted by name."""

    pictures: tuple[IndexedImage, ...]
    quarantine: tuple[Quarantined, ...] = ()

    @property
    def summary(self) -> str:
        """One line: how many images were listed, are used of each class, and were put aside, and why."""
        labels = Counter(image.label for image in self.pictures)
        used = ", ".join(f"{labels[label]} {name}" for label, name in enumerate(LABEL_NAMES))
        grouped = f" in {self.groups_in_words}" if self._named_groups else ", images (no groups known)"
        line = (
            f"{len(self.pictures) + len(self.quarantine)} listed, {len(self.pictures)} used ({used})"
            f"{grouped}; {len(self.quarantine)} put aside"
        )
        if self.quarantine:
            line += f": {describe_quarantine(self.quarantine)}"
        return f"{line}; labels corrected: {len(self.corrected)}" if self.corrected else line

    @property
    def corrected(self) -> tuple[IndexedImage, ...]:
        """The images whose label a review has changed."""
        return tuple(image for image in self.pictures if image.corrected)

    @property
    def groups_in_words(self) -> str:
        """The number of groups, in words, and the number of images without a group."""
        from streetvision_core.data.groups import count_groups

        named = self._named_groups
        alone = sum(image.group == image.name for image in self.pictures)
        groups = count_groups(len(named), len(self.pictures), known=bool(named))
        return f"{groups} and {alone} images without one" if named and alone else groups

    @property
    def _named_groups(self) -> set[str]:
        return {image.group for image in self.pictures if image.group != image.name}

    def quarantine_csv(self) -> bytes:
        """Return `quarantine.csv`: name, reason and detail of what is not used."""
        return csv_bytes(map(asdict, self.quarantine), columns=["name", "reason", "detail"])

    def to_artifact(self) -> Artifact:
        """Return `index.csv` and `quarantine.csv`; an attribute NAME is the column `attribute:NAME`.

        Where a review has changed labels, the column `corrected` says which.
        """
        attributes = sorted({f"{_ATTRIBUTE}{name}" for image in self.pictures for name in image.attributes})
        rows = map(_row, self.pictures)
        corrected = [_CORRECTED] if self.corrected else []
        labels = Counter(image.label for image in self.pictures)
        return Artifact(
            files={
                "index.csv": csv_bytes(rows, columns=[*_COLUMNS, *_LATER, *corrected, *attributes]),
                "quarantine.csv": self.quarantine_csv(),
            },
            metrics={
                "pictures": len(self.pictures),
                "none": labels[0],
                "roadwork": labels[1],
                "groups": len(self._named_groups),
                "ungrouped": sum(image.group == image.name for image in self.pictures),
                "quarantined": len(self.quarantine),
                "corrected": len(self.corrected),
            },
        )

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave."""
        return cls(
            pictures=tuple(map(_image, read_csv(published.read_bytes("index.csv")))),
            quarantine=tuple(
                Quarantined(row["name"], Reason(row["reason"]), row["detail"])
                for row in read_csv(published.read_bytes("quarantine.csv"))
            ),
        )


class QuarantineError(DataError):
    """The images of a source cannot be used as they are; `index` is the index as it would have been.

    `listed` is the file that lists what was put aside, where somebody has written it.
    """

    def __init__(
        self, index: ImageIndex, found: str, *, expected: str, where: str, listed: Path | None = None
    ) -> None:
        written = [f"All that was put aside is listed in {listed}."] if listed else []
        super().__init__(expected, found, where, " ".join([*advice_for(index), *written]))
        self.index = index
        self.listed = listed

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(type(self), expected=self.expected, where=str(self.where), listed=self.listed)
        return make, (self.index, self.found)

    def listed_in(self, path: Path) -> Self:
        """Return the same error, which names the file that lists what was put aside."""
        return type(self)(self.index, self.found, expected=self.expected, where=str(self.where), listed=path)


def advice_for(index: ImageIndex) -> list[str]:
    """Return what to do about each reason in the quarantine, the commonest first, then about the classes."""
    advice = [_advice(Reason(reason), index.quarantine) for reason, _ in _count_reasons(index.quarantine)]
    if len({image.label for image in index.pictures}) == 1:
        advice.append("Add images of the other class, or correct the labels.")
    elif index.pictures:
        advice.append("Or raise max_quarantined_share, if they may be left out.")
    return advice


def _advice(reason: Reason, quarantine: Iterable[Quarantined]) -> str:
    if reason is not Reason.UNSUPPORTED:
        return reason.advice
    details = Counter(entry.detail for entry in quarantine if entry.reason is reason)
    return "; ".join(f"{detail} ({count})" for detail, count in details.most_common(_KINDS_NAMED)) + "."


def describe_quarantine(quarantine: Sequence[Quarantined], *, details: bool = False) -> str:
    """Say how many images each reason has put aside, with two of them as examples, or one and its detail."""
    counts, parts = _count_reasons(quarantine), []
    for reason, count in counts:
        examples = [entry for entry in quarantine if entry.reason == reason][:_EXAMPLES]
        first = f"{examples[0].name}: {examples[0].detail}"
        shown = first if details else ", ".join(example.name for example in examples)
        parts.append(f"{f'{count} ' if len(counts) > 1 else ''}{reason} ({shown})")
    return ", ".join(parts)


def index_source(
    source: ImageSource,
    *,
    max_quarantined_share: float = 0.05,
    max_pixels: int = MAX_PIXELS,
    workers: int = 2,
    unchanged: Callable[[str], IndexedImage | None] = lambda _: None,
    check: Callable[[Sequence[Entry]], None] = lambda _: None,
) -> ImageIndex:
    """Read every image of `source` once, in `workers` threads, and index it.

    Args:
        source: The images.
        max_quarantined_share: How much of them may be unusable, 0 to 1.
        max_pixels: How large an image may be.
        workers: How many threads read.
        unchanged: Returns what is known of an image by its name, which then is not read; or None.
        check: Raises where what is listed cannot be right, before anything is read.

    Raises:
        QuarantineError: more than the share `max_quarantined_share` (0 to 1) cannot be used, or what can
            is of one class or none.
        DataError: nothing is listed.
    """
    entries = list(source.entries())
    if not entries:
        action = "Add images, or correct the path: of a folder the files below its class folders count."
        raise DataError("labelled images", "none: nothing is listed there", source.describe(), action)
    check_some_of_each(Counter(entry.label for entry in entries), source.describe())
    check(entries)
    readable, quarantine = _sort_out(entries)
    measure = partial(_measure, source, unchanged=unchanged, max_pixels=max_pixels)
    parts = [readable[start : start + _AT_A_TIME] for start in range(0, len(readable), _AT_A_TIME)]
    done = run_ahead(lambda part: list(map(measure, part)), parts, threads=workers, ahead=4 * workers)
    measured = list(chain.from_iterable(done))
    quarantine += [entry for entry in measured if isinstance(entry, Quarantined)]
    images = [image for image in measured if isinstance(image, IndexedImage)]
    images.sort(key=lambda image: image.name)
    for find_contradicting in (_find_contradicting, _find_contradicting_copies):
        both = list(find_contradicting(images))
        quarantine += both
        refused = {entry.name for entry in both}
        images = [image for image in images if image.name not in refused]
    index = ImageIndex(
        pictures=tuple(images),
        quarantine=tuple(sorted(quarantine, key=lambda entry: (entry.name, entry.reason))),
    )
    _check_share(index, max_quarantined_share, source.describe())
    _check_classes(index, source.describe())
    return index


def _sort_out(entries: Iterable[Entry]) -> tuple[list[Entry], list[Quarantined]]:
    """Put aside what needs no reading: no label, a name that no file can carry on, or a name seen before."""
    by_name: defaultdict[str, list[Entry]] = defaultdict(list)
    readable, quarantine = [], []
    for entry in entries:
        name = _CONTROL.sub("?", entry.name.encode(errors="replace").decode())
        if name != entry.name:
            detail = "its name is not valid UTF-8, or holds control characters"
            quarantine.append(Quarantined(name, Reason.UNREADABLE, detail))
        elif entry.label is None:
            quarantine.append(Quarantined(name, Reason.UNLABELLED, "its label is empty"))
        else:
            by_name[name].append(entry)
    for name, same in by_name.items():
        if len({entry.label for entry in same}) > 1:
            quarantine += [Quarantined(name, Reason.CONTRADICTING, "listed with both labels")] * len(same)
        elif len({entry.role for entry in same}) > 1:
            quarantine += [Quarantined(name, Reason.CONTRADICTING, "listed in several roles")] * len(same)
        else:
            readable.append(same[0])
            quarantine += [Quarantined(name, Reason.LISTED_TWICE, "the first time counts")] * (len(same) - 1)
    return readable, quarantine


def _measure(
    source: ImageSource, entry: Entry, *, unchanged: Callable[[str], IndexedImage | None], max_pixels: int
) -> IndexedImage | Quarantined:
    from streetvision_core.data.fingerprint import fingerprint

    assert entry.label is not None
    listed: dict[str, Any] = {**vars(entry), "group": entry.group or entry.name, "corrected": ""}
    if (known := unchanged(entry.name)) is not None:
        return replace(known, **listed)
    try:
        measured = fingerprint(source.read(entry.name), max_pixels=max_pixels)
    except UnusableImageError as error:
        return Quarantined(entry.name, error.reason, " ".join(error.detail.split()))
    return IndexedImage(**listed, **vars(measured))


def contradicting(images: Sequence[IndexedImage]) -> Iterator[Quarantined]:
    """Find images of which a copy carries the other label; an image may come twice."""
    yield from _find_contradicting(images)
    yield from _find_contradicting_copies(images)


def _find_contradicting(images: Iterable[IndexedImage]) -> Iterator[Quarantined]:
    same_bytes: defaultdict[str, list[IndexedImage]] = defaultdict(list)
    for image in images:
        same_bytes[image.sha256].append(image)
    for copies in same_bytes.values():
        if len({copy.label for copy in copies}) > 1:
            for copy in copies:
                other = next(image for image in copies if image.label != copy.label)
                yield _contradicting(copy, other, "the same image")


def _find_contradicting_copies(images: Sequence[IndexedImage]) -> Iterator[Quarantined]:
    """Find images and re-encoded, resized or mirrored copies of them that carry the other label.

    Near-duplicates further apart are kept: of two neighbouring frames one may show the first cone.
    """
    from streetvision_core.data.duplicates import near_duplicates

    hashed = [image for image in images if image.phash256 and image.phash256_mirrored]
    labels = [image.label for image in hashed]
    near = near_duplicates(hashed, labels, max_distance=_COPY_BITS, confirmed=_COPY_BITS_256)
    for n, image in enumerate(hashed):
        if near.other[n] >= 0:
            other = hashed[near.other[n]]
            bits = f" ({near.distance[n]} of 64 and {near.distance256[n]} of 256 bits apart)"
            yield _contradicting(image, other, "nearly the same image", bits)


def _contradicting(image: IndexedImage, other: IndexedImage, likeness: str, bits: str = "") -> Quarantined:
    own = f"labelled {LABEL_NAMES[image.label]}"
    detail = f"{own}, and {other.name} is {likeness} labelled {LABEL_NAMES[other.label]}{bits}"
    return Quarantined(image.name, Reason.CONTRADICTING, detail)


def _check_share(index: ImageIndex, most: float, where: str) -> None:
    aside, listed = len(index.quarantine), len(index.pictures) + len(index.quarantine)
    if aside > most * listed:
        found = f"{aside}: {describe_quarantine(index.quarantine, details=True)}"
        expected = f"at most {most:.1%} of {listed} images put aside"
        raise QuarantineError(index, found, expected=expected, where=where)


def _check_classes(index: ImageIndex, where: str) -> None:
    labels = {image.label for image in index.pictures}
    if len(labels) < 2:
        found = (
            f"only {LABEL_NAMES[labels.pop()]} ({len(index.pictures)} images)" if labels else "no usable one"
        )
        if index.quarantine:
            reasons = describe_quarantine(index.quarantine, details=True)
            found += f"; {len(index.quarantine)} put aside: {reasons}"
        expected = "usable images of both classes, None and Roadwork"
        raise QuarantineError(index, found, expected=expected, where=where)


def _count_reasons(quarantine: Iterable[Quarantined]) -> list[tuple[str, int]]:
    counts = Counter(str(entry.reason) for entry in quarantine)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _row(image: IndexedImage) -> dict[str, object]:
    attributes = {f"{_ATTRIBUTE}{name}": value for name, value in image.attributes.items()}
    later = (*_LATER, _CORRECTED) if image.corrected else _LATER
    return {column: getattr(image, column) for column in (*_COLUMNS, *later)} | attributes


def _image(row: Mapping[str, str]) -> IndexedImage:
    numbers = {column: int(row[column]) for column in _NUMBERS}
    texts = {column: row[column] for column in _COLUMNS if column not in numbers}
    later: dict[str, Any] = {column: row[column] for column in (*_LATER, _CORRECTED) if row.get(column)}
    if "brightness" in later:
        later["brightness"] = int(later["brightness"])
    attributes = {
        column.removeprefix(_ATTRIBUTE): cell
        for column, cell in row.items()
        if column.startswith(_ATTRIBUTE) and cell
    }
    return IndexedImage(**texts, **numbers, attributes=attributes, **later)  # type: ignore[arg-type]
