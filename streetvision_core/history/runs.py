"""The runs of a store, the newest first, with the steps that each has made.

A manifest is trusted by its own digest (`read_fields`), so that a thousand runs are listed in a second. A
damaged one is a line of the answer, and the answer is then not good.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from streetvision_core.errors import MissingArtifactError, StreetVisionError
from streetvision_core.graph import CROSS_VALIDATION, LOOKS
from streetvision_core.history import scan
from streetvision_core.history import text as words
from streetvision_core.io import read_artifact
from streetvision_core.io.claims import abandoned
from streetvision_core.io.ledger import NUMBER, look_text
from streetvision_core.io.manifest import read_fields
from streetvision_core.io.names import MANIFEST_NAME
from streetvision_core.io.private import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from streetvision_core.io import ArtifactStore

# The metrics that tell runs apart, in the order in which a run finds them, by their short heads: the name,
# and the steps that report it. Other steps have metrics of these names too, of other images.
SHOWN_METRICS = {"val_mcc": ("val_mcc", ("phase1_checkpoint",))}
# Those of the roles that judge, on request: of 30 runs the best by val_test is .05 better there than it is.
JUDGING_METRICS = {"calib_mcc": ("val_calib_mcc", ("thresholds",)), "mcc": ("mcc", ("evaluation", "bundle"))}
_MOMENT = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)-")

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class RunEntry:
    """One run: the manifests of what it made, and what else lies in it; `champion` is the step that won.

    `unfinished` has every step without a manifest, with whether a process is at work on it; `damaged`
    one paragraph for each manifest that cannot be trusted.
    """

    run_id: str
    steps: Mapping[str, Fields]
    current: frozenset[str]
    unfinished: Mapping[str, bool]
    damaged: Sequence[str]
    source: str
    champion: str = ""

    @property
    def began(self) -> str:
        """The start of the run, ISO 8601 in UTC: from its id, else from the first step that it computed."""
        if match := _MOMENT.match(self.run_id):
            return "{}-{}-{}T{}:{}:{}Z".format(*match.groups())
        return min((fields["started_at"] for fields in self._computed()), default="")

    @property
    def code(self) -> list[str]:
        """The commits that the run computed with; where it computed nothing, those of what it took over."""
        made = self._computed() or list(self.steps.values())
        return sorted({words.code_text(fields["git_sha"], dirty=fields["git_dirty"]) for fields in made})

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "run_id": self.run_id,
            "began": self.began,
            "code": self.code,
            "pictures": self.source,
            "steps": {step: self._step_facts(step) for step in self.steps},
            "unfinished": {
                step: "at work" if busy else "interrupted" for step, busy in self.unfinished.items()
            },
            "damaged": list(self.damaged),
        }

    def row(self, shown: Mapping[str, tuple[str, tuple[str, ...]]]) -> list[str]:
        """Return the cells of the table, with a column for each metric that is `shown`."""
        numbers = [self._with_interval(name, steps) for name, steps in shown.values()]
        code = self.code[0] if len(self.code) == 1 else "several" if self.code else ""
        return [self.run_id, words.moment_text(self.began)[:16], *numbers, code, self.source]

    def below(self) -> Iterator[str]:
        """Yield the lines below the row: what was computed, reused, left unfinished, or is damaged."""
        computed = [step for step, fields in self.steps.items() if not fields.get("reused_from")]
        groups = {
            "computed": computed,
            "reused": [step for step in self.steps if step not in computed],
            "at work": [step for step, busy in self.unfinished.items() if busy],
            "interrupted": [step for step, busy in self.unfinished.items() if not busy],
        }
        for label, steps in groups.items():
            yield from words.wrap(label, map(self._marked, steps))
        yield from words.wrap("looked", self._looks().split())
        for fault in self.damaged:
            yield from words.wrap("DAMAGED", [fault])
        if not any(groups.values()) and not self.damaged:
            yield "  nothing published"

    def _marked(self, step: str) -> str:
        current, won = "*" * (step in self.current), " (champion)" * (step == self.champion)
        return f"{step}{current}{won}"

    def _with_interval(self, name: str, steps: Sequence[str]) -> str:
        """Return a MCC with its interval over groups, where the step that reports it recorded one."""
        made = [self.steps[step]["metrics"] for step in steps if step in self.steps]
        # Older versions recorded an MCC of 0 where a policy answers nothing.
        if any(all(metrics.get(cell) == 0 for cell in ("tp", "tn", "fp", "fn")) for metrics in made):
            return "no answers"
        metrics = next((metrics for metrics in made if name in metrics), None)
        if metrics is None:
            return ""
        ends = [metrics.get(f"mcc_{end}") for end in ("low", "high")]
        interval = "" if None in ends else " [{:.2f}, {:.2f}]".format(*ends)
        return f"{metrics[name]:.3f}{interval}"

    def _looks(self) -> str:
        metrics = {step: fields["metrics"] for step, fields in self.steps.items() if step in LOOKS}
        if NUMBER not in metrics.get(CROSS_VALIDATION, ()):
            metrics.pop(CROSS_VALIDATION, None)  # it looks only where it is asked to
        if not any(NUMBER in known for known in metrics.values()):
            return f"({look_text({})})" if metrics else ""
        return "; ".join(f"{step}: {look_text(known)}" for step, known in metrics.items())

    def _computed(self) -> list[Fields]:
        return [fields for fields in self.steps.values() if not fields.get("reused_from")]

    def _step_facts(self, step: str) -> dict[str, Any]:
        fields = self.steps[step]
        kept = (
            "data_version", "git_sha", "git_dirty", "code_version", "config_hash", "metrics", "started_at",
            "finished_at", "duration_seconds",
        )  # fmt: skip
        origin = fields.get("reused_from")
        return {
            "current": step in self.current,
            "champion": step == self.champion,
            "reused_from": origin["run_id"] if origin else None,
            **{name: fields[name] for name in kept},
        }


@dataclass(frozen=True)
class RunList:
    """The runs that were asked for, and the pointers that cannot be read.

    With `judged` the table shows what they reach on val_calib and val_test.
    """

    runs: Sequence[RunEntry]
    left_out: int
    faults: Sequence[str]
    judged: bool = False

    @property
    def good(self) -> bool:
        """True when everything that was looked at could be read."""
        return not self.faults and not any(run.damaged for run in self.runs)

    def facts(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "runs": [run.facts() for run in self.runs],
            "left_out": self.left_out,
            "faults": list(self.faults),
        }

    def text(self) -> str:
        """Return a table, each run with its steps below its row."""
        shown = {**SHOWN_METRICS, **(JUDGING_METRICS if self.judged else {})}
        names = ("run", "when (UTC)", *shown, "code", "images")
        head, *rows = words.columns([names, *(run.row(shown) for run in self.runs)])
        lines = [head]
        for run, row in zip(self.runs, rows, strict=True):
            lines += [words.trim(row), *run.below()]
        notes = [
            "* is current; a + after the code means uncommitted changes; intervals are at 95 %, over groups."
        ]
        judging = LOOKS.keys() - {CROSS_VALIDATION}
        if not self.judged and any(run.steps.keys() & judging for run in self.runs):
            notes.append(
                "val_mcc is of val_select, to choose by; --val-test shows val_calib and val_test too."
            )
        if self.left_out:
            notes.append(f"{words.count_text(self.left_out, 'older run')} left out (--all shows them).")
        return "\n".join([*lines, "", *notes, *(f"DAMAGED {fault}" for fault in self.faults)])


def list_runs(
    store: ArtifactStore, *, steps: Iterable[str] = (), limit: int | None = None, judged: bool = False
) -> RunList:
    """Return the newest `limit` runs of the store, or all; with `steps`, those that began one of them.

    With `judged`, what they reach on val_calib and val_test is shown too.
    """
    wanted = set(steps)
    _require_known(store, wanted)
    pointers, faults = scan.read_pointers(scan.latest_files(store.root))
    winners, lost = scan.read_pointers(scan.champion_files(store.root))
    current = {pointer.key for pointer in pointers}
    champions = {pointer.run_id: pointer.step for pointer in winners}
    source = cache(partial(_source, store))
    runs: list[RunEntry] = []
    ids = scan.run_ids(store.root)[::-1]
    looked_at = 0
    for run_id in ids:
        if limit is not None and len(runs) == limit:
            break
        looked_at += 1
        steps_of_run = scan.places(store.root, run_id)
        if not wanted or wanted & {place.step for place in steps_of_run}:
            entry = _entry(run_id, steps_of_run, current=current, source=source)
            runs.append(replace(entry, champion=champions.get(run_id, "")))
    return RunList(runs, len(ids) - looked_at, [*faults, *lost], judged)


def _require_known(store: ArtifactStore, steps: set[str]) -> None:
    known = (
        {place.step for places in scan.all_places(store.root).values() for place in places}
        if steps
        else set()
    )
    if unknown := sorted(steps - known):
        raise MissingArtifactError(
            "a step that some run has begun",
            ", ".join(unknown),
            store.root,
            f"Name one of {', '.join(sorted(known)) or 'the steps, once there are any'}.",
        )


def _entry(
    run_id: str, places: Sequence[scan.Place], *, current: set[scan.Key], source: Callable[[str], str]
) -> RunEntry:
    steps, damaged, unfinished = {}, [], {}
    for place in places:
        if not place.published:
            with abandoned(place.path) as free:
                unfinished[place.step] = not free
            continue
        try:
            steps[place.step] = _read(f"{place.location}/{MANIFEST_NAME}")
        except StreetVisionError as error:
            damaged.append(str(error))
    order = words.in_order({step: fields["input_artifacts"] for step, fields in steps.items()})
    return RunEntry(
        run_id,
        {step: steps[step] for step in order},
        frozenset(place.step for place in places if place.key in current),
        unfinished,
        damaged,
        source(reader) if (reader := _reader(run_id, steps)) else "",
    )


def _reader(run_id: str, steps: Mapping[str, Fields]) -> str:
    """Return the run that read the images of these steps; empty where there is none, or several."""
    if words.IMAGES in steps:
        return run_id
    inputs = [fields["input_artifacts"] for fields in steps.values()]
    readers = {given[words.IMAGES]["run_id"] for given in inputs if words.IMAGES in given}
    return readers.pop() if len(readers) == 1 else ""


def _source(store: ArtifactStore, run_id: str) -> str:
    """Return the images that a run read, in words: a hint, so a damaged manifest only leaves it out."""
    directory = store.directory(run_id, words.IMAGES)
    try:
        images = _read(os.fspath(directory / MANIFEST_NAME))
    except StreetVisionError:
        return ""
    config = images["config"]
    if HIDDEN in words.source_of(config)[1].values():
        with suppress(StreetVisionError):  # without the name of the folder where that is lost
            config = read_artifact(directory).config()
    return words.source_text(config, images["metrics"])


def _read(path: str) -> Fields:
    return read_fields(scan.read_bytes(path, expected="a readable manifest"), where=path)
