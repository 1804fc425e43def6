"""The index of the labelled pictures: every picture read once, measured, and kept or put in quarantine.

`index_pictures` reads each listed picture exactly once. What cannot be used goes to the quarantine with
its reason, never to a crash; exact duplicates that carry both labels go there together. The result does
not depend on the order of the source or on the number of workers. It is refused (`QuarantineError`, which
carries the index) when the quarantine is more than a share of the pictures, and refused when no picture
or only one class is left.

Round trip: `ImageIndex.from_artifact(published)` equals the index whose `to_artifact()` was published.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from streetvision_core.data.labels import LABEL_NAMES, check_some_of_each
from streetvision_core.data.reasons import Reason, UnusablePictureError
from streetvision_core.errors import DataError
from streetvision_core.io import Artifact, csv_bytes, read_csv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from streetvision_core.data.sources import Entry, PictureSource
    from streetvision_core.io import PublishedArtifact

# The demo pictures, where they were drawn, lie beside their index.
DEMO_FILE = "pictures.parquet"
_NUMBERS = ("label", "size_bytes", "width", "height", "orientation")
_COLUMNS = ("name", "label", "group", "sha256", *_NUMBERS[1:], "phash", "phash_mirrored")
# What no index of commit 705fcbb has: read as not recorded.
_LATER = ("format", "brightness", "phash256", "phash256_mirrored", "role")
_ATTRIBUTE = "attribute:"
# Re-encoded, half-size and mirrored copies of street photographs stay within these bits of 64 and of 256.
_COPY_BITS, _COPY_BITS_256 = 4, 16
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # no table, terminal or file system carries these on unharmed


@dataclass(frozen=True)
class Picture:
    """One usable picture. `name` is unique; a picture without a group is a group of its own name.

    Width and height are in pixels and upright; `orientation` is the EXIF value 1 to 8; the hashes are 64
    bits in 16 hex digits, those of 256 bits in 64. `format` is Pillow's name of it, `brightness` the mean
    grey from 0 to 255, `role` the role that the data itself gives the image. The last five are empty or
    None where an older index did not record them.
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


@dataclass(frozen=True)
class Quarantined:
    """One picture that is not used, and why."""

    name: str
    reason: Reason
    detail: str


