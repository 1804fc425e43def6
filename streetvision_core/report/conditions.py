"""The report's section on the conditions of use: every level beside the images as they are, worst named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streetvision_core.report.drawing import MUTED, dress, legend_below, look, new_figure, png

if TYPE_CHECKING:
    from streetvision_core.report.report import Report
    from streetvision_core.report.slices import LevelsReport

LEVELS_PLOT = "mcc_by_level.png"
SECTION = """\
{% if levels %}
<h2>Under the conditions {{ levels.profile }}</h2>
<p class="warning">{{ levels.reading(lead.policy.type) }}</p>
<p>{{ levels.tuned_in_words }}</p>
<table>
<thead><tr><th scope="col" class="word">level</th>{{ heads() }}<th scope="col">answered</th></tr></thead>
<tbody>
{% for part in levels.policies[lead.policy.type] %}
<tr><td class="word" data-name="level">{{ part.value }}</td>
{{ metrics(part) }}
<td data-name="answered">{{ "{:,}".format(part.answered) }} of {{ "{:,}".format(part.n) }}</td></tr>
{% endfor %}
</tbody>
</table>
<p class="note">Every level is the whole of val_test, drawn by the digest of each image: levels and models are
compared on the same images. Intervals are over groups. Drawn conditions are a stand-in: real images of the
night say more.</p>
{% if "mcc_by_level.png" in plots %}
<figure><img src="{{ plots["mcc_by_level.png"] }}" alt="{{ captions["mcc_by_level.png"] }}"></figure>
{% endif %}
{% endif %}
"""
CAPTIONS = {LEVELS_PLOT: "MCC of each policy at every level of the conditions, with intervals over groups"}


def level_rows(report: Report) -> list[dict[str, Any]]:
    """Return a row a level of the leading policy; none where levels were not measured."""
    if report.conditions is None:
        return []
    return [
        {"level": level.value, **level.cells(), "answered": level.answered, "images": level.n}
        for level in report.conditions.policies[report.lead.policy.type]
    ]


def draw_levels(report: Report) -> dict[str, bytes]:
    """Return the plot of MCC by level under its name; nothing where levels were not measured."""
    return {LEVELS_PLOT: plot_levels(report.conditions)} if report.conditions else {}


def plot_levels(levels: LevelsReport) -> bytes:
    """Draw the MCC of each policy at every level, a row a level, with its interval over groups."""
    names = [level.value for level in next(iter(levels.policies.values()))]
    figure = new_figure(height=1.6 + 0.42 * len(names))
    axes = figure.subplots()
    count = len(levels.policies)
    for position, (kind, parts) in enumerate(levels.policies.items()):
        series = look(position)
        for row, part in enumerate(parts):
            place = row + 0.5 * (position - (count - 1) / 2) / count
            if part.mcc is not None:
                axes.plot((part.mcc.low, part.mcc.high), (place, place), color=series.colour, linewidth=1.6)
                label = kind if row == 0 else None
                axes.plot(
                    part.metrics["mcc"], place, series.marker, color=series.colour, markersize=6, label=label
                )
    axes.axvline(0, color=MUTED, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(min(-0.05, axes.get_xlim()[0]), 1.03)
    dress(axes, title=f"MCC by level of {levels.profile.partition(':')[0]}, 95 % over groups", x="MCC")
    legend_below(figure, axes, columns=count)
    return png(figure)
