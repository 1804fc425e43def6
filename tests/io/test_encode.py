import csv
import io
import itertools
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streetvision_core.io import csv_bytes, json_bytes, json_digest, read_csv

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_json_reads_back_as_it_was(value):
    assert json.loads(json_bytes(value)) == value


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_key_order_does_not_change_the_digest(value):
    assert json_digest(dict(reversed(value.items()))) == json_digest(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_json_refuses_numbers_it_cannot_carry(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_bytes(value)


def test_json_takes_numpy_scalars_and_refuses_arrays_and_objects():
    assert json_bytes({"a": np.float32(0.5), "b": np.int64(3)}) == json_bytes({"a": 0.5, "b": 3})
    for wrong in (np.zeros(2), np.zeros(1), object(), {1, 2}):
        with pytest.raises(TypeError, match="is not a JSON value"):
            json_bytes({"a": wrong})


@given(
    st.lists(
        st.tuples(st.floats(allow_nan=False), st.text(alphabet=st.characters(exclude_categories=["Cs"])))
    )
)
def test_csv_reads_back_floats_exactly_and_text_as_it_was(rows):
    data = csv_bytes(({"x": x, "s": s} for x, s in rows), columns=["x", "s"])
    assert [(float(row["x"]), row["s"]) for row in read_csv(data)] == rows


@given(st.lists(st.text(alphabet="=+-@'\t\r\n ;,\"1a\uff1d", max_size=6), min_size=1))
def test_csv_reads_back_what_looks_like_a_formula_and_holds_none(texts):
    data = csv_bytes(({"x": text, "=y": text} for text in texts), columns=["x", "=y"])
    assert read_csv(data) == [{"x": text, "=y": text} for text in texts]
    for cell in itertools.chain(*csv.reader(io.StringIO(data.decode(), newline=""))):
        for part in re.split(r"[;\t\r\n]", cell):
            assert not part.strip(" ").startswith(("=", "@", "\uff1d"))


def test_csv_without_formulas_is_written_as_before_there_was_an_escape():
    rows = [{"name": "a-1.jpg", "x": -0.5, "y": "-3"}, {"name": "'b', c", "x": -1e-05, "y": ""}]
    data = csv_bytes(rows, columns=["name", "x", "y"])
    assert data == b"name,x,y\r\na-1.jpg,-0.5,-3\r\n\"'b', c\",-1e-05,\r\n"


def test_csv_that_was_written_before_there_was_an_escape_reads_unchanged():
    before = b"name,attribute:a\r\n=1+1,'=2\r\n'@x,''-y\r\n"
    assert [list(row.values()) for row in read_csv(before)] == [["=1+1", "'=2"], ["'@x", "''-y"]]


def test_csv_with_escaped_cells_and_a_short_row_is_refused():
    with pytest.raises(csv.Error, match="does not fit"):
        read_csv(b'"a","b"\r\n"\'=1"\r\n')


def test_csv_refuses_a_cell_without_a_column():
    with pytest.raises(ValueError, match="extra"):
        csv_bytes([{"x": 1, "extra": 2}], columns=["x"])
