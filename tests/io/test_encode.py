import json

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


def test_csv_refuses_a_cell_without_a_column():
    with pytest.raises(ValueError, match="extra"):
        csv_bytes([{"x": 1, "extra": 2}], columns=["x"])
