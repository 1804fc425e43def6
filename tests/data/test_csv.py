"""A CSV is read as people and tools write it, and a cell means the very file that it names."""

from __future__ import annotations

import csv
import shutil
import unicodedata
from collections import Counter
from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streetvision_core.data import (
    CsvConfig,
    FolderConfig,
    Reason,
    SourceConfig,
    UnusableImageError,
    index_source,
    open_source,
)
from streetvision_core.data.images import ImagesConfig, _reads_alike
from streetvision_core.data.sources.table import read_table
from streetvision_core.errors import ConfigError, DataError
from streetvision_core.io.private import local_paths, part_config

from .inputs import shared_input
from .making import write


def source(path, **options):
    return open_source(SourceConfig(csv=CsvConfig(path=str(path), **options)))


def listed(tmp_path, text, *, encoding="utf-8", **options):
    """Return the names and labels that a table lists, in the order of names."""
    path = write(tmp_path / "labels.csv", text.encode(encoding) if isinstance(text, str) else text)
    return [(entry.name, entry.label) for entry in source(path, **options).entries()]


def refusal(opened, name: str) -> UnusableImageError:
    with pytest.raises(UnusableImageError) as caught:
        opened.read(name)
    return caught.value


def only(opened) -> str:
    [entry] = opened.entries()
    return entry.name


def cells(*rows, separator=",") -> str:
    text = StringIO()
    csv.writer(text, delimiter=separator).writerows([("file", "label"), *rows])
    return text.getvalue()


# --- the table


BOTH = [("a.jpg", 1), ("b.jpg", 0)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_separator_line_end_and_encoding_are_found(tmp_path, separator, end, encoding):
    text = end.join(["File , LABEL", "a.jpg,1", "b.jpg,0", ""]).replace(",", separator)
    assert listed(tmp_path, text, encoding=encoding) == BOTH


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n', "SEP=;\n", "\ufeffsep=;\n", "\n\n", ";;;\n\n"])
def test_what_a_spreadsheet_puts_before_the_header_is_no_header(tmp_path, first):
    assert listed(tmp_path, f"{first}file;label\na.jpg;1\nb.jpg;0\n") == BOTH


@pytest.mark.parametrize("written", [";", "\t", "^", ":"])
def test_any_separator_can_be_named_in_the_first_line(tmp_path, written):
    text = f"sep={written}\nfile{written}label,x\na.jpg{written}1\n"
    assert listed(tmp_path, text, label_column="label,x") == [("a.jpg", 1)]


def test_the_separator_of_the_header_decides_not_what_stands_in_the_cells(tmp_path):
    text = "x, y, z;file;label\na,b,c;a.jpg;1\n,,,;b.jpg;0\n"
    assert listed(tmp_path, text) == BOTH


def test_rows_without_a_filled_cell_and_cells_beyond_the_header_are_no_data(tmp_path):
    assert listed(tmp_path, "file,label,,\na.jpg,1,,,,\n,,,\n \t, ,\n\nb.jpg,0\n,,\n") == BOTH


def test_quotes_after_a_blank_are_quotes(tmp_path):
    opened = source(
        write(
            tmp_path / "t.csv",
            b'label, file, note\n1, "a, b.jpg", x\n0, c.jpg, "y"\n1, d.jpg, "z" and z\n1, e.jpg, "z"\n',
        )
    )
    for name in ("a, b.jpg", "c.jpg", "d.jpg", "e.jpg", " e.jpg"):
        write(tmp_path / name, b"x")
    notes = {entry.name: entry.attributes["note"] for entry in opened.entries()}
    assert notes == {"a, b.jpg": "x", "c.jpg": "y", "d.jpg": '"z" and z', " e.jpg": "z"}


def test_columns_are_found_without_blanks_and_case_and_attributes_keep_theirs(tmp_path):
    text = b" IMAGE ,Roadwork,\xc2\xa0Clip ID, Weather\na.jpg,1,v1,rain\n"
    options = {"file_column": "image", "label_column": "roadwork", "group_column": "clip id"}
    opened = source(write(tmp_path / "labels.csv", text), **options)
    [entry] = opened.entries()
    assert (entry.name, entry.label, entry.group) == ("a.jpg", 1, "v1")
    assert entry.attributes == {"Weather": "rain"}
    assert "grouped by 'Clip ID'" in opened.describe()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\xff\xfe\x00", r"byte 0x89 in line 1, which is not UTF-8"),
        (b"file,label\na.jpg,1\nStra\xdfe.jpg,0\n", r"0xdf in line 3.*'\S' in Windows-1252.*iconv"),
        (b"file,label\n" + b"a.jpg,1\n" * 5000 + b"\xfc.jpg,0\n", r"0xfc in line 5002.*'\S' in Windows-1252"),
        (b"PK\x03\x04 and so on", "a workbook of a spreadsheet.*Save the sheet as CSV"),
        ("file,label\na.jpg,1\n".encode("utf-16-le"), "NUL characters in its header"),
        (b"", "no file, label among no columns at all"),
        (b"name;label\na.jpg;1\n", r"no file among name, label \(separated by semicolon\)"),
        (
            b"file:label\na.jpg:1\n",
            r"among file:label \(separated by comma\).*first line: sep=X",
        ),
        (b"file,Label, label\na.jpg,1,0\n", "'label' twice, first as 'Label'"),
        (b"file,label\n\n\na,b.jpg,1\n", "more cells than columns in line 4.*contain a comma"),
        (b'file,label\n"x\ny",1\n\n"a.jpg,1\n', "the row that begins in line 5.*not closed"),
        (b"file,label\n" + b"a" * 200_000 + b",1\n", "at most 131072 characters.*begins in line 2"),
        (b"file,label\n" + b"a,1," * 300_000, "at most 1048576 characters in line 2"),
    ],
)
def test_what_is_no_table_of_images_is_one_paragraph_that_says_where(tmp_path, content, message):
    with pytest.raises(DataError, match=rf"(?s)Expected .*{message}"):
        source(write(tmp_path / "labels.csv", content))


