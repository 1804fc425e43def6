"""The calls of `streetvision_core.io` as they were asked for: names of parameters, formats, errors."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import hashlib
import json
import re
import subprocess
import sys
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import pydantic
import pytest
import safetensors.torch
import torch
from torch import nn

from streetvision_core.errors import ConfigError, StoreError, StreetVisionError
from streetvision_core.io import (
    StepManifest,
    compute_file_sha256,
    create_step_manifest,
    write_checkpoint_atomic,
    write_json_atomic,
    write_tensors_atomic,
)
from streetvision_core.io.atomic import AtomicStream
from streetvision_core.io.private import git_state

TORCH_ENDINGS = (".pth", ".pt", ".ckpt")


def same(loaded, given):
    return loaded.keys() == given.keys() and all(torch.equal(loaded[name], given[name]) for name in given)


def read(path):
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def lightning_checkpoint(tmp_path_factory):
    """A checkpoint that Lightning saved after two epochs, with its callbacks, loops and hyperparameters."""
    import lightning
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    class Small(lightning.LightningModule):
        def __init__(self, learning_rate=0.1, sizes=(3, 2)):  # noqa: ARG002 - kept by save_hyperparameters
            super().__init__()
            self.save_hyperparameters()
            self.layer = nn.Linear(*sizes)

        def training_step(self, batch, _):
            loss = self.layer(batch).square().mean()
            self.log("loss", loss, on_epoch=True)
            return loss

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.learning_rate)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    root = tmp_path_factory.mktemp("lightning")
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[EarlyStopping("loss"), ModelCheckpoint(root, monitor="loss")],
        default_root_dir=root,
    )
    with warnings.catch_warnings(action="ignore"):  # Lightning's own, of torch's new names
        trainer.fit(Small(), torch.utils.data.DataLoader(torch.randn(8, 3), batch_size=4))
    return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


def test_json_is_written_by_these_keywords_and_by_position(tmp_path):
    path = tmp_path / "metrics.json"
    checksum = write_json_atomic(path=path, data={"mcc": 0.856})
    assert json.loads(path.read_bytes()) == {"mcc": 0.856}
    assert checksum == hashlib.sha256(path.read_bytes()).hexdigest()
    assert write_json_atomic(tmp_path / "again.json", {"mcc": 0.856}) == checksum


@pytest.mark.parametrize("ending", [*TORCH_ENDINGS, ".safetensors"])
def test_a_state_dict_or_a_module_is_written_in_the_format_of_the_ending(ending, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    path = tmp_path / f"model_best{ending}"
    for given in (model.state_dict(), dict(model.state_dict()), model):
        checksum = write_checkpoint_atomic(path=path, state_dict=given)
        assert checksum == hashlib.sha256(path.read_bytes()).hexdigest() == compute_file_sha256(path)
        assert same(read(path), model.state_dict())
        assert write_checkpoint_atomic(path, given) == checksum
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).load_state_dict(read(path))


def test_a_path_as_text_is_a_path(tmp_path):
    write_checkpoint_atomic(path=str(tmp_path / "a.pt"), state_dict={"x": torch.ones(2)})
    write_json_atomic(path=str(tmp_path / "a.json"), data=[])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "a.pt"]


def equal(left, right):
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right


@pytest.mark.parametrize("ending", TORCH_ENDINGS)
def test_a_training_checkpoint_of_lightning_goes_there_and_back(ending, lightning_checkpoint, tmp_path):
    parts = {"epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "callbacks"}
    parts |= {"optimizer_states", "lr_schedulers", "hyper_parameters"}
    assert parts <= lightning_checkpoint.keys()
    path = tmp_path / f"last{ending}"
    checksum = write_checkpoint_atomic(path=path, state_dict=lightning_checkpoint)
    assert checksum == compute_file_sha256(path)
    assert equal(torch.load(path, weights_only=True), lightning_checkpoint)


def test_a_training_checkpoint_is_no_safetensors_and_the_error_says_what_to_use(
    lightning_checkpoint, tmp_path
):
    with pytest.raises(ConfigError, match=r"'epoch'.*int.*last\.safetensors.*\.ckpt"):
        write_checkpoint_atomic(tmp_path / "last.safetensors", lightning_checkpoint)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model", "model.bin", "model.safetensor", "model.json"])
def test_another_ending_is_an_error_that_names_both_families(name, tmp_path):
    with pytest.raises(ConfigError) as caught:
        write_checkpoint_atomic(tmp_path / name, {"x": torch.ones(1)})
    assert all(ending in str(caught.value) for ending in (*TORCH_ENDINGS, ".safetensors"))
    assert not list(tmp_path.iterdir())


class Setting:
    """A class of somebody's own."""


