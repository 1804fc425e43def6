"""Logits are checked when they are made, and read back exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streetvision_core.errors import DataError
from streetvision_core.eval.use.drift import DRIFT_NAME, Reference
from streetvision_core.inference.logits import drift_problems
from streetvision_core.io import Artifact
from streetvision_core.training import EpochRow, Logits
from tests.training.toy import publish

FINITE = st.floats(-(2.0**99), 2.0**99, width=32)


@settings(max_examples=20)  # each one is written through to the disk
@given(
    numbers=st.integers(0, 6).flatmap(
        lambda n: st.tuples(
            arrays(np.float32, (n, 2), elements=FINITE),
            arrays(np.int64, n, elements=st.integers(0, 1)),
            st.none() | arrays(np.float32, (n, 3), elements=FINITE),
        )
    )
)
def test_published_logits_read_back_as_they_were(numbers, tmp_path_factory):
    logits, labels, projections = numbers
    names = tuple(f"é{i}.jpg" for i in range(len(labels)))
    groups = tuple(f"sequence {i // 2}" for i in range(len(labels)))
    record = Logits(names, logits, labels, groups, projections)
    published = publish(record.to_artifact(), tmp_path_factory.mktemp("store"))
    again = Logits.from_artifact(published)
    assert again == record
    if names:
        reference = Reference.model_validate_json(published.read_bytes(DRIFT_NAME))
        assert (reference.units, reference.projections) == (len(set(groups)), 3 * (projections is not None))
    assert again.to_artifact().digest == record.to_artifact().digest
    assert drift_problems(published) == []


def test_a_reference_for_drift_that_does_not_follow_from_the_logits_is_told(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    record = Logits(("a", "b", "c"), values, np.array([0, 1, 0]), ("a", "b", "b"), values)
    files = record.to_artifact().files
    for name, content in {
        "other": files[DRIFT_NAME].replace(b"true", b"false"),
        "older": None,
    }.items():
        changed = {**files, DRIFT_NAME: content}
        published = publish(
            Artifact({key: data for key, data in changed.items() if data is not None}), tmp_path / name
        )
        problems = [] if content is None else ["drift.json does not follow from the logits beside it"]
        assert drift_problems(published) == problems


@pytest.mark.parametrize(
    "change",
    [
        {"ids": ("a",)},
        {"ids": ("a", "a")},
        {"groups": ("g",)},
        {"logits": np.zeros((2, 3), np.float32)},
        {"logits": np.zeros((2, 2))},
        {"logits": np.array([[0, np.nan], [0, 0]], np.float32)},
        {"labels": np.array([0, 2])},
        {"labels": np.array([0.0, 1.0])},
        {"projections": np.zeros((3, 2), np.float32)},
        {"projections": np.zeros((2, 2))},
        {"projections": np.full((2, 2), np.inf, np.float32)},
    ],
)
def test_what_are_no_logits_of_a_role_is_refused(change):
    good = {
        "ids": ("a", "b"),
        "logits": np.zeros((2, 2), np.float32),
        "labels": np.array([0, 1]),
        "groups": ("g", "g"),
    }
    Logits(**good)
    with pytest.raises(DataError, match="finite float32 logits"):
        Logits(**{**good, **change})


@given(st.tuples(st.integers(1, 99), *[st.floats(allow_nan=False, allow_infinity=False)] * 4))
def test_an_epochs_row_reads_back_exactly(numbers):
    row = EpochRow(*numbers)
    assert EpochRow.from_csv_row({name: repr(cell) for name, cell in row.to_csv_row().items()}) == row