@pytest.mark.parametrize("blank", ["", "\n\n", " , \n", '"x\ny",1\n'])
def test_lines_are_counted_as_an_editor_counts_them(tmp_path, blank):
    """A row that names no file has a name that no file can have."""
    text = f"sep=,\nfile,label\n{blank},1\n"
    write(tmp_path / "line 3", b"a file of that name")
    line = text.count("\n")
    names = [name for name, _ in listed(tmp_path, text)]
    assert f"line {line}/" in names
    error = refusal(source(tmp_path / "labels.csv"), f"line {line}/")
    assert (error.reason, error.detail) == (Reason.MISSING, "the row names no file")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.lists(TEXTS, min_size=3, max_size=3), max_size=5),
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_cells_that_python_writes_come_back(tmp_path_factory, rows, separator, encoding):
    """Round trip; rows of blanks are none."""
    path = tmp_path_factory.mktemp("t") / "labels.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=separator).writerows([["file", "label", "x"], *rows])
    table = read_table(path, wanted=["file", "label"], where="here")
    assert table.rows == [row for row in rows if any(map(str.strip, row))]


# --- names


def is_legal(name: str) -> bool:
    """True if a file system takes the name in UTF-8."""
    return name not in (".", "..") and len(name.encode()) <= 255


NAMES = st.text(
    st.one_of(
        st.sampled_from("ab  \u00a0\u202f\t\n\r\\\"',;|\u00fc\u0308u.~'#"),
        st.characters(exclude_categories=["Cs"], exclude_characters="/\0"),
    ),
    min_size=1,
    max_size=12,
).filter(is_legal)


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(NAMES, min_size=1, max_size=4, unique=True),
    folder=st.one_of(st.none(), NAMES),
    separator=st.sampled_from(",;\t|"),
)
def test_any_legal_name_is_that_very_file_in_every_separator(tmp_path_factory, names, folder, separator):
    top = tmp_path_factory.mktemp("names")
    paths = [f"{folder}/{name}" if folder else name for name in names]
    for name in paths:
        write(top / "images" / name, name.encode())
    write(top / "labels.csv", cells(*((name, 1) for name in paths), separator=separator).encode())
    opened = source(top / "labels.csv", root=str(top / "images"))
    entries = [entry.name for entry in opened.entries()]
    assert sorted(entries) == sorted(paths)
    assert [opened.read(name).decode() for name in entries] == entries
    shutil.rmtree(top)


