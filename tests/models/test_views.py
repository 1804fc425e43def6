"""The grid of views covers an image exactly, and its record says only what it may say."""

import itertools
import json
import math

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streetvision_core.errors import ConfigError
from streetvision_core.models.config import Attention, Grid, Max, Whole
from streetvision_core.models.views import Views, find_views, grid_boxes, make_views
from streetvision_core.training import TrainingConfig

SIDES = st.integers(1, 5000)
GRIDS = st.integers(1, 6)
OVERLAPS = st.floats(0, 0.9)


@given(width=SIDES, height=SIDES, grid=GRIDS, overlap=OVERLAPS)
def test_cells_of_one_size_cover_the_image_exactly_to_its_edges(width, height, grid, overlap):
    boxes = grid_boxes(width, height, grid=grid, overlap=overlap)
    assert len(boxes) == grid**2
    assert len({(right - left, bottom - top) for left, top, right, bottom in boxes}) == 1
    covered = [np.zeros(side, dtype=bool) for side in (width, height)]
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        covered[0][left:right] = True
        covered[1][top:bottom] = True
    assert all(mask.all() for mask in covered)
    # Every column of cells with every row of cells: what covers both sides covers the image.
    spans = {box[::2] for box in boxes}, {box[1::2] for box in boxes}
    assert {(left, right, top, bottom) for left, top, right, bottom in boxes} == {
        (*across, *along) for across, along in itertools.product(*spans)
    }


@given(side=SIDES, grid=st.integers(2, 6), overlap=OVERLAPS)
def test_neighbours_share_the_given_part_of_a_cell_and_never_less(side, grid, overlap):
    row = grid_boxes(side, 1, grid=grid, overlap=overlap)[:grid]
    cell = row[0][2]
    exact = side / (grid - (grid - 1) * overlap)
    assert exact - 1e-6 <= cell < max(exact, 1) + 1
    starts = [left for left, *_ in row]
    assert starts == sorted(starts)
    for before, after in itertools.pairwise(row):
        shared = before[2] - after[0]
        # Rounding one start down and the other not moves a border by less than a pixel, and so does the cell.
        assert overlap * exact - 1 - 1e-6 <= shared
        assert shared <= cell * overlap + 2 or cell <= grid


def test_a_frame_of_1280_by_720_is_divided_as_by_hand():
    boxes = grid_boxes(1280, 720, grid=3, overlap=0.15)
    assert boxes[0] == (0, 0, 475, 267)
    assert [left for left, *_ in boxes[:3]] == [0, 402, 805]
    assert boxes[-1] == (805, 453, 1280, 720)
    assert grid_boxes(270, 270, grid=3, overlap=0.15)[4] == (85, 85, 185, 185)


@st.composite
def views(draw):
    pooling = draw(st.sampled_from(["mean", "top_k", "max", "attention"]))
    grid = draw(GRIDS)
    parameters = st.lists(st.floats(-1e9, 1e9, width=32), min_size=2, max_size=9).map(tuple)
    return Views(
        grid=grid,
        overlap=draw(OVERLAPS),
        pooling=pooling,
        top_k=draw(st.integers(1, 1 + grid**2)) if pooling == "top_k" else None,
        attention=draw(parameters) if pooling == "attention" else None,
    )


@given(views=views())
def test_views_come_back_from_config_json_as_they_were(views):
    written = json.loads(json.dumps({"views": views.to_config()}))
    assert find_views(written) == views
    assert find_views({}) is None


GOOD = {"grid": 3, "overlap": 0.15, "pooling": "top_k", "top_k": 2}
ATTENTION = {"grid": 2, "overlap": 0.15, "pooling": "attention", "attention": [0.5, 1.0, 0.0]}
FORGERIES = {
    "an unknown setting": GOOD | {"code": "import os"},
    "a grid of 99": GOOD | {"grid": 99},
    "a grid of none": GOOD | {"grid": 0},
    "a grid in words": GOOD | {"grid": "3"},
    "a grid that is true": GOOD | {"grid": True},
    "a broken grid": GOOD | {"grid": 3.0},
    "an overlap of 2": GOOD | {"overlap": 2},
    "an overlap below 0": GOOD | {"overlap": -0.1},
    "an overlap that is no number": GOOD | {"overlap": math.nan},
    "a pooling nobody knows": GOOD | {"pooling": "median"},
    "more than there are": GOOD | {"top_k": 11},
    "none of them": GOOD | {"top_k": 0},
    "no number of them": {key: GOOD[key] for key in ("grid", "overlap", "pooling")},
    "a number that means nothing": GOOD | {"pooling": "max"},
    "attention that means nothing": GOOD | {"attention": [0.0, 0.0]},
    "no attention": {key: ATTENTION[key] for key in ("grid", "overlap", "pooling")},
    "attention without weights": ATTENTION | {"attention": [0.0]},
    "attention that is no number": ATTENTION | {"attention": [0.5, math.nan, 0.0]},
    "attention that is infinite": ATTENTION | {"attention": [0.5, math.inf, 0.0]},
    "attention that float32 overflows on": ATTENTION | {"attention": [1e38, 1e38, 0.0]},
    "attention in words": ATTENTION | {"attention": "attention.safetensors"},
    "something written out that need not be": GOOD | {"attention": None},
    "nothing": None,
    "a list": [3, 0.15],
    "no settings": {},
}


@pytest.mark.parametrize("settings", FORGERIES.values(), ids=FORGERIES)
def test_views_that_streetvision_does_not_write_are_refused(settings):
    with pytest.raises(ConfigError, match=r"config\.json"):
        find_views({"views": settings})


def test_the_same_views_without_a_fault_are_taken():
    assert find_views({"views": GOOD}).count == 10
    assert find_views({"views": ATTENTION}).attention == (0.5, 1.0, 0.0)


def test_the_configuration_is_the_whole_image_unless_asked():
    assert make_views(Whole()) is None
    assert make_views(TrainingConfig().views) is None
    assert make_views(Grid()) == Views(grid=3, overlap=0.15, pooling="top_k", top_k=2)
    assert make_views(Grid(pooling=Max())).top_k is None


def test_attention_that_nothing_has_learned_is_refused_with_what_to_do():
    config = Grid(pooling=Attention(), size=2)
    with pytest.raises(pydantic.ValidationError, match="method: probe"):
        TrainingConfig(views=config)
    assert make_views(config, attention=(0.5, 0.0)).attention == (0.5, 0.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "many"},
        {"size": 7},
        {"overlap": 1.0},
        {"pooling": {"kind": "median"}},
        {"size": 2, "pooling": {"kind": "top_k", "views": 2}},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(pydantic.ValidationError):
        Grid(**settings)