def function(): ...


UNREADABLE = {
    "numpy": ({"a": torch.ones(1), "metrics": {"mcc": np.float64(0.5)}}, "metrics.mcc", "float64"),
    "array": ({"w": np.ones(3)}, "w", "ndarray"),
    "path": ({"hyper_parameters": {"root": Path("x")}}, "hyper_parameters.root", "Path"),
    "namespace": ({"args": argparse.Namespace(lr=1)}, "args", "Namespace"),
    "object": ({"callbacks": [1, {"state": Setting()}]}, "callbacks.1.state", "Setting"),
    "lambda": ({"fn": lambda: 0}, "fn", "function"),
    "function": ({"fn": function}, "fn", "function"),
    "frozenset": ({"names": frozenset("ab")}, "names", "frozenset"),
    "key": ({"a": {Path("k"): 1}}, "a", "Path"),
}


@pytest.mark.parametrize("case", UNREADABLE)
@pytest.mark.parametrize("ending", TORCH_ENDINGS)
def test_what_could_not_be_read_back_is_refused_by_name_and_the_old_file_stays(ending, case, tmp_path):
    state, key, kind = UNREADABLE[case]
    path = tmp_path / f"old{ending}"
    path.write_bytes(b"old")
    with pytest.raises(ConfigError) as caught:
        write_checkpoint_atomic(path=path, state_dict=state)
    assert f"'{key}'" in str(caught.value)
    assert kind in str(caught.value)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_what_this_process_alone_allows_is_refused_too(tmp_path):
    """The file is for other processes, which have not been told that a class is harmless."""
    with torch.serialization.safe_globals([Setting]), pytest.raises(ConfigError, match=r"'s'.*Setting"):
        write_checkpoint_atomic(tmp_path / "a.pt", {"s": Setting()})


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"epoch": 3}, "'epoch'"),
        ({1: torch.ones(1)}, "1"),
        ({"w": torch.ones(2, 2).to_sparse()}, "'w'"),
        ({"w": torch.ones(2, device="meta")}, "'w'"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "w"),
    ],
)  # fmt: skip
def test_what_safetensors_cannot_hold_is_refused_by_name_and_the_old_file_stays(state, words, tmp_path):
    path = tmp_path / "old.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(ConfigError, match=words):
        write_checkpoint_atomic(path=path, state_dict=state)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_tensors_that_share_memory_and_views_are_written_as_what_they_show(ending, tmp_path):
    base = torch.arange(24.0).reshape(2, 3, 4)
    state = OrderedDict(a=base, tied=base, turned=base.transpose(0, 2), part=base[:, ::2], one=base[0, 0, 0])
    write_checkpoint_atomic(tmp_path / f"a{ending}", state)
    assert same(read(tmp_path / f"a{ending}"), state)


def test_two_views_of_one_memory_as_different_types_are_a_paragraph(tmp_path):
    base = torch.ones(4)
    with pytest.raises(ConfigError, match="different types"):
        write_checkpoint_atomic(tmp_path / "a.pt", {"a": base, "b": base.view(torch.int32)})
    assert not list(tmp_path.iterdir())


