"""Roles keep groups and near-duplicates whole, whatever the order, and both classes are in each."""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from streetvision_core.data import (
    ROLES,
    CsvConfig,
    ImageIndex,
    SourceConfig,
    Splits,
    SplitsConfig,
    assign_splits,
    index_source,
    open_source,
    verify_splits,
)
from streetvision_core.data.balance import WHAT_TO_DO, RoleBalance, balance_roles, balance_warnings, distrust
from streetvision_core.data.draws import draw_roles
from streetvision_core.data.splits import RecordedSplits
from streetvision_core.errors import DataError, SchemaError

from .inputs import shared_data
from .making import encode, index_of, picture, publish, write, write_csv

CONFIG = SplitsConfig()


def many(count: int = 200, *, roadwork: float = 0.3, group_size: int = 1) -> ImageIndex:
    draw = random.Random(0)
    return index_of(
        picture(f"p{n:04}", int(draw.random() < roadwork), f"g{n // group_size}") for n in range(count)
    )


def role_of(splits: Splits) -> dict[str, str]:
    return {name: role for role, names in splits.roles.items() for name in names}


# --- assignment


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 1), st.integers(0, 40)), min_size=40, max_size=120),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_whatever_the_groups_the_splits_are_whole_complete_and_repeatable(rows, seed, shuffler):
    """Any order gives the same splits; every image is in one role; nothing crosses; no class is missing."""
    pictures = [
        picture(f"p{n:03}", label, f"g{group}", phash=copy << 40 if copy < 5 else None)
        for n, (group, label, copy) in enumerate(rows)
    ]
    config = SplitsConfig(seed=seed)
    try:
        splits = assign_splits(index_of(pictures), config)
    except DataError:
        return
    shuffler.shuffle(pictures)
    assert assign_splits(ImageIndex(tuple(pictures)), config) == splits
    assert verify_splits(index_of(pictures), splits) == []
    assert sorted(name for names in splits.roles.values() for name in names) == sorted(
        p.name for p in pictures
    )
    roles = role_of(splits)
    for key in (lambda p: p.group, lambda p: splits.group_of[p.name]):
        assert all(len({roles[p.name] for p in pictures if key(p) == k}) == 1 for k in map(key, pictures))
    assert sum(count.pictures for count in splits.counts.values()) == len(pictures)


@pytest.mark.parametrize("group_size", [1, 5])
def test_shares_and_classes_are_met_as_closely_as_groups_allow(group_size):
    index = many(2000, group_size=group_size)
    splits = assign_splits(index, CONFIG)
    base = sum(image.label for image in index.pictures) / 2000
    for row in splits.table():
        assert abs(row["share"] - CONFIG.shares[row["role"]]) < 0.01
        assert abs(row["roadwork"] / row["pictures"] - base) < 0.03
        assert row["roadwork"] + row["none"] == row["pictures"]
    assert sum(row["groups"] for row in splits.table()) == 2000 / group_size


def test_one_group_larger_than_a_role_goes_to_training():
    index = index_of([*many(100).pictures, *(picture(f"big{n}", n % 2, "big") for n in range(60))])
    assert role_of(assign_splits(index, CONFIG))["big0"] == "train"


def test_the_seed_changes_the_splits_and_nothing_else_does():
    first, second = assign_splits(many(), CONFIG), assign_splits(many(), SplitsConfig(seed=1))
    assert first.roles != second.roles
    for row, other in zip(first.table(), second.table(), strict=True):
        assert abs(row["pictures"] - other["pictures"]) <= 2
    assert assign_splits(many(), CONFIG) == first


WORLDS = (
    "a large one",
    "cities",
    "single images",
    "one in fifty",
    "lognormal",
    "night",
    "pure night",
    "four",
)


