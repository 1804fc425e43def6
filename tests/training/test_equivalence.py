"""Ways to compute the same training: in parts, in processes, with and without the cache of features."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from streetvision_core.errors import StoreError, TrainingError
from streetvision_core.models.weights import read_state
from streetvision_core.training import loop
from streetvision_core.training.processes import companions, gather_in_order, group_of
from tests.e2e.place import REPOSITORY
from tests.training.interrupt import fit_until
from tests.training.runs import LOADED
from tests.training.toy import fit, make_backbone, make_toy

pytestmark = pytest.mark.long
# A network without batch statistics: those of a part are not those of the batch.
VIT = {"architecture": "test_vit", "input_size": 32}
# Adam divides a gradient by its own size, so where it is zero but for rounding the step is noise of up to the
# learning rate. The bias of the keys, which no output depends on, is such a place.
TOLERANCE = 2e-4
RECIPE = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "ema_decay": 0.5}


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("vit"), **VIT)


@pytest.fixture(scope="module")
def single(vit, tmp_path_factory):
    """One process, whole batches; classes are weighed, three quarters of the images are of one."""
    return fit(vit, unbalanced(), tmp_path_factory.mktemp("single"), **RECIPE)


@pytest.fixture
def loaded(monkeypatch):
    """Let other processes begin with everything loaded, in tests that are not about their start."""
    context = SimpleNamespace(get_context=lambda _: LOADED)
    monkeypatch.setattr("streetvision_core.training.processes.multiprocessing", context)


def unbalanced():
    toy = make_toy(train=17, others=8)
    for image in toy.index.pictures:
        if image.name in {"train/001.png", "train/003.png", "train/005.png", "train/007.png"}:
            image.label = 0
    return toy


def assert_same_training(result, expected):
    wanted = read_state(expected.weights)
    for name, given in read_state(result.weights).items():
        tensor = given
        if name.endswith("attn.qkv.bias"):
            tensor, wanted[name] = (values.reshape(3, -1)[[0, 2]] for values in (given, wanted[name]))
        torch.testing.assert_close(
            tensor, wanted[name], rtol=0, atol=TOLERANCE, msg=lambda m, n=name: f"{n}: {m}"
        )
    for epoch, other in zip(result.epochs, expected.epochs, strict=True):
        assert epoch.train_loss == pytest.approx(other.train_loss, abs=1e-4)
        assert epoch.val_loss == pytest.approx(other.val_loss, abs=1e-4)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_a_batch_in_parts_is_the_whole_batch(vit, single, accumulate, tmp_path):
    assert_same_training(fit(vit, unbalanced(), tmp_path, accumulate=accumulate, **RECIPE), single)


def test_two_processes_train_what_one_does(vit, single, tmp_path):
    """Each takes half of every batch with a worker of its own; both validate, and the first one writes.

    They leave no group and no address behind.
    """
    seen, before = [], dict(os.environ)
    both = fit(vit, unbalanced(), tmp_path, devices=2, num_workers=1, on_epoch=seen.append, **RECIPE)
    assert_same_training(both, single)
    assert [report.epoch for report in seen] == [1, 2]
    assert not torch.distributed.is_initialized()
    assert {name for name in os.environ.keys() - before if "MASTER" in name or "SOCKET" in name} == set()


@pytest.mark.parametrize("way", [{"method": "lora"}, {"devices": 2}, {"accumulate": 2}])
def test_each_way_goes_on_after_an_interruption_as_if_there_had_been_none(vit, way, tmp_path, notices):
    options = {**RECIPE, "epochs": 3, **way}
    whole = fit(vit, unbalanced(), tmp_path / "whole", **options)
    fit_until(2, vit, unbalanced(), tmp_path / "until", resume=tmp_path / "resume", **options)
    resumed = fit(vit, unbalanced(), tmp_path / "on", resume=tmp_path / "resume", **options)
    assert resumed.to_artifact().digest == whole.to_artifact().digest
    assert notices == ["Going on after epoch 2 of 3, which an earlier run had finished."]


class FailsElsewhere(type(make_toy().reader)):
    """Reads images here, and fails with words of its own in the process that it is sent to."""

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.damaged = set(self.pictures)


@pytest.mark.usefixtures("loaded")
def test_an_error_in_another_process_is_told_in_its_words(vit, tmp_path):
    toy = unbalanced()
    toy.reader = FailsElsewhere(toy.reader.pictures)
    with pytest.raises(TrainingError, match=r"process 1: Expected the image .* Restore it"):
        fit(vit, toy, tmp_path, devices=2, **RECIPE)
    assert not torch.distributed.is_initialized()


@pytest.mark.usefixtures("loaded")
def test_an_error_here_is_not_hidden_by_what_it_does_to_others(vit, tmp_path):
    def full_disk(report):
        raise StoreError("room", "a full disk", "here", "Free some.")

    before = {child.pid for child in multiprocessing.active_children()}
    with pytest.raises(StoreError, match="a full disk"):
        fit(vit, unbalanced(), tmp_path, devices=2, on_epoch=full_disk, **RECIPE)
    assert {child.pid for child in multiprocessing.active_children()} <= before


def test_the_others_end_with_the_first_one_however_it_ends(tmp_path):
    """Killed without a last word, it leaves nobody behind."""
    code = (
        "import os, sys, time\n"
        "from tests.training.test_equivalence import sleep_long\n"
        "from streetvision_core.training.processes import companions\n"
        "if __name__ == '__main__':\n"
        "    with companions(2, sleep_long, place=sys.argv[1]):\n"
        "        time.sleep(60)\n"
    )
    first = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY)
    deadline = time.monotonic() + 120
    while not (paths := list(tmp_path.glob("*.pid"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    other = psutil.Process(int(paths[0].stem))
    first.kill()
    first.wait()
    other.wait(timeout=30)


@pytest.mark.usefixtures("loaded")
def test_nobody_else_can_reach_the_processes(tmp_path):
    """Whatever they listen on is the loopback interface, and where they meet only this user can enter."""
    with companions(2, tell_where_it_listens, place=tmp_path) as processes:
        meeting = Path(processes.meeting).parent
        assert meeting.stat().st_mode & 0o077 == 0
        tell_where_it_listens(processes=processes, place=tmp_path)
    by_process = [path.read_text().split() for path in tmp_path.glob("*.addresses")]
    assert len(by_process) == 2
    assert all(by_process)
    assert {address for addresses in by_process for address in addresses} <= {"127.0.0.1", "::1"}


def tell_where_it_listens(*, processes, place):
    with group_of(processes):
        gather_in_order([processes.rank])
        connections = psutil.Process().net_connections(kind="tcp")
        addresses = [connection.laddr.ip for connection in connections if connection.laddr]
        Path(place, f"{processes.rank}.addresses").write_text(" ".join(addresses))
        gather_in_order([processes.rank])


def sleep_long(*, processes, place):
    Path(place, f"{os.getpid()}.pid").touch()
    time.sleep(60)


def test_mixed_precision_trains_with_a_clipped_gradient(vit, single, tmp_path, monkeypatch):
    """bf16 on the CPU stands for the GPU: the same plugin of Lightning, and a fused optimizer."""
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    hardware = loop._hardware

    def in_bf16(precision, processes):
        return hardware(precision, processes) | ({"precision": "bf16-mixed"} if precision == "auto" else {})

    monkeypatch.setattr(loop, "_hardware", in_bf16)
    mixed = fit(vit, unbalanced(), tmp_path / "mixed", **RECIPE)
    assert mixed.weights.sha256 != single.weights.sha256
    assert mixed.epochs[0].train_loss == pytest.approx(single.epochs[0].train_loss, abs=0.02)
    probe = {"method": "probe", "epochs": 2, "probe_batch_size": 8}
    fit(vit, unbalanced(), tmp_path / "probe", **probe)


def test_parts_that_do_not_divide_a_batch_are_refused(vit, tmp_path):
    with pytest.raises(ValueError, match="3 parts on 1 devices"):
        fit(vit, unbalanced(), tmp_path, accumulate=3, **RECIPE)
