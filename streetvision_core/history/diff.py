"""The differences between two runs by step: configuration, code, inputs, content, packages, machine, metrics.

Inputs are compared by what they hold, not by the run that published them. Times are not compared: they
always differ and mean nothing. A difference that every common step has stands once. Where both have tested
the same images, their policies are compared by pairs (see `paired`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streetvision_core.history.paired import compare_evaluations
from streetvision_core.history.text import columns, count_text, cut, in_order, number_text, short
from streetvision_core.recorded import from_recorded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streetvision_core.history.find import Made
    from streetvision_core.history.paired import PairedEvaluations

_WIDTH = 24
_MACHINE = ("device", "python_version")


@dataclass(frozen=True)
class Change:
    """One value that differs; None where one side has no such value."""

    kind: str
    name: str
    before: Any
    after: Any

    @property
    def difference(self) -> float | None:
        """The second number minus the first, where both are numbers."""
        both = (self.before, self.after)
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in both)
        return self.after - self.before if numbers else None

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        values = {"a": self.before, "b": self.after, "difference": self.difference}
        return {"kind": self.kind, "name": self.name, **values}

    def row(self) -> list[str]:
        """Return the cells of a table: kind, name, both values, difference."""
        difference = self.difference
        return [
            f"  {self.kind}",
            cut(self.name, _WIDTH + 4),
            self._cell(self.before),
            self._cell(self.after),
            "" if difference is None else f"{difference:+.6g}",
        ]

    def _cell(self, value: Any) -> str:
        if value is None:
            return "-"
        if self.kind in {"content", "input"}:
            return short(value)
        if self.name == "commit":
            return str(value)[:7] + str(value)[40:]
        return cut(number_text(value), _WIDTH)


@dataclass(frozen=True)
class Difference:
    """The differences between `a` and `b`; `everywhere` holds for each step that both have."""

    a: Made
    b: Made
    only_a: Sequence[str]
    only_b: Sequence[str]
    everywhere: Sequence[Change]
    by_step: Mapping[str, Sequence[Change]]
    paired: PairedEvaluations | None = None
    good: bool = True

    @property
    def nothing(self) -> bool:
        """True when both have the same steps, and nothing of them differs."""
        return not (self.only_a or self.only_b or self.everywhere or any(self.by_step.values()))

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "a": self.a.name,
            "b": self.b.name,
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "every_step": [change.facts() for change in self.everywhere],
            "steps": {step: [change.facts() for change in changes] for step, changes in self.by_step.items()},
            "paired": self.paired.facts() if self.paired else None,
        }

    def text(self) -> str:
        """Return the differences side by side, or one sentence that there are none."""
        head = [f"A  {self.a.name}", f"B  {self.b.name}"]
        if self.nothing:
            steps = count_text(len(self.by_step), "step")
            return "\n".join(
                [*head, f"Nothing differs: {steps}, the same in content, code and configuration."]
            )
        for side, only in (("A", self.only_a), ("B", self.only_b)):
            head += [f"Only {side} made {', '.join(only)}."] if only else []
        same = [step for step, changes in self.by_step.items() if not changes]
        if same:
            head.append(f"{'Otherwise the same' if self.everywhere else 'The same'}: {', '.join(same)}.")
        return "\n".join([*head, *self._table(), *(self.paired.lines() if self.paired else [])])

    def _table(self) -> Iterator[str]:
        sections = {"every step": self.everywhere} if self.everywhere else {}
        sections |= {step: changes for step, changes in self.by_step.items() if changes}
        rows = [["", "", "A", "B", "B - A"]]
        for title, changes in sections.items():
            rows += [[title, "", "", "", ""], *(change.row() for change in changes)]
        if sections:
            # A title may be longer than the kinds below it, and must not widen their column.
            titles = set(sections)
            lines = columns([["  " if row[0] in titles else row[0], *row[1:]] for row in rows])
            yield from (row[0] if row[0] in titles else line for row, line in zip(rows, lines, strict=True))


def compare(a: Made, b: Made) -> Difference:
    """Return the differences of `b` from `a`.

    Raises:
        IntegrityError: the predictions of one are not what was published.
    """
    common = {step: manifest for step, manifest in a.manifests.items() if step in b.manifests}
    order = in_order({step: tuple(manifest.input_artifacts) for step, manifest in common.items()})
    by_step = {step: list(_changes(a, b, step)) for step in order}
    everywhere = [
        change
        for change in next(iter(by_step.values()), [])
        if change.kind in {"code", "package", "machine"} and len(by_step) > 1
        and all(change in changes for changes in by_step.values())
    ]  # fmt: skip
    return Difference(
        a,
        b,
        sorted(a.manifests.keys() - b.manifests),
        sorted(b.manifests.keys() - a.manifests),
        everywhere,
        {
            step: [change for change in changes if change not in everywhere]
            for step, changes in by_step.items()
        },
        compare_evaluations(a, b),
    )


def _changes(a: Made, b: Made, step: str) -> Iterator[Change]:
    after = _values(b, step)
    for kind, before in _values(a, step).items():
        yield from _differing(kind, before, after[kind])


def _values(made: Made, step: str) -> dict[str, Mapping[str, Any]]:
    """Return the values of a step that are compared, by kind and name."""
    manifest = made.manifests[step]
    changes = " with changes" if manifest.git_dirty else ""
    return {
        "content": {"data": manifest.data_version},
        "config": {"seed": manifest.seed, **_flat(from_recorded(step, made.config(step)))},
        "code": {"commit": f"{manifest.git_sha}{changes}", "version": manifest.code_version},
        "input": {name: given.data_version for name, given in manifest.input_artifacts.items()},
        "package": manifest.packages,
        "machine": {**made.machine(step), **{name: getattr(manifest, name) for name in _MACHINE}},
        "metric": manifest.metrics,
    }


def _differing(kind: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    for name in [*a, *(name for name in b if name not in a)]:
        before, after = a.get(name), b.get(name)
        if before != after or type(before) is not type(after) or (name in a) != (name in b):
            yield Change(kind, name, before, after)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested configuration with dotted names; an empty mapping stays a value."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