def world(name: str) -> dict[str, tuple[int, int]]:
    """Images of None and of Roadwork in each group of a world."""
    draw = random.Random(name)

    def mixed(images: int) -> tuple[int, int]:
        roadwork = draw.randint(0, images)
        return images - roadwork, roadwork

    worlds = {
        "a large one": [(100, 60), *(mixed(22) for _ in range(11))],
        "cities": [mixed(draw.randint(10, 60)) for _ in range(16)],
        "single images": [mixed(1) for _ in range(500)],
        "one in fifty": [(1, 0) if n % 50 else (0, 1) for n in range(1500)],
        "lognormal": [mixed(1 + int(draw.lognormvariate(2, 1))) for _ in range(150)],
        "night": [(5 + n % 3, 5 - n % 3) for n in range(30)],
        "pure night": [(10, 0) if n % 2 else (0, 10) for n in range(30)],
        "four": [(1, 0) if n >= 4 else (0, 1) for n in range(200)],
    }
    return {f"g{n:04}": counts for n, counts in enumerate(worlds[name])}


def images_of(groups: dict[str, tuple[int, int]]) -> ImageIndex:
    return index_of(
        picture(f"{group}-{label}-{n}", label, group)
        for group, counts in groups.items()
        for label in (0, 1)
        for n in range(counts[label])
    )


def balances_of(groups: dict[str, tuple[int, int]], seed: int = 0) -> tuple[RoleBalance, ...]:
    """The balance of each role, counted from the groups alone."""
    roles = draw_roles(groups, CONFIG.shares, seed=seed)
    return tuple(
        RoleBalance(
            role,
            (sum(c[0] for c in held), sum(c[1] for c in held)),
            (sum(c[0] > 0 for c in held), sum(c[1] > 0 for c in held)),
            len(held),
            max(map(sum, held)),
        )
        for role in ROLES
        for held in [[groups[group] for group in groups if roles[group] == role]]
    )


@pytest.mark.parametrize("name", WORLDS)
def test_each_world_is_split_within_bounds_but_for_what_it_has_too_few_of(name):
    """Share and prevalence are within bounds everywhere; only numbers of groups may fall short."""
    for seed in range(3):
        balances = balances_of(world(name), seed)
        assert all(min(balance.images) for balance in balances)
        warnings = balance_warnings(balances, CONFIG.shares)
        scarce = [warning for warning in warnings if "5 groups of a class are the least" in warning]
        others = [warning for warning in warnings if warning not in (*scarce, WHAT_TO_DO)]
        if name in ("single images", "lognormal"):
            assert warnings == []
        elif name == "a large one":
            assert all("of the images of train" in warning for warning in others)
        elif name == "four":
            assert "train holds 1 Roadwork (1 group), where 5 groups of a class are the least" in scarce
        elif name != "cities":
            assert others == []


def test_a_split_depends_on_neither_the_order_of_groups_nor_the_hash_seed():
    """The very roles, as any machine and any later version must draw them."""
    groups = world("lognormal")
    roles = draw_roles(groups, CONFIG.shares, seed=0)
    assert draw_roles(dict(reversed(groups.items())), CONFIG.shares, seed=0) == roles
    assert hashlib.sha256(repr(sorted(roles.items())).encode()).hexdigest()[:16] == "0bf0a0fade0393f9"


def test_a_large_group_is_not_always_in_train():
    """A group of 4 % fits into each role; it is in each about as often as an image is."""
    groups = {"large": (4, 4), **{f"g{n}": (1, 1) for n in range(96)}}
    drawn = Counter(draw_roles(groups, CONFIG.shares, seed=seed)["large"] for seed in range(60))
    assert 20 <= drawn["train"] <= 50
    assert all(drawn[role] for role in ROLES)


def test_many_groups_take_no_longer_than_a_second_or_two():
    draw = random.Random(0)
    groups = {f"g{n}": (draw.randint(0, 6), draw.randint(0, 1)) for n in range(30_000)}
    start = time.process_time()
    draw_roles({name: counts for name, counts in groups.items() if sum(counts)}, CONFIG.shares, seed=0)
    assert time.process_time() - start < 4


def test_balance_is_counted_from_the_index_and_says_what_is_out_of_bounds():
    index = images_of(world("four"))
    splits = assign_splits(index, CONFIG)
    balances = balance_roles(index, splits)
    assert [balance.total for balance in balances] == [len(splits.roles[role]) for role in ROLES]
    warnings = balance_warnings(balances, CONFIG.shares)
    assert "train holds 1 Roadwork (1 group), where 5 groups of a class are the least" in warnings
    train = replace(balances[0], images=(10, 90), largest=60)
    wrong = "; ".join(balance_warnings((train, *balances[1:]), {**CONFIG.shares, "val_test": 0.3}))
    assert "90% of the images of train are Roadwork, of all images 51%" in wrong
    assert "one group is 60% of the images of train" in wrong
    assert "val_test holds 12% of the images instead of 30%" in wrong


