"""The paired comparison of two runs on the images of val_test that both have judged.

Both evaluations are read verified. Their images are matched by SHA-256, so it does not matter under which
name or in which source they lay; of images with equal bytes in one run the first counts. Labels must agree,
or one of the runs was judged by another truth. Images that either run holds together in a group stay
together in the exchanges. The seed is fixed: the same two runs give the same text.

For two bundles, the policies that they ship are compared, of whatever kind. They are comparable only if both
were judged on the very same images.

A sentence says what cannot be compared: an evaluation of another version, labels that differ, no common
images. There is no comparison where a run has no evaluation with predictions, as a bundle's folder has none,
or where both have the same. A damaged file is an error. Only a comparison loads NumPy and SciPy.
"""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from streetvision_core.history.text import columns, count_text, wrap
from streetvision_core.io import read_csv

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from streetvision_core.eval.decisions import Decision
    from streetvision_core.eval.paired import PairedComparison
    from streetvision_core.history.find import Made
    from streetvision_core.io import PublishedArtifact

    _Table = Mapping[str, "_Row"]
    _Tables = tuple[_Table, _Table]

_STEP, _FILE, _RECORD = "evaluation", "predictions.csv", "evaluation.json"
_NEEDED, _POLICY = ("sha256", "group", "label"), "by_"
_LABELS, _DECISIONS = {"0", "1"}, {"none", "roadwork", "defer"}
_SEED = 0
_OTHER_CONDITIONS = (
    "The two runs were judged under other conditions of use, on images that arrived otherwise: they are not"
    " comparable. Materialize one of them again with the conditions of the other."
)
_READING = (
    "n: both answer; only A, only B: are right there; intervals are over groups; p: how often a difference as"
    " large comes from exchanging A and B by whole groups, which is all there is between two equals."
)


@dataclass(frozen=True)
class PairedEvaluations:
    """The policies of two runs on their `common` images in `groups`, or the obstacle to comparing them."""

    common: int = 0
    policies: Mapping[str, PairedComparison] | None = None
    obstacle: str = ""
    groups: int = 0

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        compared = (self.policies or {}).items()
        return {
            "role": "val_test",
            "common": self.common,
            "groups": self.groups,
            "comparisons": len(self.policies or {}),
            "not_compared": self.obstacle or None,
            "policies": {name: _facts(pair) for name, pair in compared},
        }

    def lines(self) -> list[str]:
        """Return a section for a terminal, its title first."""
        if self.policies is None:
            return ["val_test, paired", *wrap("", [self.obstacle], column=2)]
        head = ["  ", "n", "MCC A", "MCC B", "B - A", "95 % interval", "only A", "only B", "p"]
        table = columns([head, *(_row(name, pair) for name, pair in self.policies.items())])
        sentences = [wrap(f"{name} ", [_sentence(pair)]) for name, pair in self.policies.items()]
        return [
            f"val_test, paired: {count_text(self.common, 'common image')} in {self._groups()}",
            *table,
            *wrap("", [_READING], column=2),
            *(line for lines in sentences for line in lines),
            *wrap("", [_comparisons(len(self.policies))], column=2),
        ]

    def numbers(self) -> str:
        """Return every comparison in a sentence, with its numbers."""
        sentences = []
        for pair in (self.policies or {}).values():
            a, b, difference, interval = _figures(pair)
            sentences.append(
                f"MCC {a} of A and {b} of B, B - A {difference} {interval}, p"
                f" {pair.p_value:.2g}, on {count_text(pair.n, 'image')} that both answer, of"
                f" {pair.pictures} in {self._groups()}. {_sentence(pair)}"
            )
        return " ".join(sentences)

    def _groups(self) -> str:
        from streetvision_core.eval.intervals import FEW_GROUPS

        few = f", fewer than {FEW_GROUPS}: the intervals are rough" if self.groups < FEW_GROUPS else ""
        return f"{count_text(self.groups, 'group')}{few}"


class Shipped(NamedTuple):
    """The kind of the policy that a bundle ships, and the evaluation that judged it."""

    kind: str
    evaluation: PublishedArtifact


class _Row(NamedTuple):
    group: str
    label: str
    decisions: Mapping[str, Decision]


