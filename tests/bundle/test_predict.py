"""`streetvision predict`: images of every form in, lines out, and a file that goes on after a kill."""

import csv
import io
import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import termios
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from streetvision_core.cli import main
from streetvision_core.inference import listing
from streetvision_core.inference.answers import AnswerFile
from streetvision_core.inference.listing import Reading, list_images, read_names
from streetvision_core.io import bytes_digest, read_csv

HOSTILE = "=HYPERLINK(1)\x1b[2J.jpg"


@pytest.fixture(scope="module")
def street(bundle, tmp_path_factory):
    """Images in two depths, one that cannot be read, and what is no image. Nobody writes here."""
    folder = tmp_path_factory.mktemp("street")
    golden = sorted((bundle / "golden").glob("0*"))
    (folder / "below").mkdir()
    for name, source in zip(("a.jpg", "b.JPG", "below/c.jpg", HOSTILE), golden, strict=False):
        shutil.copyfile(source, folder / name)
    (folder / "below/bad.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image, and not called one")
    (folder / ".hidden.jpg").write_bytes(b"hidden")
    return folder


NAMES = (HOSTILE, "a.jpg", "b.JPG", "below/bad.png", "below/c.jpg")
READABLE = tuple(name for name in NAMES if "bad" not in name)


@pytest.fixture
def predict(bundle, capsys):
    """Run the command on the bundle; gives the exit code, the lines and the words of standard error."""

    def run(*arguments):
        code = main(["predict", str(bundle), *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return run


def pictures(lines):
    return [json.loads(line)["picture"] for line in lines]


def write_csv(path, rows, *, header=("path",)):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def stream(data):
    return io.BufferedReader(io.BytesIO(data))


def listed(*arguments, names=b"", **settings):
    images = list_images([*map(str, arguments)], Reading(**settings), names=stream(names)).images
    return [image if isinstance(image, str) else image.name for image in images]


def test_a_folder_is_answered_with_all_below_it_and_says_what_could_not_be_read(predict, street):
    code, lines, errors = predict(street)
    assert code == 1
    assert pictures(lines) == [str(street / name) for name in READABLE]
    assert len(errors) == 2
    assert "bad.png" in errors[0]
    assert errors[1] == "1 of 5 images could not be read."


def test_no_form_of_output_steers_a_terminal_or_a_spreadsheet(predict, street, monkeypatch):
    _, lines, _ = predict(street / HOSTILE, street / "a.jpg")
    assert "\x1b" not in lines[0]
    assert pictures(lines)[0].endswith(HOSTILE)
    monkeypatch.chdir(street)
    _, lines, _ = predict(HOSTILE, "a.jpg", "--format", "csv")
    rows = list(csv.DictReader(lines))
    assert [row["picture"] for row in rows] == ["'=HYPERLINK(1)\\x1b[2J.jpg", "a.jpg"]
    assert read_csv("\r\n".join([*lines, ""]).encode())[0]["picture"].startswith("=HYPERLINK")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.jpg", [HOSTILE, "a.jpg"]), ("**/*.jpg", [HOSTILE, "a.jpg", "below/c.jpg"]), ("b*", ["b.JPG"])],
)
def test_a_pattern_names_the_files_that_fit(street, pattern, expected):
    assert listed(street / pattern) == [str(street / name) for name in expected]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    (tmp_path / "a[1].jpg").touch()
    assert listed(tmp_path / "a[1].jpg") == [str(tmp_path / "a[1].jpg")]


def test_a_name_that_is_too_long_for_any_file_is_an_image_that_cannot_be_read():
    assert listed("a" * 5000) == ["a" * 5000]


@pytest.mark.parametrize("argument", ["nothing/*.jpg", "empty"])
def test_a_pattern_or_a_folder_without_images_is_wrong_usage(predict, tmp_path, argument):
    (tmp_path / "empty").mkdir()
    code, lines, errors = predict(tmp_path / argument)
    assert (code, lines, len(errors)) == (2, [], 1)


@pytest.mark.parametrize(
    ("data", "null", "expected"),
    [
        (b"a.jpg\nb c.jpg\r\n\nlast.jpg", False, ["a.jpg", "b c.jpg", "last.jpg"]),
        (b"a.jpg\0two\nlines.jpg\0", True, ["a.jpg", "two\nlines.jpg"]),
        (b"caf\xe9.jpg\n", False, ["caf\udce9.jpg"]),
    ],
)
def test_names_come_from_standard_input(data, null, expected):
    assert listed("-", names=data, null=null) == expected


@pytest.mark.parametrize(("data", "advice"), [(b"a\0b\0", "--null"), (b"x" * (2**20 + 2), "1048576 bytes")])
@pytest.mark.parametrize("null", [False, True])
def test_a_stream_that_holds_no_names_is_refused_and_bounded(data, advice, null):
    if null and b"\0" in data:
        return
    with pytest.raises(ValueError, match=advice):
        list(read_names(stream(data * 3), null=null))


@pytest.mark.parametrize(
    ("column", "setting"), [("path", ()), ("Image ", ()), ("frame", ("--column", "frame"))]
)
def test_a_csv_lists_paths_that_start_from_its_folder(predict, street, tmp_path, column, setting):
    folder = shutil.copytree(street, tmp_path / "copy")
    rows = [[name, "1"] for name in NAMES]
    path = write_csv(folder / "list.csv", rows, header=(column, "label"))
    code, lines, errors = predict(path, *setting)
    assert (code, pictures(lines), len(errors)) == (1, list(READABLE), 2)


def test_a_parquet_file_lists_paths_too(predict, street, tmp_path):
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"label": [1, 0, 0], "name": ["a.jpg", None, "below/c.jpg"]}), path)
    code, lines, errors = predict(path, "--root", street)
    assert (code, pictures(lines)) == (1, ["a.jpg", "below/c.jpg"])
    assert "row 2" in errors[0]


def test_paths_of_a_list_do_not_leave_its_folder_unless_a_root_says_so(predict, street, tmp_path):
    outside = [str(street / "a.jpg"), f"../{street.name}/a.jpg", "/dev/zero", "x\0y.jpg"]
    path = write_csv(tmp_path / "list.csv", [[name] for name in outside[:3]])
    code, lines, errors = predict(path)
    assert (code, lines, len(errors)) == (1, [], 4)
    assert all("--root" in line for line in errors[:3])
    code, lines, _ = predict(path, "--root", "/")
    assert pictures(lines)[0] == outside[0]


def test_two_lists_may_name_their_images_alike(predict, street, tmp_path):
    """The error is that of the second image, whose name is the first one's too."""
    first, second = (tmp_path / name for name in ("first", "second"))
    for folder in (first, second):
        folder.mkdir()
        write_csv(folder / "list.csv", [["a.jpg"]])
    shutil.copyfile(street / "a.jpg", first / "a.jpg")
    (second / "a.jpg").write_bytes(b"no image")
    predict(first / "list.csv", second / "list.csv", "--output", tmp_path / "answers")
    lines = [json.loads(line) for line in (tmp_path / "answers").read_text().splitlines()]
    assert ["error" in line for line in lines] == [False, True]


def test_a_list_without_such_a_column_names_those_it_has(predict, tmp_path):
    pq.write_table(pa.table({"image": pa.array([b"x"]), "file": ["a.jpg"]}), tmp_path / "l.parquet")
    for path in (
        tmp_path / "l.parquet",
        write_csv(tmp_path / "l.csv", [["a.jpg", ""]], header=("file", "image2")),
    ):
        code, lines, errors = predict(path)
        assert (code, lines, len(errors)) == (1, [], 1)
        assert "file" in errors[0]
        assert "--column" in errors[0]


def test_a_list_of_too_many_rows_is_refused_before_it_takes_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(listing, "MAX_ROWS", 10)
    pq.write_table(pa.table({"path": pa.array(["a.jpg"] * 11).dictionary_encode()}), tmp_path / "l.parquet")
    with pytest.raises(ValueError, match="at most 10 rows"):
        listed(tmp_path / "l.parquet")


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_file_has_a_line_for_each_image_and_names_the_bundle(predict, street, bundle, tmp_path, form):
    path = tmp_path / "answers"
    code, lines, _ = predict(street, "--output", path, "--format", form)
    assert (code, lines) == (1, [])
    data = path.read_bytes()
    rows = read_csv(data) if form == "csv" else [json.loads(line) for line in data.splitlines()]
    assert len(rows) == len(NAMES)
    assert "no image" in data.decode() or "not an image" in rows[3]["error"]
    manifest = bytes_digest((bundle / "manifest.json").read_bytes())
    assert {row["manifest_sha256"] for row in rows} == {manifest}


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_file_that_was_cut_anywhere_goes_on_to_the_same_bytes(predict, street, tmp_path, form):
    path, settings = tmp_path / "answers", ("--format", form, "--batch-size", "2")
    predict(street, "--output", path, *settings)
    whole = path.read_bytes()
    chosen = random.Random(0).sample(range(len(whole)), 6)
    for end in (0, 1, len(whole) - 1, len(whole), *chosen):
        path.write_bytes(whole[:end])
        code, _, errors = predict(street, "--output", path, *settings)
        assert code == 1
        assert path.read_bytes() == whole, end
        assert errors[-1] == "1 of 5 images could not be read."


def test_a_list_that_has_grown_is_gone_on_with_and_another_is_refused(predict, street, scrc_bundle, tmp_path):
    path = tmp_path / "answers"
    first, second = street / "a.jpg", street / "b.JPG"
    predict(first, "--output", path)
    code, _, errors = predict(first, second, "--output", path)
    assert (code, errors) == (0, ["1 images were answered before."])
    whole = path.read_bytes()
    for images in ((second, first), (first,)):
        code, _, errors = predict(*images, "--output", path)
        assert (code, len(errors)) == (2, 1)
        assert "--overwrite" in errors[0]
    assert main(["predict", str(scrc_bundle), str(first), str(second), "--output", str(path)]) == 2
    assert path.read_bytes() == whole
    assert predict(second, "--output", path, "--overwrite")[0] == 0
    assert pictures(path.read_text().splitlines()) == [str(second)]


def test_a_file_goes_on_whatever_the_names_were(predict, street, tmp_path, monkeypatch):
    """The longest name on standard input, of bytes that are no UTF-8: each is six letters in a line."""
    names = b"\xff" * (2**20 - 1) + b"\n" + os.fsencode(street / "a.jpg") + b"\n"
    for _ in range(2):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names)))
        code, *_ = predict("-", "--output", tmp_path / "answers")
        assert code == 1
    assert (tmp_path / "answers").read_bytes().count(b"\n") == 2


def test_failures_that_nothing_waits_for_are_written_at_once(predict, tmp_path, monkeypatch):
    """A kill loses none of them, and none is kept in memory, while the names are still coming."""
    path, (reading, writing) = tmp_path / "answers", os.pipe()
    seen = []

    def name_them():
        with os.fdopen(writing, "wb") as names:
            names.writelines(b"missing%d.jpg\n" % number for number in range(40))
            names.flush()
            until = time.monotonic() + 20
            while time.monotonic() < until and not (seen and seen[-1] >= 20):
                seen.append(path.read_bytes().count(b"\n") if path.exists() else 0)
                time.sleep(0.01)

    with ThreadPoolExecutor(1) as pool, os.fdopen(reading) as names:
        monkeypatch.setattr(sys, "stdin", names)
        pool.submit(name_them)
        assert predict("-", "--output", path, "--batch-size", "4")[0] == 1
    assert seen[-1] >= 20
    assert pictures(path.read_text().splitlines()) == [f"missing{number}.jpg" for number in range(40)]


@pytest.mark.parametrize("text", ["precious", "precious\n", '{"picture": "x"}\n', "[1]\n", '"picture"\n'])
@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_file_of_somebody_is_left_as_it_is(predict, street, tmp_path, text, form):
    path = tmp_path / "mine"
    path.write_text(text)
    code, _, errors = predict(street / "a.jpg", "--output", path, "--format", form)
    assert (code, len(errors), path.read_text()) == (2, 1, text)


def test_an_output_that_is_no_file_or_lies_in_the_bundle_is_refused(predict, street, bundle, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert predict(street / "a.jpg", "--output", tmp_path / "pipe")[0] == 1
    assert predict(street / "a.jpg", "--output", bundle / "answers")[0] == 2
    assert not (bundle / "answers").exists()


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_an_output_never_replaces_what_is_answered(predict, tmp_path, more):
    path = tmp_path / "list.csv"
    write_csv(path, [["a.jpg"]])
    before = path.read_bytes()
    code, _, (error,) = predict(path, "--format", "csv", "--output", tmp_path / "." / "list.csv", *more)
    assert (code, path.read_bytes()) == (2, before)
    assert "Its content would be lost" in error


def test_two_commands_do_not_write_to_one_file(predict, street, tmp_path):
    path = tmp_path / "answers"
    with AnswerFile.open(path, form="json", manifest_sha256="0" * 64, overwrite=False):
        code, _, errors = predict(street / "a.jpg", "--output", path)
    assert code == 1
    assert "another writer" in errors[0]


def test_without_a_gpu_the_gpu_is_refused(predict, street, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, errors = predict(street / "a.jpg", "--device", "cuda")
    assert (code, len(errors)) == (2, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_the_decisions_are_those_of_the_cpu(predict, street):
    lines = [predict(street, "--device", device)[1] for device in ("cpu", "cuda")]
    here, there = ([json.loads(line)["decision"] for line in answers] for answers in lines)
    assert here == there


def test_threads_and_batches_change_no_answer_and_no_order(predictor, street):
    images = [street / name for name in READABLE] * 5
    failures = []

    def answers(**settings):
        mixed = [*images[:7], street / "below/bad.png", *images[7:]]
        predictions = predictor.predict(mixed, on_error=lambda name, _: failures.append(name), **settings)
        return [(answer.name, answer.logits) for answer in predictions]

    expected = answers()
    assert answers(threads=3) == expected
    smaller = answers(threads=3, batch_size=4)
    assert [name for name, _ in smaller] == [name for name, _ in expected]
    for (_, logits), (_, wanted) in zip(smaller, expected, strict=True):
        assert logits == pytest.approx(wanted, abs=1e-4)
    assert failures == [str(street / "below/bad.png")] * 3


def command(bundle, *arguments):
    return [sys.executable, "-m", "streetvision_core.cli", "predict", *map(str, (bundle, *arguments))]


@pytest.mark.e2e
def test_a_killed_command_goes_on_with_a_long_list(bundle, street, tmp_path, predict):
    image = tmp_path / "large.jpg"
    Image.effect_noise((1200, 900), 60).convert("RGB").save(image)
    path, rows = tmp_path / "answers", [["large.jpg"]] * 200
    names = write_csv(tmp_path / "list.csv", rows)
    process = subprocess.Popen(command(bundle, names, "--output", path), stderr=subprocess.PIPE)
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < 32):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    written = path.read_bytes()
    assert 32 <= written.count(b"\n") < 200
    path.write_bytes(written[:-7])  # as if the kill had torn the line
    code, _, errors = predict(names, "--output", path)
    assert code == 0
    assert errors == [
        f"{written.count(b'newline') or written.count(bytes([10])) - 1} images were answered before."
    ]
    assert path.read_bytes().startswith(written)
    assert path.read_bytes().count(b"\n") == 200


@pytest.mark.e2e
def test_on_a_terminal_the_progress_is_shown_and_elsewhere_it_is_not(bundle, street, predict):
    master, terminal = pty.openpty()
    termios.tcsetwinsize(master, (24, 80))
    process = subprocess.Popen(command(bundle, street), stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(master, 4096):
            shown += piece
    except OSError:  # how a pseudo-terminal ends on Linux
        pass
    out, _ = process.communicate()
    os.close(master)
    assert process.returncode == 1
    assert len(out.splitlines()) == len(READABLE)
    assert b"5/5" in shown
    assert all(b"\x1b[2J" not in part for part in (shown, out))
    assert len(predict(street)[2]) == 2


@pytest.mark.e2e
def test_memory_does_not_grow_with_the_number_of_images(bundle, tmp_path):
    image = tmp_path / "large.jpg"
    Image.new("RGB", (2500, 2000), (90, 120, 60)).save(image)  # 15 MB decoded
    code = (  # two batches of 4 are ahead of the network
        "import resource, sys\nfrom streetvision_core.cli import main\n"
        "bundle, few, many = sys.argv[1:]\npeaks = []\n"
        "for names in (few, many):\n"
        "    command = ['predict', bundle, names, '--output', names + '.jsonl', '--batch-size', '4']\n"
        "    assert main(command) == 0\n"
        "    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        "print(peaks[1] - peaks[0])\n"
    )
    lists = [write_csv(tmp_path / f"{n}.csv", [["large.jpg"]] * n) for n in (8, 40)]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, (bundle, *lists))], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 60_000  # KiB; 32 more images are 480 MB decoded
