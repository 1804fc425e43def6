"""A bundle is accepted wherever it is copied, and refused after any change of any file."""

import math
import os
import random
import re
import shutil

import pytest

from streetvision_core.bundle import load_bundle, verify_bundle
from streetvision_core.errors import BundleError
from streetvision_core.io import json_bytes
from tests.bundle.chain import copy, forge, names_in


@pytest.fixture
def moved(bundle, tmp_path):
    return copy(bundle, tmp_path / "moved")


@pytest.fixture(scope="module")
def own_copy(bundle, tmp_path_factory):
    """A copy that a test changes and puts right again."""
    return copy(bundle, tmp_path_factory.mktemp("mutated") / "bundle")


def refused(path, match=""):
    """Expect a refusal, and match what was expected and found; the path has no part in the match."""
    with pytest.raises(BundleError) as caught:
        verify_bundle(path)
    assert re.search(match, f"{caught.value.expected}, but found {caught.value.found}"), caught.value
    return caught.value


def test_a_copied_bundle_verifies_and_answers_its_golden_images(moved):
    verification = verify_bundle(moved, deep=True)
    assert verification.golden == 8
    assert "8 images answered again" in verification.summary()


def test_the_summary_says_what_the_bundle_is(bundle):
    summary = verify_bundle(bundle).summary()
    manifest = load_bundle(bundle).contents.manifest
    for text in ("test_resnet", "streetvision-roadwork 0.1.0", manifest.data_version, manifest.run_id, "MCC"):
        assert text in summary


def test_a_link_to_the_folder_is_no_reason_to_refuse(moved, tmp_path):
    (tmp_path / "link").symlink_to(moved)
    verify_bundle(tmp_path / "link")


def test_one_changed_byte_anywhere_is_refused(own_copy):
    """Each file, at its first, middle and last byte and at five random ones."""
    draw = random.Random(0)
    for name in names_in(own_copy):
        path = own_copy / name
        data = path.read_bytes()
        offsets = {0, len(data) // 2, len(data) - 1, *(draw.randrange(len(data)) for _ in range(5))}
        for offset in sorted(offsets):
            changed = bytearray(data)
            changed[offset] ^= 1 << draw.randrange(8)
            path.write_bytes(changed)
            with pytest.raises(BundleError):
                verify_bundle(own_copy)
        path.write_bytes(data)
    verify_bundle(own_copy)


@pytest.mark.parametrize("change", ["longer", "shorter", "empty"])
def test_another_length_of_any_file_is_refused(own_copy, change):
    for name in names_in(own_copy):
        path = own_copy / name
        data = path.read_bytes()
        path.write_bytes({"longer": data + b"\n", "shorter": data[:-1], "empty": b""}[change])
        refused(own_copy, match="" if name == "manifest.json" else "bytes")
        path.write_bytes(data)


def test_a_missing_file_is_refused(own_copy):
    for name in names_in(own_copy):
        path = own_copy / name
        data = path.read_bytes()
        path.unlink()
        refused(own_copy, match=re.escape(name) if name != "manifest.json" else "")
        path.write_bytes(data)


def test_a_renamed_file_is_refused(own_copy):
    for name in names_in(own_copy):
        path = own_copy / name
        other = path.with_name(f"x{path.name}")
        path.rename(other)
        with pytest.raises(BundleError):
            verify_bundle(own_copy)
        other.rename(path)


def test_a_link_in_place_of_a_file_is_refused_though_it_leads_to_the_same_bytes(own_copy, tmp_path):
    for name in names_in(own_copy):
        path = own_copy / name
        away = tmp_path / "away"
        shutil.move(path, away)
        path.symlink_to(away)
        refused(own_copy, match="a link or a special file")
        path.unlink()
        shutil.move(away, path)


@pytest.mark.parametrize(
    "name",
    [
        "extra.json", ".gitignore", "policy/gate.json", "golden/099.jpg", "lineage/other.json",
        "pytorch_model.bin", "preprocessor_config.json", "a/b/c.txt", "LICENSE.txt",
    ],
)  # fmt: skip
def test_an_added_file_is_refused(moved, name):
    (moved / name).parent.mkdir(parents=True, exist_ok=True)
    (moved / name).write_bytes(b"{}")
    refused(moved, match="lists" if "/b/" not in name else "folder")


def test_an_added_empty_folder_is_refused(moved):
    (moved / "golden" / "more").mkdir()
    refused(moved, match="golden/more")


def test_two_exchanged_files_are_refused(moved):
    first, second = sorted((moved / "golden").glob("0*"))[:2]
    first.rename(moved / "x")
    second.rename(first)
    (moved / "x").rename(second)
    refused(moved)


def test_a_hard_link_is_an_ordinary_file(moved, tmp_path):
    os.link(moved / "model.safetensors", tmp_path / "other_name")
    verify_bundle(moved)


def test_an_unreadable_place_is_one_paragraph(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        assert str(path) in str(refused(path))


def test_golden_logits_that_the_weights_do_not_give_are_refused(bundle, tmp_path):
    """Every digest fits: only answering the images again gives it away."""
    import json

    expected = json.loads((bundle / "golden/expected.json").read_bytes())
    expected["pictures"][0]["logits"][1] *= 1.01
    none, roadwork = expected["pictures"][0]["logits"]
    expected["pictures"][0]["probability"] = 1 / (1 + math.exp(none - roadwork))
    forged = forge(bundle, tmp_path / "f", files={"golden/expected.json": json_bytes(expected)})
    verify_bundle(forged)
    with pytest.raises(BundleError, match="golden"):
        verify_bundle(forged, deep=True)


def test_what_is_loaded_are_the_bytes_that_were_hashed(bundle, tmp_path, monkeypatch):
    """The folder is emptied as soon as it was read; nothing is opened a second time."""
    from streetvision_core.bundle import load

    moved = copy(bundle, tmp_path / "gone")

    def read_and_remove(path, **options):
        contents = original(path, **options)
        shutil.rmtree(path)
        return contents

    original = load.read_folder
    monkeypatch.setattr(load, "read_folder", read_and_remove)
    assert verify_bundle(moved, deep=True).golden == 8
