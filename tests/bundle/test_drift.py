"""`streetvision drift`: a bundle is held against a folder of new images, and says on what evidence."""

import json
import re
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from streetvision_core.bundle import Predictor, load_bundle
from streetvision_core.cli import main
from streetvision_core.data.conditions import CAMERA, ConditionsConfig
from streetvision_core.data.conditions.draw import draw_image
from streetvision_core.demo import draw_images
from streetvision_core.eval.decisions import OperatingPoint
from streetvision_core.eval.inputs import margin_vector
from streetvision_core.eval.risk_control import one_per_group
from streetvision_core.eval.use.drift import project, reference_of, sample_of
from streetvision_core.inference.drift import compare_folder
from streetvision_core.inference.logits import Logits
from streetvision_core.inference.predict import join
from tests.golden.test_golden_705fcbb import WHOLE

SEQUENCE = r"^(sequence_\d+)"


def draw_demo(count, seed):
    """Draw frames of demo drives by their names."""
    return {image.name: image.jpeg for image in draw_images(count, size=64, seed=seed, workers=1)}


def write(folder, images):
    for name, data in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return str(folder)


def at_night(data):
    """The same image as the level night of `camera` draws it."""
    image = Image.open(BytesIO(data)).convert("RGB")
    buffer = BytesIO()
    draw_image(image, CAMERA, sha256(data).hexdigest(), level="night").save(buffer, "PNG")
    return buffer.getvalue()


def measure(predictor, images):
    """The margins and the projections that a bundle's predictor gives of images."""
    measured = join(batch for _, batch in predictor.measure(images, extras=("features",)))
    return margin_vector(measured.logits), project(measured.extras["features"], seed=0)


@pytest.fixture(scope="module")
def street(predictor):
    """The reference of the predictor's bundle, as if val_calib had been 300 frames of demo drives."""
    images, point = draw_demo(300, seed=1), predictor.policy.point
    margins, rows = measure(predictor, images.values())
    groups = [name.partition("/")[0] for name in images]
    raw = (margins + point.shift) * point.temperature
    return reference_of(raw, rows, groups, groups_known=True)


@pytest.fixture
def calm(chain, tmp_path):
    """A folder of images like those of val_calib: those of the other roles that the model has not seen."""
    reader = chain.pictures("val_test")
    return write(tmp_path / "calm", {name: reader.read(name) for name in chain.splits.roles["val_test"]})


@pytest.fixture
def black(calm, tmp_path):
    """The same images, hardly lit, in a folder below the folder."""
    (tmp_path / "black/below").mkdir(parents=True)
    for number, path in enumerate(files_in(calm)):
        dark = ImageEnhance.Brightness(Image.open(path)).enhance(0.1)
        dark.save(tmp_path / f"black/below/{number:02d}.png")
    return str(tmp_path / "black")


def files_in(folder):
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def test_two_hundred_frames_at_night_are_noticed_and_by_day_are_not(predictor, street, tmp_path):
    frames = draw_demo(200, seed=2)
    day = write(tmp_path / "day", frames)
    night = write(tmp_path / "night", {name: at_night(data) for name, data in frames.items()})
    by_day, by_night = (
        compare_folder(predictor, folder, reference=street, conditions=None, pattern=SEQUENCE)
        for folder in (day, night)
    )
    assert by_day.good, by_day
    assert by_night.drift.p_value < 1e-6
    drives = len({name.partition("/")[0] for name in frames})
    assert (by_night.images, by_night.drift.new) == (200, drives)


