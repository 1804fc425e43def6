"""The bundle decides elsewhere as it does here: in timm, in transformers and in ONNX Runtime.

Each client runs in an environment that holds what it needs and nothing else, least of all StreetVision.
"""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from streetvision_core.bundle.layout import ONNX, TIMM_FLOOR, TRANSFORMERS_FLOOR
from streetvision_core.inference.reproduce import TOLERANCE
from tests.bundle.chain import copy
from tests.bundle.lone import answered, ask, can_import, make_alone

CLIENTS, ROOT = Path(__file__).parent / "clients", Path(__file__).parents[2]
HEAVY = ("torch", "timm", "transformers", "onnxruntime", "streetvision_core", "scipy", "simplejpeg")


@dataclass(frozen=True)
class Client:
    """A program, the distributions that its environment is made of, and what of `HEAVY` it then has."""

    script: str
    needs: tuple[str, ...]
    has: tuple[str, ...]
    opens: str = ""


KNOWN = {
    "timm": Client("timm_alone.py", ("timm", "pillow"), ("torch", "timm")),
    "transformers": Client(
        "pipeline.py", ("transformers", "torch", "timm", "pillow"), ("torch", "timm", "transformers")
    ),
    "onnxruntime": Client("onnx_runtime.py", ("onnxruntime", "numpy", "pillow"), ("onnxruntime",), ONNX),
}


@pytest.fixture(scope="module")
def images(chain, bundle, tmp_path_factory):
    """The files of val_test, and the golden images behind them."""
    folder, reader = tmp_path_factory.mktemp("val_test"), chain.pictures("val_test")
    files = []
    for number, name in enumerate(chain.splits.roles["val_test"]):
        files.append(folder / f"{number:03d}{Path(name).suffix}")
        files[-1].write_bytes(reader.read(name))
    return [*files, *sorted(bundle.glob("golden/0*"))]


@pytest.fixture(scope="module")
def answers(predictor, images):
    return list(predictor.predict(images))


@pytest.fixture(scope="module")
def pythons(tmp_path_factory):
    """The Python of each client that can run here, in an environment of its own."""
    folder = tmp_path_factory.mktemp("environments")
    return {
        name: make_alone(folder / name, *client.needs) for name, client in KNOWN.items() if find_spec(name)
    }


@pytest.fixture(scope="module")
def client_answers(pythons, bundle, images, request, tmp_path_factory):
    """The answers of each client to every image; they run side by side."""
    folder = tmp_path_factory.mktemp("receiver")
    running = {}
    for name, python in pythons.items():
        client = KNOWN[name]
        source = request.getfixturevalue("onnx_bundle") if client.opens else bundle
        opened = copy(source, folder / name) / client.opens
        running[name] = ask(python, CLIENTS / client.script, opened, *images)
    return {
        name: [json.loads(line) for line in answered(process).splitlines()]
        for name, process in running.items()
    }


def require(name):
    if not find_spec(name):
        pytest.skip(f"{name} is not installed: that it opens the bundle was NOT tested")


@pytest.mark.parametrize("name", KNOWN)
def test_an_environment_holds_nothing_but_what_its_client_needs(pythons, name):
    require(name)
    assert can_import(pythons[name], *HEAVY) == list(KNOWN[name].has)


@pytest.mark.parametrize("name", KNOWN)
def test_every_client_decides_all_of_val_test_as_the_predictor_does(client_answers, answers, name):
    """Near-ties aside: their margins could be turned by a grey level of another JPEG decoder."""
    require(name)
    assert len(client_answers[name]) == len(answers) > 12
    for line, answer in zip(client_answers[name], answers, strict=True):
        assert line["probability"] == pytest.approx(answer.probability, abs=1e-4)
        if "logits" in line:
            np.testing.assert_allclose(line["logits"], answer.logits, atol=TOLERANCE)
        margin = answer.logits[1] - answer.logits[0]
        assert line["decision"] == answer.decision or abs(margin) < 2 * TOLERANCE


@pytest.mark.parametrize("name", KNOWN)
def test_every_client_answers_the_golden_images_as_they_were_recorded(client_answers, bundle, name):
    require(name)
    golden = json.loads((bundle / "golden/expected.json").read_bytes())["pictures"]
    for line, image in zip(client_answers[name][-len(golden) :], golden, strict=True):
        assert line["probability"] == pytest.approx(image["probability"], abs=1e-4)
        assert line["decision"] == image["decision"]


def test_the_floors_are_told_as_they_were_found(bundle):
    """README and docs name one constant each; docs/decisions/bundle.md says how they were found."""
    card, docs = (bundle / "README.md").read_text(), (ROOT / "docs/bundle.md").read_text()
    decision = (ROOT / "docs/decisions/bundle.md").read_text()
    for floor in (TIMM_FLOOR, TRANSFORMERS_FLOOR):
        assert f"{floor} or later" in card
    assert f"timm from {TIMM_FLOOR} on" in docs
    assert f"transformers from {TRANSFORMERS_FLOOR} on" in docs
    assert f"timm {TIMM_FLOOR}" in decision
    assert f"transformers {TRANSFORMERS_FLOOR}" in decision
