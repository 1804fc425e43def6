"""Groups of images that belong together: as the data names them, and as near-duplicates unite them.

Images of one group never cross roles. An image without a group is a group of its own name. `unite` joins the
groups that share a component of near-duplicates, and refuses a component that hangs together by accident:
one that joins more than `MOST_JOINED` named groups, or several groups and both a share and a number of all
images. Such a component would go to one role whole and leave the others without their share.

What nobody named cannot be kept whole. `check_grouping` refuses a setting that matches no image, and
`ungrouped_frames` looks for frames that follow each other in images without a group.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from streetvision_core.data.config import PART_NAMES, PartConfig, SourceConfig
from streetvision_core.data.duplicates import Hashes, NearDuplicates, near_duplicates
from streetvision_core.data.sources.joined import ATTRIBUTE
from streetvision_core.data.sources.rules import chosen_group_column
from streetvision_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streetvision_core.data.index import IndexedImage
    from streetvision_core.data.sources import Entry

MOST_JOINED = 5  # named groups in one united group
LARGE_SHARE, LARGE_NUMBER = 0.05, 30  # of the images, in one component of several groups
FEWEST_NEIGHBOURS = 10
_SHOWN = 5
_IN_PARQUET = re.compile(r"(.*\.parquet)#\d+", re.DOTALL)
_PATTERN_ADVICE = {
    "folder.group_pattern": "Correct the pattern; it is searched in the path below the class folder.",
    "coco.group_pattern": "Correct the pattern; it is searched in the file name.",
}
_COUNTED = re.compile(r"^(.*?)(\d+)(\D*)$", re.DOTALL)
_LIKE_A_GROUP = re.compile(
    r"group|vid|seq|clip|scene|drive|session|track|camera|site|place|location|recording", re.IGNORECASE
)


def groups_known(images: Iterable[IndexedImage]) -> bool:
    """Tell whether any image has a group that is more than its own name."""
    return any(image.group != image.name for image in images)


def count_groups(groups: int, images: int, *, known: bool) -> str:
    """Return the words for so many groups of so many images: images, where the data names no group."""
    return _counted(groups, "group") if known else f"{_counted(images, 'image')} (no groups known)"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Group:
    """A united group: images that stay together, named by the first of the groups in it."""

    name: str
    members: tuple[IndexedImage, ...]

    @property
    def counts(self) -> tuple[int, int]:
        """The number of images of None and of Roadwork."""
        roadwork = sum(image.label for image in self.members)
        return len(self.members) - roadwork, roadwork


def unite(images: Sequence[IndexedImage]) -> list[Group]:
    """Return the united groups.

    Raises:
        DataError: a component joins too much to be believed, or too many images are alike to be compared.
    """
    near = near_duplicates(images, [image.group for image in images])
    parent = {image.group: image.group for image in images}
    first_group: dict[int, str] = {}
    for image, component in zip(images, near.component.tolist(), strict=True):
        near_root = _root(parent, first_group.setdefault(component, image.group))
        own_root = _root(parent, image.group)
        parent[max(near_root, own_root)] = min(near_root, own_root)
    members: defaultdict[str, list[IndexedImage]] = defaultdict(list)
    for image in images:
        members[_root(parent, image.group)].append(image)
    _check_components(images, near, members)
    return [Group(name, tuple(group)) for name, group in members.items()]


def _root(parent: dict[str, str], group: str) -> str:
    while parent[group] != group:
        parent[group] = parent[parent[group]]
        group = parent[group]
    return group


def _check_components(
    images: Sequence[IndexedImage],
    near: NearDuplicates,
    united: Mapping[str, Sequence[IndexedImage]],
) -> None:
    """Refuse the first united group of too many named groups, or component of too many images."""
    suspects: list[Iterable[str]] = [
        [image.name for image in group]
        for group in united.values()
        # Copies of one image are no strangers, however many: an image without a group does not count.
        if len({image.group for image in group if image.group != image.name}) > MOST_JOINED
    ]
    limit, components = max(LARGE_NUMBER, LARGE_SHARE * len(images)), near.component.tolist()
    for component in sorted(number for number, size in Counter(components).items() if size >= limit):
        members = [image for image, own in zip(images, components, strict=True) if own == component]
        if len({image.group for image in members}) > 1:
            suspects.append([image.name for image in members])
    if suspects:
        raise _too_much_joined(images, near, set(suspects[0]))


def _too_much_joined(images: Sequence[IndexedImage], near: NearDuplicates, names: set[str]) -> DataError:
    inside = [n for n, image in enumerate(images) if image.name in names]
    groups = sorted({images[n].group for n in inside})
    pairs = {tuple(sorted((n, int(near.other[n])))): n for n in inside if near.other[n] >= 0}
    shown = [
        f"{images[first].name} (group {images[first].group}) and"
        f" {images[second].name} (group {images[second].group}),"
        f" {near.distance[n]} of 64 and {near.distance256[n]} of 256 bits apart"
        for (first, second), n in list(pairs.items())[:_SHOWN]
    ]
    return DataError(
        f"near-duplicates that join at most {MOST_JOINED} groups, and not both {LARGE_SHARE:.0%} and"
        f" {LARGE_NUMBER} of the images across groups",
        f"{len(inside)} of {len(images)} images of {len(groups)} groups ({_some(groups)}) joined by pairs"
        f" like these: {'; '.join(shown)}",
        "the splits",
        "Look at these pairs. Where they show one place, give them one group (a coarser group column or"
        " group_pattern) or keep one copy; where they are strangers, leave out what shows nothing, such as"
        " black frames.",
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def check_grouping(entries: Sequence[Entry], config: SourceConfig) -> None:
    """Raise DataError where a group pattern or column that was asked for groups no image of its source."""
    if config.join is None:
        _check_grouping(entries, config)
    for part in config.join or ():
        name = part.name or part.kind
        own = [entry for entry in entries if entry.name.startswith(f"{name}/")]
        _check_grouping(own, part, of=f" of {name}")


def _check_grouping(entries: Sequence[Entry], config: SourceConfig | PartConfig, *, of: str = "") -> None:
    if (setting := _grouping(config)) is None or any(entry.group for entry in entries) or not entries:
        return
    name, value = setting
    columns = sorted({column for entry in entries for column in entry.attributes})
    action = f"Name another column, one of {', '.join(columns) or 'none'}, or null for no groups."
    expected = f"images that {name} gives a group"
    found = f"none: '{value}' matches none of {len(entries)}, for example {_some([e.name for e in entries])}"
    raise DataError(expected, found, f"{name}{of}", _PATTERN_ADVICE.get(name, action))


def _grouping(config: SourceConfig | PartConfig) -> tuple[str, str] | None:
    """Return name and value of the group setting, where one was made that differs from its default."""
    for kind in ("folder", "coco"):
        if (source := getattr(config, kind)) is not None and source.group_pattern:
            return f"{kind}.group_pattern", source.group_pattern
    for kind in ("csv", "parquet", "coco"):
        if (source := getattr(config, kind)) is not None and (column := chosen_group_column(source)):
            return f"{kind}.group_column", column
    return None


def group_setting(config: Mapping[str, Any], image: str = "") -> str:
    """Return the name of the setting that groups images of the source; of several, that of `image`."""
    for part in config.get("join") or ():
        setting = group_setting(part)
        name = part.get("name") or setting.partition(".")[0]
        if image.startswith(f"{name}/"):
            return setting
    kind = next((kind for kind in PART_NAMES if config.get(kind) is not None), "csv")
    return f"{kind}.{'group_pattern' if kind == 'folder' else 'group_column'}"


@dataclass(frozen=True)
class UngroupedFrames:
    """Images without a group that may belong together after all, and what tells so.

    `images` of all `of` images have no group, and `example` are the first of them. `alike` of `neighbours` in
    the order of the counted file names are closer to each other than to an image far away in that order; both
    are 0 where the images do not show it. `series` is how many beginnings of names there are before the
    number, `columns` are attributes named like a group, `places` the Parquet files and joined sources of
    which no image has a group while others have.
    """

    images: int
    of: int
    neighbours: int
    alike: int
    example: tuple[str, ...]
    series: int
    columns: tuple[str, ...]
    places: tuple[str, ...] = ()

    def describe(self, setting: str) -> str:
        """Return the warning, with what to write for `setting`, `csv.group_column` for instance."""
        parts = [f"{self.images} of {self.of} images have no group, for example {', '.join(self.example)}"]
        if self.places:
            parts.append(f"none at all in {_some(self.places)}")
        if self.neighbours:
            parts.append(
                f"they look like frames that follow each other: {self.alike} of {self.neighbours} neighbours"
                " by file name resemble each other more than an image further away"
            )
        if self.columns:
            parts.append(f"the columns {', '.join(self.columns)} may name their groups")
        return f"{'; '.join(parts)}. {self._advice(setting)}"

    def _advice(self, setting: str) -> str:
        if self.columns:
            return f"Set {setting.partition('.')[0]}.group_column: {self.columns[0]} if so."
        if setting.endswith("group_column"):
            return f"Add a column that names the recording of each image, and set {setting}."
        # One series of names says nothing of where a recording ends: then a hundred names are a group.
        pattern = r"^(.*?)\d+\D*$" if self.series > 1 else r"^(.*)\d\d\D*$"
        return f"Set {setting}, for example to '{pattern}', so that frames of one recording share a role."


def ungrouped_frames(images: Sequence[IndexedImage]) -> UngroupedFrames | None:
    """Return images without a group where others have one, or something tells that they belong together."""
    alone = [image for image in images if image.group == image.name]
    columns = tuple(_group_columns(alone))
    series, pairs = _neighbours(alone)
    alike = _count_alike(alone, pairs)
    # Of images in no order, half of the neighbours are closer: four standard deviations more are no chance.
    in_order = len(pairs) >= FEWEST_NEIGHBOURS and alike > len(pairs) / 2 + 2 * len(pairs) ** 0.5
    if not in_order:
        alike, pairs = 0, []
    if not (in_order or columns or 0 < len(alone) < len(images)):
        return None
    example = tuple(image.name for image in alone[:3])
    places = tuple(_without_groups(alone, images))
    return UngroupedFrames(len(alone), len(images), len(pairs), alike, example, series, columns, places)


def _without_groups(alone: Sequence[IndexedImage], images: Sequence[IndexedImage]) -> list[str]:
    """Return the places of which no image has a group, where there are others."""
    having = Counter(map(_place, images))
    lacking = [place for place, number in Counter(map(_place, alone)).items() if number == having[place]]
    return sorted(lacking) if len(lacking) < len(having) else []


def _place(image: IndexedImage) -> str:
    """Return the Parquet file or the joined source that an image comes from, "" where it is neither."""
    if file := _IN_PARQUET.fullmatch(image.name):
        return file[1]
    source = image.attributes.get(ATTRIBUTE, "")
    return source if image.name.startswith(f"{source}/") else ""


def _group_columns(images: Sequence[IndexedImage]) -> Iterable[str]:
    values: defaultdict[str, set[str]] = defaultdict(set)
    for image in images:
        for column, value in image.attributes.items():
            values[column].add(value)
    return [
        column
        for column, different in sorted(values.items())
        if _LIKE_A_GROUP.search(column) and 1 < len(different) <= len(images) / 2
    ]


def _neighbours(images: Sequence[IndexedImage]) -> tuple[int, list[tuple[int, int]]]:
    """Return the number of series of counted names, and the pairs of images that are next in one."""
    series: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for n, image in enumerate(images):
        if counted := _COUNTED.match(image.name):
            series[counted[1], counted[3]].append((int(counted[2]), n))
    orders = [[n for _, n in sorted(numbers)] for _, numbers in sorted(series.items()) if len(numbers) > 1]
    return len(orders), [pair for order in orders for pair in pairwise(order)]


def _count_alike(images: Sequence[IndexedImage], pairs: Sequence[tuple[int, int]]) -> int:
    """Count the pairs that are closer to each other than the first is to the first of a pair far off."""
    if not pairs:
        return 0
    first, second = np.array(pairs).T
    far = np.roll(first, len(pairs) // 2)
    hashes = Hashes.of(images)
    words = hashes.plain256 if hashes.confirmable.all() else hashes.plain[:, None]
    near_bits, far_bits = (
        np.bitwise_count(words[first] ^ words[other]).sum(axis=1, dtype=int) for other in (second, far)
    )
    grey = np.array([image.brightness or 0 for image in images])
    near_grey, far_grey = np.abs(grey[first] - grey[second]), np.abs(grey[first] - grey[far])
    return int(max((near_bits < far_bits).sum(), (near_grey < far_grey).sum()))
