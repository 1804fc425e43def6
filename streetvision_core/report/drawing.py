"""The drawing of all plots: one width, one style, PNG bytes.

No pyplot, no global figure, and no metadata in the file, so that the same numbers give the same bytes with
the same matplotlib. Colours are Okabe and Ito's palette, which colour-blind readers can tell apart; series
differ in line style and marker too.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from streetvision_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sized

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
INK, MUTED, LINES = "#1F2933", "#616E7C", "#E4E7EB"
_WIDTH_INCHES, _DPI = 6.4, 100
_LEGEND: dict[str, Any] = {"fontsize": 9.5, "frameon": False, "labelcolor": INK}


class Look(NamedTuple):
    """The look of a series, distinct even without colour; a later series hides no earlier one."""

    colour: str
    style: Any
    width: float
    marker: str
    size: float


LOOKS = (
    Look(BLUE, "-", 3.6, "o", 13),
    Look(ORANGE, "--", 2, "s", 9),
    Look(GREEN, "-.", 1.6, "^", 8),
    Look(PURPLE, ":", 1.6, "D", 6),
    Look(INK, (0, (5, 1, 1, 1, 1, 1)), 1, "v", 5),
)


def look(position: int) -> Look:
    """Return the look of the series at a position; after the last look they begin again."""
    return LOOKS[position % len(LOOKS)]


def new_figure(*, height: float) -> Figure:
    """Return an empty figure, 640 pixels wide and `height` in hundreds of pixels."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    return Figure(figsize=(_WIDTH_INCHES, height), dpi=_DPI, facecolor="white", layout=layout)


def dress(axes: Axes, *, title: str = "", x: str = "", y: str = "", grid: bool = True) -> None:
    """Give axes their words and the style of all others."""
    axes.set_title(title, loc="left", size=10.5, weight="bold", color=INK, pad=9)
    axes.set_xlabel(x, size=10, color=MUTED)
    axes.set_ylabel(y, size=10, color=MUTED)
    axes.tick_params(colors=MUTED, labelsize=9.5, length=0)
    axes.minorticks_off()
    axes.set_axisbelow(True)
    if grid:
        axes.grid(color=LINES, linewidth=0.8)
    for name, side in axes.spines.items():
        side.set_visible(name == "bottom")
        side.set_color(LINES)


def legend(
    axes: Axes, *, place: Literal["upper right", "upper center", "upper left", "lower left"], columns: int = 1
) -> None:
    """Name the series inside the axes, where there are any with a name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=place, ncols=columns, **_LEGEND)


def legend_below(figure: Figure, axes: Axes, *, columns: int = 1) -> None:
    """Name the series of the axes below everything, where there are any with a name."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower left", ncols=columns, handlelength=3, **_LEGEND)


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG file of 128 colours, without metadata."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    # A palette makes the file a third as large, and Pillow writes neither version nor time into it.
    image = Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    image.save(small, format="PNG", optimize=True)
    return small.getvalue()


def require_some(rows: Sized) -> None:
    """Refuse to draw nothing.

    Raises:
        DataError: there are no rows.
    """
    if not rows:
        raise DataError(
            "at least one row to draw", "none", "the rows of a plot", "Plot after the step has run."
        )
