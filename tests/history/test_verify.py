"""`streetvision verify` of a store: every byte, every input, every pointer."""

import shutil

import pytest

from streetvision_core.cli import main
from streetvision_core.history import verify as module
from streetvision_core.history.verify import verify_current, verify_everything, verify_run
from streetvision_core.io import compute_file_sha256
from streetvision_core.io.ledger import record_look, subject_of
from tests.history.conftest import FIRST, SECOND, THIRD
from tests.history.made import CHAIN, damage, make


def faults(report):
    return [*(fault for artifact in report.checked for fault in artifact.faults), *report.faults]


def test_a_whole_store_is_good_with_every_artifact_and_pointer_looked_at(store, capsys):
    assert main(["verify", "--all", "--store", str(store.root)]) == 0
    printed = capsys.readouterr().out.splitlines()
    keys = len(list(store.root.glob("keys/*/*.json")))
    notes = [line for line in printed if line.startswith("note ")]
    assert all(
        "was made from another splits" in note for note in notes
    )  # the third run made no more than these
    assert len(printed) == 2 * len(CHAIN) + 1 + len(notes) + 1
    assert printed[-1].startswith(
        f"{2 * len(CHAIN) + 1} artifacts and {keys + len(CHAIN)} pointers: all good; "
    )
    assert all(line.startswith("ok ") for line in printed[:-1] if line not in notes)


def test_current_is_what_the_pointers_name_and_a_run_is_its_own(store):
    assert {(artifact.run_id, artifact.step) for artifact in verify_current(store).checked} == {
        *((SECOND, step) for step in CHAIN if step != "splits"),
        (THIRD, "splits"),
    }
    assert {artifact.run_id for artifact in verify_run(store, FIRST).checked} == {FIRST}
    assert len(verify_run(store, FIRST).checked) == len(CHAIN)


def test_a_changed_byte_is_found_in_every_run_that_shares_the_file(store, capsys):
    shared = store.directory(FIRST, "images") / "content.json"
    data = bytearray(shared.read_bytes())
    data[3] ^= 1
    with shared.open("r+b") as file:
        file.write(data)
    report = verify_everything(store)
    assert {artifact.run_id for artifact in report.checked if artifact.faults} == {FIRST, SECOND}
    assert main(["verify", FIRST, "--store", str(store.root)]) == 1
    assert "     content.json has other content than was published" in capsys.readouterr().out


def test_a_file_with_several_names_is_hashed_once(store, monkeypatch):
    hashed = []

    def count(path):
        hashed.append(path.stat().st_ino)
        return compute_file_sha256(path)

    monkeypatch.setattr(module, "compute_file_sha256", count)
    report = verify_everything(store)
    read_as_they_are = {"manifest.json", "private.json"}
    names = [
        path
        for path in store.root.glob("runs/*/*/**/*")
        if path.is_file() and path.name not in read_as_they_are
    ]
    inodes = {path.stat().st_ino: path.stat().st_size for path in names}
    assert sorted(hashed) == sorted(inodes)
    assert len(names) > len(inodes)
    assert report.hashed_bytes == sum(inodes.values())


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (lambda path: damage(path / "manifest.json"), "is missing or damaged"),
        (lambda path: (path / "manifest.json").unlink(), "is missing or damaged"),
        (
            lambda path: shutil.copy(
                path.parents[1] / FIRST / "splits" / "manifest.json", path / "manifest.json"
            ),
            "is another one than it was made from",
        ),
    ],
)
def test_an_input_that_is_missing_or_another_one_is_a_fault(store, harm, text):
    harm(store.directory(SECOND, "splits"))
    by_step = {artifact.step: artifact.faults for artifact in verify_current(store).checked}
    assert any(f"its input splits of run {SECOND} {text}" in fault for fault in by_step["backbone"])
    assert by_step["images"] == []


