"""Sizes, counts and the order of steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streetvision_core.history.text import count_text, depths, in_order, size_text, trim

graphs = st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 12), max_size=4), max_size=12)


@given(graphs)
def test_each_step_comes_after_its_inputs_and_none_is_lost(graph):
    below = {key: [name for name in inputs if name < key] for key, inputs in graph.items()}
    order = in_order(below)
    assert sorted(order) == sorted(below)
    for key, inputs in below.items():
        assert all(order.index(name) < order.index(key) for name in inputs if name in below)


@given(graphs)
def test_a_step_is_deeper_than_its_inputs(graph):
    below = {key: [name for name in inputs if name < key] for key, inputs in graph.items()}
    depth = depths(below)
    for key, inputs in below.items():
        assert depth[key] == 1 + max((depth[name] for name in inputs if name in below), default=0)


@given(graphs)
def test_a_circle_in_a_forged_chain_ends(graph):
    assert sorted(in_order(graph)) == sorted(graph)
    assert sorted(depths(graph)) == sorted(graph)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (12e9, "12.0 GB"), (5e15, "5000.0 TB")],
)
def test_sizes_are_read_at_a_glance(count, text):
    assert size_text(count) == text


def test_counts_and_cuts():
    assert [count_text(1, "run"), count_text(2, "run"), count_text(0, "entry")] == [
        "1 run",
        "2 runs",
        "0 entries",
    ]
    assert trim("x" * 101) == "x" * 97 + "..."
    assert trim("x" * 100) == "x" * 100
