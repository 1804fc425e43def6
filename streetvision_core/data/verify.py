"""The verification of splits, computed again from the index alone.

Nothing that the splits say about groups and counts is believed: groups, exact duplicates, near-duplicates
and labels are taken from the index, so that a fault in the assignment, or an edited `splits.json`, is seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from streetvision_core.data.corrections import not_to_be_corrected
from streetvision_core.data.duplicates import near_duplicates
from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.data.splits import BY_SHA256, CLASSES, NAMED, Splits, renamed
from streetvision_core.graph import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from streetvision_core.data.index import ImageIndex
    from streetvision_core.io import PublishedArtifact


def verify_splits(index: ImageIndex, splits: Splits) -> list[str]:
    """Return what is wrong with the splits of `index`, one sentence each; empty when nothing is."""
    roles_of: defaultdict[str, list[str]] = defaultdict(list)
    for role, names in splits.roles.items():
        for name in names:
            roles_of[name].append(role)
    return [
        *_wrong_frame(splits),
        *_wrong_names(index, roles_of),
        *_crossings(index, roles_of, splits.group_of, splits.config.max_distance),
        *_wrong_counts(index, splits),
        *_wrong_corrections(index, splits),
    ]


def verify_renamed(published: PublishedArtifact, index: ImageIndex) -> list[str]:
    """Return where the splits by SHA-256 differ from those by name; older splits have none."""
    if BY_SHA256 not in published.manifest.output_artifacts:
        return []
    expected = renamed(
        Splits.from_artifact(published), {image.name: image.sha256 for image in index.pictures}
    )
    same = published.read_bytes(BY_SHA256) == expected.to_bytes()
    return [] if same else [f"{BY_SHA256} gives other images to the roles than {NAMED}"]


def _wrong_frame(splits: Splits) -> Iterator[str]:
    if set(splits.roles) != set(ROLES):
        yield f"the roles are {', '.join(sorted(splits.roles))} instead of {', '.join(sorted(ROLES))}"


def _wrong_names(index: ImageIndex, roles_of: Mapping[str, list[str]]) -> Iterator[str]:
    known = {image.name for image in index.pictures}
    for name, roles in sorted(roles_of.items()):
        if len(roles) > 1:
            yield f"the image {name} is assigned {len(roles)} times: {', '.join(roles)}"
        if name not in known:
            yield f"the image {name} in {roles[0]} is not in the index"
    for name in sorted(known - set(roles_of)):
        yield f"the image {name} is in no role"


def _wrong_counts(index: ImageIndex, splits: Splits) -> Iterator[str]:
    label_of = {image.name: image.label for image in index.pictures}
    for role in ROLES:
        labels = Counter(label_of.get(name) for name in splits.roles.get(role, ()))
        recorded = splits.counts.get(role)
        if recorded is None or (recorded.none, recorded.roadwork) != (labels[0], labels[1]):
            yield f"the counts of {role} are not {labels[0]} None and {labels[1]} Roadwork images"
        for label in CLASSES:
            if not labels[label]:
                yield f"{role} has no {LABEL_NAMES[label]} image"


def _wrong_corrections(index: ImageIndex, splits: Splits) -> Iterator[str]:
    role_of = {name: role for role, names in splits.roles.items() for name in names}
    for name in not_to_be_corrected(index.pictures, role_of):
        yield f"the label of {name} was corrected because a model contradicts it, in {role_of.get(name)}"


def _crossings(
    index: ImageIndex, roles_of: Mapping[str, list[str]], group_of: Mapping[str, str], max_distance: int
) -> Iterator[str]:
    images = index.pictures
    groups = [image.group for image in images]
    components = near_duplicates(images, groups, max_distance=max_distance).component
    kinds: dict[str, Iterable[object]] = {
        "copies of one image": [image.sha256 for image in images],
        "the images of one group": groups,
        "near-duplicate images": components.tolist(),
    }
    for kind, keys in kinds.items():
        together: defaultdict[object, list[str]] = defaultdict(list)
        for image, key in zip(images, keys, strict=True):
            together[key].append(image.name)
        for names in together.values():
            roles = sorted({role for name in names for role in roles_of.get(name, ())})
            if len(roles) > 1:
                yield f"{kind} are in {' and '.join(roles)}: {names[0]} and others"
            if len({group_of.get(name) for name in names}) > 1:
                yield f"{kind} belong to different united groups: {names[0]} and others"
