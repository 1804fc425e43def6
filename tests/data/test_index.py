"""Every image is read once and is either measured or in quarantine with its reason."""

from __future__ import annotations

import copy
import hashlib
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from streetvision_core.data import (
    CsvConfig,
    FolderConfig,
    ImageIndex,
    IndexedImage,
    ParquetConfig,
    Quarantined,
    QuarantineError,
    Reason,
    SourceConfig,
    index_source,
    open_source,
)
from streetvision_core.data.fingerprint import fingerprint
from streetvision_core.data.images import ImagesConfig, index_images
from streetvision_core.data.sources import CsvSource
from streetvision_core.errors import DataError
from streetvision_core.io import ArtifactStore
from streetvision_core.io.store import is_half_made

from .inputs import shared_data
from .making import bomb, encode, hub_row, jpeg, publish, scene, write, write_csv, write_parquet

if TYPE_CHECKING:
    from pathlib import Path


def csv_source(folder: Path, rows):
    return open_source(SourceConfig(csv=CsvConfig(path=str(write_csv(folder / "labels.csv", rows)))))


def good(folder: Path, count: int = 4):
    """`count` good images, the labels alternating."""
    for number in range(count):
        write(folder / f"good{number}.jpg", jpeg(number))
    return [
        {"file": f"good{number}.jpg", "label": number % 2, "group": f"g{number}"} for number in range(count)
    ]


def reasons(index: ImageIndex) -> dict[str, Reason]:
    return {entry.name: entry.reason for entry in index.quarantine}


def test_an_image_is_measured_upright(tmp_path):
    rows = good(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(scene(8), "PNG", exif=exif)
    write(tmp_path / "turned.png", data)
    index = index_source(csv_source(tmp_path, [*rows, {"file": "turned.png", "label": 1, "group": ""}]))
    image = index.pictures[-1]
    upright = scene(8).transpose(Image.Transpose.ROTATE_270)
    assert (image.width, image.height, image.orientation) == (64, 96, 6)
    assert (image.name, image.group, image.label) == ("turned.png", "turned.png", 1)
    assert (image.sha256, image.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert image.phash == fingerprint(encode(upright, "PNG")).phash
    assert image.phash_mirrored == fingerprint(encode(ImageOps.mirror(upright), "PNG")).phash


def test_what_cannot_be_used_is_quarantined_with_its_reason(tmp_path):
    bad = {
        "empty.jpg": (b"", Reason.EMPTY),
        "text.jpg": (b"hello", Reason.NOT_AN_IMAGE),
        "cut.jpg": (jpeg(1)[:-300], Reason.TRUNCATED),
        "bomb.png": (bomb(40_000, 40_000), Reason.TOO_LARGE),
    }
    for name, (data, _) in bad.items():
        write(tmp_path / "data" / name, data)
    write(tmp_path / "secret.jpg", jpeg(2))
    (tmp_path / "data" / "link.jpg").symlink_to("../secret.jpg")
    rows = good(tmp_path / "data")
    write(tmp_path / "data" / "nolabel.jpg", jpeg(50))
    more = ["gone.jpg", "../secret.jpg", "link.jpg", *bad]
    rows += [{"file": name, "label": 1, "group": "x"} for name in more]
    rows += [{"file": "nolabel.jpg", "label": "", "group": "x"}]
    index = index_source(csv_source(tmp_path / "data", rows), max_quarantined_share=1.0)
    assert [image.name for image in index.pictures] == [f"good{number}.jpg" for number in range(4)]
    assert reasons(index) == {name: reason for name, (_, reason) in bad.items()} | {
        "gone.jpg": Reason.MISSING,
        "../secret.jpg": Reason.OUTSIDE,
        "link.jpg": Reason.OUTSIDE,
        "nolabel.jpg": Reason.UNLABELLED,
    }


def test_exact_duplicates_with_both_labels_are_quarantined_together(tmp_path):
    rows = good(tmp_path)
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"):
        write(tmp_path / name, jpeg(70 if name < "d" else 71))
    labels = {"a.jpg": 0, "b.jpg": 1, "c.jpg": 1, "d.jpg": 0, "e.jpg": 0}
    rows += [{"file": name, "label": label, "group": ""} for name, label in labels.items()]
    index = index_source(csv_source(tmp_path, rows), max_quarantined_share=1.0)
    assert reasons(index) == dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), Reason.CONTRADICTING)
    assert "b.jpg is the same image labelled Roadwork" in index.quarantine[0].detail
    assert [image.name for image in index.pictures] == ["d.jpg", "e.jpg", *(row["file"] for row in rows[:4])]


