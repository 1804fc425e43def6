"""Four roles for the images: groups whole, near-duplicates together, both classes in each.

1. Groups that share near-duplicate images (or a group) are united; a united group never crosses roles.
2. Of many seeded draws of a role for each united group the best is taken (`streetvision_core.data.draws`
   says what is minimised): both classes in each role, shares and prevalence as configured, enough groups.

The result depends on the images' names, groups, labels and hashes and on the configuration, not on the
order of the index. The ratios are met as closely as the groups allow, which is not promised to be close:
`streetvision_core.data.balance` tells what is not.

`splits_by_sha256.json` says the same of the images without their names, which may tell of people and places:
an image is its SHA-256, a group the smallest SHA-256 in it. A redacted bundle ships it in place of
`splits.json`; whoever has the index can hold one against the other (`renamed`).

Round trip: `Splits.from_artifact(published)` equals the splits whose `to_artifact()` was published.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Self

import pydantic
from pydantic import Field

from streetvision_core.data.corrections import check_corrected_roles
from streetvision_core.data.draws import draw_roles
from streetvision_core.data.duplicates import NEAR
from streetvision_core.data.groups import Group, unite
from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.data.official import official_assignment
from streetvision_core.errors import ConfigError, DataError, SchemaError
from streetvision_core.graph import ROLES
from streetvision_core.io import Artifact, PublishedArtifact, json_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streetvision_core.data.index import ImageIndex

SCHEMA_VERSION = 1
NAMED, BY_SHA256 = "splits.json", "splits_by_sha256.json"
CLASSES = (0, 1)
TRAIN = "train"


class SplitsConfig(pydantic.BaseModel, frozen=True, extra="forbid"):
    """The shares of the roles that are held back, and the seed of the draw; the rest is to train on."""

    seed: int = Field(0, ge=0, description="seed of the draws, of which the best is taken")
    val_select: float = Field(0.15, gt=0, lt=1, description="share for model selection")
    val_calib: float = Field(0.15, gt=0, lt=1, description="share for the policy's fit or certificate")
    val_test: float = Field(0.10, gt=0, lt=1, description="share for the final report")

    @pydantic.model_validator(mode="after")
    def _check_sum(self) -> Self:
        held_back = {role: share for role, share in self.shares.items() if role != TRAIN}
        if self.shares[TRAIN] <= 0:
            summands = " + ".join(f"{role} {share:g}" for role, share in held_back.items())
            raise ConfigError(
                "shares that add up to less than 1",
                f"{sum(held_back.values()):.4g} from {summands}",
                "the splits' configuration",
                "Lower one: what they leave is to train on.",
            )
        return self

    @property
    def shares(self) -> dict[str, float]:
        """The share of each role."""
        held_back = {role: getattr(self, role) for role in ROLES if role != TRAIN}
        return {TRAIN: round(1 - sum(held_back.values()), 9), **held_back}


class RecordedSplits(SplitsConfig):
    """The shares, and the distance of near-duplicates' 64-bit hashes, as any version recorded them."""

    train: float
    max_distance: int = NEAR

    @pydantic.model_validator(mode="after")
    def _check_train(self) -> Self:
        if abs(self.train - self.shares[TRAIN]) > 1e-6:
            raise ConfigError(
                f"train {self.shares[TRAIN]:g}, what the other roles leave",
                f"{self.train:g}",
                "the shares of splits.json",
                "Materialize splits again.",
            )
        return self

    @classmethod
    def of(cls, config: SplitsConfig) -> Self:
        """Return settings as they are recorded."""
        return cls(**config.model_dump(), train=config.shares[TRAIN])


@dataclass(frozen=True)
class RoleCounts:
    """The counts of one role; `groups` counts united groups."""

    pictures: int
    roadwork: int
    none: int
    groups: int


@dataclass(frozen=True)
class Uniting:
    """The effect of near-duplicates on the groups.

    `united` of the `groups_after` hold more than one of the `groups_before`; `largest` is the number of
    images in the largest united group.
    """

    groups_before: int
    groups_after: int
    united: int
    largest: int


