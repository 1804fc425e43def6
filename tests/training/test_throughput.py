"""The seconds that a training waited and took, and the line that says what limited it."""

import multiprocessing
import time

import numpy as np
import pytest

from streetvision_assets.metadata import ALL_EPOCHS, Paced
from streetvision_core.training import data
from streetvision_core.training.report import EpochReport
from streetvision_core.training.throughput import (
    DATA_LIMIT,
    MEASURED,
    NOTHING_TRAINED,
    Meter,
    Throughput,
    limited_by,
    peak_memory_mb,
    share_of,
)
from tests.training.toy import fit


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def run_epoch(meter, clock, *, waits, work):
    meter.begin_epoch()
    for wait in waits:
        clock.now += wait
        meter.batch_arrived()
        clock.now += work
        meter.batch_ended()
    meter.end_epoch()
    clock.now += 100  # validation
    meter.batch_arrived()


def test_the_wait_is_what_lies_between_the_batches_and_nothing_else():
    clock = Clock()
    meter = Meter(clock=clock)
    run_epoch(meter, clock, waits=(3, 1), work=2)
    assert (meter.waited, meter.trained) == (4, 8)
    run_epoch(meter, clock, waits=(1,), work=3)
    assert (meter.waited, meter.trained) == (1, 4)
    assert (meter.waited_in_all, meter.trained_in_all) == (5, 12)
    assert share_of(meter.waited_in_all, meter.trained_in_all) == pytest.approx(5 / 12)


@pytest.mark.parametrize(("busy", "waited"), [(True, 3), (False, 10)])
def test_a_wait_while_the_device_is_at_work_costs_nothing(busy, waited):
    clock = Clock()
    meter = Meter(clock=clock, ahead=lambda: lambda: busy)
    run_epoch(meter, clock, waits=(3, 3, 4), work=1)
    assert meter.waited == waited  # the device has nothing to do before the first batch


@pytest.mark.parametrize(
    ("share", "cause"),
    [(0.0, "compute"), (DATA_LIMIT - 1e-9, "compute"), (DATA_LIMIT, "data"), (1.0, "data")],
)
def test_what_limits_a_training_changes_at_the_limit(share, cause):
    assert limited_by({"data_wait_share": share}, method="finetune").startswith(f"limited by {cause}: ")


def test_the_line_names_what_can_be_changed():
    assert limited_by({"data_wait_share": 0.43}, method="lora") == (
        "limited by data: 43% of the training time the model waited for images; raise num_workers"
    )
    assert limited_by({"data_wait_share": 0.43}, method="probe").endswith("the model waited for features")
    slow = {"data_wait_share": 0.01}
    assert limited_by(slow, method="finetune").endswith("; a GPU or a smaller model would be faster")
    on_gpu = limited_by({**slow, "gpu_peak_memory_mb": 9.0}, method="finetune")
    assert on_gpu.endswith("; a smaller model or input would be faster")


def test_where_nothing_was_trained_nothing_is_said_of_waiting():
    assert NOTHING_TRAINED.to_metrics() == {"pictures_per_second": 0.0}
    assert limited_by(NOTHING_TRAINED.to_metrics(), method="probe").startswith("nothing was trained")
    assert set(Throughput(9.0, 0.1, 5.0, 3.0).to_metrics()) == set(MEASURED)


def test_a_slow_loader_is_what_limits_the_training(toy, backbone, tmp_path, monkeypatch):
    """Each batch is late by a tenth of a second; none of that counts as time of the model."""
    load, late = data.AugmentedImages.__getitem__, 0.1

    def slow(self, looks):
        time.sleep(late)
        return load(self, looks)

    monkeypatch.setattr(data.AugmentedImages, "__getitem__", slow)
    reports = []
    checkpoint = fit(backbone, toy, tmp_path, on_epoch=reports.append)
    for report in reports:
        assert report.data_wait_share > 0.5
        assert report.data_wait_share * 12 / report.pictures_per_second >= 2 * late
    assert limited_by(checkpoint.metrics, method="finetune").startswith("limited by data")


