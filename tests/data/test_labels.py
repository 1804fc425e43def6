"""Names decide what a label means, in every source; a number never says more than its name."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from itertools import permutations

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streetvision_core.data import (
    CsvConfig,
    FolderConfig,
    ImageIndex,
    ParquetConfig,
    Reason,
    SourceConfig,
    index_source,
    open_source,
)
from streetvision_core.data.images import ImagesConfig, index_images
from streetvision_core.data.labels import LabelReader, label_meanings, parse_words
from streetvision_core.errors import ConfigError, DataError

from .inputs import shared_input
from .making import hub_row, jpeg, publish, write, write_csv, write_parquet


def labels(values, none=(), roadwork=(), names=None):
    reader = LabelReader(parse_words(none), parse_words(roadwork), names)
    read = [reader.read(value) for value in values]
    reader.check("the test")
    return read


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0, 0), (1, 1), ("0", 0), (" 1 ", 1), ("none", 0), ("ROADWORK", 1), (1.0, 1), ("1.0", 1),
        (Decimal("1.00"), 1), (b"Roadwork", 1), (" None\t", 0),
        (None, None), ("", None), (float("nan"), None), (Decimal("NaN"), None), ("NaN", None), ("<NA>", None),
    ],
)  # fmt: skip
def test_without_settings_a_label_is_its_name_or_a_bare_0_or_1(value, label):
    assert labels([value]) == [label]


@pytest.mark.parametrize("value", [2, -1, "maybe", 0.5, True, "yes", "00", "no roadwork", "null"])
def test_any_other_word_is_an_error_that_counts_it(value):
    with pytest.raises(DataError, match=r"Roadwork x 2, .* x 1|x 1, .*Roadwork x 2"):
        labels(["Roadwork", "Roadwork", value])


def test_the_error_lists_each_value_with_its_count_and_the_settings_to_write():
    with pytest.raises(DataError) as caught:
        labels([*["no"] * 10, *[" Yes "] * 9, "YES", *[None] * 10])
    text = str(caught.value)
    assert "found Yes x 10, no x 10, empty x 10" in text
    assert 'none: ["no"] and roadwork: ["Yes"]' in text
    assert "keep_default_na=False" in text


def test_where_no_word_denies_no_side_is_guessed():
    with pytest.raises(DataError, match=r'none: \[\.\.\.\] and roadwork: \[\.\.\.\], with each of "A", "B"'):
        labels(["A", "B"])


@pytest.mark.parametrize(
    ("none", "roadwork", "words", "given"),
    [
        (["1"], [], "01", '"0", "1"'),
        ([], ["0"], "01", '"0", "1"'),
        ([], [], ["0", "1", "-1"], '"-1", "0", "1"'),
    ],
)
def test_the_advice_never_turns_round_what_is_configured_and_guesses_no_number(none, roadwork, words, given):
    """`none: [1]` was answered with `none: ["0"] and roadwork: ["1"]`."""
    reader = LabelReader(none, roadwork)
    for word in words:
        reader.read(word)
    with pytest.raises(DataError) as caught:
        reader.check("here")
    assert f"none: [...] and roadwork: [...], with each of {given}" in str(caught.value)


def test_the_advice_keeps_what_is_configured():
    reader = LabelReader(["Works"], [])
    for word in ("Works", "No works"):
        reader.read(word)
    with pytest.raises(
        DataError, match=r'none: \[...\] and roadwork: \[...\], with each of "No works", "Works"'
    ):
        reader.check("here")


def test_a_column_of_free_text_is_shown_in_part():
    with pytest.raises(DataError, match=r"and \d+ more"):
        labels([f"text {number}" * 100 for number in range(5000)])


# --- settings


def test_what_is_configured_wins_over_every_default():
    assert labels(["Roadwork", "None"], none="roadwork", roadwork="NONE") == [0, 1]
    assert labels([0, 1], none=1, roadwork=0) == [1, 0]
    assert labels([1, 2], none=1, roadwork=2) == [0, 1]
    assert labels(["Straße", "  clear   road "], none="clear road", roadwork="STRASSE") == [1, 0]
    assert labels(["", "Roadwork", None], none="") == [0, 1, 0]


def test_a_side_that_is_configured_has_no_default_any_more():
    assert labels(["None", "works"], roadwork="works") == [0, 1]
    for value in ("Roadwork", 1):
        with pytest.raises(DataError):
            labels(["None", value], roadwork="works")
    with pytest.raises(DataError, match="0 x 1, 1 x 1"):
        labels([0, 1], none=1)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("no", ("no",)), (3, ("3",)), (1.0, ("1.0",)), (["a", 2], ("a", "2")), (None, ()), ("", ("",)),
        (True, ("true", "yes", "on")), ([False], ("false", "no", "off")),
    ],
)  # fmt: skip
def test_a_list_of_words_is_taken_as_it_is_written(written, words):
    assert parse_words(written) == words


@pytest.mark.parametrize("written", [[None], {"a": 1}, [["a"]], math.nan])
def test_what_is_no_word_is_refused(written):
    with pytest.raises(ConfigError, match="Put quotes"):
        parse_words(written)


def test_an_unquoted_yes_means_each_word_that_yaml_reads_so():
    assert labels(["no", "YES"], none=False, roadwork=True) == [0, 1]
    assert labels(["off", "on"], none=[False], roadwork=[True]) == [0, 1]
    assert labels([False, True], none=False, roadwork=True) == [0, 1]


@pytest.mark.parametrize(
    ("none", "roadwork"), [("a", " A "), (1, "1.0"), (True, "yes"), (["x", "y"], ["Y", "z"])]
)
def test_a_word_in_both_lists_is_an_error(none, roadwork):
    for config in (CsvConfig, FolderConfig, ParquetConfig):
        with pytest.raises(pydantic.ValidationError, match=r"in both lists.*put quotes"):
            config(path="x", none=none, roadwork=roadwork)


def test_settings_of_older_versions_mean_what_they_meant():
    """They recorded the two default names of folders as texts; 0 and 1 were taken beside them."""
    old = FolderConfig.model_validate({"path": "x", "roadwork": "Roadwork", "none": "None"})
    assert label_meanings(old.none, old.roadwork) == {"none": 0, "0": 0, "roadwork": 1, "1": 1}


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4), st.one_of(st.text(), st.integers()))
def test_no_value_ever_gets_the_label_of_the_other_list(none, roadwork, value):
    try:
        meanings = label_meanings(none, roadwork)
    except ConfigError:
        return
    label = LabelReader(none, roadwork).read(value)
    reversed_label = LabelReader(roadwork, none).read(value) if none and roadwork else None
    assert label in (0, 1, None)
    assert set(meanings.values()) <= {0, 1}
    if none not in ([], ["None"]) and roadwork not in ([], ["Roadwork"]) and reversed_label is not None:
        assert label == 1 - reversed_label


# --- class names that the data brings


def pushed(path, names, values, *, features=None, rows=None):
    """A Parquet file as `push_to_hub` of datasets writes it, its labels numbers behind `names`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = rows or [{"image": {"bytes": jpeg(n), "path": None}, "label": v} for n, v in enumerate(values)]
    features = features or {"label": {"names": list(names), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}, **features}}})}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), path)
    return path