NOT_SAFETENSORS = {
    "metadata": ({"w": torch.ones(1)}, {"epoch": 1}, "'epoch'"),
    "metadata of another key": ({"w": torch.ones(1)}, {1: "x"}, "1, a int"),
    "metadata that is a list": ({"w": torch.ones(1)}, ["x"], "list"),
    "reserved name": ({"__metadata__": torch.ones(1)}, None, "'__metadata__'"),
    "surrogate": ({"w\udc80": torch.ones(1)}, None, "name"),
    "list": ([torch.ones(1)], None, "a list"),
    "none": (None, None, "a NoneType"),
}


@pytest.mark.parametrize("case", NOT_SAFETENSORS)
@pytest.mark.parametrize("write", [write_checkpoint_atomic, write_tensors_atomic])
def test_a_safetensors_file_that_nobody_could_load_is_never_written(write, case, tmp_path):
    state, metadata, words = NOT_SAFETENSORS[case]
    path = tmp_path / "old.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(ConfigError, match=words):
        write(path, state, metadata=metadata)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("length", [1, 3 * 2**20])
def test_a_tensor_with_its_sign_kept_aside_is_written_as_what_it_shows(length, ending, tmp_path):
    negated = torch.full((length,), 1 + 2j).conj().imag
    assert negated.is_neg()
    state = {"w": negated, "whole": torch._neg_view(torch.ones(length))}
    write_checkpoint_atomic(tmp_path / f"a{ending}", state)
    assert same(read(tmp_path / f"a{ending}"), {name: tensor.resolve_neg() for name, tensor in state.items()})


@pytest.mark.parametrize("ending", [*TORCH_ENDINGS, ".safetensors"])
def test_values_nested_without_end_are_a_paragraph(ending, tmp_path):
    nested = []
    for _ in range(3000):
        nested = [nested]
    with pytest.raises(ConfigError, match=r"deeper|'w', a list"):
        write_checkpoint_atomic(tmp_path / f"a{ending}", {"w": nested})
    assert not list(tmp_path.iterdir())


class Marked(torch.Tensor):
    """A tensor of somebody's own class."""


def test_a_tensor_of_a_class_of_its_own_is_refused_by_its_key(tmp_path):
    state = {"model": {"w": torch.ones(2).as_subclass(Marked), "b": nn.Parameter(torch.ones(1))}}
    with pytest.raises(ConfigError, match=r"'model\.w' is a .*Marked") as caught:
        write_checkpoint_atomic(tmp_path / "a.pth", state)
    assert "x1b" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_is_shared_many_times_is_looked_at_once(tmp_path):
    shared = [1]
    for _ in range(40):  # 2**40 ways lead to the innermost
        shared = [shared, shared]
    write_checkpoint_atomic(tmp_path / "a.pth", {"a": shared})
    with pytest.raises(ConfigError, match="Setting"):
        write_checkpoint_atomic(tmp_path / "a.pth", {"a": shared, "s": Setting()})