NFC, NFD = "Stra\u00dfe \u00fc.jpg", "Stra\u00dfe u\u0308.jpg"


@pytest.mark.parametrize(
    ("on_disk", "cell"),
    [
        (NFC, NFD),
        (NFD, NFC),
        (f"{NFD}/{NFC}", f"{NFC}/{NFD}"),
        ("a b.jpg", "  a b.jpg\u00a0"),
        ("sub/a.jpg", "sub\\a.jpg"),
        ("sub/a.jpg", ".\\sub\\a.jpg "),
        (f"sub/{NFD}", f" sub\\{NFC}"),
        ("a.jpg", "./sub/..//a.jpg"),
        ("sub/a.jpg", "{root}/sub/a.jpg"),
        ("sub/a.jpg", "{root}/sub/../sub/a.jpg"),
    ],
)
def test_a_name_that_is_not_there_as_it_stands_is_found_in_the_forms_that_tools_write(
    tmp_path, on_disk, cell
):
    write(tmp_path / on_disk, b"this")
    (tmp_path / "sub").mkdir(exist_ok=True)
    opened = source(write(tmp_path / "labels.csv", cells((cell.format(root=tmp_path), 1)).encode()))
    assert only(opened) == on_disk
    assert opened.read(on_disk) == b"this"
    assert " (" not in opened.describe()


@pytest.mark.parametrize(
    ("there", "cell"),
    [
        (["a b.jpg"], "a  b.jpg"),
        (["a b.jpg"], "a\u202fb.jpg"),
        (["A.jpg"], "a.jpg"),
        (["a.jpg"], "a"),
        (["a.jpg"], "sub/a.jpg"),
        (["sub/a.jpg"], "a.jpg"),
        (["\ufb01.jpg"], "fi.jpg"),  # a ligature is another letter
        ([" a.jpg"], "a.jpg"),
        (["1/a.jpg"], "1//../a.jpg"),
        # Two files that would do, and neither is the one that is named.
        (["\u1e69.jpg", "s\u0323\u0307.jpg"], "s\u0307\u0323.jpg"),
    ],
)
def test_no_other_file_is_read_in_place_of_the_one_that_is_named(tmp_path, there, cell):
    for name in there:
        write(tmp_path / name, b"another")
    opened = source(write(tmp_path / "labels.csv", cells((cell, 1)).encode()))
    assert refusal(opened, only(opened)).reason is Reason.MISSING


@pytest.mark.parametrize(
    "names", [["a.jpg", " a.jpg", "a.jpg "], [NFC, NFD], ["sub/a.jpg", "sub\\a.jpg"], ["a b.jpg", "a  b.jpg"]]
)
def test_names_that_look_alike_are_files_of_their_own_where_both_are_there(tmp_path, names):
    for name in names:
        write(tmp_path / name, name.encode())
    opened = source(write(tmp_path / "labels.csv", cells(*((name, 1) for name in names)).encode()))
    entries = [entry.name for entry in opened.entries()]
    assert sorted(entries) == sorted(names)
    assert [opened.read(name).decode() for name in entries] == entries


