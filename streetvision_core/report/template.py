"""The template of `report.html`, as strings: what a step runs is then all in its code version.

The page is a row of sections, each complete in itself; another one is another string in `SECTIONS`. On a narrow
screen a row of a table becomes a block, its cells below each other with the names of their columns, so that
nothing is cut off or has to be scrolled to.
"""

from streetvision_core.report.conditions import SECTION as _CONDITIONS
from streetvision_core.report.in_use import SECTION as _IN_USE

_HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation on val_test: {{ identity.model }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 78rem; margin: 0 auto; padding: 2rem 1.5rem; overflow-wrap: anywhere; }
  h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
  h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }
  p, li { max-width: 46rem; }
  .muted, caption, .note { color: #616e7c; }
  .warning { border-left: .3rem solid #d55e00; padding-left: .8rem; }
  .identity { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .8rem 0; font-size: .92rem; }
  .identity dt { color: #616e7c; font-weight: 600; margin: 0; }
  .figures { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.4rem 0; padding: 0; list-style: none; }
  .figures li { background: #f3f5f7; border-radius: .5rem; padding: .7rem 1rem; min-width: 9rem; max-width: 17rem; }
  .figures strong { display: block; font-size: 1.5rem; line-height: 1.2; }
  table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
  caption, .note { caption-side: bottom; text-align: left; padding-top: .5rem; font-size: .92rem; max-width: 60rem; }
  th, td { text-align: right; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid #e4e7eb; vertical-align: top; overflow-wrap: normal; }
  th { color: #616e7c; font-weight: 600; }
  td .muted { white-space: nowrap; }
  th.word, td.word { text-align: left; overflow-wrap: anywhere; }
  tr.small td { color: #616e7c; }
  .plots, .mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); gap: 1.2rem; }
  .mistakes { grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); }
  .mistakes img { width: 100%; border-radius: .3rem; }
  figure { margin: 0; } img { max-width: 100%; height: auto; } figcaption { font-size: .88rem; line-height: 1.4; }
  dl.promises dt { font-weight: 600; margin-top: .8rem; } dd { margin: 0; max-width: 56rem; }
  @media (max-width: 60rem) {
    table, tbody, tr, td { display: block; }
    thead { display: none; }
    caption { display: block; }
    tr { border-bottom: 2px solid #cbd2d9; padding: .5rem 0; }
    td { border: 0; padding: .1rem 0; display: flex; gap: 1rem; justify-content: space-between; }
    td::before { content: attr(data-name); color: #616e7c; text-align: left; flex: none; max-width: 45%; }
    td.word { text-align: right; }
    td br { display: none; }
    td:empty { display: none; }
  }
</style>
</head>
<body>
{% macro share(value) %}{{ "%.1f %%" | format(100 * value) }}{% endmacro %}
{% macro over(range) %}<br><span class="muted">{% if range %}{{ "%.3f" | format(range.low) }} to {{ "%.3f" | format(range.high) }}{% else %}not recorded{% endif %}</span>{% endmacro %}
{% macro figure(name, value, range) %}<td data-name="{{ name }}"><span>{{ "%.3f" | format(value) }}{{ " " }}{{ over(range) }}</span></td>{% endmacro %}
{% macro heads() %}{% for metric in brief %}<th scope="col">{{ metric.label }}</th>{% endfor %}{% endmacro %}
{% macro metrics(figures) %}
{% for metric in brief %}
{% if figures.metric(metric.name) is none %}<td data-name="{{ metric.label }}">{{ figures.number(metric.name) }}</td>
{% else %}{{ figure(metric.label, figures.metric(metric.name), figures.interval(metric.name)) }}{% endif %}
{% endfor %}
{% endmacro %}
"""

_IDENTITY = """\
<h1>Evaluation on val_test</h1>
<dl class="identity">
{% for name, value in identity.items() %}<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl>
<p class="muted">{{ "{:,}".format(report.counts.n) }} images that took no part in training, selection or calibration:
{{ "{:,}".format(report.counts.roadwork) }} with roadwork, {{ "{:,}".format(report.counts.none) }} without. Each went
through the network once; the policies decide from the same logits. Intervals are at 95 %.</p>
"""

_HEADLINE = """\
<h2>{{ "What is answered" if lead.policy.defers else "Answering every image" }}, by the {{ lead.policy.type }} policy</h2>
<ul class="figures">
  {% if lead.coverage.answered %}
  <li><strong>{{ lead.number("mcc") }}</strong>MCC{{ over(lead.interval("mcc")) }}</li>
  <li><strong>{{ lead.number("accuracy") }}</strong>accuracy{{ over(lead.interval("accuracy")) }}</li>
  <li><strong>{{ lead.metrics.fn }} and {{ lead.metrics.fp }}</strong>misses and false alarms</li>
  {% else %}
  <li><strong>{{ lead.number("mcc") }}</strong>it defers every image</li>
  {% endif %}
  {% if lead.ranking.auroc is not none %}
  <li><strong>{{ "%.4f" | format(lead.ranking.auroc) }}</strong>AUROC{{ over(lead.ranking.auroc_interval) }}</li>
  {% endif %}
  <li><strong>{{ "%.3f" | format(lead.calibration.calibrated.ece_equal_mass) }}</strong>ECE, equal mass
  {% if lead.calibration.perfect %}
    <br><span class="muted">perfect calibration would give {{ "%.3f" | format(lead.calibration.perfect.mean) }}, and up to
    {{ "%.3f" | format(lead.calibration.perfect.high) }} (95 %), where images of a group are alike</span>
  {% endif %}</li>
  {% if report.calib_minus_test %}
  <li><strong>{{ "%+.3f" | format(report.calib_minus_test.difference) }}</strong>MCC on val_calib minus this
    one{{ over(report.calib_minus_test.interval) }}</li>
  {% endif %}
</ul>
{% if lead.intervals %}
<p{% if lead.intervals.groups and lead.intervals.groups.few %} class="warning"{% endif %}>{{ report.reading_of(lead) }}</p>
{% endif %}
"""

_POLICIES = """\
<h2>The policies side by side</h2>
<table>
<thead><tr><th scope="col" class="word">policy</th><th scope="col">answered</th><th scope="col">coverage</th>{{ heads() }}<th scope="col">AURC</th><th scope="col">AUGRC</th></tr></thead>
<tbody>
{% for kind, result in policies.items() %}
<tr><td class="word" data-name="policy">{{ kind }}</td><td data-name="answered">{{ "{:,}".format(result.coverage.answered) }}</td>
{{ figure("coverage", result.coverage.share, result.coverage.over_groups) }}
{{ metrics(result) }}
<td data-name="AURC">{{ "%.4f" | format(result.ranking.aurc) }}</td><td data-name="AUGRC">{{ "%.4f" | format(result.ranking.augrc) }}</td></tr>
{% endfor %}
</tbody>
</table>
{% for kind, result in policies.items() %}
{% if result.policy.defers %}<p>{{ kind }}: {{ report.deferral_of(result) }}</p>{% endif %}
{% endfor %}
<p class="note">Metrics are of the answered images; one minus the accuracy is the selective risk. Intervals are over groups
of images that belong together: exact (Korn and Graubard) for shares, Fisher-z for MCC. A certificate speaks about one image
of each group; these figures count every image.</p>
"""

_PROMISES = """\
<h2>What each of them promises</h2>
<dl class="promises">
{% for kind, result in policies.items() %}<dt>{{ kind }}</dt><dd>{{ result.promise }}</dd>{% endfor %}
</dl>
"""

_PLOTS = """\
<h2>Plots</h2>
<div class="plots">
{% for name in ("confusion_matrix.png", "risk_coverage.png", "reliability.png", "roc.png", "precision_recall.png") %}
{% if name in plots %}<figure><img src="{{ plots[name] }}" alt="{{ captions[name] }}"></figure>{% endif %}
{% endfor %}
</div>
<p class="muted">Confusion matrix and reliability are of the {{ lead.policy.type }} policy; the reliability diagram is that of the
probability before its threshold is folded in.</p>
"""

_SLICES = """\
<h2>Slices of the {{ lead.policy.type }} policy, the worst first</h2>
<table>
<thead><tr><th scope="col" class="word">slice</th><th scope="col">images</th><th scope="col">groups</th>{{ heads() }}{% for kind in slices[0][1] %}<th scope="col" class="word">{{ kind }}</th>{% endfor %}
<th scope="col" class="word">reading</th></tr></thead>
<tbody>
{% for part, others in slices %}
<tr{% if part.reading %} class="small"{% endif %}>
<td class="word" data-name="slice"><span>{{ part.attribute }}: {{ part.value }}</span></td><td data-name="images">{{ "{:,}".format(part.n) }}</td>
<td data-name="groups">{{ "{:,}".format(part.groups.n) if part.groups else "-" }}</td>
{{ metrics(part) }}
{% for kind, words in others.items() %}<td class="word" data-name="{{ kind }}">{{ words }}</td>{% endfor %}
<td class="word" data-name="reading">{{ part.reading }}</td></tr>
{% endfor %}
</tbody>
</table>
<p class="note">A slice of fewer than 30 images is too small to read, and so is the share of wrong answers among fewer than
30 answered. {{ slices | length }} slices are looked at: the worst of them looks worse than it is. Intervals are over groups.
{% if report.not_sliced %}Not sliced, for too many values: {{ report.not_sliced | join(", ") }}.{% endif %}</p>
"""

_MISTAKES = """\
<h2>The most confident mistakes of the {{ lead.policy.type }} policy, one a group</h2>
{% if mistakes %}
<div class="mistakes">
{% for mistake, image in mistakes %}
<figure><img src="{{ image }}" alt="A mistake: {{ mistake.name }}">
<figcaption>{{ mistake.name }}<br>{% for name, value in mistake.facts.items() %}{{ name }} <strong>{{ value }}</strong>{{ ", " if not loop.last }}{% endfor %}
{% if mistake.others %}<br><span class="muted">{{ mistake.others }} more of this group</span>{% endif %}</figcaption></figure>
{% endfor %}
</div>
{% else %}<p>There are none.</p>{% endif %}
<p class="muted">How often these images have judged a model is no part of this page, whose bytes must not depend on it: the
look number stands in <code>manifest.json</code> beside it, and <code>streetvision report</code> prints it.</p>
"""

SECTIONS = (_IDENTITY, _HEADLINE, _POLICIES, _CONDITIONS, _PROMISES, _PLOTS, _IN_USE, _SLICES, _MISTAKES)
PAGE = f"{_HEAD}{''.join(SECTIONS)}</body>\n</html>\n"