MEMORY = """
import resource, sys
import torch
from pathlib import Path
from streetvision_core.io.atomic import AtomicStream
from streetvision_core.io import write_checkpoint_atomic

shape, ending, turned = (512, 1024, 256), sys.argv[2], sys.argv[3] == "turned"
tensor = torch.ones(shape)
state = {"w": tensor.transpose(0, 2) if turned else tensor}
small = torch.ones(64, 64, 64)
for number in range(3):  # what the first call imports and starts is no memory of the second
    path = Path(sys.argv[1]) / f"small{ending}"
    write_checkpoint_atomic(path, {"w": small.transpose(0, 2) if turned else small})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_checkpoint_atomic(path=Path(sys.argv[1]) / f"large{ending}", state_dict=state)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize(
    ("ending", "layout"), [(".ckpt", "whole"), (".safetensors", "whole"), (".safetensors", "turned")]
)
def test_half_a_gigabyte_takes_less_than_64_mib_more(ending, layout, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path, ending, layout], check=True, capture_output=True, text=True
    )
    assert (tmp_path / f"large{ending}").stat().st_size > 512 * 2**20
    (tmp_path / f"large{ending}").unlink()
    assert float(result.stdout) < 64


def test_a_disk_that_is_full_is_a_paragraph_and_harms_nothing(tmp_path, monkeypatch):
    import errno
    import os

    from streetvision_core.io import atomic

    path = tmp_path / "a.ckpt"
    path.write_bytes(b"old")

    def full(file, piece):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "_write_all", full)
    with pytest.raises(StreetVisionError, match=r"No space left on device.*a\.ckpt"):
        write_checkpoint_atomic(path, {"a": torch.ones(10)})
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]


def git(directory, *arguments):
    command = ["git", "-C", directory, "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Somebody's own repository, with code, an input, and outputs that git ignores."""
    git(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text("print('hello')\n")
    (tmp_path / ".gitignore").write_text("outputs\n")
    (tmp_path / "labels.csv").write_text("a.jpg,1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    write_json_atomic(tmp_path / "outputs" / "metrics.json", {"mcc": 0.856})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def described(config=None, **changes):
    arguments = {
        "step_name": "phase1_baseline",
        "input_paths": ["labels.csv"],
        "output_paths": ["outputs/metrics.json"],
        "output_dir": "outputs",
        "metrics": {"mcc": 0.856},
        "duration_seconds": 3600.5,
        "config": config,
    }
    return create_step_manifest(**arguments | changes)


def test_a_manifest_is_made_by_these_keywords_and_by_position_and_reads_back(project):
    made = create_step_manifest(
        step_name="phase1_baseline",
        input_paths=[Path("labels.csv")],
        output_paths=[Path("outputs/metrics.json")],
        output_dir=Path("outputs"),
        metrics={"mcc": 0.856},
        duration_seconds=3600.5,
        config={"lr": 0.1},
    )
    placed = create_step_manifest(
        "phase1_baseline",
        ["labels.csv"],
        ["outputs/metrics.json"],
        "outputs",
        {"mcc": 0.856},
        3600.5,
        {"lr": 0.1},
    )
    times = {"started_at": made.started_at, "finished_at": made.finished_at}
    assert placed.model_copy(update=times) == made
    assert (made.metrics, made.duration_seconds, made.config) == ({"mcc": 0.856}, 3600.5, {"lr": 0.1})
    assert made.output_artifacts["metrics.json"].sha256 == compute_file_sha256(Path("outputs/metrics.json"))
    made.save(Path("outputs/phase1/manifest.json"))
    assert StepManifest.load(Path("outputs/phase1/manifest.json")) == made


def test_config_metrics_and_duration_may_be_left_out(project):
    made = create_step_manifest("s", [], [], "outputs")
    assert (made.config, made.metrics, made.duration_seconds) == ({}, {}, 0.0)


@pytest.mark.parametrize("which", ["input_paths", "output_paths"])
def test_a_missing_path_is_an_error(project, which):
    with pytest.raises(StoreError, match=r"No such file.*missing\.csv"):
        described(**{which: ["outputs/missing.csv"]})


class Optimiser(pydantic.BaseModel):
    name: Literal["adamw"] = "adamw"
    rate: float = 0.1
    where: Path = Path("weights.pth")


class Size(enum.Enum):
    SMALL = "small"


@dataclasses.dataclass
class Recipe:
    optimiser: Optimiser
    size: Size = Size.SMALL
    sides: tuple[int, int] = (3, 4)


class Tree(Mapping):
    """A mapping like OmegaConf's: no dict, and a value that refers to another is resolved when it is read."""

    def __init__(self, values):
        self._values = values

    def __getitem__(self, key):
        value = self._values[key]
        return self._values[value[2:-1]] if isinstance(value, str) and value.startswith("${") else value

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)


class Row(Sequence):
    def __init__(self, *values):
        self._values = values

    def __getitem__(self, position):
        return self._values[position]

    def __len__(self):
        return len(self._values)


OPTIMISER = {"name": "adamw", "rate": 0.1, "where": "weights.pth"}
CONFIGS = {
    "mapping": (MappingProxyType({"rate": 0.1, "root": Path("a/b"), 3: None}),
                {"rate": 0.1, "root": "a/b", "3": None}),
    "pydantic": (Optimiser(), OPTIMISER),
    "dataclass": (Recipe(Optimiser()), {"optimiser": OPTIMISER, "size": "small", "sides": [3, 4]}),
    "namespace": (argparse.Namespace(lr=0.1, data=Path("x"), size=Size.SMALL),
                  {"lr": 0.1, "data": "x", "size": "small"}),
    "tree": (Tree({"a": Tree({"root": "data", "train": "${root}"}), "sides": Row(1, Row(2.5, Path("p")))}),
             {"a": {"root": "data", "train": "data"}, "sides": [1, [2.5, "p"]]}),
    "numbers": ({"n": np.int64(3), "t": torch.tensor(0.5), "names": {"b", "a"}},
                {"n": 3, "t": 0.5, "names": ["a", "b"]}),
    "moments": ({"at": datetime(2026, 11, 21, tzinfo=UTC)}, {"at": "2026-11-21T00:00:00Z"}),
    "none": (None, {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_kind_of_configuration_becomes_plain_values(kind, project):
    config, plain = CONFIGS[kind]
    made = described(config)
    assert made.config == plain
    assert StepManifest.from_bytes(made.to_bytes(), where="here") == made


LOOP: dict[str, object] = {}
LOOP["again"] = LOOP


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"a": {"b": [0, Setting()]}}, r"'a\.b\.1'.*Setting"),
        ({"f": function}, "'f'.*function"),
        ({"rate": float("nan")}, "finite"),
        ([1, 2], "a list"),
        ("lr=0.1", "a str"),
        (LOOP, "holds itself"),
    ],
)
def test_what_is_no_configuration_is_a_paragraph_that_names_it(config, words, project):
    with pytest.raises(ConfigError, match=words):
        described(config)


