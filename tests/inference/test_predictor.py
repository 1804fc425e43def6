"""From an image's bytes to a decision, the same for every way an image is handed in."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from streetvision_core.bundle import Predictor
from streetvision_core.errors import BundleError, DataError
from streetvision_core.inference.predictor import BATCH_SIZE
from streetvision_core.inference.reproduce import TOLERANCE
from streetvision_core.io.tensors import read_tensors
from tests.bundle.chain import copy, read_thresholds


@pytest.fixture(scope="module")
def files(chain):
    folder = Path(chain.upstream["images"].config()["folder"]["path"])
    return [folder / name for name in chain.splits.roles["val_test"]]


def test_paths_bytes_and_pillow_images_get_the_same_answer_in_order(predictor, files):
    mixed = [
        str(path) if number % 4 == 0 else path if number % 4 == 1
        else path.read_bytes() if number % 4 == 2 else Image.open(path)
        for number, path in enumerate(files)
    ]  # fmt: skip
    answers, plain = list(predictor.predict(mixed)), list(predictor.predict(files))
    assert [a.logits for a in answers] == [b.logits for b in plain]
    assert [a.name for a in plain] == [str(path) for path in files]
    assert [a.name for a in answers][:4] == [str(files[0]), str(files[1]), "image 3", "image 4"]


def test_roadwork_is_decided_exactly_above_one_half(predictor, files):
    for answer in predictor.predict(files):
        assert (answer.decision == "roadwork") == (answer.probability > 0.5)
        assert answer.probability == pytest.approx(1 / (1 + np.exp(answer.logits[0] - answer.logits[1])))


def test_one_half_is_the_tuned_operating_point(chain, files, predictor):
    """The folded network decides as the policy does from the checkpoint's own logits."""
    calib = chain.upstream["val_calib_logits"]
    logits = read_tensors(calib.read_bytes("logits.safetensors"))["logits"]
    names = calib.read_json("ids.json")
    folder = files[0].parents[1]
    policy = read_thresholds(chain).policy
    answers = list(predictor.predict(folder / name for name in names))
    expected = np.where(logits[:, 1] - logits[:, 0] > policy.margin, "roadwork", "none").tolist()
    assert (
        [answer.decision for answer in answers] == expected == list(policy.decide(policy.point.fold(logits)))
    )
    margins = (logits[:, 1] - logits[:, 0]) / policy.temperature
    shift = np.log(policy.threshold) - np.log1p(-policy.threshold)
    folded = np.array([answer.logits[1] - answer.logits[0] for answer in answers])
    np.testing.assert_allclose(folded, margins - shift, atol=1e-3, rtol=1e-4)


def test_a_copied_bundle_gives_the_very_numbers_of_the_predictor_in_memory(chain, bundle, files, tmp_path):
    from streetvision_core.models.weights import read_state
    from streetvision_core.training.checkpoint import Checkpoint

    checkpoint = Checkpoint.from_artifact(chain.upstream["phase1_checkpoint"])
    built = Predictor.build(checkpoint.config, read_state(checkpoint.weights), read_thresholds(chain).policy)
    loaded = Predictor.load(str(copy(bundle, tmp_path / "elsewhere")))
    assert list(built.predict(files)) == list(loaded.predict(files))


def test_images_are_taken_a_batch_at_a_time(predictor, files):
    taken = []
    many = (taken.append(number) or files[0] for number in range(4 * BATCH_SIZE))
    answers = predictor.predict(many)
    assert len([next(answers) for _ in range(3)]) == 3
    assert len(taken) == BATCH_SIZE


def test_an_image_that_comes_all_alone_passes_alone_and_its_logits_stay_within_the_tolerance(
    predictor, files, monkeypatch
):
    whole, passed, original = list(predictor.predict(files[:3])), [], predictor.model.forward
    monkeypatch.setattr(
        predictor.model, "forward", lambda batch: passed.append(len(batch)) or original(batch)
    )
    for path, expected in zip(files[:3], whole, strict=True):
        (answer,) = predictor.predict([path])
        assert answer.decision == expected.decision
        np.testing.assert_allclose(answer.logits, expected.logits, rtol=0, atol=TOLERANCE / 100)
    list(predictor.predict(files[:2]))
    list(predictor.predict([files[0]] * (BATCH_SIZE + 1)))
    assert passed == [1, 1, 1, *[BATCH_SIZE] * 3]


def test_a_model_is_made_ready_once_and_not_for_every_image(predictor, files, monkeypatch):
    """It takes longer than the preprocessing of an image."""
    expected = list(predictor.predict([files[0]]))
    monkeypatch.setattr(predictor.model, "to", None)
    assert list(predictor.predict([files[0]])) == expected


@pytest.mark.parametrize("bad", ["missing.jpg", b"", b"no picture", "cut"])
def test_an_unreadable_image_is_an_error_that_names_it(predictor, files, bad, tmp_path):
    if bad == "cut":
        bad = tmp_path / "cut.jpg"
        bad.write_bytes(files[1].read_bytes()[:200])
    name = "image 2" if isinstance(bad, bytes) else str(bad)
    with pytest.raises(DataError, match=name):
        list(predictor.predict([files[0], bad, files[1]]))


def test_with_on_error_the_others_are_still_answered(predictor, files):
    noted = []
    answers = predictor.predict(
        [files[0], b"no picture", files[1]], on_error=lambda name, error: noted.append((name, error))
    )
    assert [answer.name for answer in answers] == [str(files[0]), str(files[1])]
    assert [(name, type(error)) for name, error in noted] == [("image 2", DataError)]


def test_what_is_no_image_at_all_is_an_error(predictor):
    with pytest.raises(DataError, match="image 1"):
        list(predictor.predict([3]))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_a_pillow_image_of_any_mode_is_read_like_its_file(predictor, files, mode):
    image = Image.open(files[0])
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) << 8)
    else:
        image = image.convert(mode)
    buffer = BytesIO()
    (image.convert("RGB") if mode == "CMYK" else image).save(buffer, "PNG")
    from_picture, from_bytes = predictor.predict([image, buffer.getvalue()])
    assert from_picture.logits == from_bytes.logits


def test_sixteen_bits_are_the_same_image_in_every_integer_mode(predictor, files):
    values = np.asarray(Image.open(files[0]).convert("L")).astype(np.uint16) << 8
    big_endian = Image.frombytes("I;16B", values.shape[::-1], values.astype(">u2").tobytes())
    modes = [values, values.astype(np.int32), values.astype(np.float32)]
    answers = list(predictor.predict([big_endian, *map(Image.fromarray, modes)]))
    assert len({answer.logits for answer in answers}) == 1


def test_the_orientation_of_a_phone_is_applied_to_bytes_and_pillow_images_alike(predictor, files):
    upright = Image.open(files[0]).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    answers = list(predictor.predict([upright, buffer.getvalue(), Image.open(buffer)]))
    assert len({answer.logits for answer in answers}) == 1


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"without manifest\.json"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize("single", ["a.jpg", Path("a.jpg"), b"..."])
def test_a_single_image_that_is_not_in_a_list_is_refused(predictor, single):
    with pytest.raises(DataError, match=r"a list of images, but found one .*\[image\]"):
        list(predictor.predict(single))
