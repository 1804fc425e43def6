"""Interrupts the toy training, and edits the state that it leaves."""

import json

import pytest
import torch

from streetvision_core.io import bytes_digest, write_json_atomic
from tests.training.toy import fit

RECIPE = {"epochs": 4, "mixup": 0.3, "ema_decay": 0.9}


class InterruptError(Exception):
    """Stand-in for a kill, which a test may catch: no code of the training itself runs after it."""


def fit_until(epoch, *args, **options):
    """Train, and be interrupted when this epoch is reported."""

    def stop(report):
        if report.epoch == epoch:
            raise InterruptError

    with pytest.raises(InterruptError):
        fit(*args, on_epoch=stop, **options)


def edit_record(resume, **changes):
    record = json.loads((resume / "state.json").read_bytes())
    write_json_atomic(resume / "state.json", {**record, **changes})


def replace_checkpoint(resume, content):
    """Put other content in the place of the last epoch, with its right digest in the record."""
    path = resume / "epoch-2.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    edit_record(resume, epoch_sha256=bytes_digest(path.read_bytes()))


def edit_checkpoint(resume, edit):
    checkpoint = torch.load(resume / "epoch-2.ckpt", weights_only=True)
    edit(checkpoint)
    replace_checkpoint(resume, checkpoint)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
