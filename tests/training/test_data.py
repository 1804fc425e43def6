"""Training's data: every look at an image is decided by its name alone."""

import random
import threading
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from streetvision_core.models.preprocessing import eval_transform
from streetvision_core.training import data
from streetvision_core.training.augmentation import make_augmentation
from streetvision_core.training.data import (
    AugmentedImages,
    DecodedImages,
    EpochBatches,
    EvaluationBatches,
    choose_workers,
)
from tests.training.toy import make_toy, recipe

CFG = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}
TRANSFORM = eval_transform(CFG)


def decoded(toy, *, cache_bytes=1 << 30, side=64):
    names = toy.splits.roles["train"]
    return DecodedImages(toy.reader, names, side=side, cache_bytes=cache_bytes)


def augmented(toy, *, seed=0, **options):
    pictures = decoded(toy, **options)
    augment = make_augmentation(recipe().augmentation, transform=TRANSFORM)
    return AugmentedImages(pictures, [i % 2 for i in range(len(pictures))], augment=augment, seed=seed)


def test_a_look_is_the_same_alone_and_in_any_company():
    dataset = augmented(make_toy())
    together, labels = dataset[[(0, 3), (0, 5), (0, 1)]]
    alone, label = dataset[[(0, 5)]]
    assert torch.equal(together[1], alone[0])
    assert labels.tolist() == [1, 1, 1]
    assert label.tolist() == [1]
    assert together.dtype == torch.uint8


def test_looks_differ_by_epoch_and_by_seed():
    toy = make_toy()
    looks = [augmented(toy, seed=seed)[[(epoch, 2)]][0] for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert not torch.equal(looks[0], looks[1])
    assert not torch.equal(looks[0], looks[2])


def test_augmenting_leaves_the_global_generators_alone():
    dataset = augmented(make_toy())
    random.seed(4)
    torch.manual_seed(4)
    np.random.seed(4)  # noqa: NPY002 - the global generator is what is tested
    expected = random.random(), torch.rand(1), np.random.rand()  # noqa: NPY002 - as above
    random.seed(4)
    torch.manual_seed(4)
    np.random.seed(4)  # noqa: NPY002 - as above
    dataset[[(0, 0), (0, 1)]]
    assert (random.random(), torch.rand(1), np.random.rand()) == expected  # noqa: NPY002 - as above


def test_images_are_the_same_whether_kept_or_decoded_again():
    toy = make_toy()
    kept, again = decoded(toy, side=24), decoded(toy, side=24, cache_bytes=0)
    part = decoded(toy, side=24, cache_bytes=5 * 24 * 24 * 4)
    reads = len(toy.reader.reads)
    for position in range(len(kept)):
        expected = np.asarray(kept.load([position])[0])
        assert expected.shape == (24, 24, 3)
        assert np.array_equal(np.asarray(again.load([position])[0]), expected)
        assert np.array_equal(np.asarray(part.load([position])[0]), expected)
    assert len(toy.reader.reads) - reads == 12 + (12 - 5)


def test_a_batch_that_is_not_kept_is_decoded_by_threads_to_the_same_pixels(monkeypatch):
    toy, looks = make_toy(), [(0, position) for position in (3, 11, 0, 5, 5, 8)]
    kept = augmented(toy)[looks]
    decoders, real = set(), data.decode
    monkeypatch.setattr(
        data, "decode", lambda *args, **options: decoders.add(threading.get_ident()) or real(*args, **options)
    )
    again = augmented(toy, cache_bytes=5 * 40 * 40 * 4)
    decoders.clear()
    batch = again[looks]
    assert threading.get_ident() not in decoders
    assert decoders
    monkeypatch.setattr(data, "READERS", 1)
    alone = augmented(toy, cache_bytes=0)[looks]
    assert torch.equal(batch.inputs, kept.inputs)
    assert torch.equal(alone.inputs, kept.inputs)
    assert torch.equal(batch.labels, kept.labels)


@pytest.mark.parametrize(
    ("wanted", "machine", "workers"),
    [
        (-1, ("cpu", 8, 1), 0),
        (-1, ("cuda", 8, 1), 7),
        (-1, ("cuda", 64, 1), 16),
        (-1, ("cuda", 64, 8), 7),
        (-1, ("cuda", 1, 1), 1),
        (3, ("cpu", 8, 1), 3),
        (0, ("cuda", 8, 1), 0),
    ],
)
def test_workers_are_chosen_where_a_gpu_would_wait(wanted, machine, workers, monkeypatch):
    device, cores, processes = machine
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert choose_workers(wanted, device=device, processes=processes) == workers
    monkeypatch.setattr("sys.platform", "win32")
    assert choose_workers(wanted, device=device, processes=processes) == 0


def test_small_images_are_not_enlarged_and_shapes_are_kept():
    toy = make_toy()
    name = toy.splits.roles["train"][0]
    buffer = BytesIO()
    Image.new("RGB", (100, 50)).save(buffer, "PNG")
    toy.reader.pictures[name] = buffer.getvalue()
    assert decoded(toy, side=128).load([0])[0].size == (100, 50)
    assert decoded(toy, side=20).load([0])[0].size == (40, 20)


def test_an_epoch_shows_each_image_at_most_once_in_an_order_of_its_own():
    batches = EpochBatches(20, batch_size=6, seed=0)
    epochs = []
    for epoch in (0, 1, 0):
        batches.set_epoch(epoch)
        epochs.append(list(batches))
    assert epochs[0] == epochs[2] != epochs[1]
    for epoch, shown in zip((0, 1), epochs, strict=False):
        looks = [look for batch in shown for look in batch]
        assert [len(batch) for batch in shown] == [6] * len(batches) == [6, 6, 6]
        assert {look[0] for look in looks} == {epoch}
        assert len({look[1] for look in looks}) == 18


def test_fewer_images_than_a_batch_are_one_batch():
    assert [len(batch) for batch in EpochBatches(5, batch_size=32, seed=0)] == [5]


def test_validation_images_come_in_order_as_the_preprocessing_makes_them():
    toy = make_toy(others=7)
    names = toy.splits.roles["val_select"]
    for cache_bytes in (1 << 30, 3 * 3 * 32 * 32, 0):
        batches = EvaluationBatches(
            toy.reader, names, [i % 2 for i in range(7)],
            transform=TRANSFORM, batch_size=3, cache_bytes=cache_bytes,
        )  # fmt: skip
        shown = list(batches)
        assert [len(batch.inputs) for batch in shown] == [3, 3, 1]
        assert len(batches) == 3
        assert torch.cat([batch.labels for batch in shown]).tolist() == [0, 1, 0, 1, 0, 1, 0]
        expected = [
            TRANSFORM.pixels(Image.open(BytesIO(toy.reader.pictures[n])).convert("RGB")) for n in names
        ]
        assert torch.equal(torch.cat([batch.inputs for batch in shown]), torch.stack(expected))
        assert torch.equal(torch.stack(list(batches.pixels())), torch.stack(expected))