def test_a_role_that_a_step_may_not_read_is_a_fault(store):
    make(store, "20261123T000000-dddddddd", "thresholds", roles=("val_test",), reuse=False)
    (artifact,) = verify_run(store, "20261123T000000-dddddddd").checked
    assert artifact.faults == ["thresholds read val_test, but it may read no images of a role"]


def test_a_forbidden_input_is_a_fault(store):
    run_id = "20261123T000000-dddddddd"
    make(store, run_id, "thresholds", inputs=("phase1_checkpoint", "val_calib_logits", "evaluation"))
    (artifact,) = verify_run(store, run_id).checked
    assert artifact.faults == ["thresholds was made from evaluation, which it may not be"]


def test_a_pointer_that_dangles_or_vouches_for_another_is_a_fault(store):
    key = store.resolve("splits").manifest.step_key
    shutil.rmtree(store.directory(THIRD, "splits"))
    problems = faults(verify_everything(store))
    assert sum(f"names splits of run {THIRD}, which is missing" in fault for fault in problems) == 2
    make(store, "20261123T000000-dddddddd", "splits", config={"seed": 1}, reuse=False)
    assert faults(verify_everything(store)) == []
    pointer = store.root / "keys" / "splits" / f"{key}.json"
    pointer.write_bytes((store.root / "latest" / "images.json").read_bytes())
    assert "which is not what it is for" in faults(verify_everything(store))[0]
    text = (store.root / "latest" / "splits.json").read_text()
    pointer.write_text(text.replace('"sha256": "', '"sha256": "0'))
    assert "vouches for another manifest" in faults(verify_everything(store))[0]
    pointer.write_text("{}")
    assert faults(verify_everything(store))[0].startswith("Expected a pointer")


def test_a_key_under_the_name_of_other_inputs_is_a_fault(store):
    """Such a pointer would give a step a result of other inputs."""
    first = store.resolve("splits", run_id=FIRST).manifest.step_key
    third = store.resolve("splits", run_id=THIRD).manifest.step_key
    keys = store.root / "keys" / "splits"
    shutil.copy(keys / f"{third}.json", keys / f"{first}.json")
    assert "which is not what it is for" in faults(verify_everything(store))[0]


def test_a_directory_under_another_name_and_a_link_are_faults(store, tmp_path):
    shutil.copytree(store.directory(FIRST, "splits"), store.root / "runs" / THIRD / "images")
    (store.root / "runs" / "elsewhere").symlink_to(store.root / "runs" / FIRST)
    problems = faults(verify_everything(store))
    assert f"the manifest is of splits of run {FIRST}" in problems
    assert any("elsewhere is no directory of the store's own" in fault for fault in problems)


def test_what_a_kill_left_half_made_is_no_fault(store):
    (store.stage(THIRD, "bundle") / "half").write_bytes(b"x")
    assert verify_everything(store).good


def test_a_run_that_published_nothing_or_does_not_exist_is_a_paragraph(store, capsys):
    (store.root / "runs" / "20261123T000000-dddddddd").mkdir()
    assert main(["verify", "dddddddd", "--store", str(store.root)]) == 1
    assert main(["verify", "nowhere", "--store", str(store.root)]) == 1
    assert capsys.readouterr().err.count("\n") == 2


def test_the_ledger_is_verified_and_what_says_its_look_must_have_it(store, capsys):
    looked = {"mcc": 0.5, "look_number": 1, "looks_so_far": 1}
    made = make(store, "20261123T110000-dddddddd", "evaluation", config={"new": 1}, metrics=looked).manifest
    assert main(["verify", "--store", str(store.root)]) == 1
    assert "is look number 1, which the ledger lacks" in capsys.readouterr().out
    record_look(store, subject_of(made), ["a" * 64], run_id=made.run_id)
    assert verify_current(store).good
    (look,) = (store.root / "ledger").glob("*.json")
    damage(look)
    assert any("a look as it was recorded" in fault for fault in verify_current(store).faults)