def test_what_few_groups_do_not_allow_is_said_with_their_counts():
    balances = balances_of(world("cities"))
    text = distrust(balances)
    assert f"val_test {balances[3].groups}" in text
    assert "its intervals are too short" in text
    assert "certificate of scrc" in text
    assert "tuned threshold" in text
    assert distrust(tuple(replace(balance, groups=30) for balance in balances)) == ""


def test_where_no_groups_are_known_no_group_is_spoken_of():
    index = index_of(picture(f"p{n:02}", n % 2) for n in range(20))
    balances = balance_roles(index, assign_splits(index, CONFIG))
    words = [*balance_warnings(balances, CONFIG.shares), distrust(balances)]
    assert "val_test holds 1 None and 1 Roadwork, where 5 images of a class are the least" in words
    assert "fewer than 30 images (no groups known) in a role" in words[-1]
    assert "certificate of scrc counts images" in words[-1]
    assert not any(re.search("groups? (of|in)|counts groups", word) for word in words)


def test_four_groups_of_each_class_are_enough():
    """The rarest case that can succeed does, in every mixture of pure and mixed groups."""
    for mixed in range(5):
        pictures = [picture(f"m{g}-{label}", label, f"m{g}") for g in range(mixed) for label in (0, 1)]
        pictures += [picture(f"{label}-{g}", label) for g in range(4 - mixed) for label in (0, 1)]
        pictures += [picture(f"more{n}", 0, "a large group without roadwork") for n in range(20)]
        index = index_of(pictures)
        assert verify_splits(index, assign_splits(index, CONFIG)) == []


def test_fewer_groups_than_roles_is_one_readable_paragraph():
    index = index_of(picture(f"p{n}", n % 2, f"g{n % 3}") for n in range(30))
    with pytest.raises(DataError, match=r"Expected at least one group .* 4 roles, but found 3 groups"):
        assign_splits(index, CONFIG)


def test_a_class_in_too_few_groups_is_named():
    index = index_of(picture(f"p{n}", int(n < 3)) for n in range(30))
    with pytest.raises(DataError, match=r"Roadwork.* only 3 of 30 groups .* val_test would miss"):
        assign_splits(index, CONFIG)


def test_the_shares_leave_something_to_train_on():
    assert SplitsConfig(val_test=0.2).shares["train"] == 0.5
    with pytest.raises(pydantic.ValidationError, match=r"less than 1, but found 1 from .*val_test 0\.7"):
        SplitsConfig(val_test=0.7)
    with pytest.raises(pydantic.ValidationError):
        SplitsConfig(val_test=0.0)


def test_splits_of_another_distance_are_read_as_they_were_recorded_and_verified_by_it():
    """Older versions let the distance of near-duplicates be set."""
    near = [picture("a", 0, "g", phash=0), picture("b", 0, "h", phash=0b111111)]
    index = index_of([*many().pictures, *near])
    content = json.loads(assign_splits(index, CONFIG).to_bytes())
    assert content["config"] == {**CONFIG.model_dump(), "train": 0.6, "max_distance": 8}
    with pytest.raises(pydantic.ValidationError, match=r"train 0\.6, what the other roles leave"):
        Splits.from_json({**content, "config": {**content["config"], "train": 0.7}}, where="here")
    content["config"]["max_distance"] = 4
    older = Splits.from_json(content, where="here")
    older = moved(older, "b", elsewhere(older, "a"))
    older = replace(older, group_of={**older.group_of, "b": "h"})
    assert json.loads(older.to_bytes())["config"] == content["config"]
    assert "near-duplicate" not in problems(index, older)
    assert "near-duplicate" in problems(index, replace(older, config=RecordedSplits.of(CONFIG)))


def test_splits_round_trip_through_their_artifact(tmp_path):
    splits = assign_splits(many(), CONFIG)
    published = publish(splits.to_artifact(), tmp_path)
    assert Splits.from_artifact(published) == splits
    content = published.read_json("splits.json")
    assert set(content["roles"]) == set(ROLES)
    with pytest.raises(SchemaError, match="version 2"):
        Splits.from_json({**content, "schema_version": 2}, where="here")


