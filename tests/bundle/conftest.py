"""One real chain of two classes of images, trained once a session, and its bundle.

The fixtures are imported by other folders of tests; the chain is the same one there.
"""

from functools import cache

import pytest

from tests.bundle.chain import make_chain, small_recipe
from tests.golden.conftest import golden_705fcbb  # noqa: F401


@cache
def _train(root):
    return make_chain(root / "chain", training=small_recipe())


@cache
def _export(chain):
    return chain.bundle()


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    return _train(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def bundle(chain):
    """The published bundle. Nobody writes here: tests copy it first."""
    return _export(chain)


@pytest.fixture(scope="session")
def scrc_bundle(chain):
    """The bundle of the same chain that ships scrc, which defers some images. Nobody writes here."""
    return chain.bundle("20261121T093005-00000005", policy="scrc")


@pytest.fixture(scope="session")
def onnx_bundle(chain):
    """The bundle of the same chain and policy that ships model.onnx as well. Nobody writes here."""
    pytest.importorskip("onnxruntime", reason="model.onnx was NOT tested: the extra onnx is not installed")
    return chain.bundle("20261121T093006-00000006", onnx=True)


@pytest.fixture(scope="session")
def predictor(bundle):
    from streetvision_core.bundle import Predictor

    return Predictor.load(bundle)
