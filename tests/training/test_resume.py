"""A training that is interrupted goes on after its last epoch, and nobody can tell from its files."""

import json
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch

from streetvision_core.io.claims import forget_progress
from streetvision_core.training import loop, module, pixels
from streetvision_core.training.data import EpochBatches
from streetvision_core.training.loop import BestEpoch
from streetvision_core.training.resume import open_state
from streetvision_core.training.throughput import MEASURED
from tests.training.interrupt import RECIPE, edit_checkpoint, fit_until
from tests.training.runs import Run
from tests.training.toy import fit, make_toy

# No epoch can be better than the first, because nothing changes: with a patience of 3 it stops after epoch 4.
STOPPED = {"epochs": 40, "learning_rate": 1e-30, "ema_decay": 0.0}


def decided(metrics):
    """Return the parts of a result that follow from seed, images and configuration."""
    return {name: value for name, value in metrics.items() if name not in MEASURED}


STEPS = "epoch_loop.automatic_optimization.optim_progress"


@pytest.mark.parametrize(
    "changes",
    [
        {"mixup": 0.3, "num_workers": 2},
        {"mixup": 0.3, "num_workers": 0},
        {"method": "probe"},
        {"method": "lp_ft", "layer_decay": 0.7, "head_hidden": 8},
        {"ema_decay": 0.0, "learning_rate": 0.02},
        {"mixup": 0.4, "augmentation": "trivial", "loss": "focal", "accumulate": 3},
    ],
    ids=",".join,
)
def test_an_interrupted_training_ends_with_the_files_of_an_undisturbed_one(changes, toy, backbone, tmp_path):
    changes = {"epochs": 4, **changes}
    resume = tmp_path / "resume"
    whole = fit(backbone, toy, tmp_path / "whole", **changes)
    for epoch in (1, 3):
        fit_until(epoch, backbone, toy, tmp_path / f"until{epoch}", resume=resume, **changes)
    resumed = fit(backbone, toy, tmp_path / "resumed", resume=resume, **changes)
    assert resumed.epochs == whole.epochs
    assert resumed.to_artifact().digest == whole.to_artifact().digest
    assert decided(resumed.metrics) == decided(whole.metrics)


def test_early_stopping_counts_the_epochs_before_the_interruption(toy, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "PATIENCE", 3)
    whole = fit(backbone, toy, tmp_path / "whole", **STOPPED)
    assert whole.epochs[-1].epoch == 4
    fit_until(3, backbone, toy, tmp_path / "first", resume=tmp_path / "resume", **STOPPED)
    again = fit(backbone, toy, tmp_path / "again", resume=tmp_path / "resume", **STOPPED)
    assert again.to_artifact().digest == whole.to_artifact().digest
    taken = fit(backbone, toy, tmp_path / "taken", resume=tmp_path / "resume", **STOPPED)
    assert taken.to_artifact().digest == whole.to_artifact().digest


def test_only_the_missing_epochs_are_trained_and_it_is_said(go_on, undisturbed):
    digest, epochs, notices = go_on()
    assert (digest, epochs) == (undisturbed, [3, 4])
    assert notices == ["Going on after epoch 2 of 4, which an earlier run had finished."]


def test_a_finished_training_is_taken_without_a_look_at_train(backbone, tmp_path, notices):
    toy, again, reports = make_toy(), make_toy(), []
    first = fit(backbone, toy, tmp_path / "first", resume=tmp_path / "resume")
    taken = fit(
        backbone,
        again,
        tmp_path / "taken",
        resume=tmp_path / "resume",
        on_epoch=reports.append,
    )
    assert taken.to_artifact().digest == first.to_artifact().digest
    assert not reports
    assert taken.metrics == {**decided(first.metrics), "pictures_per_second": 0.0}
    assert not any(name.startswith("train/") for name in again.reader.reads)
    assert len(notices) == 1
    assert notices[0].startswith("Nothing is left to train")


def test_the_state_lies_in_its_own_directory_and_holds_one_epoch(go_on, resume, tmp_path):
    go_on()
    best = json.loads((resume / "state.json").read_bytes())["best_epoch"]
    names = [".lock", f"best-{best}.safetensors", "epoch-4.ckpt", "state.json"]
    assert sorted(path.name for path in resume.iterdir()) == names
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model_best.safetensors"]


def average_to_raw(checkpoint):
    weights = checkpoint["state_dict"]
    weights.update(
        {name.replace("ema.module.", "model."): t for name, t in weights.items() if "ema." in name}
    )


def raw_to_average(checkpoint):
    weights = checkpoint["state_dict"]
    weights.update({f"ema.module.{n[6:]}": t for n, t in weights.items() if n.startswith("model.")})


EDITS = {
    "raw weights": average_to_raw,
    "averaged weights": raw_to_average,
    "class weights": lambda state: state["state_dict"]["class_weights"].copy_(torch.tensor([0.1, 0.9])),
    "optimizer moments": lambda state: state["optimizer_states"][0].update(state={}),
    "learning rate of the next step": lambda state: state["optimizer_states"][0]["param_groups"][0].update(
        lr=0.01
    ),
    "schedule": lambda state: state["lr_schedulers"][0].update(last_epoch=0),
    "steps, which the averaging follows": lambda state: state["loops"]["fit_loop"][STEPS]["optimizer"][
        "step"
    ]["total"].update(completed=0),
    "epochs, which order and mixing follow": lambda state: state["loops"]["fit_loop"]["epoch_progress"][
        "current"
    ].update(ready=1, started=1, processed=1, completed=0),
    "rows": lambda state: state["rows"][0].update(train_loss=0.5),
}


