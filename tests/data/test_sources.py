"""Folder, CSV and Parquet list the same images, and none of them leaves its folder."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import dagster as dg
import pydantic
import pytest

from streetvision_core.data import (
    CsvConfig,
    DemoConfig,
    FolderConfig,
    ParquetConfig,
    Reason,
    SourceConfig,
    UnusableImageError,
    open_source,
)
from streetvision_core.data.config import CocoConfig, PartConfig
from streetvision_core.data.sources.spill import Spill
from streetvision_core.errors import ConfigError, DataError, StoreError

from .making import hub_row, jpeg, write, write_csv, write_parquet


def folder(path, **options):
    return open_source(SourceConfig(folder=FolderConfig(path=str(path), **options)))


def table(path, **options):
    return open_source(SourceConfig(csv=CsvConfig(path=str(path), **options)))


def parquet(path, **options):
    return open_source(SourceConfig(parquet=ParquetConfig(path=str(path), **options)))


def refusal(source, name: str) -> Reason:
    with pytest.raises(UnusableImageError) as caught:
        source.read(name)
    return caught.value.reason


def listing(source):
    return {entry.name: (entry.label, entry.group) for entry in source.entries()}


# --- configuration


def test_the_demo_is_a_source_only_where_it_is_named():
    assert SourceConfig(demo={}).demo == DemoConfig()
    assert SourceConfig(csv=CsvConfig(path="x")).demo is None
    assert SourceConfig().demo is None
    assert not SourceConfig().names_source


def test_no_source_cannot_be_opened_and_the_error_says_how_to_name_one():
    with pytest.raises(ConfigError, match=r"presets/folder\.yaml.*demo: \{\}"):
        open_source(SourceConfig())


def test_more_than_one_source_is_refused_in_readable_words():
    with pytest.raises(pydantic.ValidationError, match=r"exactly one source.*2 of them: demo and csv"):
        SourceConfig(demo=DemoConfig(), csv=CsvConfig(path="x"))


@pytest.mark.parametrize("pattern", ["(", "no group"])
def test_a_group_pattern_without_a_group_is_refused(pattern):
    with pytest.raises(pydantic.ValidationError, match="capture group"):
        FolderConfig(path="x", group_pattern=pattern)


class Csv(CsvConfig, dg.Config):
    """A record as the graph uses it: subclassed, nested, and filled from run configuration."""


class Demo(DemoConfig, dg.Config):
    pass


class Folder(FolderConfig, dg.Config):
    pass


class Parquet(ParquetConfig, dg.Config):
    pass


class Coco(CocoConfig, dg.Config):
    pass


class Part(PartConfig, dg.Config):
    folder: Folder | None = None
    csv: Csv | None = None
    parquet: Parquet | None = None
    coco: Coco | None = None


class Source(SourceConfig, dg.Config):
    demo: Demo | None = None
    folder: Folder | None = None
    csv: Csv | None = None
    parquet: Parquet | None = None
    coco: Coco | None = None
    join: list[Part] | None = None


def test_the_configuration_nests_in_a_dagster_config():
    seen = []

    def take(config):
        seen.append(SourceConfig.model_validate(config.model_dump()))

    take.__annotations__["config"] = Source  # Dagster does not resolve annotations that are text
    operation = dg.op(take)

    @dg.job
    def job():
        operation()

    csv = {"path": "labels.csv", "group_column": None}
    job.execute_in_process(run_config={"ops": {"take": {"config": {"csv": csv}}}})
    job.execute_in_process(run_config={"ops": {"take": {"config": {}}}})
    words = {"path": "labels.csv", "none": False, "roadwork": ["yes", 1], "keep": {"city": ["a", 2]}}
    parts = [{"csv": words}, {"name": "b", "role": "train", "folder": {"path": "x", "none": "ok"}}]
    job.execute_in_process(run_config={"ops": {"take": {"config": {"join": parts}}}})
    assert seen[:2] == [SourceConfig(csv=CsvConfig(path="labels.csv", group_column=None)), SourceConfig()]
    assert seen[2] == SourceConfig(join=parts)


# --- folder


def test_a_folder_per_class_is_listed_sorted_with_everything_below(tmp_path):
    write(tmp_path / "roadwork" / "video2" / "a.jpg", b"1")
    write(tmp_path / "NONE" / "b.png", b"2")
    write(tmp_path / "NONE" / "notes.txt", b"3")
    write(tmp_path / "NONE" / ".hidden.jpg", b"4")
    write(tmp_path / "c.jpg", b"5")
    write(tmp_path / "README.md", b"6")
    source = folder(tmp_path)
    assert listing(source) == {
        "NONE/b.png": (0, None),
        "NONE/notes.txt": (0, None),
        "roadwork/video2/a.jpg": (1, None),
        "c.jpg": (None, None),
    }
    assert [entry.name for entry in source.entries()] == sorted(listing(source))
    assert source.read("roadwork/video2/a.jpg") == b"1"


def test_class_folders_may_be_0_and_1_or_named(tmp_path):
    write(tmp_path / "0" / "a.jpg", b"1")
    write(tmp_path / "Baustelle" / "b.jpg", b"2")
    assert listing(folder(tmp_path, roadwork="Baustelle")) == {
        "0/a.jpg": (0, None),
        "Baustelle/b.jpg": (1, None),
    }


def test_the_group_is_what_the_pattern_captures_below_the_class_folder(tmp_path):
    for name in ("None/v1_01.jpg", "Roadwork/v1_02.jpg", "Roadwork/other.jpg"):
        write(tmp_path / name, b"1")
    groups = {
        name: group for name, (_, group) in listing(folder(tmp_path, group_pattern=r"^(v\d+)_")).items()
    }
    assert groups == {"None/v1_01.jpg": "v1", "Roadwork/v1_02.jpg": "v1", "Roadwork/other.jpg": None}


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    secret = write(tmp_path / "outside" / "secret.jpg", jpeg(1))
    inside = write(tmp_path / "data" / "None" / "real.jpg", jpeg(2))
    (inside.parent / "link.jpg").symlink_to(secret)
    (inside.parent / "fine.jpg").symlink_to(inside)
    (inside.parent / "folder").symlink_to(secret.parent)
    source = folder(tmp_path / "data")
    assert set(listing(source)) == {"None/real.jpg", "None/link.jpg", "None/fine.jpg", "None/folder"}
    assert refusal(source, "None/link.jpg") is Reason.OUTSIDE
    assert refusal(source, "None/folder") is Reason.OUTSIDE
    assert refusal(source, "None/folder/secret.jpg") is Reason.OUTSIDE
    assert source.read("None/fine.jpg") == jpeg(2)


def test_a_linked_class_folder_is_an_error_and_not_an_empty_class(tmp_path):
    write(tmp_path / "outside" / "a.jpg", jpeg(1))
    write(tmp_path / "data" / "None" / "b.jpg", jpeg(2))
    (tmp_path / "data" / "Roadwork").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="'Roadwork', which is a symbolic link"):
        folder(tmp_path / "data")


def test_what_is_not_a_regular_file_is_not_opened(tmp_path):
    """Opening a pipe that nobody writes to would wait for ever."""
    write(tmp_path / "None" / "a.jpg", jpeg(1))
    os.mkfifo(tmp_path / "None" / "pipe.jpg")
    assert refusal(folder(tmp_path), "None/pipe.jpg") is Reason.NOT_AN_IMAGE


def test_a_file_too_large_for_an_image_is_not_loaded(tmp_path):
    huge = write(tmp_path / "None" / "a.jpg", b"")
    os.truncate(huge, 2**40)
    assert refusal(folder(tmp_path), "None/a.jpg") is Reason.TOO_LARGE


@pytest.mark.parametrize("missing", ["path", "file", "empty", "no classes"])
def test_a_wrong_folder_is_one_readable_paragraph(tmp_path, missing):
    path = {"path": tmp_path / "nowhere", "file": write(tmp_path / "f", b"")}.get(missing, tmp_path / "d")
    if missing in ("empty", "no classes"):
        path.mkdir()
    if missing == "no classes":
        (path / "cats").mkdir()
    with pytest.raises((ConfigError, DataError), match=r"Expected .*, but found .* \(.*\)\. "):
        folder(path)


# --- CSV


def test_a_csv_gives_file_label_group_and_attributes(tmp_path):
    rows = [
        {"file": "./b.jpg", "label": "Roadwork", "group": "g1", "weather": "rain", "note": ""},
        {"file": "a.jpg", "label": "", "group": "", "weather": "", "note": "x, y"},
    ]
    write(tmp_path / "b.jpg", b"B")
    source = table(write_csv(tmp_path / "labels.csv", rows))
    first, second = source.entries()
    assert (first.name, first.label, first.group, first.attributes) == ("a.jpg", None, None, {"note": "x, y"})
    assert (second.name, second.label, second.group) == ("b.jpg", 1, "g1")
    assert second.attributes == {"weather": "rain"}
    assert source.read("b.jpg") == b"B"
    assert refusal(source, "a.jpg") is Reason.MISSING


def test_the_default_group_column_may_be_absent_but_a_named_one_must_exist(tmp_path):
    path = write_csv(tmp_path / "labels.csv", [{"file": "a.jpg", "label": 1}])
    assert listing(table(path)) == {"a.jpg": (1, None)}
    with pytest.raises(DataError, match="no video among file, label"):
        table(path, group_column="video")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/hostname",
        "../secret.jpg",
        "sub/../../secret.jpg",
        "link.jpg",
        r"..\secret.jpg",
        " ../secret.jpg",
    ],
)
def test_no_row_of_a_csv_reads_outside_its_folder(tmp_path, name):
    write(tmp_path / "secret.jpg", jpeg(1))
    root = tmp_path / "data"
    write(root / "sub" / "a.jpg", jpeg(2))
    (root / "link.jpg").symlink_to("../secret.jpg")
    source = table(write_csv(root / "labels.csv", [{"file": name, "label": 1}]))
    [entry] = source.entries()
    assert refusal(source, entry.name) is Reason.OUTSIDE


@pytest.mark.parametrize("name", ["../nothing.jpg", "/nothing.jpg", "../a.jpg"])
def test_whether_a_file_exists_outside_is_not_told(tmp_path, name):
    write(tmp_path / "a.jpg", jpeg(1))
    (tmp_path / "data").mkdir()
    source = table(write_csv(tmp_path / "data" / "labels.csv", [{"file": name, "label": 1}]))
    assert [entry.name for entry in source.entries()] == [name]
    assert refusal(source, name) is Reason.OUTSIDE


def test_a_folder_that_cannot_be_read_is_not_left_out_in_silence(tmp_path, monkeypatch):
    write(tmp_path / "None" / "video" / "a.jpg", jpeg(1))
    source = folder(tmp_path)
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("video"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"Permission denied.*video"):
        list(source.entries())


def test_a_column_without_a_name_is_no_attribute(tmp_path):
    path = write(tmp_path / "labels.csv", b",file,label,weather\n0,a.jpg,1, light \r\n")
    [entry] = table(path).entries()
    assert entry.attributes == {"weather": "light"}


# --- Parquet


def test_parquet_in_the_hubs_layout_round_trips(tmp_path):
    rows = [hub_row(jpeg(n), n % 2, f"v{n // 4}", weather="rain", score=0.5) for n in range(50)]
    write_parquet(tmp_path / "b" / "train.parquet", rows[:30], row_group_size=7)
    write_parquet(tmp_path / "a.parquet", rows[30:], compression="zstd")
    source = parquet(tmp_path)
    entries = list(source.entries())
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    assert (entries[0].name, entries[-1].name) == ("a.parquet#000000", "b/train.parquet#000029")
    assert (entries[0].label, entries[0].group) == (0, "v7")
    assert entries[0].attributes == {"weather": "rain", "score": "0.5"}
    names = [entry.name for entry in entries][::-1]
    assert [source.read(name) for name in names] == [jpeg(n) for n in [*range(30, 50), *range(30)][::-1]]


def test_parquet_is_read_from_many_threads_and_other_processes(tmp_path):
    rows = [hub_row(bytes([n]) * (n + 1), n % 2, "v") for n in range(100)]
    source = parquet(write_parquet(tmp_path / "a.parquet", rows, row_group_size=10))
    order = [n * 37 % 100 for n in range(400)]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda n: source.read(f"a.parquet#{n:06d}"), order))
    assert read == [bytes([n]) * (n + 1) for n in order]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(source.read, "a.parquet#000042").result() == bytes([42]) * 43


def test_however_many_threads_begin_a_file_is_decoded_once(tmp_path, monkeypatch):
    made = []

    class SlowSpill(Spill):
        def __init__(self, rows):
            made.append(time.sleep(0.05))
            super().__init__(rows)

    monkeypatch.setattr("streetvision_core.data.sources.parquet.Spill", SlowSpill)
    source = parquet(write_parquet(tmp_path / "a.parquet", [hub_row(b"x", 1, "v")]))
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(source.read, ["a.parquet#000000"] * 8)) == {b"x"}
    assert len(made) == 1


def test_a_full_temporary_disk_is_one_readable_paragraph(tmp_path):
    def rows():
        yield b"x"
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match=r"No space left on device.*TMPDIR"):
        Spill(rows())


def test_nothing_is_left_in_the_temporary_folder(tmp_path, monkeypatch):
    import tempfile

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    source = parquet(write_parquet(tmp_path / "a.parquet", [hub_row(b"x", 1, "v")]))
    assert source.read("a.parquet#000000") == b"x"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_nulls_in_parquet_are_missing_and_unlabelled(tmp_path):
    rows = [hub_row(None, None, None), hub_row(b"", 1, "v"), {**hub_row(b"x", 1, "v"), "image": None}]
    rows += [{**hub_row(b"y", 0, "v"), "video_info": None}]
    source = parquet(write_parquet(tmp_path / "a.parquet", rows))
    assert list(listing(source).values()) == [(None, None), (1, "v"), (1, "v"), (0, None)]
    assert refusal(source, "a.parquet#000000") is Reason.MISSING
    assert source.read("a.parquet#000001") == b""
    assert refusal(source, "a.parquet#000002") is Reason.MISSING
    assert source.read("a.parquet#000003") == b"y"
    assert refusal(source, "a.parquet#000004") is Reason.MISSING
    assert refusal(source, "other.parquet#000000") is Reason.MISSING


def test_parquet_columns_can_be_plain_and_named(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [{"jpg": b"x", "y": "Roadwork", "clip.id": "c"}])
    source = parquet(path, file_column="jpg", label_column="y", group_column="clip.id")
    assert listing(source) == {"a.parquet#000000": (1, "c")}
    assert source.read("a.parquet#000000") == b"x"
    assert listing(parquet(path, file_column="jpg", label_column="y")) == {"a.parquet#000000": (1, None)}


@pytest.mark.parametrize(
    "options", [{"label_column": "y"}, {"file_column": "y"}, {"group_column": "video.id"}]
)
def test_a_missing_parquet_column_is_named(tmp_path, options):
    path = write_parquet(tmp_path / "a.parquet", [hub_row(b"x", 1, "v")])
    missing = next(iter(options.values()))
    with pytest.raises(DataError, match=rf"no {missing}.* among image, label, video_info"):
        parquet(path, **options)


def test_images_that_are_not_bytes_are_refused(tmp_path):
    with pytest.raises(DataError, match="being binary"):
        parquet(write_parquet(tmp_path / "a.parquet", [{"image": {"bytes": "text"}, "label": 1}]))


def test_what_is_no_parquet_is_one_readable_paragraph(tmp_path):
    write(tmp_path / "data" / "a.parquet", b"PAR1 but not really PAR1")
    with pytest.raises(DataError, match="readable Parquet file"):
        parquet(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="Expected a Parquet file"):
            parquet(path)


def test_a_damaged_page_is_one_readable_paragraph(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [hub_row(jpeg(1), 1, "v")], compression="zstd")
    data = bytearray(path.read_bytes())
    data[20:2000] = bytes(1980)
    path.write_bytes(data)
    with pytest.raises(DataError, match="readable Parquet file"):
        parquet(path).read("a.parquet#000000")


def test_a_parquet_file_linked_from_outside_is_refused(tmp_path):
    outside = write_parquet(tmp_path / "outside.parquet", [hub_row(b"x", 1, "v")])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.parquet").symlink_to(outside)
    with pytest.raises(DataError, match="symbolic link that leads out"):
        parquet(tmp_path / "data")


def test_the_demo_is_a_parquet_file_like_any_other(tmp_path):
    path = write_parquet(tmp_path / "demo.parquet", [hub_row(b"x", 1, "v")])
    source = open_source(SourceConfig(demo={}), demo_file=path)
    assert listing(source) == {"demo.parquet#000000": (1, "v")}
    with pytest.raises(ConfigError, match="write_demo"):
        open_source(SourceConfig(demo={}))
