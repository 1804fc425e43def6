"""Labels in every type that a Parquet column may have, and the layouts of datasets that are no Parquet."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streetvision_core.data import ParquetConfig, SourceConfig, open_source
from streetvision_core.data.sources import parquet as parquet_module
from streetvision_core.errors import ConfigError, DataError

from .making import hub_row, jpeg, write, write_parquet


def parquet(path, **options):
    return open_source(SourceConfig(parquet=ParquetConfig(path=str(path), **options)))


def with_labels(path, labels, image=None):
    images = pa.array([b"x"] * len(labels), image or pa.binary())
    pq.write_table(pa.table({"image": images, "label": labels}), path)
    return path


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(["None", "Roadwork"], pa.string_view()),
        pa.array(["None", "Roadwork"], pa.large_string()),
        pa.array(["None", "Roadwork"]).dictionary_encode(),
        pa.array(["None", "Roadwork"], pa.large_string()).dictionary_encode(),
        pa.array([b"None", b"Roadwork"]),
        pa.array([b"None", b"Roadwork"], pa.binary_view()),
        pa.array([0, 1]).dictionary_encode(),
        pa.array([0.0, 1.0], pa.float32()),
        pa.array([Decimal("0.00"), Decimal("1.00")]),
        pa.array([0, 1], pa.uint8()),
    ],
    ids=lambda labels: str(labels.type)[:30],
)
def test_a_label_may_have_any_type_of_words_or_numbers(tmp_path, labels):
    assert [entry.label for entry in parquet(with_labels(tmp_path / "a.parquet", labels)).entries()] == [0, 1]


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.binary(), pa.binary_view()], ids=str)
def test_a_long_label_that_is_repeated_is_cut_and_costs_no_memory(tmp_path, kind, monkeypatch):
    """A dictionary of one value and a number of rows that repeat it are a few bytes on disk."""
    monkeypatch.setattr(parquet_module, "MAX_BYTES", 2**20)
    read = []
    values = parquet_module._values
    monkeypatch.setattr(parquet_module, "_values", lambda column: read.append(column) or values(column))
    repeated = pa.array(["x" * 2**18] * 100).cast(kind)
    source = parquet(with_labels(tmp_path / "a.parquet", repeated))
    with pytest.raises(DataError, match="xxx x 100") as caught:
        list(source.entries())
    assert len(str(caught.value)) < 1500
    plain = [column for column in read if column.type != pa.dictionary(pa.int32(), pa.string())]
    assert max((column.nbytes for column in plain), default=0) <= 2**20


@pytest.mark.parametrize("image", [pa.binary_view(), pa.large_binary(), pa.binary(1)], ids=str)
def test_images_may_be_any_column_of_bytes(tmp_path, image):
    path = with_labels(tmp_path / "a.parquet", pa.array([0, 1]), image=image)
    assert parquet(path).read("a.parquet#000001") == b"x"


def test_truth_values_are_an_error_that_shows_the_setting(tmp_path):
    path = with_labels(tmp_path / "a.parquet", pa.array([True, False, True]))
    with pytest.raises(DataError, match=r'false x 1, true x 2.*none: \["false"\] and roadwork: \["true"\]'):
        list(parquet(path).entries())
    source = parquet(path, none=False, roadwork=True)
    assert [entry.label for entry in source.entries()] == [1, 0, 1]


@pytest.mark.parametrize("label", [[0], {"id": 1}])
def test_a_label_of_several_values_names_its_type(tmp_path, label):
    path = write_parquet(tmp_path / "a.parquet", [{"image": {"bytes": b"x"}, "label": label}])
    with pytest.raises(DataError, match=r"'label' of the type (list|struct).*label_column"):
        parquet(path)


@pytest.mark.parametrize("splits", [False, True])
def test_a_folder_that_datasets_saved_to_disk_is_told_apart(tmp_path, splits):
    folder = tmp_path / "saved" / ("train" if splits else "")
    folder.mkdir(parents=True)
    table = pa.table({"label": [0]})
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    if splits:
        write(tmp_path / "saved" / "dataset_dict.json", b'{"splits": ["train"]}')
    for path in (tmp_path / "saved", folder / "data-00000-of-00001.arrow"):
        with pytest.raises(DataError, match=r"Arrow files.*save_to_disk.*load_from_disk.*to_parquet"):
            parquet(path)


def test_a_role_column_gives_roles_by_its_words(tmp_path):
    words = ("train", "Validation", "calib", "TEST")
    rows = [hub_row(b"x", number % 2, "v", split=word) for number, word in enumerate(words)]
    path = write_parquet(tmp_path / "a.parquet", rows)
    source = parquet(path, role_column="split")
    assert [entry.role for entry in source.entries()] == ["train", "val_select", "val_calib", "val_test"]
    assert all(entry.role is None for entry in parquet(path).entries())
    mapped = parquet(path, role_column="split", roles={"val_calib": ["validation"], "val_select": "calib"})
    assert [entry.role for entry in mapped.entries()] == ["train", "val_calib", "val_select", "val_test"]
    rows[0] = hub_row(b"x", 0, "v", split="extra")
    write_parquet(path, rows)
    with pytest.raises(DataError, match=r"TEST x 1, Validation x 1, calib x 1, extra x 1.*roles: \{"):
        list(parquet(path, role_column="split").entries())
    with pytest.raises(DataError, match="no part among image, label"):
        parquet(path, role_column="part")


@pytest.mark.parametrize("roles", [{"test": ["a"]}, {"train": ["a"], "val_test": ["A"]}])
def test_roles_that_cannot_be_meant_are_refused(roles):
    with pytest.raises((ConfigError, ValueError), match=r"roles|one role each"):
        ParquetConfig(path="x", roles=roles)


def test_the_file_that_has_no_group_column_is_named_where_others_have(tmp_path):
    write_parquet(tmp_path / "a.parquet", [hub_row(jpeg(n), n % 2, f"v{n}") for n in range(2)])
    assert "grouped by 'video_info.vid_id'," not in parquet(tmp_path).describe()
    write_parquet(tmp_path / "b.parquet", [{"image": {"bytes": jpeg(n)}, "label": n} for n in range(2)])
    text = parquet(tmp_path).describe()
    assert "(2 files), grouped by 'video_info.vid_id', which b.parquet has not" in text
