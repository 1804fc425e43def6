"""Feature sets on disk: what is written is read, and nothing else ever is."""

import hashlib
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest

from streetvision_core.errors import MissingArtifactError
from streetvision_core.inference import feature_cache
from streetvision_core.inference.feature_cache import FeatureKey, open_features

KEY = FeatureKey(
    weights="a" * 64,
    architecture="test_resnet",
    model_args={"img_size": 32},
    preprocessing={"size": [32, 32]},
    precision="float32",
    view="plain",
    computed_by={"device": "cpu", "torch": "2"},
    shape=(3,),
)


def digests_of(numbers):
    return [hashlib.sha256(b"%d" % number).hexdigest() for number in numbers]


def rows_of(numbers, shape=(3,), dtype="<f4"):
    return np.stack(
        [np.random.default_rng(number).standard_normal(shape).astype(dtype) for number in numbers]
    )


class Features:
    """Opens sets below a directory; `notices` are the lines of the log."""

    def __init__(self, directory, notices):
        self.directory = directory
        self.notices = notices

    def open(self, numbers, key=KEY):
        return open_features(self.directory, key, digests_of(numbers))

    def fill(self, numbers, key=KEY):
        """Publish what is missing of these images, and return the set."""
        features = self.open(numbers, key)
        missing = features.missing
        if len(missing):
            features.publish(missing, rows_of([numbers[i] for i in missing], key.shape, key.dtype))
        return features

    def shards(self, key=KEY):
        return sorted((self.directory / key.digest).glob("*.npy"))


@pytest.fixture
def features(tmp_path, notices):
    return Features(tmp_path / "features", notices)


@pytest.mark.parametrize(("shape", "dtype"), [((3,), "<f4"), ((2, 3), "<f4"), ((2,), "<f8")])
def test_rows_come_back_exactly_at_the_positions_that_are_asked_for(features, shape, dtype):
    key = replace(KEY, shape=shape, dtype=dtype)
    features.fill([5, 3, 5, 8], key)
    again = features.open([8, 5, 3, 5], key)
    expected = rows_of([8, 5, 3, 5], shape, dtype)
    assert len(again) == 4
    assert again.missing.tolist() == []
    assert again[:].dtype == np.dtype(dtype)
    for positions in ([0], [3, 1, 1], np.array([2, 0]), slice(1, 3), []):
        chosen = np.array(positions, dtype=int) if isinstance(positions, list) else positions
        assert np.array_equal(again[chosen], expected[chosen])


def test_many_shards_with_copies_are_what_a_mapping_from_images_says(features, monkeypatch):
    """Two openers fill the same set side by side."""
    monkeypatch.setattr(feature_cache, "SHARD_ROWS", 7)
    random = np.random.default_rng(0)
    openers = [features.open(range(60)) for _ in range(2)]
    for turn in range(6):
        numbers = random.choice(60, 12, replace=False)
        openers[turn % 2].publish(numbers, rows_of(numbers))
    assert len(features.shards()) > 6
    asked = random.integers(0, 60, 300).tolist()
    selection = features.open(asked)
    missing = {asked[i] for i in selection.missing}
    known = [position for position, number in enumerate(asked) if number not in missing]
    assert 0 < len(known) < 300
    assert np.array_equal(selection[known], rows_of([asked[i] for i in known]))
    everything = features.open(range(60))
    assert {asked[i] for i in selection.missing} == set(everything.missing.tolist()) & set(asked)


def test_a_shard_is_a_numpy_file_named_by_its_digest(features):
    features.fill(range(5))
    (path,) = features.shards()
    assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    assert sorted(bytes(digest).hex() for digest in rows["picture"]) == sorted(digests_of(range(5)))


