"""Training as a whole: it learns, it is reproducible, and what it hands over is its best epoch."""

import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from streetvision_core.data.decoding.decode import ImageReader
from streetvision_core.data.labels import LABEL_NAMES
from streetvision_core.errors import DataError, IntegrityError, TrainingError
from streetvision_core.eval import compute_mcc
from streetvision_core.eval.calibration import negative_log_likelihood
from streetvision_core.models.weights import read_state
from streetvision_core.training import Checkpoint, loop, pixels, predict_role
from tests.training.toy import fit, make_backbone, make_toy, publish, stage


@pytest.fixture(scope="module")
def toy():
    return make_toy()


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def trained(toy, backbone, tmp_path_factory):
    """A short training in its place of a store, and its reports."""
    store = tmp_path_factory.mktemp("store")
    reports = []
    checkpoint = fit(backbone, toy, stage(store), epochs=4, mixup=0.2, on_epoch=reports.append)
    return checkpoint, reports, store


def test_a_separable_task_is_learnt_completely(backbone, tmp_path):
    toy = make_toy(train=48, others=16)
    changes = {"epochs": 15, "batch_size": 8, "learning_rate": 5e-3}
    checkpoint = fit(backbone, toy, tmp_path / "out", **changes)
    assert checkpoint.best.val_mcc == 1
    unseen = predict_role(checkpoint, toy.splits.roles["val_test"], index=toy.index, images=toy.reader)
    assert compute_mcc(unseen.labels, unseen.logits.argmax(axis=1)) == 1


def test_the_same_seed_gives_the_same_checkpoint_bit_for_bit(trained, toy, backbone, tmp_path):
    torch.manual_seed(99)  # whatever was drawn before must not matter
    np.random.seed(99)  # noqa: NPY002 - as above
    again = fit(backbone, toy, tmp_path, epochs=4, mixup=0.2)
    assert again.weights.sha256 == trained[0].weights.sha256
    assert again.to_artifact().digest == trained[0].to_artifact().digest


def test_neither_workers_nor_the_cache_change_the_weights(toy, backbone, tmp_path, monkeypatch):
    digests = set()
    for i, (workers, memory) in enumerate(((0, 2**30), (1, 2**30), (2, 2**30), (0, 0))):
        monkeypatch.setattr(pixels, "CACHE_BYTES", memory)
        made = fit(backbone, toy, tmp_path / str(i), epochs=2, mixup=0.3, num_workers=workers)
        digests.add(made.to_artifact().digest)
    assert len(digests) == 1


def test_another_seed_gives_other_weights(trained, toy, backbone, tmp_path):
    assert (
        fit(backbone, toy, tmp_path, epochs=4, mixup=0.2, seed=1).weights.sha256 != trained[0].weights.sha256
    )


def test_the_staged_weights_say_what_is_recorded_of_val_select(trained, toy):
    checkpoint, _, _ = trained
    names = toy.splits.roles["val_select"]
    again = predict_role(checkpoint, names, index=toy.index, images=toy.reader, device="cpu")
    assert again.ids == checkpoint.val_select.ids == names
    np.testing.assert_allclose(again.logits, checkpoint.val_select.logits, atol=1e-5)
    assert np.array_equal(again.labels, checkpoint.val_select.labels)


def test_the_reported_best_epoch_is_the_one_whose_weights_are_staged(trained):
    checkpoint, _, _ = trained
    logits, labels = checkpoint.val_select.logits, checkpoint.val_select.labels
    best = max(checkpoint.epochs, key=lambda row: (row.val_mcc, -row.val_loss))
    assert checkpoint.best == best
    assert checkpoint.metrics["best_epoch"] == best.epoch
    metrics = checkpoint.metrics
    assert compute_mcc(labels, logits[:, 1] > logits[:, 0]) == best.val_mcc == metrics["val_mcc"]
    assert metrics["mcc_low"] < metrics["val_mcc"] <= metrics["mcc_high"]
    assert negative_log_likelihood(logits, labels) == pytest.approx(best.val_loss, abs=1e-6)


def test_every_epoch_is_reported_once_in_order(trained):
    checkpoint, reports, _ = trained
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    assert {report.epochs for report in reports} == {4}
    for report, row in zip(reports, checkpoint.epochs, strict=True):
        assert {name: getattr(report, name) for name in row.to_csv_row()} == row.to_csv_row()
        assert report.seconds > 0
        assert report.pictures_per_second > 0
    assert [report.seconds_left > 0 for report in reports] == [True, True, True, False]
    assert str(reports[0]).startswith("epoch 1/4: train loss ")