def compare_evaluations(a: Made, b: Made) -> PairedEvaluations | None:
    """Compare two runs by pairs; None where one has no predictions, or both have the same.

    Raises:
        IntegrityError: predictions are not what was published.
    """
    evaluations = [made.artifacts[_STEP] for made in (a, b) if _STEP in made.artifacts]
    files = [evaluation.manifest.output_artifacts.get(_FILE) for evaluation in evaluations]
    digests = {file.sha256 for file in files if file is not None}
    if len(digests) < 2:
        return None
    tables = _read_both(evaluations)
    return PairedEvaluations(obstacle=tables) if isinstance(tables, str) else _compare(*tables)


def compare_shipped(a: Shipped, b: Shipped) -> PairedEvaluations:
    """Compare the policies that two bundles ship, on the same images.

    Raises:
        MissingArtifactError: an evaluation has no predictions.
        IntegrityError: predictions are not what was published.
    """
    tables = _read_both((a.evaluation, b.evaluation))
    if isinstance(tables, str):
        return PairedEvaluations(obstacle=tables)
    if tables[0].keys() != tables[1].keys():
        return PairedEvaluations(obstacle=_other_images(*tables))
    columns_of = f"{_POLICY}{a.kind}", f"{_POLICY}{b.kind}"
    for side, table, column in zip("AB", tables, columns_of, strict=True):
        if column not in next(iter(table.values())).decisions:
            return PairedEvaluations(obstacle=_not_comparable(side, f"{_FILE} has no {column}"))
    name = a.kind if a.kind == b.kind else f"{a.kind} against {b.kind}"
    return _compare(*tables, chosen={name: columns_of})


def _other_images(a: _Table, b: _Table) -> str:
    return (
        f"The test images differ: A was judged on {len(a)}, B on {len(b)}, and {len(a.keys() & b.keys())} of"
        " them are the same. Make both from the same images and splits: the same source and the same settings"
        " of both steps; where images were added, a role_column that names the old test images keeps them."
    )


def _read_both(evaluations: Sequence[PublishedArtifact]) -> _Tables | str:
    """Return the predictions of A and B, or a sentence why they cannot be compared."""
    if len(set(map(_drawn_under, evaluations))) > 1:
        return _OTHER_CONDITIONS
    a, b = (_read(side, evaluation) for side, evaluation in zip("AB", evaluations, strict=True))
    if isinstance(a, str) or isinstance(b, str):
        return " ".join(table for table in (a, b) if isinstance(table, str))
    return a, b


def _drawn_under(published: PublishedArtifact) -> str | None:
    """Return the data version of the conditions that its images were drawn under; None for images as is."""
    levels = published.read_json(_RECORD).get("conditions") if _RECORD in published.content else None
    drawn = isinstance(levels, dict) and levels.get("tuned") is True
    return published.manifest.input_artifacts["conditions"].data_version if drawn else None


def _read(side: str, published: PublishedArtifact) -> _Table | str:
    """Return the predictions by the digest of the image, or a sentence why they cannot be compared."""
    data = published.read_bytes(_FILE)
    try:
        rows = read_csv(data)
    except (UnicodeDecodeError, csv.Error) as error:
        return _not_comparable(side, f"{_FILE} is no table: {error}")
    names = list(rows[0]) if rows else []
    policies = [name for name in names if (name or "").startswith(_POLICY)]
    missing = [name for name in _NEEDED if name not in names] + ([] if policies else [f"{_POLICY}..."])
    if missing:
        return _not_comparable(side, f"{_FILE} has no {' and no '.join(missing)}")
    by_digest: dict[str, _Row] = {}
    for row in rows:
        decisions = {name: row[name] for name in policies}
        if row["label"] not in _LABELS or not _DECISIONS.issuperset(decisions.values()):
            return _not_comparable(side, f"{row['sha256'] or 'an image'} has an unknown label or decision")
        row_decisions = cast("dict[str, Decision]", decisions)
        by_digest.setdefault(row["sha256"], _Row(row["group"], row["label"], row_decisions))
    return by_digest


def _not_comparable(side: str, why: str) -> str:
    return (
        f"The evaluation of {side} was written by another version and is not comparable: {why}."
        f" Materialize evaluation of {side} again."
    )


