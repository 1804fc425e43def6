"""torch.compile trains what plain torch does, and where it cannot the training goes on without it."""

import shutil

import pytest
import torch

from tests.training.test_equivalence import RECIPE, VIT, assert_same_training, unbalanced
from tests.training.toy import fit, make_backbone


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return make_backbone(tmp_path_factory.mktemp("vit"), **VIT)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.filterwarnings("default")  # torch's compilers warn of their own deprecations
def test_a_compiled_model_trains_as_the_plain_one(vit, tmp_path, notices):
    plain = fit(vit, unbalanced(), tmp_path / "plain", **RECIPE)
    compiled = fit(vit, unbalanced(), tmp_path / "compiled", compile=True, **RECIPE)
    assert notices == []
    assert_same_training(compiled, plain)


def test_where_it_cannot_be_compiled_training_goes_on_and_says_so(vit, tmp_path, monkeypatch, notices):
    def refuse(*args, **options):
        raise RuntimeError("no compiler here\nand much more")

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: setattr(self, "_compiled_call_impl", refuse))
    plain = fit(vit, unbalanced(), tmp_path / "plain", **RECIPE)
    found = fit(vit, unbalanced(), tmp_path / "fallen", compile=True, **RECIPE)
    assert found.weights.sha256 == plain.weights.sha256
    assert len(notices) == 1
    assert notices[0].endswith("no compiler here")