class Missing(dict):
    """A mapping like OmegaConf's: a value that was not given raises an error of its own when it is read."""

    def __getitem__(self, key):
        raise LookupError(f"Missing mandatory value: {key}")


def deep(levels):
    value = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"a": {1: 2, "1": 3}}, r"'a\.1' more than once"),
        ({"a": 1j}, "'a', a complex"),
        ({"a": np.complex64(1j)}, "'a', a complex"),
        ({"a": [b"x"]}, r"'a\.0', a bytes"),
        ({"a": bytearray(b"x")}, "'a', a bytearray"),
        ({"a": (letter for letter in "ab")}, "'a', a generator"),
        ({"a": np.datetime64("2026-11-21")}, "'a', a datetime64"),
        ({"a": [0, float("nan")]}, r"'a\.1', a float of nan"),
        ({"a": np.float32("inf")}, "'a', a float of inf"),
        ({"a": "\udc80"}, "'a', a str"),
        ({"a": {(1, 2): 3}}, "a tuple, in the value 'a'"),
        ({"a": {b"k": 3}}, "a bytes, in the value 'a'"),
        ({"a": {"b": Missing(c=1)}}, r"'a\.b\.c'.*LookupError.*Missing mandatory value: c"),
        (deep(63), "nested"),
        (deep(3000), "nested"),
    ],
)
def test_what_would_be_recorded_as_a_guess_is_refused_by_its_key(config, words, project):
    with pytest.raises(ConfigError, match=words):
        described(config)