def test_a_file_listed_twice_counts_once_unless_its_labels_contradict(tmp_path):
    rows = good(tmp_path)
    rows += [{**rows[0], "file": "./good0.jpg"}, {**rows[1], "label": 0}]
    index = index_source(csv_source(tmp_path, rows), max_quarantined_share=1.0)
    assert [image.name for image in index.pictures] == ["good0.jpg", "good2.jpg", "good3.jpg"]
    assert Counter((entry.name, entry.reason) for entry in index.quarantine) == {
        ("good0.jpg", Reason.LISTED_TWICE): 1,
        ("good1.jpg", Reason.CONTRADICTING): 2,
    }


@pytest.mark.parametrize("name", ["b\udcff.jpg", "b\r.jpg"])
def test_a_file_name_that_no_table_can_carry_is_quarantined(tmp_path, name):
    for number in range(4):
        write(tmp_path / ("None", "Roadwork")[number % 2] / f"{number}.jpg", jpeg(number))
    (tmp_path / "None" / name).write_bytes(jpeg(9))
    source = open_source(SourceConfig(folder=FolderConfig(path=str(tmp_path))))
    index = index_source(source, max_quarantined_share=0.5)
    assert reasons(index) == {"None/b?.jpg": Reason.UNREADABLE}
    assert ImageIndex.from_artifact(publish(index.to_artifact(), tmp_path / "store")) == index


def test_above_the_share_the_error_names_the_images_and_carries_the_index(tmp_path):
    rows = good(tmp_path, 40)
    rows += [{"file": f"gone{number:02}.jpg", "label": 1, "group": ""} for number in range(12)]
    source = csv_source(tmp_path, rows)
    with pytest.raises(
        QuarantineError, match=r"at most 5\.0% of 52 .* 12: missing \(gone00\.jpg: there is no such file\)"
    ) as caught:
        index_source(source)
    assert "Put the missing files where the source lists them" in str(caught.value)
    assert len(caught.value.index.quarantine) == 12
    assert str(copy.copy(caught.value)) == str(caught.value)
    assert len(index_source(source, max_quarantined_share=12 / 52).pictures) == 40


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([{"file": "good0.jpg", "label": 0}, {"file": "good1.jpg", "label": 0}], "only None"),
        ([{"file": "gone.jpg", "label": 0}], "no usable one; 1 put aside: missing"),
    ],
)
def test_without_both_classes_there_is_one_readable_paragraph(tmp_path, rows, found):
    good(tmp_path)
    with pytest.raises(DataError, match=rf"Expected usable images of both classes.*{found}"):
        index_source(csv_source(tmp_path, rows), max_quarantined_share=1.0)


def listing(tmp_path):
    """Forty good images and one of each of several faults."""
    pdf, cut, other = b"%PDF-1.7", jpeg(7)[:-300] + b"\xff\xd9", encode(scene(1), "JPEG2000")
    faults = {"page.jpg": pdf, "cut.jpg": cut, "old.jpg": other, "empty.jpg": b""}
    for name, data in faults.items():
        write(tmp_path / name, data)
    rows = [{"file": name, "label": 1, "group": ""} for name in (*faults, "gone.jpg", "gone2.jpg")]
    return csv_source(tmp_path, good(tmp_path, 40) + rows)


def test_the_error_has_one_advice_for_each_reason_and_none_for_others(tmp_path):
    with pytest.raises(QuarantineError) as caught:
        index_source(listing(tmp_path))
    error = str(caught.value)
    present = {entry.reason for entry in caught.value.index.quarantine}
    assert len(present) == 5
    for reason in set(Reason) - {Reason.UNSUPPORTED}:
        assert (reason.advice in error) == (reason in present), reason
    assert "JPEG 2000: convert it to JPEG or PNG" in error
    assert "page.jpg: a PDF document" in error


def test_one_line_says_what_became_of_every_image(tmp_path):
    index = index_source(listing(tmp_path), max_quarantined_share=0.5)
    assert index.summary == (
        "46 listed, 40 used (20 None, 20 Roadwork) in 40 groups; 6 put aside: 2 missing (gone.jpg,"
        " gone2.jpg), 1 empty (empty.jpg), 1 format not read (old.jpg), 1 not an image (page.jpg),"
        " 1 truncated (cut.jpg)"
    )


def test_what_was_put_aside_is_listed_although_nothing_is_published(tmp_path):
    listing(tmp_path)
    source = CsvConfig(path=str(tmp_path / "labels.csv"))
    store = ArtifactStore(tmp_path / "store")
    directory = store.stage("run", "images")
    with pytest.raises(QuarantineError, match=r"listed in .*images.quarantine\.csv") as caught:
        index_images(ImagesConfig(csv=source), directory=directory)
    listed = (directory / "quarantine.csv").read_bytes()
    assert listed == caught.value.index.quarantine_csv()
    assert str(copy.copy(caught.value)) == str(caught.value)
    # To the store it is a step that nobody finished: nothing reads it, and the next run clears it away.
    assert [path.name for path in directory.iterdir()] == ["quarantine.csv"]
    assert (is_half_made(directory), store.current_steps()) == (True, [])


