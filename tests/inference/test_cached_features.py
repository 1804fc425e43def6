"""Features through the cache: the very numbers of a prediction, each computed once."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from streetvision_core.data.conditions import CAMERA, Conditions
from streetvision_core.data.decoding.ahead import run_ahead
from streetvision_core.data.decoding.decode import ImageReader, decode
from streetvision_core.errors import IntegrityError
from streetvision_core.eval.use.drift import DIRECTIONS
from streetvision_core.inference import cached_features as features
from streetvision_core.inference import features as model_features
from streetvision_core.inference.cached_features import body_digest, measure_images
from streetvision_core.inference.features import classify_features, find_row_shape
from streetvision_core.inference.logits import predict_role
from streetvision_core.inference.predict import predict_logits
from streetvision_core.io import StagedFile, write_checkpoint_atomic
from streetvision_core.models.classifier import build_classifier, hub_config
from streetvision_core.models.preprocessing import eval_transform
from streetvision_core.training.checkpoint import Checkpoint
from tests.inference.filling import ROWS_A_SHARD, barrier, fill, start, toy_of_the_cache
from tests.inference.test_measure import TwoHeads
from tests.training.toy import Reader, make_backbone

ARCHITECTURES = ("test_resnet", "test_vit", "mobilenetv3_small_050")


def make_checkpoint(architecture, directory):
    """A classifier with a random head; test_vit wants a larger image."""
    backbone = make_backbone(directory, architecture=architecture)
    model = build_classifier(backbone)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.nn.init.normal_(model.get_classifier().weight)
    path = directory / "classifier.safetensors"
    staged = StagedFile.at(path, write_checkpoint_atomic(path, model))
    return Checkpoint(weights=staged, config=hub_config(backbone), epochs=(), val_select=None)


class OfBytes:
    """A source of images by name."""

    def __init__(self, images):
        self.read = images.__getitem__

    def describe(self):
        return "images in memory"


@pytest.fixture(scope="module")
def toy():
    return toy_of_the_cache()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def each_checkpoint(request, tmp_path_factory):
    return make_checkpoint(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint("test_resnet", tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "features"


@pytest.fixture
def passes(monkeypatch):
    """The sizes of the batches of which features were computed."""
    sizes = []

    def counted(model, pixels, *args, **settings):
        sizes.append(len(pixels))
        return model_features.batch_features(model, pixels, *args, **settings)

    monkeypatch.setattr(features, "batch_features", counted)
    return sizes


def uncached(checkpoint, names, toy):
    """Return the features that go into the classifier without a cache."""
    return measure(checkpoint, names, toy, cache=None).extras["features"]


def measure(checkpoint, names, toy, *, cache):
    return measure_images(checkpoint, names, toy.reader, cache=cache, features=True, device="cpu")


def names_of(toy, number=70):
    return toy.splits.roles["train"][:number]


def test_cold_warm_grown_and_in_another_order_the_bits_are_those_of_a_prediction(each_checkpoint, toy, cache):
    names = names_of(toy)
    expected = uncached(each_checkpoint, names, toy)
    assert len(np.unique(expected, axis=0)) == len(names)
    assert np.array_equal(fill(each_checkpoint, cache / "cold", names, toy)[:], expected)
    assert np.array_equal(fill(each_checkpoint, cache / "cold", names, toy)[:], expected)
    for start_at, stop in ((40, 53), (7, 45), (0, 70)):
        grown = fill(each_checkpoint, cache / "grown", names[start_at:stop], toy)
        assert np.array_equal(grown[:], expected[start_at:stop])
    order = np.random.default_rng(0).permutation(len(names))
    shuffled = fill(each_checkpoint, cache / "shuffled", [names[i] for i in order], toy)
    assert np.array_equal(shuffled[:], expected[order])


def test_only_new_images_are_read_and_pass_the_model(checkpoint, toy, cache, passes):
    names = names_of(toy)
    toy.reader.reads.clear()
    fill(checkpoint, cache, names[:40], toy)
    assert (sorted(toy.reader.reads), passes) == (sorted(names[:40]), [32, 8])
    fill(checkpoint, cache, names[:40][::-1], toy)
    assert len(toy.reader.reads) == 40
    fill(checkpoint, cache, names, toy)
    assert (sorted(toy.reader.reads), passes) == (sorted(names), [32, 8, 30])


def test_copies_of_an_image_are_computed_once(checkpoint, toy, cache, passes):
    names = [*names_of(toy, 3), *names_of(toy, 5)]
    rows = fill(checkpoint, cache, names, toy)
    assert passes == [5]
    assert np.array_equal(rows[:3], rows[3:6])


def test_a_damaged_shard_is_computed_again(checkpoint, toy, cache, passes, notices):
    names = names_of(toy, 40)
    expected = fill(checkpoint, cache, names, toy)[:]
    (shard,) = cache.glob("*/*.npy")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    again = fill(checkpoint, cache, names, toy)
    assert np.array_equal(again[:], expected)
    assert (len(notices), passes) == (1, [32, 8, 32, 8])


def test_other_weights_pixels_and_views_are_computed_anew(checkpoint, toy, cache, passes, tmp_path):
    names = names_of(toy, 4)
    straight = fill(checkpoint, cache, names, toy)
    transform = eval_transform(checkpoint.config["pretrained_cfg"])

    night = Conditions(profile=CAMERA, reported=CAMERA, seed=0)
    conditioned = fill(checkpoint, cache, names, toy, images=Reader(toy.reader.pictures, night))
    darker = fill(checkpoint, cache, names, toy, transform=replace(transform, mean=(0.6, 0.6, 0.6)))
    (tmp_path / "other").mkdir()
    other = make_checkpoint("test_vit", tmp_path / "other")
    fill(other, cache, names, toy)
    assert passes == [4, 4, 4, 4]
    assert len(list(cache.iterdir())) == 4 + 1  # and the lock
    for rows in (conditioned, darker):
        assert not np.array_equal(rows[:], straight[:])


def test_bytes_that_are_not_those_of_the_index_never_enter_and_what_came_before_stays(
    checkpoint, toy, cache, monkeypatch
):
    names = names_of(toy)
    expected = uncached(checkpoint, names, toy)
    swapped = {**toy.reader.pictures, names[50]: toy.reader.pictures[names[0]]}
    with pytest.raises(IntegrityError, match=names[50]):
        fill(checkpoint, cache, names, toy, images=ImageReader(OfBytes(swapped), toy.index))
    toy.reader.reads.clear()
    assert np.array_equal(fill(checkpoint, cache, names, toy)[:], expected)
    assert sorted(toy.reader.reads) == sorted(names[32:])


def test_the_reader_runs_ahead_by_a_bounded_number_of_images():
    loaded = []

    def load(position):
        loaded.append(position)
        return position

    ahead = run_ahead(load, range(20), threads=2, ahead=5)
    for taken in range(20):
        assert next(ahead) == taken
        assert len(loaded) <= taken + 1 + 5
    assert list(ahead) == []
    assert sorted(loaded) == list(range(20))
    assert list(run_ahead(load, [], threads=2, ahead=5)) == []


def test_features_classified_alone_give_the_logits_of_the_whole_model(each_checkpoint, toy, cache):
    names = names_of(toy)
    model = each_checkpoint.load_model()
    rows = fill(each_checkpoint, cache, names, toy)[:]
    transform = eval_transform(each_checkpoint.config["pretrained_cfg"])
    expected = predict_logits(model, (decode(toy.reader.read(name)) for name in names), transform)
    assert np.array_equal(classify_features(model, rows), expected)
    assert np.array_equal(classify_features(model, rows[5:11]), expected[5:11])
    assert np.array_equal(classify_features(model, rows.reshape(35, 2, -1)), expected.reshape(35, 2, 2))
    assert classify_features(model, rows[:0]).shape == (0, 2)


def test_logits_of_a_role_are_the_same_with_the_cache_and_read_images_once(each_checkpoint, toy, cache):
    names = toy.splits.roles["val_calib"]
    where = {"index": toy.index, "images": toy.reader, "device": "cpu", "projected": True}
    expected = predict_role(each_checkpoint, names, **where)
    assert expected.projections.shape == (len(names), DIRECTIONS)
    toy.reader.reads.clear()
    for _ in range(2):
        assert predict_role(each_checkpoint, names, **where, cache=cache) == expected
    assert len(toy.reader.reads) == len(names)
    assert predict_role(each_checkpoint, (), **where, cache=cache).logits.shape == (0, 2)


def test_a_model_without_one_vector_of_features_predicts_beside_the_cache(toy, cache, checkpoint):
    model = TwoHeads()
    assert find_row_shape(model, eval_transform(checkpoint.config["pretrained_cfg"])) is None
    config = checkpoint.config
    two = SimpleNamespace(config=config, load_model=lambda: model)
    names = toy.splits.roles["val_calib"]
    where = {"index": toy.index, "images": toy.reader, "device": "cpu", "projected": True}
    beside = predict_role(two, names, **where, cache=cache)
    assert beside == predict_role(two, names, **where)
    assert beside.projections is None
    assert not cache.exists()


def test_what_is_measured_is_the_same_with_the_cache_whatever_lay_there(each_checkpoint, toy, cache):
    names = toy.splits.roles["val_select"]
    expected = measure(each_checkpoint, names, toy, cache=None)
    predict_role(each_checkpoint, names[3:20], index=toy.index, images=toy.reader, cache=cache)
    for reads in (len(names) - 17, 0):
        toy.reader.reads.clear()
        measured = measure(each_checkpoint, names, toy, cache=cache)
        assert len(toy.reader.reads) == reads
        assert np.array_equal(measured.logits, expected.logits)
        assert np.array_equal(measured.extras["features"], expected.extras["features"])


def test_the_digest_of_a_body_is_of_everything_but_the_head():
    from tests.inference.test_measure import build

    model = build("test_resnet")
    before = body_digest(model)
    torch.nn.init.normal_(model.get_classifier().weight)
    assert body_digest(model.to(memory_format=torch.channels_last)) == before
    model.to(memory_format=torch.contiguous_format)
    for name, tensor in model.state_dict().items():
        if not name.startswith("fc."):
            kept = tensor.clone()
            tensor.reshape(-1)[-1:].add_(1)
            assert body_digest(model) != before, name
            tensor.copy_(kept)
    assert body_digest(model) == before
    assert body_digest(model.half()) != before


def test_two_processes_that_fill_at_once_end_with_the_right_rows(checkpoint, toy, cache, notices):
    begin = barrier(2)
    runs = [start(checkpoint, cache, role="train", reverse=reverse, begin=begin) for reverse in (False, True)]
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0]
    toy.reader.reads.clear()
    names = toy.splits.roles["train"]
    rows = fill(checkpoint, cache, names, toy)
    assert (toy.reader.reads, notices) == ([], [])
    assert np.array_equal(rows[:], uncached(checkpoint, names, toy))
    assert not list(cache.rglob("*.partial"))


def test_a_killed_run_leaves_what_it_had_published(checkpoint, toy, cache):
    run = start(checkpoint, cache, role="train", kill_at_shard=2)
    run.join()
    assert run.exitcode == -9
    assert len(list(cache.glob("*/*.npy"))) == 2
    assert len(list(cache.rglob("*.partial"))) == 1
    names = toy.splits.roles["train"]
    toy.reader.reads.clear()
    rows = fill(checkpoint, cache, names, toy)
    assert sorted(toy.reader.reads) == sorted(names[2 * ROWS_A_SHARD :])
    assert np.array_equal(rows[:], uncached(checkpoint, names, toy))
    assert not list(cache.rglob("*.partial"))


def test_other_code_between_an_image_and_its_features_is_another_key(checkpoint, tmp_path, monkeypatch):
    """A mended decoder is not served the features of the old one's pixels."""
    model, transform = checkpoint.load_model(), eval_transform(checkpoint.config["pretrained_cfg"])

    def key():
        features._code_digest.cache_clear()
        return features.feature_key(model, transform, config=checkpoint.config).digest

    before = key()
    mended = tmp_path / "pictures.py"
    mended.write_bytes(Path(features.decoding.__file__).read_bytes() + b"# mended\n")
    others = [module for module in features._CODE if module is not features.decoding]
    assert len(others) == len(features._CODE) - 1
    monkeypatch.setattr(features, "_CODE", (SimpleNamespace(__file__=mended), *others))
    changed = key()
    monkeypatch.undo()
    assert key() == before != changed
