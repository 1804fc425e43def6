"""Policies that were fitted on drawn logits, and what they make of drawn images, without any network."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from streetvision_core.data.decoding.decode import ImageReader
from streetvision_core.data.index import IndexedImage
from streetvision_core.graph import POLICIES
from streetvision_core.policies.config import RecordedGate, RecordedScrc
from streetvision_core.policies.gate_fit import fit_gate
from streetvision_core.policies.scrc_fit import fit_scrc
from streetvision_core.policies.threshold import fit_threshold_policy
from streetvision_core.report.report import Decided, Tested

# Most figures of a report are of answers: a kind that always defers is left out here.
ANSWERING = tuple(POLICIES)
CHECKPOINT, LOGITS = "c" * 64, "d" * 64
VERSIONS = {"checkpoint_version": CHECKPOINT, "logits_version": LOGITS}


@dataclass(frozen=True)
class Labelled:
    logits: np.ndarray
    labels: np.ndarray

    @property
    def groups(self):
        """Name the groups: each image is one of its own."""
        return tuple(f"g{number}" for number in range(len(self.labels)))


def draw(seed, n=200, *, scale=3.0, shift=0.5):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    margins = scale * (labels - 0.5) + random.normal(0, scale / 2, n) + shift
    return Labelled(np.stack([-margins / 2, margins / 2], axis=1).astype(np.float32), labels)


def make_policies(**scrc):
    """Fit one policy of each kind; the promise of scrc is loose, so that it answers some images."""
    select, calib = draw(1), draw(2)
    config = RecordedScrc(**{"alpha": 0.1, "delta": 0.2, **scrc})
    gate = RecordedGate(coverage=0.8, resamples=100, min_errors=10_000)
    return {
        "threshold": fit_threshold_policy(select, calib, **VERSIONS).policy,
        "gate": fit_gate(select, checkpoint_version=CHECKPOINT, config=gate).policy,
        "scrc": fit_scrc(select, calib, **VERSIONS, config=config).policy,
    }


def make_tested(*, groups, attributes, seed=3, labels=None):
    """Draw as many images as there are groups."""
    drawn = draw(seed, len(groups))
    truth = drawn.labels == 1 if labels is None else np.asarray(labels)
    return Tested(drawn.logits.astype(np.float64), truth, groups, attributes)


def decide_all(policies, tested):
    """Let each policy decide, as the evaluation does."""
    decided = {}
    for kind, policy in policies.items():
        folded = policy.point.fold(tested.logits)
        decided[kind] = Decided(policy, policy.decide(folded), policy.confidence(folded))
    return decided


def make_picture(name, label, *, group="g", **attributes):
    return IndexedImage(name, label, group, "0" * 64, 1, 8, 8, 1, "0" * 16, "0" * 16, attributes)


class GreyPictures(ImageReader):
    """A reader to whom every image is grey."""

    def __init__(self):
        self.conditions = None

    def read(self, _name):
        buffer = BytesIO()
        Image.new("RGB", (8, 8), (128, 128, 128)).save(buffer, "PNG")
        return buffer.getvalue()
