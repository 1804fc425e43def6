"""The template of `report.html`, as a string: what a step runs is then all in its code version."""

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation on val_test</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 72rem; margin: 0 auto; padding: 2rem 1.5rem; }
  h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
  h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }
  p, li { max-width: 46rem; }
  .muted, caption { color: #616e7c; }
  .figures { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.4rem 0; padding: 0; list-style: none; }
  .figures li { background: #f3f5f7; border-radius: .5rem; padding: .7rem 1rem; min-width: 10rem; }
  .figures strong { display: block; font-size: 1.5rem; line-height: 1.2; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
  caption { caption-side: bottom; text-align: left; padding-top: .5rem; }
  th, td { text-align: right; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #e4e7eb; white-space: nowrap; }
  th { color: #616e7c; font-weight: 600; }
  th.word, td.word { text-align: left; }
  tr.small td { color: #616e7c; }
  .plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(26rem, 1fr)); gap: 1.2rem; }
  figure { margin: 0; } img { max-width: 100%; height: auto; }
  dt { font-weight: 600; margin-top: .8rem; } dd { margin: 0; max-width: 46rem; }
</style>
</head>
<body>
{% macro share(value) %}{{ "%.1f %%" | format(100 * value) }}{% endmacro %}
{% macro between(range) %}{{ "%.3f" | format(range.low) }} to {{ "%.3f" | format(range.high) }}{% endmacro %}
<h1>Evaluation on val_test</h1>
<p class="muted">{{ "{:,}".format(report.counts.n) }} images that took no part in training, selection or calibration:
{{ "{:,}".format(report.counts.roadwork) }} with roadwork, {{ "{:,}".format(report.counts.none) }} without. Each went
through the network once; the policies decide from the same logits. Intervals are at 95 %.</p>

<h2>{{ "What is answered" if lead.policy.defers else "Answering every image" }}, by the {{ lead.policy.type }} policy</h2>
<ul class="figures">
  <li><strong>{{ "%.3f" | format(lead.metrics.mcc) }}</strong>MCC
    {% if lead.intervals %}<br><span class="muted">{{ between(lead.intervals.mcc) }}</span>{% endif %}</li>
  <li><strong>{{ share(lead.metrics.accuracy) }}</strong>accuracy
    {% if lead.intervals %}<br><span class="muted">{{ between(lead.intervals.accuracy) }}</span>{% endif %}</li>
  <li><strong>{{ lead.metrics.fn }} and {{ lead.metrics.fp }}</strong>misses and false alarms</li>
  {% if lead.ranking.auroc is not none %}
  <li><strong>{{ "%.4f" | format(lead.ranking.auroc) }}</strong>AUROC</li>
  {% endif %}
  <li><strong>{{ "%.3f" | format(lead.calibration.calibrated.ece_equal_mass) }}</strong>ECE, equal mass</li>
  {% if report.optimism is not none %}
  <li><strong>{{ "%+.3f" | format(report.optimism) }}</strong>MCC on val_calib, which chose the threshold, minus this one</li>
  {% endif %}
</ul>

<h2>The policies side by side</h2>
<div class="scroll"><table>
<thead><tr><th scope="col" class="word">policy</th><th scope="col">answered</th><th scope="col">coverage</th><th scope="col">MCC</th><th scope="col">accuracy</th>
<th scope="col">missed (FNR)</th><th scope="col">false alarms (FPR)</th><th scope="col">AURC</th><th scope="col">AUGRC</th></tr></thead>
<tbody>
{% for kind, one in policies.items() %}
<tr><td class="word">{{ kind }}</td><td>{{ "{:,}".format(one.coverage.answered) }}</td>
<td>{{ share(one.coverage.share) }}<br><span class="muted">{{ between(one.coverage.interval) }}</span></td>
{% if one.intervals %}
{% for name in ("mcc", "accuracy", "fnr", "fpr") %}
<td>{{ "%.3f" | format(one.metrics[name]) }}<br><span class="muted">{{ between(one.intervals[name]) }}</span>
{% if name == "mcc" and one.intervals.mcc_by_group %}<br><span class="muted">groups: {{ between(one.intervals.mcc_by_group) }}</span>{% endif %}</td>
{% endfor %}
{% else %}<td colspan="4" class="word">it answers nothing</td>{% endif %}
<td>{{ "%.4f" | format(one.ranking.aurc) }}</td><td>{{ "%.4f" | format(one.ranking.augrc) }}</td></tr>
{% endfor %}
</tbody>
<caption>Metrics are of the answered images. Intervals: Fisher-z for MCC, Clopper-Pearson for shares; both take the
images as independent. The interval marked "groups" resamples whole groups
({{ report.groups_of(lead) }} in all), and is the one to
believe where images of a group resemble each other. A certificate counts one image of each group; these figures count
every image.</caption>
</table></div>

<h2>What each of them promises</h2>
<dl>
{% for kind, one in policies.items() %}<dt>{{ kind }}</dt><dd>{{ one.promise }}</dd>{% endfor %}
</dl>

<h2>Plots</h2>
<div class="plots">
{% for name in ("confusion_matrix.png", "risk_coverage.png", "reliability.png", "roc.png", "precision_recall.png") %}
{% if name in pictures %}<figure><img src="{{ pictures[name] }}" alt="{{ told[name] }}"></figure>{% endif %}
{% endfor %}
</div>
<p class="muted">Confusion matrix and reliability are of the {{ lead.policy.type }} policy; the reliability diagram is that of the
probability before its threshold is folded in.</p>

<h2>Slices of the {{ lead.policy.type }} policy, the worst first</h2>
<div class="scroll"><table>
<thead><tr>{% for name in slices[0] %}<th scope="col"{% if name in ("attribute", "value", "reading") %} class="word"{% endif %}>
{{- name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in slices %}
<tr{% if row.reading %} class="small"{% endif %}>
{% for name, cell in row.items() %}
<td{% if name in ("attribute", "value", "reading") %} class="word"{% endif %}>
{{- "%.3f" | format(cell) if cell is float else cell }}</td>
{% endfor %}</tr>
{% endfor %}
</tbody>
<caption>A slice of fewer than 30 images is too small to read, and so is the share of wrong answers among fewer than
30 answered. Many slices are looked at: the worst of them looks worse than it is. Intervals take the images as independent.
{% if report.not_sliced %}Not sliced, for too many values: {{ report.not_sliced | join(", ") }}.{% endif %}</caption>
</table></div>

<h2>The most confident mistakes</h2>
{% if mistakes %}
{% if "mistakes.jpg" in pictures %}
<figure><img src="{{ pictures["mistakes.jpg"] }}" alt="{{ told["mistakes.jpg"] }}"></figure>
{% endif %}
<div class="scroll"><table>
<thead><tr>{% for name in mistakes[0] %}<th scope="col" class="word">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in mistakes %}<tr>{% for cell in row.values() %}<td class="word">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
<caption>Of the {{ lead.policy.type }} policy, with the decision of each policy.</caption>
</table></div>
{% else %}<p>There are none.</p>{% endif %}
</body>
</html>
"""