@pytest.mark.parametrize("part", EDITS)
def test_without_a_part_of_the_state_the_result_is_another(part, resume, go_on, undisturbed):
    edit_checkpoint(resume, EDITS[part])
    digest, _, notices = go_on()
    assert notices == ["Going on after epoch 2 of 4, which an earlier run had finished."]
    assert digest != undisturbed


def test_what_follows_from_elsewhere_is_not_taken_from_the_state(resume, go_on, undisturbed):
    """Lightning writes these for others: no callback of ours has a state, and the loops count."""
    edit_checkpoint(resume, lambda state: (state.pop("callbacks"), state.update(epoch=77, global_step=77)))
    assert go_on()[0] == undisturbed


@pytest.mark.parametrize("num_workers", [0, 2])
def test_without_the_order_of_the_epoch_the_result_is_another(num_workers, go_on, undisturbed, monkeypatch):
    monkeypatch.setattr(EpochBatches, "set_epoch", lambda *_: None)
    assert go_on(num_workers=num_workers)[0] != undisturbed


def test_without_a_seed_of_its_own_mixing_would_differ(go_on, undisturbed, monkeypatch):
    monkeypatch.setattr(module.torch, "manual_seed", lambda _: None)
    assert go_on()[0] != undisturbed


def test_without_the_best_epoch_so_far_a_later_one_would_be_taken(toy, backbone, tmp_path, monkeypatch):
    """No epoch can be better than the first, because nothing changes."""
    recipe = {"epochs": 4, "learning_rate": 1e-30, "ema_decay": 0.0}
    fit_until(3, backbone, toy, tmp_path / "first", resume=tmp_path / "resume", **recipe)
    monkeypatch.setattr(BestEpoch, "restore", lambda *_: None)
    again = fit(backbone, toy, tmp_path / "again", resume=tmp_path / "resume", **recipe)
    assert again.weights.sha256 != fit(backbone, toy, tmp_path / "whole", **recipe).weights.sha256


def test_another_training_does_not_take_the_state(go_on):
    _, epochs, notices = go_on(seed=1)
    assert epochs == [1, 2, 3, 4]
    assert "the saved state of this training, but found that of another" in notices[0]


def test_a_training_goes_on_with_other_workers_and_another_cache(go_on, undisturbed, monkeypatch):
    monkeypatch.setattr(pixels, "CACHE_BYTES", 0)
    digest, epochs, _ = go_on(num_workers=2)
    assert (digest, epochs) == (undisturbed, [3, 4])


def test_other_images_make_another_training(go_on, toy, monkeypatch):
    first, *others = toy.index.pictures
    other = type(first)(**{**vars(first), "sha256": "0" * 64})
    monkeypatch.setattr(toy, "index", replace(toy.index, pictures=(other, *others)))
    assert go_on()[1] == [1, 2, 3, 4]


def test_the_bar_and_the_time_left_begin_where_training_goes_on(toy, backbone, tmp_path, resume, monkeypatch):
    bars, reports = [], []
    bar = loop.tqdm
    monkeypatch.setattr(loop, "tqdm", lambda **options: bars.append(options) or bar(**options))
    fit(backbone, toy, tmp_path / "out", resume=resume, on_epoch=reports.append, **RECIPE)
    assert [(options["initial"], options["total"]) for options in bars] == [(4, 8)]
    assert reports[0].seconds_left == pytest.approx(reports[0].seconds, rel=0.5)
    assert reports[1].seconds_left == 0


def test_a_forgotten_training_is_gone(resume):
    forget_progress(resume, root=resume.parent)
    assert not resume.exists()
    forget_progress(resume, root=resume.parent)
    assert not resume.exists()


def hold(resume, *, until, held):
    with open_state(resume, training="", device="cpu"):
        held.set()
        assert until.wait(30)


def test_a_training_that_a_run_holds_is_not_forgotten(resume):
    before = sorted(path.name for path in resume.iterdir())
    until, held = threading.Event(), threading.Event()
    other = threading.Thread(target=hold, args=(resume,), kwargs={"until": until, "held": held})
    other.start()
    assert held.wait(30)
    forget_progress(resume, root=resume.parent)
    until.set()
    other.join()
    assert sorted(path.name for path in resume.iterdir()) == before


def test_a_run_that_waits_survives_that_the_directory_is_forgotten(resume, notices):
    until, held = threading.Event(), threading.Event()
    until.set()
    waiting = threading.Thread(target=hold, args=(resume,), kwargs={"until": until, "held": held})
    with open_state(resume, training="", device="cpu"):
        waiting.start()
        assert not held.wait(0.3)
    forget_progress(resume, root=resume.parent)
    waiting.join()
    assert held.is_set()
    assert notices == ["Another run is training exactly this; waiting for it."]


def test_forgetting_loads_neither_torch_nor_lightning():
    code = (
        "import sys; from streetvision_core.io.claims import forget_progress;"
        "print(*{'torch', 'lightning', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


def test_a_training_that_goes_on_in_another_process_says_nothing_of_its_own(backbone, resume, tmp_path):
    """Lightning speaks when it saves, loads and starts; none of that is for a person who waits."""
    run = Run(backbone, tmp_path / "again", resume, output=tmp_path / "output", **RECIPE)
    assert run.finish()
    assert (tmp_path / "output").read_text() == ""
    assert run.events("notice") == ["Going on after epoch 2 of 4, which an earlier run had finished."]
    assert json.loads((resume / "state.json").read_bytes())["epoch"] == RECIPE["epochs"]