def parquet(path, **options):
    return open_source(SourceConfig(parquet=ParquetConfig(path=str(path), **options)))


def listed(source):
    return [entry.label for entry in source.entries()]


@pytest.mark.parametrize("names", [*permutations(["None", "Roadwork"]), *permutations(["roadwork", "NONE "])])
def test_class_names_decide_in_any_order(tmp_path, names):
    source = parquet(pushed(tmp_path / "a.parquet", names, [0, 1, -1, None]))
    expected = [names.index(name) for name in names]
    assert [int("road" in name.lower()) for name in names] == listed(source)[:2]
    assert expected == [0, 1]
    assert listed(source)[2:] == [None, None]
    assert "taken as" not in source.describe()


@pytest.mark.parametrize("names", [*permutations(["construction", "normal"])])
def test_other_class_names_are_an_error_that_lists_them(tmp_path, names):
    path = pushed(tmp_path / "a.parquet", names, [0, 1, 1])
    with pytest.raises(DataError, match=rf"{names[0]} x 1") as caught:
        listed(parquet(path))
    assert f"{names[1]} x 2" in str(caught.value)
    assert 'none: ["normal"] and roadwork: ["construction"]' in str(caught.value)
    source = parquet(path, none="normal", roadwork="construction")
    assert listed(source) == [int(names[number] == "construction") for number in (0, 1, 1)]


def test_a_configured_number_is_the_class_of_that_number_unless_a_class_is_named_so(tmp_path):
    path = pushed(tmp_path / "a.parquet", ["construction", "normal"], [0, 1])
    assert listed(parquet(path, none=1, roadwork=0)) == [1, 0]
    with pytest.raises(ConfigError, match="in both lists"):
        parquet(path, none=1, roadwork="normal")
    path = pushed(tmp_path / "b.parquet", ["1", "0"], [0, 1])
    assert listed(parquet(path)) == [1, 0]
    assert listed(parquet(path, none=1, roadwork=0)) == [0, 1]


