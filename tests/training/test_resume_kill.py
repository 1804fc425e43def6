"""Trainings in processes of their own, killed with SIGKILL, and two of them at once."""

import json
import random
import shutil
import time
from itertools import groupby

import pytest

from streetvision_core.training.resume import open_state
from tests.training.runs import Run
from tests.training.toy import fit, make_backbone, make_toy

pytestmark = pytest.mark.long
RECIPE = {"epochs": 8, "mixup": 0.3, "ema_decay": 0.9}
WAITING = "Another run is training exactly this; waiting for it."


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def undisturbed(backbone, tmp_path_factory):
    return fit(backbone, make_toy(), tmp_path_factory.mktemp("whole"), **RECIPE).to_artifact().digest


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_training_killed_again_and_again_ends_with_the_files_of_an_undisturbed_one(
    num_workers, backbone, undisturbed, tmp_path
):
    """At random moments: in an epoch, in a validation, while the state is written."""
    moments = random.Random(num_workers)
    seen = 0
    for kill in range(3):
        run = Run(backbone, tmp_path / f"run{kill}", tmp_path / "resume", num_workers=num_workers, **RECIPE)
        run.wait_for("epoch", 1)
        time.sleep(moments.uniform(0, 0.15))
        run.kill()
        epochs = run.events("epoch")
        if epochs:
            assert seen < epochs[0] <= seen + 2, "a saved epoch that was not reported is not trained again"
            seen = epochs[-1]
    last = Run(backbone, tmp_path / "last", tmp_path / "resume", num_workers=num_workers, **RECIPE)
    assert last.finish() == undisturbed
    assert len(last.events("notice")) == 1, "the killed runs left no lock"


def test_a_kill_at_any_step_of_saving_leaves_one_state_or_the_other_whole(backbone, tmp_path, notices):
    """Before each link, rename and removal from the first epoch's record on."""
    changes = {"epochs": 2, "mixup": 0.3}
    whole = Run(backbone, tmp_path / "whole", tmp_path / "resume", **changes)
    digest = whole.finish()
    calls = whole.events("calls")[0]
    first = calls.index("link") + 1
    assert {"link", "replace", "unlink"} == set(calls[first:]), "the second epoch is a better one"
    states, toy = [], make_toy()
    for call in range(first, len(calls) + 1):
        resume = tmp_path / f"resume{call}"
        run = Run(backbone, tmp_path / f"run{call}", resume, kill_at_call=call, **changes)
        assert run.finish() is None
        states.append(state_of(resume))
        assert not any("from the beginning" in notice for notice in notices), "each state is readable"
        if states[-1] not in states[:-1]:  # what a kill leaves beside the state is gone by now
            out = tmp_path / f"again{call}"
            again = fit(backbone, toy, out, resume=resume, **changes)
            assert again.to_artifact().digest == digest
        shutil.rmtree(resume)
    assert [epoch for epoch, _ in groupby(states)] == [0, 1, 2], "each state replaces the one before at once"
    assert {notice.split(",")[0] for notice in notices} >= {"Going on after epoch 1 of 2"}


def state_of(resume):
    """The epoch of the state, 0 for none; it must be readable."""
    record = resume / "state.json"
    training = json.loads(record.read_bytes())["training"] if record.exists() else ""
    with open_state(resume, training=training, device="cpu") as state:
        saved = state.load()
    assert not list(resume.glob(".*.partial"))
    return saved.rows[-1].epoch if saved else 0


@pytest.fixture
def pair(backbone, tmp_path):
    """A run that was paused after its first epoch, and one of the same training that waits for it."""
    first = Run(backbone, tmp_path / "first", tmp_path / "resume", num_workers=2, **RECIPE)
    first.wait_for("epoch", 1)
    first.pause()
    second = Run(backbone, tmp_path / "second", tmp_path / "resume", num_workers=2, **RECIPE)
    second.wait_for("notice", 1)
    yield first, second
    for run in (first, second):
        run.kill()


def test_two_runs_of_the_same_training_train_each_epoch_once(pair, undisturbed):
    first, second = pair
    first.go_on()
    assert [run.finish() for run in pair] == [undisturbed, undisturbed]
    assert first.events("epoch") == list(range(1, 9))
    assert second.events("epoch") == []
    done = "Nothing is left to train: an earlier run had finished, after epoch 8 of 8."
    assert second.events("notice") == [WAITING, done]


def test_a_run_that_waits_goes_on_when_the_other_is_killed(pair, undisturbed):
    first, second = pair
    first.kill()
    assert second.finish() == undisturbed
    assert second.events("notice")[0] == WAITING
    assert len(second.events("notice")) == 2
    assert second.events("epoch") == list(range(second.events("epoch")[0], 9))
    assert second.events("epoch")[0] > 1