@dataclass(frozen=True)
class ImageIndex:
    """The usable pictures and the quarantine, each sorted by name."""

    pictures: tuple[Picture, ...]
    quarantine: tuple[Quarantined, ...] = ()

    def to_artifact(self) -> Artifact:
        """Return `index.csv` and `quarantine.csv`; an attribute NAME is the column `attribute:NAME`."""
        attributes = sorted(
            {f"{_ATTRIBUTE}{name}" for picture in self.pictures for name in picture.attributes}
        )
        rows = map(_row, self.pictures)
        quarantine = map(asdict, self.quarantine)
        labels = Counter(picture.label for picture in self.pictures)
        return Artifact(
            files={
                "index.csv": csv_bytes(rows, columns=[*_COLUMNS, *_LATER, *attributes]),
                "quarantine.csv": csv_bytes(quarantine, columns=["name", "reason", "detail"]),
            },
            metrics={
                "pictures": len(self.pictures),
                "none": labels[0],
                "roadwork": labels[1],
                "groups": len({picture.group for picture in self.pictures}),
                "ungrouped": sum(picture.group == picture.name for picture in self.pictures),
                "quarantined": len(self.quarantine),
            },
        )

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave."""
        return cls(
            pictures=tuple(map(_picture, read_csv(published.read_bytes("index.csv")))),
            quarantine=tuple(
                Quarantined(row["name"], Reason(row["reason"]), row["detail"])
                for row in read_csv(published.read_bytes("quarantine.csv"))
            ),
        )


class QuarantineError(DataError):
    """More pictures are in quarantine than may be; `index` is the index as it would have been."""

    def __init__(self, index: ImageIndex, max_share: float, where: str) -> None:
        quarantine = index.quarantine
        total = len(index.pictures) + len(quarantine)
        first = ", ".join(f"{one.name} ({one.reason})" for one in quarantine[:10])
        more = f" and {len(quarantine) - 10} more" if len(quarantine) > 10 else ""
        reasons = ", ".join(f"{count} {reason}" for reason, count in _count_reasons(quarantine))
        super().__init__(
            f"at most {max_share:.1%} of {total} pictures in quarantine",
            f"{len(quarantine)} ({reasons}): {first}{more}",
            where,
            "Repair or remove them, or raise max_quarantined_share if they may be left out.",
        )
        self.args = (index, max_share, where)  # what pickle calls the class with
        self.index = index


def index_pictures(
    source: PictureSource,
    *,
    max_quarantined_share: float = 0.05,
    workers: int = 2,
    unchanged: Callable[[str], Picture | None] = lambda _: None,
    check: Callable[[Sequence[Entry]], None] = lambda _: None,
) -> ImageIndex:
    """Read every picture of `source` once, in `workers` threads, and index it.

    Args:
        source: The pictures.
        max_quarantined_share: How much of them may be unusable, 0 to 1.
        workers: How many threads read.
        unchanged: Returns what is known of a picture by its name, which then is not read; or None.
        check: Raises where what is listed cannot be right, before anything is read.

    Raises:
        QuarantineError: more than the share `max_quarantined_share` (0 to 1) cannot be used.
        DataError: there is no picture, no usable one, or only one class.
    """
    from joblib import Parallel, delayed

    entries = list(source.entries())
    if not entries:
        raise DataError("labelled pictures", "none", source.describe(), "Add pictures, or correct the path.")
    check_some_of_each(Counter(entry.label for entry in entries), source.describe())
    check(entries)
    readable, quarantine = _sort_out(entries)
    # Threads: decoding and hashing release the GIL, and nothing is copied between processes.
    tasks = (delayed(_measure)(source, entry, unchanged) for entry in readable)
    measured = list(Parallel(n_jobs=workers, prefer="threads")(tasks))
    quarantine += [one for one in measured if isinstance(one, Quarantined)]
    pictures = [one for one in measured if isinstance(one, Picture)]
    pictures.sort(key=lambda picture: picture.name)
    for find_contradicting in (_find_contradicting, _find_contradicting_copies):
        contradicting = list(find_contradicting(pictures))
        quarantine += contradicting
        refused = {one.name for one in contradicting}
        pictures = [picture for picture in pictures if picture.name not in refused]
    index = ImageIndex(
        pictures=tuple(pictures),
        quarantine=tuple(sorted(quarantine, key=lambda one: (one.name, one.reason))),
    )
    if len(quarantine) > max_quarantined_share * len(entries):
        raise QuarantineError(index, max_quarantined_share, source.describe())
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
            continue
        if len({entry.role for entry in same}) > 1:
            quarantine += [Quarantined(name, Reason.CONTRADICTING, "listed in several roles")] * len(same)
            continue
        readable.append(same[0])
        quarantine += [Quarantined(name, Reason.LISTED_TWICE, "the first time counts")] * (len(same) - 1)
    return readable, quarantine


def _measure(
    source: PictureSource, entry: Entry, unchanged: Callable[[str], Picture | None]
) -> Picture | Quarantined:
    from streetvision_core.data.fingerprint import fingerprint

    assert entry.label is not None
    listed: dict[str, Any] = {
        "label": entry.label,
        "group": entry.group or entry.name,
        "attributes": entry.attributes,
        "role": entry.role,
    }
    if (known := unchanged(entry.name)) is not None:
        return replace(known, **listed)
    try:
        measured = fingerprint(source.read(entry.name))
    except UnusablePictureError as error:
        return Quarantined(entry.name, error.reason, " ".join(error.detail.split()))
    return Picture(name=entry.name, **listed, **asdict(measured))


def _find_contradicting(pictures: Iterable[Picture]) -> Iterator[Quarantined]:
    same_bytes: defaultdict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        same_bytes[picture.sha256].append(picture)
    for copies in same_bytes.values():
        if len({copy.label for copy in copies}) > 1:
            for copy in copies:
                other = next(one for one in copies if one.label != copy.label)
                detail = f"labelled {LABEL_NAMES[copy.label]}, and {other.name} is the same picture labelled"
                yield Quarantined(copy.name, Reason.CONTRADICTING, f"{detail} {LABEL_NAMES[other.label]}")


def _find_contradicting_copies(pictures: Sequence[Picture]) -> Iterator[Quarantined]:
    """Find images and re-encoded, resized or mirrored copies of them that carry the other label.

    Near-duplicates further apart are kept: of two neighbouring frames one may show the first cone.
    """
    from streetvision_core.data.duplicates import near_duplicates

    hashed = [picture for picture in pictures if picture.phash256 and picture.phash256_mirrored]
    labels = [picture.label for picture in hashed]
    near = near_duplicates(hashed, labels, max_distance=_COPY_BITS, confirmed=_COPY_BITS_256)
    for n, picture in enumerate(hashed):
        if near.other[n] >= 0:
            other = hashed[near.other[n]]
            yield Quarantined(
                picture.name,
                Reason.CONTRADICTING,
                f"labelled {LABEL_NAMES[picture.label]}, and {other.name} is nearly the same image labelled"
                f" {LABEL_NAMES[other.label]} ({near.distance[n]} of 64 and {near.distance256[n]} of 256 bits"
                " apart)",
            )


def _check_classes(index: ImageIndex, where: str) -> None:
    labels = {picture.label for picture in index.pictures}
    if len(labels) < 2:
        only = (
            f"only {LABEL_NAMES[labels.pop()]} ({len(index.pictures)} pictures)"
            if labels
            else "no usable one"
        )
        raise DataError(
            "usable pictures of both classes, None and Roadwork",
            only + (f", {len(index.quarantine)} in quarantine" if index.quarantine else ""),
            where,
            "Add pictures of the other class, or correct the labels."
            if index.pictures
            else "Repair the pictures.",
        )


def _count_reasons(quarantine: Iterable[Quarantined]) -> list[tuple[str, int]]:
    counts = Counter(str(one.reason) for one in quarantine)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _row(picture: Picture) -> dict[str, object]:
    attributes = {f"{_ATTRIBUTE}{name}": value for name, value in picture.attributes.items()}
    return {column: getattr(picture, column) for column in (*_COLUMNS, *_LATER)} | attributes


def _picture(row: Mapping[str, str]) -> Picture:
    numbers = {column: int(row[column]) for column in _NUMBERS}
    texts = {column: row[column] for column in _COLUMNS if column not in numbers}
    later: dict[str, Any] = {column: row[column] for column in _LATER if row.get(column)}
    if "brightness" in later:
        later["brightness"] = int(later["brightness"])
    attributes = {
        column.removeprefix(_ATTRIBUTE): cell
        for column, cell in row.items()
        if column.startswith(_ATTRIBUTE) and cell
    }
    return Picture(**texts, **numbers, attributes=attributes, **later)  # type: ignore[arg-type]