def test_the_reference_is_what_the_bundle_says_of_the_same_images(chain, scrc_bundle):
    loaded, reader = load_bundle(scrc_bundle), chain.pictures("val_calib")
    predictor = Predictor(loaded.model, config=loaded.config, policy=loaded.policy)
    logits = Logits.from_artifact(chain.upstream["val_calib_logits"])
    margins, rows = measure(predictor, [reader.read(name) for name in logits.ids])
    chosen = one_per_group(logits.groups, seed=loaded.drift.seed)
    folded = loaded.drift.folded(predictor.policy.point)
    np.testing.assert_allclose(folded, sample_of(margins, rows, chosen), atol=1e-3)
    other = OperatingPoint(temperature=2.0, threshold=0.7)
    margins = margin_vector(other.fold(logits.logits))
    np.testing.assert_allclose(loaded.drift.folded(other)[:, 0], margins[chosen], atol=1e-5)


def test_the_answer_names_evidence_sizes_assumption_and_the_farthest(bundle, calm, black, capsys):
    assert main(["drift", str(bundle), calm]) == 0
    assert capsys.readouterr().out.startswith("not void")
    assert main(["drift", str(bundle), black]) == 1
    printed = capsys.readouterr()
    lines = dict(line.split(maxsplit=1) for line in printed.out.splitlines())
    number = len(files_in(black))
    assert list(lines) == ["void", "differs", "compared", "assumed", "farthest"]
    assert re.search(r"p \d.*void up to 0\.05", lines["void"])
    assert f"{number} of {number} images; " in lines["compared"]
    assert f"{number} images without a group are taken as independent" in lines["assumed"]
    assert "so are those of val_calib" in lines["assumed"]
    assert lines["farthest"].count("below/") == 5
    assert printed.err == ""


def test_of_a_group_one_image_is_compared(bundle, black, capsys):
    command = ["drift", str(bundle), black, "--json", "--group-pattern"]
    assert main([*command, r"below/(.)"]) == 2
    assert "at least 10 images of different groups" in capsys.readouterr().err
    number, first = len(files_in(black)), Path(black, "below/00.png")
    first.with_name("00 again.png").write_bytes(first.read_bytes())
    assert main([*command, r"below/(\d\d)"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert (facts["void"], facts["images"], facts["new"]) == (True, number + 1, number)
    assert "one image of each group was compared" in facts["assumed"]


def test_a_model_without_features_is_compared_by_its_margins_under_its_conditions(predictor, bundle, black):
    known = load_bundle(bundle).drift
    margins = known.model_copy(update={"sample": tuple(row[:1] for row in known.sample)})
    camera = ConditionsConfig(profile={"kind": "camera"}).conditions()
    answer = compare_folder(predictor, black, reference=margins, conditions=camera)
    assert answer.drift.statistic == "margin"
    assert len(answer.farthest) == 5
    assert "of val_calib, under camera of 2026-11-28: day, night" in answer.text()


def test_an_image_that_cannot_be_read_is_told_and_left_out(bundle, calm, capsys):
    number = len(files_in(calm))
    Path(calm, "bad.jpg").write_bytes(b"no image")
    Path(calm, "notes.txt").write_text("no image, and not called one")
    Path(calm, ".hidden.jpg").write_bytes(b"hidden")
    assert main(["drift", str(bundle), calm]) == 0
    printed = capsys.readouterr()
    assert f"{number} of {number} images" in printed.out
    assert printed.err.count("\n") == 1
    assert "bad.jpg" in printed.err


@pytest.mark.parametrize(
    ("folder", "pattern", "match"),
    [
        ("nowhere", ".(.)", "Expected a folder"),
        ("", ".", "capture group"),
        ("", "(.)", "at least 10 images of different groups"),
    ],
)
def test_where_nothing_can_be_said_it_is_one_paragraph_and_exit_2(
    bundle, tmp_path, capsys, *, folder, pattern, match
):
    assert main(["drift", str(bundle), str(tmp_path / folder), "--group-pattern", pattern]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert match in printed.err


def test_a_bundle_without_the_file_says_so_in_one_paragraph(golden_705fcbb, calm, capsys):
    older = golden_705fcbb.directory(WHOLE, "bundle")
    assert main(["drift", str(older), calm]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Expected a bundle with drift.json" in printed.err