def test_a_number_behind_no_name_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"7 \(without a name\) x 1"):
        listed(parquet(pushed(tmp_path / "a.parquet", ["None", "Roadwork"], [0, 1, 7])))


def test_names_of_a_nested_label_and_of_a_column_with_gaps_count(tmp_path):
    rows = [{"image": {"bytes": b"x"}, "meta": {"label": value}} for value in (0, 1)]
    feature = {"names": ["Roadwork", "None"], "_type": "ClassLabel"}
    path = pushed(tmp_path / "a.parquet", (), (), rows=rows, features={"meta": {"label": feature}})
    assert listed(parquet(path, label_column="meta.label")) == [1, 0]
    path = pushed(tmp_path / "b.parquet", ["Roadwork", "None"], [0.0, 1.0, None])
    assert listed(parquet(path)) == [1, 0, None]


def test_numbers_that_became_text_are_still_the_numbers_of_their_classes(tmp_path):
    """`astype(str)` keeps the metadata: "0" was taken as a bare 0, whatever its name."""
    path = pushed(tmp_path / "a.parquet", ["Roadwork", "None"], ["0", "1", "1.0", "Roadwork", "-1"])
    assert listed(parquet(path)) == [1, 0, 0, 1, None]
    assert listed(parquet(pushed(tmp_path / "b.parquet", ["1", "0"], ["0", "1"]))) == [0, 1]
    with pytest.raises(DataError, match=r"7 \(without a name\) x 1"):
        listed(parquet(pushed(tmp_path / "c.parquet", ["None", "Roadwork"], ["0", "1", "7"])))


@pytest.mark.parametrize("other", [["Roadwork", "None"], []])
def test_files_whose_class_names_disagree_are_an_error(tmp_path, other):
    pushed(tmp_path / "a.parquet", ["None", "Roadwork"], [0, 1])
    pushed(tmp_path / "b.parquet", other, [0, 1])
    with pytest.raises(DataError, match=r"None, Roadwork in a\.parquet but .* in b\.parquet"):
        parquet(tmp_path)