def test_a_slow_model_is_not(toy, backbone, tmp_path, monkeypatch):
    from streetvision_core.training.module import ClassifierModule

    learn = ClassifierModule.batch_losses
    monkeypatch.setattr(
        ClassifierModule, "batch_losses", lambda self, batch: (time.sleep(0.3), learn(self, batch))[1]
    )
    checkpoint = fit(backbone, toy, tmp_path, epochs=1)
    assert limited_by(checkpoint.metrics, method="finetune").startswith("limited by compute")


@pytest.mark.parametrize("method", ["finetune", "probe"])
def test_every_report_says_what_was_measured(method, toy, backbone, tmp_path):
    reports = []
    checkpoint = fit(backbone, toy, tmp_path, method=method, on_epoch=reports.append)
    for report in reports:
        assert 0 <= report.data_wait_share <= 1
        assert 10 < report.peak_memory_mb < 100_000
        assert f"({report.data_wait_share:.0%} waiting for data), {report.peak_memory_mb:.0f} MB, " in str(
            report
        )
    assert set(checkpoint.metrics) >= set(MEASURED) - {"gpu_peak_memory_mb"}
    assert not set(MEASURED) & set(checkpoint.to_artifact().files)


def hold(size, ready, done):
    block = np.ones(size, dtype=np.uint8)
    ready.set()
    done.wait(30)
    assert block.any()


def test_memory_of_processes_of_its_own_counts():
    context = multiprocessing.get_context("fork")
    ready, done, size = context.Event(), context.Event(), 200 * 2**20
    child = context.Process(target=hold, args=(size, ready, done))
    before = peak_memory_mb()
    child.start()
    try:
        assert ready.wait(30)
        assert peak_memory_mb() - before > 190
    finally:
        done.set()
        child.join()


def epoch(number, epochs, *, phase=""):
    return EpochReport(
        epoch=number, epochs=epochs, train_loss=0.5, val_loss=0.5, val_mcc=0.1, learning_rate=0.1,
        pictures_per_second=9.0, seconds=1.0, seconds_left=1.0, data_wait_share=0.5, peak_memory_mb=9.0,
        phase=phase,
    )  # fmt: skip


def shown_epochs(reports, *, seconds):
    """Return phase and number of the epochs that are shown, where each takes so many seconds."""
    clock, out = Clock(), []
    paced = Paced(out.append, clock=clock)
    for report in reports:
        clock.now += seconds
        paced(report)
    paced.finish()
    paced.finish()
    return [(shown.phase, shown.epoch) for shown in out]


def test_a_short_training_and_a_slow_one_are_told_whole():
    for epochs, seconds in ((ALL_EPOCHS, 0.001), (ALL_EPOCHS + 1, 1.0)):
        numbers = range(1, epochs + 1)
        reports = [epoch(number, epochs) for number in numbers]
        assert shown_epochs(reports, seconds=seconds) == [("", number) for number in numbers]


def test_a_fast_training_is_told_once_a_second_and_to_its_end():
    numbers = [number for _, number in shown_epochs([epoch(i, 100) for i in range(1, 101)], seconds=0.125)]
    assert numbers == [*range(1, 100, 8), 100]
    stopped = [number for _, number in shown_epochs([epoch(i, 100) for i in range(1, 13)], seconds=0.125)]
    assert stopped == [1, 9, 12]


def test_both_phases_are_told_to_their_end():
    probe = [epoch(i, 100, phase="probe") for i in range(1, 6)]
    assert shown_epochs([*probe, *(epoch(i, 50, phase="finetune") for i in range(1, 4))], seconds=0.01) == [
        ("probe", 1), ("probe", 5), ("finetune", 1), ("finetune", 3),
    ]  # fmt: skip


def test_lp_ft_says_which_of_its_trainings_an_epoch_belongs_to(toy, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr("streetvision_core.training.fitting.PROBE_EPOCHS", 2)
    reports = []
    fit(backbone, toy, tmp_path, method="lp_ft", epochs=1, on_epoch=reports.append)
    assert [str(report).split(":")[0] for report in reports] == [
        "probe epoch 1/2", "probe epoch 2/2", "finetune epoch 1/1",
    ]  # fmt: skip