CHANGES = [
    {"weights": "b" * 64},
    {"architecture": "test_vit"},
    {"model_args": {"img_size": 64}},
    {"preprocessing": {"size": [64, 64]}},
    {"precision": "bf16"},
    {"view": "mirrored"},
    {"computed_by": {"device": "cpu", "torch": "3"}},
    {"shape": (4,)},
    {"dtype": "<f8"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_what_another_computation_made_never_hits(features, change):
    features.fill(range(4))
    assert features.open(range(4), replace(KEY, **change)).missing.tolist() == [0, 1, 2, 3]
    assert features.open(range(4)).missing.tolist() == []


def test_only_what_is_new_is_missing_and_nothing_is_written_twice(features):
    features.fill(range(4))
    assert features.open([9, 0, 9, 1, 7]).missing.tolist() == [0, 4]
    features.fill(range(6))
    assert len(features.shards()) == 2
    features.fill(range(6))
    assert len(features.shards()) == 2
    held = np.concatenate([np.load(path)["picture"] for path in features.shards()])
    assert len(held) == len(set(held.tolist())) == 6


def test_a_flipped_byte_is_noticed_left_out_and_gone(features):
    features.fill(range(4))
    (damaged,) = features.shards()
    features.fill(range(6))
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    selection = features.open(range(6))
    assert selection.missing.tolist() == [0, 1, 2, 3]
    assert np.array_equal(selection[[5, 4]], rows_of([5, 4]))
    assert [text for text in features.notices if damaged.name in text] == features.notices
    assert len(features.notices) == 1
    assert not damaged.exists()
    assert np.array_equal(features.fill(range(6))[:], rows_of(range(6)))
    features.open(range(6))
    assert len(features.notices) == 1


def saved(array, **settings):
    buffer = BytesIO()
    np.save(buffer, array, **settings)
    return buffer.getvalue()


FOREIGN = {
    "empty": lambda _: b"",
    "no array": lambda _: b"not an array" * 50,
    "cut": lambda data: data[:-4],
    "cut in its header": lambda data: data[:40],
    "of another key": lambda _: saved(np.zeros(3, replace(KEY, shape=(4,)).row_dtype)),
    "of another type": lambda _: saved(np.zeros(3, replace(KEY, dtype="<i4").row_dtype)),
    "a plain matrix": lambda _: saved(np.zeros((3, 3), "<f4")),
    "a pickle": lambda _: saved(np.array([{"a": 1}], dtype=object), allow_pickle=True),
    "of another format": lambda data: data[:6] + b"\x09" + data[7:],
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_no_shard_of_the_set_is_left_out_though_its_name_is_its_digest(features, kind):
    features.fill(range(3))
    (good,) = features.shards()
    data = FOREIGN[kind](good.read_bytes())
    foreign = good.with_name(f"{hashlib.sha256(data).hexdigest()}.npy")
    foreign.write_bytes(data)
    selection = features.open(range(3))
    assert np.array_equal(selection[:], rows_of(range(3)))
    assert len(features.notices) == 1
    assert not foreign.exists()


def test_files_of_other_names_are_nobodys_business(features):
    features.fill(range(3))
    names = ["notes.txt", "x.npy", f"{'A' * 64}.npy", f"{'a' * 64}.npy.bak"]
    for name in names:
        (features.directory / KEY.digest / name).write_bytes(b"x")
    assert features.open(range(3)).missing.tolist() == []
    assert features.notices == []
    assert all((features.directory / KEY.digest / name).exists() for name in names)


def test_a_shard_that_is_gone_counts_as_missing(features):
    features.fill(range(3))
    features.shards()[0].unlink()
    assert features.open(range(3)).missing.tolist() == [0, 1, 2]
    assert features.notices == []


def test_a_shard_that_is_removed_while_its_set_is_open_is_an_error(features):
    rows = features.fill(range(3))
    for path in features.shards():
        path.unlink()
    with pytest.raises(MissingArtifactError, match="features of every image"):
        rows[[0]]


def test_a_shard_that_is_replaced_after_it_was_proven_is_not_read(features):
    rows = features.fill(range(3))
    (path,) = features.shards()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(MissingArtifactError):
        rows[:]
    assert features.open(range(3)).missing.tolist() == [0, 1, 2]
    assert len(features.notices) == 1
    assert not path.exists()


def test_no_images_have_no_rows(features):
    features.fill(range(3))
    empty = features.open([])
    assert empty[:].shape == (0, 3)


def test_a_damaged_key_file_is_written_again(features):
    features.fill(range(3))
    path = features.directory / KEY.digest / "key.json"
    path.write_bytes(b"{")
    features.open(range(3))
    assert path.read_bytes() == KEY.to_bytes()