def test_the_deepest_configuration_reads_back(project):
    made = described(deep(62))
    assert StepManifest.from_bytes(made.to_bytes(), where="here") == made


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"a": {"b": float("nan")}}, r"'a\.b', a float of nan"),
        ({"a": [1, np.ones(2)]}, r"'a\.1', a ndarray"),
        ({"a": Path("x")}, "'a', a .*Path"),
        ({"a": {Path("x"): 1}}, "the key .* in 'a'"),
        ({1: 2, "1": 3}, "not supported between"),
        (LOOP, "[Cc]ircular"),
        (deep(20_000), "recursion"),
        ({"a": "\udc80"}, "'a', a str"),
    ],
)
def test_what_is_no_json_is_a_paragraph_that_names_key_and_file(data, words, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with pytest.raises(ConfigError, match=rf"(?s){words}.*a\.json.*Turn"):
        write_json_atomic(path, data)
    assert path.read_bytes() == b"old"


class Torn:
    def keys(self):
        raise ArithmeticError("interpolation of an unknown key")

    __getitem__ = None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": {"a": "x"}}, "'a', a str.*the metrics of phase1_baseline"),
        ({"metrics": {"a": None}}, "'a', a NoneType"),
        ({"metrics": {"a": True}}, "'a', a bool"),
        ({"metrics": {"a": {"b": 1.0}}}, "'a', a dict"),
        ({"metrics": {"a": np.float32("nan")}}, "'a', a float of nan"),
        ({"metrics": [1.0]}, "a list"),
        ({"duration_seconds": "3"}, "duration_seconds.*'3'"),
        ({"duration_seconds": float("nan")}, "duration_seconds.*nan"),
        ({"duration_seconds": 1e20}, "duration_seconds.*1e[+]20"),
        ({"duration_seconds": -1}, "duration_seconds.*-1"),
        ({"duration_seconds": None}, "duration_seconds.*None"),
        ({"seed": 1.5}, "1.5 .seed"),
        ({"seed": True}, "True .seed"),
        ({"device": 3}, "3 .device"),
        ({"run_id": "my run/.."}, r"my run/\.\.' .run_id.*directory"),
        ({"run_id": ""}, "run_id"),
        ({"step_name": None}, "None .step_name"),
        ({"input_paths": None}, "input_paths"),
        ({"output_paths": [3]}, "output_paths"),
        ({"input_paths": ["a\0b"]}, "input_paths"),
        ({"output_dir": None}, "output_dir"),
        ({"metrics": {"a": 10**5000}}, "'a', a int"),
        ({"config": {"a": Torn()}}, "'a'.*ArithmeticError.*unknown key"),
    ],
)
def test_what_a_manifest_cannot_record_is_a_paragraph_that_names_it(changes, words, project):
    with pytest.raises(ConfigError, match=words):
        described(**changes)


def test_scalars_of_numpy_and_a_device_of_torch_are_what_they_hold(project):
    made = described(
        metrics={"a": np.float32(0.5), "b": np.int64(2), "c": torch.tensor(1.5)},
        seed=np.int64(3),
        device=torch.device("cuda", 0),
        duration_seconds=np.float32(2.5),
    )
    assert (made.metrics, made.seed, made.device) == ({"a": 0.5, "b": 2, "c": 1.5}, 3, "cuda:0")
    assert made.duration_seconds == 2.5
    assert StepManifest.from_bytes(made.to_bytes(), where="here") == made


def test_inputs_of_one_file_name_are_told_apart_by_their_directories(project):
    paths = ["p/a/manifest.json", "q/a/manifest.json", "b/x.csv", "c/x.csv", "b/y.csv"]
    for path in paths:
        write_json_atomic(path, path)
    made = described(input_paths=[*paths, "b/../b/x.csv", Path("b/x.csv").absolute()])
    assert {name: artifact.data_version for name, artifact in made.input_artifacts.items()} == {
        name.replace("/", ":"): compute_file_sha256(Path(path))
        for name, path in zip([*paths[:4], "y.csv"], paths, strict=True)
    }
    assert StepManifest.from_bytes(made.to_bytes(), where="here") == made


