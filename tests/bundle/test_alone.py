"""An image that is answered alone is decided as in the batches that certificates come from."""

import pytest

from streetvision_core.bundle import Predictor
from streetvision_core.graph import POLICIES
from streetvision_core.inference.reproduce import TOLERANCE, Recorded, reproduction_problems
from tests.bundle.chain import build_predictor

# What batch sizes may make of the same image: a hundredth of what machines and libraries may.
BETWEEN_BATCHES = TOLERANCE / 100


def alone_problems(predictor, recorded, images):
    pairs = zip(recorded, images, strict=True)
    return [
        problem
        for record, image in pairs
        for problem in reproduction_problems(predictor, [record], [image], tolerance=BETWEEN_BATCHES)
    ]


@pytest.mark.parametrize("kind", list(POLICIES))
def test_every_policy_decides_an_image_alone_as_it_does_in_a_batch(chain, kind):
    predictor = build_predictor(chain, kind)
    roles = ("val_calib", "val_test")  # what was certified on, and what was judged on
    reader = chain.pictures(*roles)
    images = [reader.read(name) for role in roles for name in chain.splits.roles[role]]
    recorded = [Recorded(answer.name, answer.logits, answer.decision) for answer in predictor.predict(images)]
    assert len(recorded) > 20
    assert alone_problems(predictor, recorded, images) == []


def test_the_golden_images_are_answered_alone_as_they_were_recorded(bundle):
    from streetvision_core.bundle import load_bundle

    loaded = load_bundle(bundle)
    predictor = Predictor(loaded.model, config=loaded.config, policy=loaded.policy)
    golden = loaded.expected.pictures
    recorded = [Recorded(image.file, image.logits, image.decision) for image in golden]
    assert alone_problems(predictor, recorded, [loaded.contents.files[image.file] for image in golden]) == []