@pytest.mark.parametrize(
    "again", ["./a.jpg", " a.jpg", "{root}/a.jpg", "sub\\..\\a.jpg", "link.jpg", "up/a.jpg"]
)
def test_two_cells_that_end_at_one_file_are_one_image(tmp_path, again):
    write(tmp_path / "a.jpg", b"a")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    (tmp_path / "up").symlink_to(".")
    text = cells(("a.jpg", 1), (again.format(root=tmp_path), 0))
    assert listed(tmp_path, text) == [("a.jpg", 1), ("a.jpg", 0)]


def test_hard_links_are_files_of_their_own(tmp_path):
    (tmp_path / "b.jpg").hardlink_to(write(tmp_path / "a.jpg", b"a"))
    assert listed(tmp_path, cells(("a.jpg", 1), ("b.jpg", 1))) == [("a.jpg", 1), ("b.jpg", 1)]


def test_a_name_with_a_nul_is_missing_and_says_so(tmp_path):
    write(tmp_path / "a?b", b"another")
    opened = source(write(tmp_path / "labels.csv", cells(("a\0b", 1)).encode()))
    assert "NUL" in refusal(opened, only(opened)).detail


# --- roots


def test_paths_start_at_the_root_wherever_the_table_lies(tmp_path):
    write(tmp_path / "images" / "a.jpg", b"a")
    for cell in ("a.jpg", "../images/a.jpg", str(tmp_path / "images" / "a.jpg")):
        table = write(tmp_path / "annotations" / "labels.csv", cells((cell, 1)).encode())
        opened = source(table, root=str(tmp_path / "images"))
        assert (only(opened), opened.read("a.jpg")) == ("a.jpg", b"a")
    assert str(tmp_path / "images") in opened.describe()


def test_a_path_with_dots_that_leads_out_of_the_root_is_taken_from_the_folder_of_the_table(tmp_path):
    write(tmp_path / "data" / "images" / "a.jpg", b"a")
    write(tmp_path / "secret.jpg", b"s")
    rows = cells(("../images/a.jpg", 1), ("../../secret.jpg", 1))
    table = write(tmp_path / "data" / "annotations" / "labels.csv", rows.encode())
    opened = source(table, root=str(tmp_path / "data"))
    names = [entry.name for entry in opened.entries()]
    assert names == ["../../secret.jpg", "images/a.jpg"]
    assert refusal(opened, names[0]).reason is Reason.OUTSIDE
    assert opened.read(names[1]) == b"a"


def test_an_absolute_path_through_a_link_to_the_root_lies_below_it(tmp_path):
    write(tmp_path / "disk" / "a.jpg", b"a")
    (tmp_path / "data").symlink_to("disk")
    table = write(tmp_path / "disk" / "labels.csv", cells((tmp_path / "data" / "a.jpg", 1)).encode())
    assert only(source(table)) == "a.jpg"


@pytest.mark.parametrize("cell", ["{far}/a.jpg", "../far/a.jpg", "link/a.jpg", "link.jpg"])
def test_further_roots_open_what_is_named_and_nothing_else(tmp_path, cell):
    """A name tells nothing of this machine and leads back to its file."""
    for place in ("far", "else"):
        write(tmp_path / place / "a.jpg", place.encode())
    data = tmp_path / "data"
    data.mkdir()
    (data / "link").symlink_to(tmp_path / "far")
    (data / "link.jpg").symlink_to("../far/a.jpg")
    table = write(data / "labels.csv", cells((cell.format(far=tmp_path / "far"), 1)).encode())
    closed = source(table)
    error = refusal(closed, only(closed))
    assert error.reason is Reason.OUTSIDE
    assert "further_roots" in error.detail
    opened = source(table, further_roots=[str(tmp_path / "far")])
    name = only(opened)
    assert opened.read(name) == b"far"
    assert name in ("1//a.jpg", "link/a.jpg", "link.jpg")
    for other in ("1//../else/a.jpg", f"1//{tmp_path}/else/a.jpg", "2//a.jpg", "0//../else/a.jpg"):
        assert refusal(opened, other).reason in (Reason.OUTSIDE, Reason.MISSING)