def test_names_of_inputs_that_stay_alike_are_refused(project):
    for path in ("a/x", "b/x", "c/a:x"):
        write_json_atomic(path, path)
    with pytest.raises(StreetVisionError, match=r"a:x twice.*Rename"):
        described(input_paths=["a/x", "b/x", "c/a:x"])


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (["outputs/metrics.json", "outputs/../outputs/metrics.json"], "metrics.json twice"),
        (["outputs/manifest.json"], "own digest.*Leave manifest.json out"),
    ],
)
def test_an_output_is_named_once_and_is_not_the_manifest(outputs, words, project):
    write_json_atomic("outputs/manifest.json", {})
    with pytest.raises(StreetVisionError, match=words):
        described(output_paths=outputs)


def test_the_run_id_is_of_this_process_unless_it_is_given(project):
    first, second = described(), described()
    assert re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{8}", first.run_id)
    assert first.run_id == second.run_id
    assert described(run_id="mine").run_id == "mine"
    code = "from streetvision_core.io import create_step_manifest as c; print(c('s', [], [], '.').run_id)"
    others = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout.strip()
        for _ in range(2)
    }
    assert len(others | {first.run_id}) == 3


def test_a_fork_has_a_run_id_of_its_own(project):
    ours = described().run_id
    code = (
        "import os, sys; from streetvision_core.io import create_step_manifest as c\n"
        "print(c('s', [], [], '.').run_id, flush=True)\n"
        "if os.fork(): os.wait()\n"
        "else: print(c('s', [], [], '.').run_id, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert len({*done.stdout.split(), ours}) == 3


def test_the_commit_is_that_of_the_repository_which_holds_the_outputs(project, tmp_path_factory, monkeypatch):
    """It is so where git ignores them, and where their directory is yet to be made."""
    head = git(project, "rev-parse", "HEAD")
    assert (described().git_sha, described().git_dirty) == (head, False)
    later = create_step_manifest("s", [], [], project / "outputs" / "not" / "yet")
    assert later.git_sha == head
    (project / "train.py").write_text("print('other')\n")
    assert described().git_dirty
    # Whoever calls from elsewhere writes into this repository all the same.
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert create_step_manifest("s", [], [], project / "outputs").git_sha == head


def test_outside_a_repository_the_commit_is_that_of_the_working_directory(
    project, tmp_path_factory, monkeypatch
):
    outside = tmp_path_factory.mktemp("outside")
    assert create_step_manifest("s", [], [], outside).git_sha == git(project, "rev-parse", "HEAD")
    monkeypatch.chdir(outside)
    assert create_step_manifest("s", [], [], outside).git_sha == "unknown"


def test_versions_and_the_code_of_streetvision_stand_beside_it(project):
    made = described()
    assert made.packages["streetvision"] == version("streetvision")
    assert made.packages["torch"] == version("torch")
    own = git_state()
    words = f"streetvision {version('streetvision')}"
    if own.sha != "unknown":
        words += f" {own.sha}" + (" dirty" if own.dirty else "")
    assert made.code_version == words
    assert made.git_sha != own.sha


def test_ctrl_c_while_an_archive_is_written_is_no_fault_of_it(tmp_path, monkeypatch):
    """torch makes an error of its own of whatever interrupts it, because its archive is cut off then."""
    path = tmp_path / "model.pth"
    write_checkpoint_atomic(path=path, state_dict={"old": torch.zeros(3)})
    before, write, calls = path.read_bytes(), AtomicStream.write, []

    def interrupted(stream, data):
        calls.append(len(data))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(stream, data)

    monkeypatch.setattr(AtomicStream, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint_atomic(path=path, state_dict={"new": torch.ones(100_000)})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.pth"]
