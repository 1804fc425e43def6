"""A resume state that cannot be used is named and left alone; one that cannot be written is named too."""

import json
import resource

import pytest

from streetvision_core.errors import StoreError
from streetvision_core.training.resume import open_state
from tests.training.interrupt import RECIPE, edit_checkpoint, edit_record, fit_until, flip, replace_checkpoint
from tests.training.toy import fit


class Malicious:
    """An object whose code pickle would run on loading."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def best_path(resume):
    return next(resume.glob("best-*"))


DAMAGES = {
    "epoch cut off": (lambda at: cut(at / "epoch-2.ckpt"), "other content"),
    "epoch with another bit": (lambda at: flip(at / "epoch-2.ckpt"), "other content"),
    "epoch gone": (lambda at: (at / "epoch-2.ckpt").unlink(), "the error 'No such file"),
    "best weights with another bit": (lambda at: flip(best_path(at)), "other content"),
    "best weights gone": (lambda at: best_path(at).unlink(), "the error 'No such file"),
    "record cut off": (lambda at: cut(at / "state.json"), "a damaged record"),
    "record not text": (lambda at: (at / "state.json").write_bytes(b"\xff\x00"), "a damaged record"),
    "record a list": (lambda at: (at / "state.json").write_bytes(b"[]"), "version None"),
    "newer schema": (lambda at: edit_record(at, schema_version=5, more=[]), "version 5"),
    "field too many": (lambda at: edit_record(at, more=1), "a damaged record"),
    "epoch as text": (lambda at: edit_record(at, epoch="2"), "a damaged record"),
    "another training": (lambda at: edit_record(at, training="0" * 64), "that of another"),
    "other libraries": (lambda at: edit_record(at, surroundings={"torch": "1.0"}), "torch 1.0"),
    "another best epoch": (
        lambda at: (best_path(at).rename(at / "best-9.safetensors"), edit_record(at, best_epoch=9)),
        "best 2",
    ),
    "no zip": (lambda at: replace_checkpoint(at, b"PK\x03\x04 nothing"), "something else"),
    "empty": (lambda at: replace_checkpoint(at, b""), "something else"),
    "text": (lambda at: replace_checkpoint(at, b"hello world, this is text"), "something else"),
    "a list": (lambda at: replace_checkpoint(at, [1, 2]), "parts of one"),
    "no optimizer": (
        lambda at: edit_checkpoint(at, lambda state: state.pop("optimizer_states")),
        "parts of one",
    ),
    "no rows": (lambda at: edit_checkpoint(at, lambda state: state["rows"].clear()), "something else"),
    "rows of others": (
        lambda at: edit_checkpoint(at, lambda state: state.update(rows=[{}])),
        "something else",
    ),
    "a row missing": (lambda at: edit_checkpoint(at, lambda state: state["rows"].pop(0)), "epochs [2]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_used_is_named_and_not_used(damage, resume, notices):
    training = json.loads((resume / "state.json").read_bytes())["training"]
    make, text = DAMAGES[damage]
    make(resume)
    with open_state(resume, training=training, device="cpu") as state:
        assert state.load() is None
    assert len(notices) == 1
    assert notices[0].endswith("Training starts from the beginning.")
    assert text in notices[0]


@pytest.mark.parametrize("damage", ["epoch cut off", "best weights with another bit", "newer schema"])
def test_training_starts_over_beside_what_cannot_be_used(damage, resume, go_on, undisturbed):
    DAMAGES[damage][0](resume)
    digest, epochs, notices = go_on()
    assert (digest, epochs) == (undisturbed, [1, 2, 3, 4])
    assert len(notices) == 1
    assert go_on()[2] == ["Nothing is left to train: an earlier run had finished, after epoch 4 of 4."]


def test_damaged_weights_are_replaced_where_their_epoch_is_the_best_again(toy, backbone, tmp_path, notices):
    resume = tmp_path / "resume"
    fit_until(1, backbone, toy, tmp_path / "first", resume=resume, **RECIPE)
    flip(resume / "best-1.safetensors")
    for name in ("second", "third"):
        options = {"resume": resume, **RECIPE}
        fit_until(1 if name == "second" else 2, backbone, toy, tmp_path / name, **options)
    assert "best-1.safetensors" in notices[0]
    assert notices[1:] == ["Going on after epoch 1 of 4, which an earlier run had finished."]


def test_a_pickle_is_refused_even_with_the_right_digest(resume, go_on, undisturbed, tmp_path):
    mark = tmp_path / "executed"
    replace_checkpoint(resume, {"state_dict": Malicious(mark)})
    digest, epochs, notices = go_on()
    assert not mark.exists()
    assert (digest, epochs) == (undisturbed, [1, 2, 3, 4])
    assert "tensors and plain values, but found something else" in notices[0]


def test_a_state_that_cannot_be_written_names_the_file_and_the_cause(toy, backbone, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, hard))  # the weights fit, the state does not
    try:
        with pytest.raises(StoreError, match=r"File too large.*epoch-1\.ckpt"):
            fit(backbone, toy, tmp_path / "out", resume=tmp_path / "resume", **RECIPE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "resume").iterdir()] == [".lock"]


def test_a_directory_that_cannot_be_made_is_named(toy, backbone, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"to lock the state of the training.*Not a directory"):
        fit(backbone, toy, tmp_path / "out", resume=tmp_path / "file/resume", **RECIPE)