@dataclass(frozen=True)
class Splits:
    """The role of each image: `roles` are sorted names, `group_of` the united group of each.

    `sha256_of` has the SHA-256 of each image where the splits were made here, and is empty where they were
    read back: nobody renames them a second time.
    """

    roles: Mapping[str, tuple[str, ...]]
    group_of: Mapping[str, str]
    counts: Mapping[str, RoleCounts]
    uniting: Uniting
    config: RecordedSplits
    sha256_of: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def groups_known(self) -> bool:
        """True if the data names groups; without them each group has the name of its image."""
        return not self.group_of.keys() >= set(self.group_of.values())

    def table(self) -> list[dict[str, object]]:
        """Return one row per role: role, share, images, roadwork, none, groups."""
        total = sum(count.pictures for count in self.counts.values())
        return [
            {"role": role, "share": round(self.counts[role].pictures / total, 4), **asdict(self.counts[role])}
            for role in ROLES
        ]

    def to_artifact(self) -> Artifact:
        """Return `splits.json` and, where the splits were made here, `splits_by_sha256.json`."""
        metrics: dict[str, float] = {role: count.pictures for role, count in self.counts.items()}
        files = {NAMED: self.to_bytes()}
        if self.sha256_of:
            files[BY_SHA256] = renamed(self, self.sha256_of).to_bytes()
        return Artifact(files, {**metrics, **asdict(self.uniting), "groups_known": int(self.groups_known)})

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of the record."""
        return json_bytes(
            {
                "schema_version": SCHEMA_VERSION,
                "config": self.config.model_dump(),
                "counts": {role: asdict(count) for role, count in self.counts.items()},
                "uniting": asdict(self.uniting),
                "roles": self.roles,
                "group_of": self.group_of,
            }
        )

    @classmethod
    def from_artifact(cls, published: PublishedArtifact) -> Self:
        """Read back what `to_artifact` gave."""
        return cls.from_json(published.read_json(NAMED), where=str(published.directory))

    @classmethod
    def from_json(cls, content: Any, *, where: str) -> Self:
        """Read the decoded content of a `splits.json`; raises SchemaError when it is of another version."""
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            found, action = f"version {version}", "Materialize splits again with this version of the project."
            raise SchemaError(f"splits.json of schema version {SCHEMA_VERSION}", found, where, action)
        return cls(
            roles={role: tuple(content["roles"][role]) for role in ROLES},
            group_of=content["group_of"],
            counts={role: RoleCounts(**content["counts"][role]) for role in ROLES},
            uniting=Uniting(**content["uniting"]),
            config=RecordedSplits(**content["config"]),
        )


def splits_problems(splits: Splits) -> list[str]:
    """Return where splits contradict themselves: roles, groups and counts; one sentence each.

    Where images are named by SHA-256, equal ones are several entries of a role.
    """
    names = {role: frozenset(members) for role, members in splits.roles.items()}
    unsafe = [name for members in names.values() for name in members if is_unsafe(name)]
    if unsafe:
        return [f"the name {min(unsafe)!r} leads out of the images' folder"]
    if frozenset().union(*names.values()) != splits.group_of.keys():
        return ["the images with a role are not those with a group"]
    groups = {role: {splits.group_of[name] for name in members} for role, members in names.items()}
    problems = [
        f"the {what} {min(members[role] & members[other])!r} is both in {role} and {other}"
        for what, members in (("image", names), ("group", groups))
        for role, other in combinations(ROLES, 2)
        if members[role] & members[other]
    ]
    return problems + [
        f"{what} is recorded as {recorded}, but is {counted} when counted again"
        for what, recorded, counted in _recounted(splits, groups)
        if recorded != counted
    ]


def is_unsafe(name: str) -> bool:
    """Tell whether the name of an image would lead out of the folder of the images, here or on Windows."""
    leads_out = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or ".." in name.split("/")
    return bool(leads_out) or not name or any(letter < " " or letter == "\x7f" for letter in name)


def _recounted(splits: Splits, groups: Mapping[str, set[str]]) -> Iterator[tuple[str, int, int]]:
    for role, count in splits.counts.items():
        yield f"the number of images of {role}", count.pictures, len(splits.roles[role])
        yield f"the sum of both classes of {role}", count.roadwork + count.none, count.pictures
        yield f"the number of groups of {role}", count.groups, len(groups[role])
    members = Counter(splits.group_of[name] for names in splits.roles.values() for name in names)
    yield "the number of all groups", splits.uniting.groups_after, len(members)
    yield "the size of the largest group", splits.uniting.largest, max(members.values(), default=0)


def assign_splits(index: ImageIndex, config: SplitsConfig) -> Splits:
    """Assign every image of `index` to one of the four roles.

    Raises:
        DataError: there are fewer united groups than roles, or fewer of one class, or a label of val_calib or
            val_test was corrected because the model contradicts it.
    """
    # By the labels as they are listed: a correction moves no image to another role.
    listed = [replace(image, label=image.listed_label, corrected="") for image in index.pictures]
    groups = unite(listed)
    assigned = official_assignment(groups)
    if assigned is None:
        _check_enough(groups)
        drawn = draw_roles({group.name: group.counts for group in groups}, config.shares, seed=config.seed)
        assigned = {role: [group for group in groups if drawn[group.name] == role] for role in ROLES}
    roles = {
        role: sorted(image.name for group in chosen for image in group.members)
        for role, chosen in assigned.items()
    }
    role_of = {name: role for role, names in roles.items() for name in names}
    check_corrected_roles(index.pictures, role_of)
    label_of = {image.name: image.label for image in index.pictures}
    return Splits(
        roles={role: tuple(names) for role, names in roles.items()},
        group_of={image.name: group.name for group in groups for image in group.members},
        counts={role: _count(assigned[role], label_of) for role in ROLES},
        uniting=_describe_uniting(groups),
        config=RecordedSplits.of(config),
        sha256_of={image.name: image.sha256 for image in index.pictures},
    )


def digests_of_role(images: PublishedArtifact, splits: PublishedArtifact, role: str) -> list[str]:
    """Return the SHA-256 (hex) of each image of a role."""
    if BY_SHA256 in splits.manifest.output_artifacts:
        named: list[str] = splits.read_json(BY_SHA256)["roles"][role]
        return named
    from streetvision_core.data.index import ImageIndex

    names = frozenset(Splits.from_artifact(splits).roles[role])
    return [image.sha256 for image in ImageIndex.from_artifact(images).pictures if image.name in names]


def renamed(splits: Splits, sha256_of: Mapping[str, str]) -> Splits:
    """Return the splits with each image named by its SHA-256, and each group by the smallest one in it.

    Args:
        splits: The splits, by name.
        sha256_of: The SHA-256 (hex) of every image, by name. Equal images stay several entries of a role.
    """
    first: dict[str, str] = {}
    for name, group in splits.group_of.items():
        first[group] = min(first.get(group, sha256_of[name]), sha256_of[name])
    return replace(
        splits,
        roles={
            role: tuple(sorted(map(sha256_of.__getitem__, names))) for role, names in splits.roles.items()
        },
        group_of={sha256_of[name]: first[group] for name, group in splits.group_of.items()},
        sha256_of={},
    )


def _check_enough(groups: list[Group]) -> None:
    if len(groups) < len(ROLES):
        expected = f"at least one group of images for each of the {len(ROLES)} roles"
        found = f"{len(groups)} groups, once near-duplicates are united"
        action = "Add images of other places, or use a finer group column."
        raise DataError(expected, found, "the splits", action)
    for label in CLASSES:
        having = sum(1 for group in groups if group.counts[label])
        if having < len(ROLES):
            raise DataError(
                f"groups with {LABEL_NAMES[label]} images for each of the {len(ROLES)} roles",
                f"only {having} of {len(groups)} groups that have any, so that"
                f" {', '.join(ROLES[having:])} would miss the class",
                "the splits",
                f"Add {LABEL_NAMES[label]} images of other places, or use a finer group column.",
            )


def _count(groups: list[Group], label_of: Mapping[str, int]) -> RoleCounts:
    labels = [label_of[image.name] for group in groups for image in group.members]
    roadwork = sum(labels)
    return RoleCounts(len(labels), roadwork, len(labels) - roadwork, len(groups))


def _describe_uniting(groups: list[Group]) -> Uniting:
    before = [len({image.group for image in group.members}) for group in groups]
    return Uniting(
        groups_before=sum(before),
        groups_after=len(groups),
        united=sum(1 for count in before if count > 1),
        largest=max(len(group.members) for group in groups),
    )