def test_a_published_checkpoint_reads_back_as_it_was(trained):
    checkpoint, _, store = trained
    published = publish(checkpoint.to_artifact(), store)
    again = Checkpoint.from_artifact(published)
    assert again == checkpoint
    assert again.to_artifact().digest == checkpoint.to_artifact().digest
    state = again.load_model().state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in read_state(checkpoint.weights).items())
    assert again.config["label_names"] == list(LABEL_NAMES)


def test_training_writes_the_best_weights_and_nothing_else(toy, backbone, tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    fit(backbone, toy, tmp_path / "out")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "out",
        "out/model_best.safetensors",
        "work",
    ]


def test_training_says_nothing_of_its_own_where_there_is_no_terminal(toy, backbone, tmp_path, capfd):
    fit(backbone, toy, tmp_path)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_only_train_and_val_select_are_read(backbone, tmp_path):
    toy = make_toy()
    fit(backbone, toy, tmp_path)
    assert {name.split("/")[0] for name in toy.reader.reads} == {"train", "val_select"}
    assert len(toy.reader.reads) == len(set(toy.reader.reads)), "an image that fits the cache is read once"


def test_it_stops_when_no_epoch_is_better_any_more(toy, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "PATIENCE", 2)
    # At this learning rate nothing changes by more than rounding, so few epochs can be better.
    checkpoint = fit(backbone, toy, tmp_path, epochs=40, learning_rate=1e-12, ema_decay=0.0)
    last = checkpoint.epochs[-1].epoch
    assert last < 40
    assert last - checkpoint.best.epoch == 2


@pytest.mark.parametrize(("batch_size", "what"), [(2, "training loss"), (12, "logits on val_select")])
def test_numbers_that_are_not_finite_end_training_readably(batch_size, what, toy, backbone, tmp_path):
    changes = {"learning_rate": 1e30, "batch_size": batch_size}
    with pytest.raises(TrainingError, match=rf"Expected finite {what}.*nan.*epoch 1, batch.*learning rate"):
        fit(backbone, toy, tmp_path, **changes)


@pytest.mark.parametrize("role", ["train", "val_select"])
def test_an_empty_role_is_refused_before_anything_is_read(role, backbone, tmp_path):
    toy = make_toy()
    toy.splits.roles[role] = ()
    with pytest.raises(TrainingError, match=f"images in the role {role}, but found none"):
        fit(backbone, toy, tmp_path)
    assert not toy.reader.reads


def test_a_training_set_of_one_class_is_refused(backbone, tmp_path):
    toy = make_toy()
    toy.splits.roles["train"] = toy.splits.roles["train"][::2]
    with pytest.raises(TrainingError, match="both classes in the role train, but found only None"):
        fit(backbone, toy, tmp_path)


def test_splits_of_another_index_are_refused(backbone, tmp_path):
    toy = make_toy()
    toy.index = replace(toy.index, pictures=toy.index.pictures[:-1])
    toy.splits.roles["train"] = (*toy.splits.roles["train"], "elsewhere.png")
    with pytest.raises(DataError, match=r"elsewhere\.png"):
        fit(backbone, toy, tmp_path)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_changes_while_it_trains_is_named(num_workers, backbone, tmp_path, monkeypatch):
    """Also where a worker process met it, which cannot raise our errors across the process boundary."""
    toy = make_toy()

    class Changing(ImageReader):
        def __init__(self):
            self.conditions = None

        def read(self, name):
            toy.reader.damaged = {"train/003.png"} if os.getpid() != parent or first_epoch_done else set()
            return toy.reader.read(name)

    parent, first_epoch_done = os.getpid(), []
    changing = SimpleNamespace(index=toy.index, splits=toy.splits, reader=Changing())
    monkeypatch.setattr(pixels, "CACHE_BYTES", 0)
    changes = {"epochs": 3, "num_workers": num_workers}
    with pytest.raises(IntegrityError, match=r"the image train/003\.png"):
        fit(backbone, changing, tmp_path, on_epoch=first_epoch_done.append, **changes)


def test_the_surroundings_are_given_back_as_they_were(toy, backbone, tmp_path):
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
    fit(backbone, toy, tmp_path, epochs=1)
    assert torch.get_num_threads() == before[0]
    assert torch.are_deterministic_algorithms_enabled() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_an_interrupt_stays_an_interrupt(toy, backbone, tmp_path):
    """Lightning would turn it into an exit; Ctrl-C must work afterwards as before."""

    def interrupt(_):
        raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(backbone, toy, tmp_path, on_epoch=interrupt)
    assert signal.getsignal(signal.SIGINT) is handler