def test_an_image_of_too_many_pixels_is_put_aside(tmp_path):
    write(tmp_path / "large.jpg", encode(scene(1, size=(1200, 1000))))
    rows = [*good(tmp_path, 40), {"file": "large.jpg", "label": 1, "group": ""}]
    csv_source(tmp_path, rows)
    source = open_source(SourceConfig(csv=CsvConfig(path=str(tmp_path / "labels.csv"))))
    index = index_source(source, max_pixels=1_000_000)
    assert reasons(index) == {"large.jpg": Reason.TOO_LARGE}
    assert "more than 1 megapixels" in index.quarantine[0].detail


def test_an_empty_table_is_one_readable_paragraph(tmp_path):
    table = write(tmp_path / "labels.csv", b"file,label\n")
    with pytest.raises(DataError, match="Expected labelled images, but found none"):
        index_source(open_source(SourceConfig(csv=CsvConfig(path=str(table)))))


def test_every_image_is_read_once_and_workers_do_not_change_the_index(tmp_path, monkeypatch):
    source = csv_source(tmp_path, good(tmp_path, 30))
    read = []
    original = CsvSource.read
    monkeypatch.setattr(CsvSource, "read", lambda self, name: read.append(name) or original(self, name))
    alone, together = index_source(source, workers=1), index_source(source, workers=4)
    assert alone == together
    assert Counter(read) == {f"good{number}.jpg": 2 for number in range(30)}


def test_the_same_images_have_the_same_index_from_folder_csv_and_parquet(tmp_path):
    """They differ in names, groups and attributes alone, which are the source's own."""
    rows = good(tmp_path / "csv", 10)
    for row in rows:
        data = (tmp_path / "csv" / row["file"]).read_bytes()
        write(tmp_path / "folder" / ("None", "Roadwork")[row["label"]] / row["file"], data)
    write_parquet(tmp_path / "p.parquet", [hub_row(jpeg(n), n % 2, f"g{n}") for n in range(10)])
    sources = [
        csv_source(tmp_path / "csv", rows),
        open_source(SourceConfig(folder=FolderConfig(path=str(tmp_path / "folder")))),
        open_source(SourceConfig(parquet=ParquetConfig(path=str(tmp_path / "p.parquet")))),
    ]
    seen = [
        {
            (image.sha256, image.label, image.phash, image.phash_mirrored, image.size_bytes)
            for image in index_source(s).pictures
        }
        for s in sources
    ]
    assert len(seen[0]) == 10
    assert seen[0] == seen[1] == seen[2]


def test_importing_the_package_loads_nothing_heavy():
    heavy = ["PIL", "pyarrow", "scipy", "imagehash", "joblib", "torch", "sklearn", "dagster"]
    code = f"import sys, streetvision_core.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# No surrogates and no carriage returns: names with either are in quarantine, other texts lose them.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1, max_size=12)
NUMBER = st.integers(0, 2**40)
HEX = st.integers(0, 2**64 - 1).map("{:016x}".format)
PICTURES = st.builds(
    IndexedImage,
    name=TEXT, label=st.integers(0, 1), group=TEXT, sha256=HEX, size_bytes=NUMBER, width=NUMBER,
    height=NUMBER, orientation=st.integers(1, 8), phash=HEX, phash_mirrored=HEX,
    attributes=st.dictionaries(TEXT, TEXT, max_size=3),
)  # fmt: skip
QUARANTINED = st.builds(Quarantined, name=TEXT, reason=st.sampled_from(Reason), detail=TEXT)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pictures=st.lists(PICTURES, max_size=5), quarantine=st.lists(QUARANTINED, max_size=3))
def test_an_index_round_trips_through_its_artifact(tmp_path_factory, pictures, quarantine):
    index = ImageIndex(tuple(pictures), tuple(quarantine))
    artifact = index.to_artifact()
    assert set(artifact.files) == {"index.csv", "quarantine.csv"}
    assert ImageIndex.from_artifact(publish(artifact, tmp_path_factory.mktemp("store"))) == index


def test_the_real_photographs_are_indexed_without_loss():
    table = shared_data("streets", "labels.csv")
    index = index_source(open_source(SourceConfig(csv=CsvConfig(path=str(table)))))
    assert (len(index.pictures), len(index.quarantine)) == (583, 0)
    assert sum(image.label for image in index.pictures) == 158
    for image in index.pictures:
        assert image.attributes["width"] == str(image.width)
        assert image.attributes["height"] == str(image.height)
