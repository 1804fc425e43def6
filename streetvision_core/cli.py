"""The `streetvision` command: for what was made, not for making it (`dagster` does that).

Exit codes: 0 the thing is good, 1 it is bad, 2 the command was used wrongly, 130 it was interrupted. What is
bad is one readable paragraph on standard error. Each command imports what it needs when it runs, so that
`--help` is quick.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from streetvision_core.commands import bundles, predict, promote, shared
from streetvision_core.errors import StoreError, StreetVisionError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    parsed, unknown = _parser().parse_known_args(arguments)
    if unknown:  # told by the parser of the command, which knows its options
        parsed.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        code: int = parsed.command(parsed)
        sys.stdout.flush()
    except StreetVisionError as error:
        shared.complain(error)
        return shared.BAD
    except KeyboardInterrupt:
        print(shared.GOES_ON, file=sys.stderr)
        return shared.INTERRUPTED
    except BrokenPipeError:
        # Whoever reads has enough, as `head` has. What Python still holds has to go somewhere when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return shared.GOOD
    except OSError as error:
        shared.complain(
            StoreError(
                "files that can be read",
                f"the error '{error.strerror}'",
                error.filename or "the store",
                "Check the path and its permissions.",
            )
        )
        return shared.BAD
    return code


def _parser() -> argparse.ArgumentParser:
    parser = shared.Parser(prog="streetvision", description="Look at what StreetVision made.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (
        _add_runs,
        _add_lineage,
        _add_diff,
        bundles.add_verify,
        promote.add_promote,
        _add_path,
        _add_report,
        _add_gc,
        predict.add_predict,
        bundles.add_drift,
        bundles.add_sign,
        bundles.add_export,
        bundles.add_publish,
        bundles.add_fetch,
    ):
        add(commands)
    return parser


def _add_runs(commands: shared.Commands) -> None:
    runs = shared.add_to_store(commands, _runs)
    runs.add_argument("steps", metavar="STEP", nargs="*", help="only runs that began one of these steps")
    runs.add_argument("--limit", metavar="N", type=_count, default=20, help="at most N runs (default: 20)")
    runs.add_argument("--all", action="store_true", help="all runs")
    runs.add_argument(
        "--val-test", action="store_true", help="also their MCC on val_calib and val_test; choose by neither"
    )
    runs.add_argument("--json", action="store_true", help="everything, for programs")


def _runs(parsed: argparse.Namespace) -> int:
    """List what was made, the newest run first.

    Of each run: when, what it made, by which code, and how good that is.
    """
    from streetvision_core.history.find import open_store
    from streetvision_core.history.runs import list_runs

    limit = None if parsed.all else parsed.limit
    store = open_store(parsed.store)
    return shared.show(
        list_runs(store, steps=parsed.steps, limit=limit, judged=parsed.val_test), as_json=parsed.json
    )


def _add_lineage(commands: shared.Commands) -> None:
    lineage = shared.add_to_store(commands, _lineage)
    lineage.add_argument("name", metavar="ASSET|BUNDLE", help="a step, or the folder of a bundle (./NAME)")
    lineage.add_argument("--run", metavar="RUN", help="as this run made it (default: what is current)")
    form = lineage.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="all manifests, for programs")
    form.add_argument("--mermaid", action="store_true", help="a Mermaid graph, for a page")


def _lineage(parsed: argparse.Namespace) -> int:
    """Show what something was made from, down to the images.

    The chain of an artifact: runs, commits, configurations, images.
    """
    from streetvision_core.history.find import find_run, names_folder, open_store
    from streetvision_core.history.lineage import chain_in_store, chain_of_folder

    if names_folder(parsed.name):
        if parsed.run:
            parsed.parser.error("--run is for a step; the folder of a bundle is of one run")
        chain = chain_of_folder(Path(parsed.name))
    else:
        store = open_store(parsed.store)
        chain = chain_in_store(store, parsed.name, run_id=find_run(store, parsed.run) if parsed.run else None)
    if parsed.mermaid:
        from streetvision_core.history.lineage import mermaid_text

        shared.print_text(mermaid_text(chain))
        return shared.GOOD if chain.good else shared.BAD
    return shared.show(chain, as_json=parsed.json)


def _add_diff(commands: shared.Commands) -> None:
    diff = shared.add_to_store(commands, _diff)
    meaning = "a run (its id, a beginning or an end of it), 'current', or the folder of a bundle"
    diff.add_argument("a", metavar="RUN_A", help=meaning)
    diff.add_argument("b", metavar="RUN_B", help="the same")
    diff.add_argument("--json", action="store_true", help="everything, for programs")


def _diff(parsed: argparse.Namespace) -> int:
    """Show where two runs differ.

    Configuration, code, inputs, content, packages and metrics are compared, by step.
    """
    from streetvision_core.history.diff import compare
    from streetvision_core.history.find import find_made

    a, b = (find_made(name, store_path=parsed.store) for name in (parsed.a, parsed.b))
    return shared.show(compare(a, b), as_json=parsed.json)


def _add_path(commands: shared.Commands) -> None:
    path = shared.add_to_store(commands, _path)
    path.add_argument(
        "step", metavar="STEP", nargs="?", default="bundle", help="a step, or champion (default: bundle)"
    )
    path.add_argument("--run", metavar="RUN", help="as this run made it (default: what is current)")


def _path(parsed: argparse.Namespace) -> int:
    """Print where something lies, for other programs.

    One line: the folder of a step's current artifact, of the bundle by default, or of the champion.
    """
    from streetvision_core.history.champion import find_champion
    from streetvision_core.history.find import find_published, open_store
    from streetvision_core.io.names import CHAMPION

    if parsed.step == CHAMPION:
        if parsed.run:
            parsed.parser.error("--run is for a step; there is one champion")
        print(find_champion(open_store(parsed.store)).directory.absolute())
        return shared.GOOD
    # Not by _print: another program gets the path, and must get it as it is.
    print(find_published(parsed.step, run=parsed.run, store_path=parsed.store).directory.absolute())
    return shared.GOOD


def _add_report(commands: shared.Commands) -> None:
    report = shared.add_to_store(commands, _report)
    report.add_argument("--run", metavar="RUN", help="of this run (default: what is current)")
    report.add_argument("--open", action="store_true", help="open it in the browser as well")


def _report(parsed: argparse.Namespace) -> int:
    """Print where the report of the evaluation lies, or open it.

    Its bytes are verified first.
    """
    from streetvision_core.history.find import find_published
    from streetvision_core.io.ledger import look_text
    from streetvision_core.report.pages import PAGE_NAME

    evaluation = find_published("evaluation", run=parsed.run, store_path=parsed.store)
    evaluation.read_bytes(PAGE_NAME)  # raises unless it is what was published
    page = evaluation.path(PAGE_NAME).absolute()
    print(page)
    # Not in the page: its bytes are content, and content is the same however often it was looked at.
    shared.tell(f"val_test: {look_text(evaluation.manifest.metrics)}.")
    if parsed.open:
        _open(page)
    return shared.GOOD


def _open(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.as_uri()):
        raise StoreError("a browser on this machine", "none", page, "Open the file where there is one.")


def _add_gc(commands: shared.Commands) -> None:
    gc = shared.add_to_store(commands, _gc)
    gc.add_argument(
        "--keep-runs", metavar="N", type=_count, default=5, help="newest runs to keep (default: 5)"
    )
    gc.add_argument(
        "--features-gib",
        metavar="G",
        type=_size,
        default=20.0,
        help="cached features to keep, those used last, in GiB (default: 20)",
    )
    how = gc.add_mutually_exclusive_group()
    how.add_argument("--delete", action="store_true", help="remove it, instead of saying what would go")
    how.add_argument("--dry-run", action="store_true", help="only say what would go, as without it")
    gc.add_argument("--json", action="store_true", help="everything, for programs")


def _gc(parsed: argparse.Namespace) -> int:
    """Clear away what nothing needs (a dry run by default).

    Free the artifacts that nothing keeps, and what killed runs left. Kept are: everything current, the
    newest runs, runs at work, and everything that one of those was made from.
    """
    from streetvision_core.history.find import open_store

    store = open_store(parsed.store)
    if parsed.delete:
        from streetvision_core.history.remove import collect as answer
    else:
        from streetvision_core.history.gc import plan_collection as answer

    features_bytes = int(parsed.features_gib * 2**30)
    collection = answer(store, keep_runs=parsed.keep_runs, features_bytes=features_bytes)
    return shared.show(collection, as_json=parsed.json)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number from 0 is expected, not {text!r}")
    return int(text)


def _size(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"a number from 0 is expected, not {text!r}")
    return float(text)


if __name__ == "__main__":
    sys.exit(main())