@pytest.mark.parametrize("option", ["root", "further_roots"])
def test_a_root_that_is_not_there_is_one_paragraph_that_names_the_setting(tmp_path, option):
    path = str(tmp_path / "nowhere")
    table = write(tmp_path / "labels.csv", cells(("a.jpg", 1)).encode())
    with pytest.raises(ConfigError, match=f"nothing at this path.*Correct the {option}"):
        source(table, **{option: path if option == "root" else [path]})


@pytest.mark.parametrize(
    ("on_disk", "cell", "advice"),
    [
        ("data/images/p.jpg", "p.jpg", "the folder images holds one: set root to it"),
        ("data/x/images/p.jpg", "images/p.jpg", "the folder x holds one: set root to it"),
        ("images/p.jpg", "p.jpg", r"the folder \.\./images holds one: set root to it"),
        ("images/p.jpg", "images/p.jpg", r"the folder \.\. holds one: set root to it"),
        ("data/images/p.jpg", "p", r"the folder images .*, and write file names with their ending, p\.jpg"),
        ("data/p.jpg", "p", r"; write file names with their ending, p\.jpg$"),
        ("elsewhere", "C:\\images\\p.jpg", r"nor with / .* absolute path of Windows"),
        ("elsewhere", " p.jpg ", "nor without the blanks around it$"),
    ],
)
def test_a_missing_file_says_what_was_tried_and_which_setting_would_find_it(tmp_path, on_disk, cell, advice):
    write(tmp_path / on_disk, b"x")
    opened = source(write(tmp_path / "data" / "labels.csv", cells((cell, 1)).encode()))
    error = refusal(opened, only(opened))
    assert error.reason is Reason.MISSING
    with pytest.raises(AssertionError, match=advice):
        raise AssertionError(error.detail)
    assert f"searched in {tmp_path / 'data'}" in str(error)
    assert error.detail in opened.describe()  # which every error of the whole source names
    assert str(tmp_path) not in error.detail  # it goes into the index, which is the same on every machine


def test_an_absolute_path_of_another_machine_says_what_of_it_is_here(tmp_path):
    write(tmp_path / "images" / "a.jpg", b"x")
    for cell in ("/home/somebody/set/images/a.jpg", "C:\\set\\images\\a.jpg"):
        opened = source(write(tmp_path / "labels.csv", cells((cell, 1)).encode()))
        assert "images/a.jpg is there: write paths from there on" in refusal(opened, only(opened)).detail


def test_where_files_lie_is_private_and_no_part_of_what_a_source_is(tmp_path):
    plain = {"csv": {"path": str(tmp_path / "labels.csv")}}
    placed = {"csv": {"path": "x.csv", "root": "images", "further_roots": ["far", "off"]}}
    config = ImagesConfig.model_validate(placed)
    public, _ = part_config(config.model_dump(mode="json"), declared=local_paths(config))
    assert public["csv"]["root"] == "<private>"
    assert public["csv"]["further_roots"] == ["<private>", "<private>"]

    class Published:
        @staticmethod
        def config():
            return plain | {"folder": None}

    assert _reads_alike(config, Published) is False
    Published.config = lambda: ImagesConfig.model_validate(plain).model_dump(mode="json")
    assert _reads_alike(config, Published) is True


# --- a folder per class


def test_a_folder_lists_names_as_they_stand_and_class_folders_in_either_spelling(tmp_path):
    names = ["a  b.jpg", " c.jpg", "d\u202f.jpg", NFC, "e\\f.jpg", 'g"h.jpg']
    for name in names:
        write(tmp_path / "Stra\u00dfe u\u0308" / name, name.encode())
        write(tmp_path / "1" / name, name.encode())
    none = unicodedata.normalize("NFC", "Stra\u00dfe u\u0308")
    opened = open_source(SourceConfig(folder=FolderConfig(path=str(tmp_path), none=none)))
    entries = list(opened.entries())
    assert Counter(entry.label for entry in entries) == {0: len(names), 1: len(names)}
    assert all(opened.read(entry.name).decode() == entry.name.split("/")[1] for entry in entries)


