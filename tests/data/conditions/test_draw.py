"""A drawn image follows from its digest, level, draw and seed; levels are met by weight."""

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from streetvision_core.data.conditions import (
    AS_IS,
    CAMERA,
    NATIX_CROPS_2025,
    Conditions,
    ConditionsConfig,
    Level,
    Operation,
    Profile,
)
from streetvision_core.data.conditions.draw import draw_image, level_of
from streetvision_core.errors import refused_settings
from streetvision_core.io import bytes_digest, json_bytes
from streetvision_core.io.records import read_record

LEVELS = [(profile, level.name) for profile in (CAMERA, NATIX_CROPS_2025) for level in profile.levels]


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)).resize(
        (480, 360)
    )


def digest(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def pixels(*args, **kwargs):
    return np.asarray(draw_image(*args, **kwargs)).tobytes()


def test_as_is_is_the_very_image(image):
    assert draw_image(image, AS_IS, digest(1)) is image
    assert ConditionsConfig().conditions().see(image, digest(1)) is image


@pytest.mark.parametrize(("profile", "level"), LEVELS)
def test_the_same_name_gives_the_same_pixels_and_another_gives_others(image, profile, level):
    first = pixels(image, profile, digest(1), level=level, draw=1, seed=1)
    assert first == pixels(image, profile, digest(1), level=level, draw=1, seed=1)
    if any(len(set(operation.strengths)) > 1 for operation in profile.level(level).operations):
        changed = {pixels(image, profile, digest(2), level=level, draw=draw, seed=0) for draw in range(12)}
        assert len(changed) > 1


def test_threads_and_order_do_not_matter(image):
    asked = [(digest(number), draw) for number in range(6) for draw in range(2)]
    one_by_one = [pixels(image, CAMERA, sha256, draw=draw) for sha256, draw in asked]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: pixels(image, CAMERA, pair[0], draw=pair[1]), reversed(asked)))
    assert one_by_one == together[::-1]


def test_levels_are_met_as_often_as_their_weights_say():
    met = Counter(level_of(CAMERA, digest(number)) for number in range(4000))
    total = sum(level.weight for level in CAMERA.levels)
    for level in CAMERA.levels:
        assert met[level.name] / 4000 == pytest.approx(level.weight / total, abs=0.03)
    never = Profile(levels=[Level(name="never", weight=0), Level(name="always")])
    assert {level_of(never, digest(number)) for number in range(50)} == {"always"}


def test_an_image_is_shrunk_before_and_never_enlarged(image):
    small = image.resize((90, 60))
    profile = Profile(size=100, levels=[Level(name="plain")])
    assert draw_image(image, profile, digest(1)).size == (133, 100)
    assert draw_image(small, profile, digest(1)) is small
    assert draw_image(small, NATIX_CROPS_2025, digest(1)).size == (224, 224)


def test_pixels_are_pinned():
    """Name the profile anew where this changes: every figure under conditions changes with it."""
    ramp = Image.fromarray(np.add.outer(np.arange(64) * 2, np.arange(96)).astype(np.uint8)).convert("RGB")
    plain = CAMERA.model_copy(update={"quality": 0})
    pinned = {
        name: bytes_digest(pixels(ramp, plain, digest(7), level=name))[:12]
        for name in ("night", "motion", "dirt")
    }
    assert pinned == {"night": "6302581412a2", "motion": "f82d67b7dc46", "dirt": "dbd9a1d1a894"}


def refusal(**settings):
    import pydantic

    with pytest.raises(pydantic.ValidationError) as refused:
        ConditionsConfig(profile={"kind": "own", **settings})
    return str(refused_settings(refused.value, step="conditions"))


def own(**operation):
    return {"levels": [{"name": "mine", "operations": [operation]}]}


@pytest.mark.parametrize(
    "settings",
    [
        own(gain=[-1]), own(gain=[]), own(gain=[0.5] * 17), own(gain=[float("nan")]), own(blur=[1e9]),
        own(crop=[0.5]), own(crop=[1, 0.5]), own(crop=[0, 1]), own(rain=[1e300]), own(resample=[0]),
        own(), own(gain=[1], blur=[1]), own(unheard=[1]), own(jpeg=[0]),
        {"size": 100_000}, {"size": 0}, {"quality": 100}, {"name": "../x"}, {"dated": "yesterday"},
        {"levels": [{"name": "a"}, {"name": "a"}]}, {"levels": [{"name": "a", "weight": 0}]},
        {"levels": [{"name": "a", "weight": float("inf")}]}, {"levels": [{"name": "a\n"}]},
        {"levels": [{"name": f"l{number}"} for number in range(25)]},
        {"levels": [{"name": "a", "operations": [{"jpeg": [5]}] * 13}]},
    ],
)  # fmt: skip
def test_hostile_settings_are_refused_in_one_paragraph(settings):
    text = refusal(**settings)
    assert text.startswith("Expected ")
    assert "\n" not in text
    assert len(text) < 1200


def test_the_record_is_read_back_and_takes_the_levels_of_the_report():
    for kind in ("as_is", "camera", "natix_crops_2025"):
        conditions = ConditionsConfig(profile={"kind": kind}).conditions()
        data = json_bytes(conditions.model_dump(mode="json"))
        assert read_record(Conditions, data, where="x") == conditions
        assert conditions.reported == (CAMERA if kind == "as_is" else conditions.profile)
    mine = ConditionsConfig(profile={"kind": "own", "name": "tunnel", **own(gain=[0.1])}).conditions().profile
    assert mine == Profile(name="tunnel", levels=[Level(name="mine", operations=[Operation(gain=[0.1])])])
    assert type(mine) is Profile
