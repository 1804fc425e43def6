"""The promotion of a bundle to champion, which moves one pointer of the store.

The challenger is verified, with its golden images, and has to be releasable. Where there is a champion, it
has to be better by the paired test of `streetvision diff`, on the very same images of val_test. Then the
pointer is written, the one change: whatever is killed before it leaves the champion as it was.

The test is about the images that both answer. So that nobody wins by deferring what is hard, the challenger
has to answer as large a share as the champion, within the interval of that. The low ends of such intervals
sink from champion to champion, so the pointer keeps the highest of them: no promotion lowers this floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streetvision_core.commands.shared import GOOD, add_to_store, print_text
from streetvision_core.errors import BundleError

if TYPE_CHECKING:
    import argparse

    from streetvision_core.commands.shared import Commands
    from streetvision_core.history.paired import PairedEvaluations, Shipped
    from streetvision_core.io import ArtifactStore, PublishedArtifact


@dataclass(frozen=True)
class Promotion:
    """The champion after a promotion: `before` is the run of the one that it beat, if there was one."""

    run_id: str
    before: str | None
    verdict: str
    paired: PairedEvaluations | None
    looks: str
    moved: bool = True

    def text(self) -> str:
        """Return it for a person."""
        if not self.moved:
            return f"{self.run_id} has the content of the champion already; nothing was changed."
        beaten = [f"A  {self.before}, the champion until now", f"B  {self.run_id}"] if self.before else []
        table = self.paired.lines() if self.paired else []
        first = "" if self.before else ", the first one"
        lines = [*beaten, *table, f"{self.run_id} is the champion now{first}. It is {self.verdict}."]
        return "\n".join([*lines, f"val_test: {self.looks}."])


def promote(store: ArtifactStore, challenger: PublishedArtifact) -> Promotion:
    """Make a bundle of the store its champion.

    Raises:
        BundleError: it does not verify, is not releasable, does not beat the champion, answers fewer images,
            or cannot be compared with it.
        StreetVisionError: the champion is damaged, or the store cannot be written.
    """
    from streetvision_core.bundle import verify_bundle
    from streetvision_core.bundle.verify import release_of
    from streetvision_core.graph import EVALUATION
    from streetvision_core.history.champion import move_champion, read_champion
    from streetvision_core.io.ledger import look_text

    verify_bundle(challenger.directory, deep=True, manifest_sha256=challenger.manifest_sha256)
    release = release_of(challenger)
    if not release.releasable:
        raise BundleError(
            "a bundle that keeps its release rules",
            release.text(),
            challenger.directory,
            "The champion stays as it was. Follow the advice of each rule, and promote again.",
        )
    run_id = challenger.manifest.run_id
    looks = look_text(store.input_of(challenger, EVALUATION).manifest.metrics)
    while True:
        champion = read_champion(store)
        before = champion.manifest.run_id if champion else None
        if champion and champion.manifest.data_version == challenger.manifest.data_version:
            return Promotion(run_id, before, release.text(), None, looks, moved=False)
        floor = _floor(champion, store) if champion else 0.0
        paired = _beat(champion, challenger, store, floor) if champion else None
        raised = max(floor, _low_coverage(_shipped(challenger, store)))
        if move_champion(store, challenger, beaten=champion, floor=raised):
            return Promotion(run_id, before, release.text(), paired, looks)


def _beat(
    champion: PublishedArtifact, challenger: PublishedArtifact, store: ArtifactStore, floor: float
) -> PairedEvaluations:
    """Return the comparison that the challenger, B, wins while it answers a share of at least the floor."""
    from streetvision_core.history.champion import champion_file
    from streetvision_core.history.paired import compare_shipped

    a, b = (_shipped(bundle, store) for bundle in (champion, challenger))
    who = f"A, the champion of run {champion.manifest.run_id}, and B, of run {challenger.manifest.run_id}"
    paired = compare_shipped(a, b)
    if paired.policies is None:
        raise BundleError(
            f"two bundles that can be compared: {who}",
            paired.obstacle,
            challenger.directory,
            "The champion stays as it was. If the test has to change, nothing tells which is better: remove"
            f" {champion_file(store)}, and the next promotion is a first one.",
        )
    (pair,) = paired.policies.values()
    if pair.better != "B":
        raise BundleError(
            f"a challenger that beats the champion: {who}",
            paired.numbers(),
            challenger.directory,
            "The champion stays as it was. More test images show smaller differences; trying again and again"
            " on the same ones shows differences that are not there.",
        )
    if pair.coverage_b < floor:
        raise BundleError(
            f"a challenger that answers as many images as the champions, at least {floor:.1%}: {who}",
            paired.numbers(),
            challenger.directory,
            "The champion stays as it was. A deferred image is no win: raise the coverage of B's policy. No"
            " promotion lowers this floor, the highest low end of the champions' coverage. If B is to defer"
            f" so many, remove {champion_file(store)}; the next promotion is a first one.",
        )
    return paired


def _floor(champion: PublishedArtifact, store: ArtifactStore) -> float:
    """Return the share that a challenger has to answer; an older pointer has that of its champion alone."""
    from streetvision_core.history.champion import coverage_floor

    recorded = coverage_floor(store)
    return _low_coverage(_shipped(champion, store)) if recorded is None else recorded


def _low_coverage(shipped: Shipped) -> float:
    """Return the low end of the interval over groups of the share that a bundle's policy answers."""
    from streetvision_core.io.records import read_record
    from streetvision_core.report.evaluation import EVALUATION_NAME
    from streetvision_core.report.report import Report

    evaluation = shipped.evaluation
    data, where = evaluation.read_bytes(EVALUATION_NAME), str(evaluation.directory)
    return read_record(Report, data, where=where).of(shipped.kind).coverage.interval.low


def _shipped(bundle: PublishedArtifact, store: ArtifactStore) -> Shipped:
    from streetvision_core.bundle.layout import RECORD, BundleRecord
    from streetvision_core.graph import EVALUATION
    from streetvision_core.history.paired import Shipped

    record = BundleRecord.from_bytes(bundle.read_bytes(RECORD), where=str(bundle.directory))
    return Shipped(record.policy.type, store.input_of(bundle, EVALUATION))


def add_promote(commands: Commands) -> None:
    """Add `promote`."""
    promote_command = add_to_store(commands, _promote)
    promote_command.add_argument(
        "run", metavar="RUN", nargs="?", help="the bundle of this run (default: current)"
    )


def _promote(parsed: argparse.Namespace) -> int:
    """Make a bundle the champion of the store.

    It has to verify and be releasable, and to beat the champion by the paired test on the same test images.
    Otherwise the champion stays, and the exit code is 1.
    """
    from streetvision_core.graph import BUNDLE
    from streetvision_core.history.find import find_published, open_store

    challenger = find_published(BUNDLE, run=parsed.run, store_path=parsed.store)
    print_text(promote(open_store(parsed.store), challenger).text())
    return GOOD