def test_links_of_a_folder_lead_into_further_roots_only(tmp_path):
    far = tmp_path / "far"
    write(far / "video" / "a.jpg", b"a")
    (far / "video" / "ring").symlink_to(far)
    write(tmp_path / "else" / "secret.jpg", b"s")
    write(tmp_path / "data" / "None" / "b.jpg", b"b")
    (tmp_path / "data" / "None" / "c.jpg").symlink_to(far / "video" / "a.jpg")
    (tmp_path / "data" / "None" / "out").symlink_to(tmp_path / "else")
    (tmp_path / "data" / "Roadwork").symlink_to(far)
    config = FolderConfig(path=str(tmp_path / "data"))
    with pytest.raises(DataError, match=r"'Roadwork', which is a symbolic link.*further_roots"):
        open_source(SourceConfig(folder=config))
    opened = open_source(SourceConfig(folder=config.model_copy(update={"further_roots": [str(far)]})))
    names = {entry.name: entry.label for entry in opened.entries()}
    assert names == {
        "None/b.jpg": 0, "None/c.jpg": 0, "None/out": 0,
        "Roadwork/video/a.jpg": 1, "Roadwork/video/ring": 1,
    }  # fmt: skip
    assert opened.read("None/c.jpg") == opened.read("Roadwork/video/a.jpg") == b"a"
    assert refusal(opened, "None/out").reason is Reason.OUTSIDE
    assert refusal(opened, "None/out/secret.jpg").reason is Reason.OUTSIDE


# --- what people brought


SHARED = {
    "03-blanks-in-file-names/b12_spaces_in_names": 20,
    "03-blanks-in-file-names/b12b_two_names_one": 20,
    "03-blanks-in-file-names/b12c_label_of_another": 20,
    "11-paths-as-tools-write-them/b09_backslash": 20,
    "11-paths-as-tools-write-them/b10_absolute_inside": 20,
    "11-paths-as-tools-write-them/b11_csv_in_sister_folder": 20,
    "11-paths-as-tools-write-them/b30_nfd": 20,
    "13-csv-dialects/b01_readme_header": 20,
    "13-csv-dialects/b02_semicolon": 20,
    "13-csv-dialects/b03_tab": 20,
    "13-csv-dialects/b13_excel_empty_rows": 20,
    "13-csv-dialects/b19_sep_line": 20,
    "13-csv-dialects/b27_header_case": 20,
}


@pytest.mark.parametrize("name", SHARED)
def test_what_people_brought_is_read_as_its_readme_calls_right(tmp_path, name):
    folder = shared_input(name, tmp_path / "input")
    table = next(folder.rglob("*.csv"))
    table.write_bytes(table.read_bytes().replace(b"HERE", str(folder).encode()))
    options = {"root": str(folder / "pictures")} if table.parent != folder else {}
    index = index_source(source(table, **options), max_quarantined_share=1.0)
    assert (len(index.pictures), index.quarantine) == (SHARED[name], ())


def test_a_missing_ending_and_a_sister_folder_get_advice(tmp_path):
    folder = shared_input("11-paths-as-tools-write-them", tmp_path / "input")
    no_ending = source(folder / "b23_no_extension" / "labels.csv")
    assert next(iter(no_ending.entries())).name == "p00"
    assert "pictures holds one: set root to it, and write file names" in refusal(no_ending, "p00").detail
    sister = source(folder / "b11_csv_in_sister_folder" / "annotations" / "labels.csv")
    assert "further_roots" in refusal(sister, "../pictures/p00.jpg").detail
