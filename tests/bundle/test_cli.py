"""The command line: 0 good, 1 bad with one paragraph on standard error, 2 used wrongly."""

import json
import subprocess
import sys

import pytest

from streetvision_core.bundle import load
from streetvision_core.cli import main
from streetvision_core.io import bytes_digest
from tests.bundle.chain import copy


@pytest.fixture
def moved(bundle, tmp_path):
    return copy(bundle, tmp_path / "moved")


def run(*arguments):
    command = [sys.executable, "-m", "streetvision_core.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_verify_prints_one_summary(bundle, capsys):
    assert main(["verify", str(bundle)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("good")
    assert printed.err == ""


def test_verify_deep_answers_the_golden_images(bundle, capsys):
    assert main(["verify", "--deep", str(bundle)]) == 0
    assert "8 images answered again" in capsys.readouterr().out


def test_verify_of_a_changed_bundle_is_one_paragraph_and_exit_1(moved, capsys):
    (moved / "README.md").write_text("Trust me.")
    assert main(["verify", str(moved)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("Expected README.md with")


def test_predict_prints_one_json_line_an_image(bundle, capsys):
    pictures = sorted(map(str, (bundle / "golden").glob("0*")))
    assert main(["predict", str(bundle), *pictures]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = json.loads((bundle / "golden/expected.json").read_bytes())["pictures"]
    assert [line["picture"] for line in lines] == pictures
    for line, image in zip(lines, expected, strict=True):
        assert set(line) == {"picture", "probability", "decision"}
        assert line["decision"] == image["decision"]
        assert line["probability"] == pytest.approx(image["probability"], abs=1e-3)


def test_an_unreadable_image_leaves_the_others_answered_and_exits_1(bundle, tmp_path, capsys):
    good = sorted((bundle / "golden").glob("0*"))
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    assert main(["predict", *map(str, (bundle, good[0], bad, tmp_path / "missing.jpg", good[1]))]) == 1
    printed = capsys.readouterr()
    assert [json.loads(line)["picture"] for line in printed.out.splitlines()] == [str(good[0]), str(good[1])]
    assert len(printed.err.splitlines()) == 3
    assert printed.err.endswith("2 of 4 images could not be read.\n")
    assert "bad.jpg" in printed.err
    assert "missing.jpg" in printed.err


def test_predict_reads_its_bundle_once_and_against_the_named_manifest(bundle, capsys, monkeypatch):
    read, named = load.read_folder, bytes_digest((bundle / "manifest.json").read_bytes())
    given = []

    def watched(path, **settings):
        given.append(settings["manifest_sha256"])
        return read(path, **settings)

    monkeypatch.setattr(load, "read_folder", watched)
    image = str(bundle / "golden/001.jpg")
    assert main(["predict", "--manifest-sha256", named, str(bundle), image]) == 0
    assert given == [named]
    assert main(["predict", "--manifest-sha256", "0" * 64, str(bundle), image]) == 1
    assert named in capsys.readouterr().err


def test_predict_with_a_changed_bundle_answers_nothing(moved, capsys):
    (moved / "LICENSE").unlink()
    assert main(["predict", str(moved), str(moved / "golden/001.jpg")]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.e2e
def test_the_command_works_as_a_program(bundle, tmp_path):
    assert run("verify", bundle).returncode == 0
    missing = run("verify", tmp_path / "nowhere")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "Traceback" not in missing.stderr


@pytest.mark.e2e
def test_help_and_the_package_load_nothing_heavy():
    code = (
        "import sys, streetvision_core.cli as cli, streetvision_core.bundle\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'PIL', 'sklearn', 'scipy', 'matplotlib', 'lightning', 'dagster'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