# --- verification


def moved(splits: Splits, name: str, *roles: str) -> Splits:
    """The splits with one image put into these roles instead of its own."""
    kept = {role: [other for other in names if other != name] for role, names in splits.roles.items()}
    return replace(
        splits,
        roles={role: (*names, name) if role in roles else tuple(names) for role, names in kept.items()},
    )


def elsewhere(splits: Splits, name: str) -> str:
    return next(role for role in ROLES if role != role_of(splits)[name])


def problems(index: ImageIndex, splits: Splits) -> str:
    return "; ".join(verify_splits(index, splits))


def test_each_kind_of_leak_is_found_from_the_index_alone():
    twin = picture("twin", 0, "other", phash=7)
    near = picture("near", 0, "third", phash=7 ^ 0b11110000)
    index = index_of([*many(group_size=4).pictures, picture("first", 0, "some", phash=7), twin, near])
    splits = assign_splits(index, CONFIG)
    assert problems(index, splits) == ""
    assert "near-duplicate images are in" in problems(index, moved(splits, "near", elsewhere(splits, "near")))
    assert "one group are in" in problems(index, moved(splits, "p0000", elsewhere(splits, "p0000")))
    both = moved(splits, "p0000", "train", "val_test")
    assert "p0000 is assigned 2 times" in problems(index, both)
    assert "p0000 is in no role" in problems(index, moved(splits, "p0000"))
    assert "stranger in val_test is not in the index" in problems(
        index, moved(splits, "stranger", "val_test")
    )
    copies = replace(index, pictures=tuple(replace(image, sha256="0" * 64) for image in index.pictures))
    assert "copies of one image are in" in problems(copies, splits)
    regrouped = replace(splits, group_of={**splits.group_of, "near": "near"})
    assert "belong to different united groups" in problems(index, regrouped)


def test_a_missing_class_is_found():
    index = many()
    splits = assign_splits(index, CONFIG)
    for name in [
        image.name
        for image in index.pictures
        if image.label == 1 and role_of(splits)[image.name] == "val_test"
    ]:
        splits = moved(splits, name, "train")
    assert "val_test has no Roadwork image" in problems(index, splits)
    assert "the counts of val_test are not" in problems(index, splits)


# --- images


def test_copies_of_an_image_end_in_one_role(tmp_path):
    """Re-encoded, half-size and mirrored copies follow their original, although their groups differ."""
    rows = []
    for number in range(24):
        # Fine enough for 256 bits: in a smooth image half of them are noise of the encoder.
        fine = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        image = Image.fromarray(fine).resize((160, 120), Image.Resampling.BICUBIC)
        copies = {
            "original": encode(image, quality=95),
            "reencoded": encode(image, quality=60),
            "half": encode(image.resize((80, 60), Image.Resampling.LANCZOS), "PNG"),
            "mirrored": encode(ImageOps.mirror(image), quality=80),
            "half-mirrored": encode(ImageOps.mirror(image).resize((80, 60)), "WEBP"),
        }
        for kind, data in copies.items():
            write(tmp_path / f"{number:02}-{kind}", data)
            rows.append({"file": f"{number:02}-{kind}", "label": number % 2})
    table = write_csv(tmp_path / "labels.csv", rows)
    index = index_source(open_source(SourceConfig(csv=CsvConfig(path=str(table)))))
    splits = assign_splits(index, CONFIG)
    roles = role_of(splits)
    for number in range(24):
        assert len({role for name, role in roles.items() if name.startswith(f"{number:02}-")}) == 1
    assert (splits.uniting.groups_before, splits.uniting.groups_after, splits.uniting.largest) == (120, 24, 5)
    assert splits.uniting.united == 24


def test_the_real_photographs_split_with_their_groups_whole():
    table = shared_data("streets") / "labels.csv"
    index = index_source(open_source(SourceConfig(csv=CsvConfig(path=str(table)))))
    splits = assign_splits(index, CONFIG)
    assert problems(index, splits) == ""
    for row in splits.table():
        assert abs(row["share"] - CONFIG.shares[row["role"]]) < 0.02
        assert abs(row["roadwork"] / row["pictures"] - 158 / 583) < 0.03
