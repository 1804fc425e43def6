"""The headline figures of README and docs are those of the code they stand beside."""

import json
import re

import pytest

from streetvision_core.io import ArtifactStore
from tests.e2e.place import REPOSITORY

# Processors round differently, and seven epochs carry that on: 0.920 and 0.894 were seen for one commit.
TOLERANCE = 0.05


@pytest.fixture(scope="module")
def report():
    """The report of the default job, where `make bundle` has run in this clone, as .ci/run does."""
    root = REPOSITORY / "dagster_home" / "artifacts"
    if not (root / "latest" / "evaluation.json").exists():
        pytest.skip("run make bundle first: there is no report to compare the figures with")
    store = ArtifactStore(root)
    evaluation = store.resolve("evaluation")
    images = store.input_of(evaluation, "images").manifest.config
    if images.get("demo") != {"images": 3000}:
        pytest.skip("what is current was not made of the demo's default images")
    return json.loads(evaluation.read_bytes("evaluation.json"))


@pytest.mark.parametrize("name", ["README.md", "docs/benchmarks.md"])
def test_the_figures_are_what_make_bundle_made(report, name):
    text = (REPOSITORY / name).read_text()
    mcc, images, groups = re.search(r"MCC (?:of )?(\d\.\d+) on (\d+) images in (\d+)\s+groups", text).groups()
    threshold = report["policies"]["threshold"]
    assert int(images) == report["counts"]["n"]
    assert int(groups) == threshold["intervals"]["groups"]["n"]
    assert float(mcc) == pytest.approx(threshold["metrics"]["mcc"], abs=TOLERANCE)