def _compare(
    a: _Table, b: _Table, *, chosen: Mapping[str, tuple[str, str]] | None = None
) -> PairedEvaluations:
    """Compare on the common images: the chosen columns of A and B by name, or all that both have."""
    from streetvision_core.eval.paired import compare_decisions

    common = [digest for digest in a if digest in b]
    if not common:
        return PairedEvaluations(obstacle="The two runs have no image of val_test in common.")
    rows_a, rows_b = [a[digest] for digest in common], [b[digest] for digest in common]
    labels = [int(row.label) for row in rows_a]
    other = sum(row_a.label != row_b.label for row_a, row_b in zip(rows_a, rows_b, strict=True))
    if other:
        obstacle = (
            f"{other} of {count_text(len(common), 'common image')} had another label in B than in A:"
            " the two were judged by different truths, and are not comparable."
        )
        return PairedEvaluations(len(common), obstacle=obstacle)
    policies = chosen or {
        name.removeprefix(_POLICY): (name, name)
        for name in rows_a[0].decisions
        if name in rows_b[0].decisions
    }
    if not policies:
        return PairedEvaluations(len(common), obstacle="The two runs have no policy in common.")
    groups = _together([row.group for row in rows_a], [row.group for row in rows_b])
    compared = {
        name: compare_decisions(
            labels,
            [row.decisions[of_a] for row in rows_a],
            [row.decisions[of_b] for row in rows_b],
            groups,
            seed=_SEED,
        )
        for name, (of_a, of_b) in policies.items()
    }
    return PairedEvaluations(len(common), compared, groups=len(set(groups)))


def _together(a: Sequence[str], b: Sequence[str]) -> Sequence[str] | np.ndarray[Any, Any]:
    """Unite the groups that share an image: images that either run holds together stay together."""
    if a == b:
        return a
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, group_a = np.unique(a, return_inverse=True)
    others, group_b = np.unique(b, return_inverse=True)
    shape = (names.size + others.size,) * 2
    links = coo_array((np.ones(len(a)), (group_a, names.size + group_b)), shape=shape)
    united: np.ndarray[Any, Any] = connected_components(links, directed=False)[1]
    return united[group_a]


def _facts(pair: PairedComparison) -> dict[str, Any]:
    figures = ("coverage_a", "coverage_b", "mcc_difference", "too_few", "better")
    return {**asdict(pair), **{name: getattr(pair, name) for name in figures}, "sentence": _sentence(pair)}


def _row(name: str, pair: PairedComparison) -> list[str]:
    counts = (str(pair.only_a_right), str(pair.only_b_right), f"{pair.p_value:.2g}")
    return [f"  {name}", str(pair.n), *_figures(pair), *counts]


def _figures(pair: PairedComparison) -> tuple[str, str, str, str]:
    """Return both MCCs, their difference and its interval; dashes where both answer no image."""
    if not pair.n:
        return "-", "-", "-", "-"
    ends = f"[{pair.interval.low:+.4f}, {pair.interval.high:+.4f}]" if pair.interval else "-"
    return f"{pair.mcc_a:.4f}", f"{pair.mcc_b:.4f}", f"{pair.mcc_difference:+.4f}", ends


def _sentence(pair: PairedComparison) -> str:
    alone = ""
    if pair.n < pair.pictures:
        alone = (
            f" A answers {pair.coverage_a:.1%} of the images, B {pair.coverage_b:.1%};"
            f" {pair.only_a_answers} only A, {pair.only_b_answers} only B."
        )
    return f"{_verdict(pair)}{_each(pair)}{alone}"


def _each(pair: PairedComparison) -> str:
    if not pair.n:
        return ""
    ends = (f"{interval.low:.3f} to {interval.high:.3f}" for interval in (pair.interval_a, pair.interval_b))
    return " MCC over groups, 95 %: A {}, B {}.".format(*ends)


def _verdict(pair: PairedComparison) -> str:
    if not pair.n:
        return "No image is answered by both."
    if not pair.differing_groups:
        return "Both answer alike."
    if pair.better:
        return f"{pair.better} is better: p is below {1 - pair.level:.2g} and the interval excludes 0."
    if pair.too_few:
        return f"No difference can be told: they differ in {count_text(pair.differing_groups, 'group')} only."
    if pair.interval is None:
        return "No difference can be told: one of the labels is in fewer than two groups."
    return "No difference can be told: equals differ as much often enough."


def _comparisons(policies: int) -> str:
    if policies == 1:
        return "One comparison was made; every further pair of runs that is compared is another."
    chance = min(1.0, 0.05 * policies)  # however the tables depend on each other
    return (
        f"{policies} comparisons were made: of two equal runs one is below .05 in up to {chance:.0%} of such"
        f" tables, so believe a p below {0.05 / policies:.2g}. Every further pair of runs adds to them."
    )