@pytest.mark.parametrize("metadata", [b"not json", b"\xff", b'{"info": {"features": {"label": "NAMES"}}}'])
def test_metadata_that_says_no_names_is_never_taken_for_names(tmp_path, metadata):
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = metadata.replace(b'"NAMES"', b'{"_type": "ClassLabel", "names": ["None", 1]}')
    table = pa.Table.from_pylist([{"image": {"bytes": b"x"}, "label": 1}])
    pq.write_table(table.replace_schema_metadata({"huggingface": content}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="metadata `huggingface`"):
        parquet(tmp_path)


@pytest.mark.parametrize(
    "names", [*permutations(["None", "Roadwork"]), *permutations(["construction", "normal"])]
)
def test_an_inverted_class_label_never_reaches_the_index(tmp_path, names):
    """From the file to the published index: the odd images hold the works, whatever their number is."""
    works = next(number for number, name in enumerate(names) if name in ("Roadwork", "construction"))
    values = [works if number % 2 else 1 - works for number in range(8)]
    pushed(tmp_path / "data" / "a.parquet", names, values)
    words = {} if "None" in names else {"none": ["normal"], "roadwork": ["construction"]}
    config = ImagesConfig(parquet=ParquetConfig(path=str(tmp_path / "data"), **words))
    indexed = index_images(config, directory=tmp_path)
    index = ImageIndex.from_artifact(publish(indexed.index.to_artifact(), tmp_path / "store"))
    assert [image.label for image in index.pictures] == [number % 2 for number in range(8)]


# --- the same in other sources


def table(path, rows, **options):
    return open_source(SourceConfig(csv=CsvConfig(path=str(write_csv(path, rows)), **options)))


def test_bare_numbers_are_told_and_configured_ones_are_not(tmp_path):
    rows = [{"file": f"{number}.jpg", "label": number % 2} for number in range(4)]
    for options, mentioned in (({}, True), ({"none": 0, "roadwork": 1}, False)):
        source = table(tmp_path / "a.csv", rows, **options)
        assert listed(source) == [0, 1, 0, 1]
        assert ("0 and 1 taken as none and roadwork" in source.describe()) == mentioned


def test_empty_labels_are_put_aside_only_where_both_classes_are_known(tmp_path):
    rows = [{"file": f"{number}.jpg", "label": ("None", "Roadwork", "")[number % 3]} for number in range(9)]
    for row in rows:
        write(tmp_path / row["file"], jpeg(int(row["file"][0])))
    index = index_source(table(tmp_path / "a.csv", rows), max_quarantined_share=0.5)
    assert [image.reason for image in index.quarantine] == [Reason.UNLABELLED] * 3
    half = [row for row in rows if row["label"] != "None"]
    with pytest.raises(DataError, match=r"Roadwork x 3, empty x 3.*pandas"):
        index_source(table(tmp_path / "b.csv", half), max_quarantined_share=1)


def test_a_folder_of_another_name_is_an_error_that_counts_its_images(tmp_path):
    for name in ("None/a.jpg", "Roadwork/b.jpg", "Closed/c.jpg", "Closed/d.jpg"):
        write(tmp_path / name, b"x")
    source = open_source(SourceConfig(folder=FolderConfig(path=str(tmp_path))))
    with pytest.raises(DataError, match="Closed x 2, None x 1, Roadwork x 1"):
        listed(source)
    words = {"roadwork": ["Roadwork", "closed"]}
    assert listed(open_source(SourceConfig(folder=FolderConfig(path=str(tmp_path), **words)))) == [1, 1, 0, 1]


def test_the_filter_keeps_rows_before_their_labels_are_read(tmp_path):
    rows = [
        {"file": "a.jpg", "label": "None", "city": "Bonn", "used": "yes"},
        {"file": "b.jpg", "label": "closed", "city": "Ulm", "used": "no"},
        {"file": "c.jpg", "label": "Roadwork", "city": " ULM", "used": "Yes"},
    ]
    path = tmp_path / "a.csv"
    assert listed(table(path, rows, keep={"city": ["bonn", "ulm"], "used": True})) == [0, 1]
    with pytest.raises(DataError, match=r"none of 3 \(city: Bonn x 1, ULM x 2|city: Bonn x 1, Ulm x 2"):
        listed(table(path, rows, keep={"city": "Köln"}))
    with pytest.raises(DataError, match="no town among file, label, city, used"):
        table(path, rows, keep={"town": "Ulm"})
    path = write_parquet(
        tmp_path / "a.parquet", [hub_row(b"x", n % 2, "v", n=n, s=f"s{n}") for n in range(6)]
    )
    assert listed(parquet(path, keep={"n": [1, 2]})) == [1, 0]
    assert [entry.name for entry in parquet(path, keep={"s": "S4"}).entries()] == ["a.parquet#000004"]
    assert listed(parquet(path, keep={"video_info.fps": 30, "n": 3})) == [1]


# --- what people handed in


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("01-classlabel-names/c02_classlabel_other_names", "parquet", "construction x 12, normal x 12"),
        ("01-classlabel-names/c02b_imagefolder_pushed", "parquet", "construction x 12, normal x 12"),
        ("10-labels-in-other-words/b06_yes_no", "csv", "no x 10, yes x 10"),
        ("10-labels-in-other-words/b07_true_false", "csv", "FALSE x 10, TRUE x 10"),
        ("10-labels-in-other-words/b08_pandas_ate_none", "csv", "Roadwork x 10, empty x 10"),
        ("10-labels-in-other-words/b16_three_classes", "csv", "Closed x 6, None x 7, Roadwork x 7"),
        ("10-labels-in-other-words/b26_one_two", "csv", "1 x 10, 2 x 10"),
        ("10-labels-in-other-words/b28_labels_construction", "csv", "construction x 10, no roadwork x 10"),
        ("10-labels-in-other-words/c13_text_labels_yes", "parquet", "no roadwork x 12, roadwork x 12"),
        ("10-labels-in-other-words/c14_labels_null_none", "parquet", "Roadwork x 12, empty x 12"),
    ],
)
def test_labels_in_other_words_are_told_with_their_counts(name, kind, words):
    folder = shared_input(name)
    path = folder / ("data" if kind == "parquet" else "labels.csv")
    with pytest.raises(DataError, match=words):
        index_source(open_source(SourceConfig(**{kind: {"path": str(path)}})))


def test_a_pushed_set_in_reversed_order_is_read_by_name():
    folder = shared_input("01-classlabel-names/c01_classlabel_reversed")
    assert listed(parquet(folder / "data")) == [number % 2 for number in range(24)]
