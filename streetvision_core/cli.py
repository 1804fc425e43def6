"""The `streetvision` command: for what was made, not for making it (`dagster` does that).

Exit codes: 0 the thing is good, 1 it is bad, 2 the command was used wrongly, 130 it was interrupted. What is
bad is one readable paragraph on standard error. Each command imports what it needs when it runs, so that
`--help` is quick.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias

from streetvision_core.errors import ConfigError, StoreError, StreetVisionError
from streetvision_core.escape import for_json_text, for_terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streetvision_core.errors import DataError

    Run = Callable[[argparse.Namespace], int]
    Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"  # noqa: SLF001 - argparse names it nowhere else

GOOD, BAD, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
# What Ctrl-C is answered with; `dagster` answers it alike (streetvision_assets/commands/interrupts.py).
GOES_ON = "Interrupted: the next run goes on where this one stopped."


class Answer(Protocol):
    """The answer of a command that looks at the store."""

    @property
    def good(self) -> bool:
        """True when nothing is wrong with what was looked at."""

    def text(self) -> str:
        """Return it for a person."""

    def facts(self) -> dict[str, Any]:
        """Return it for a program, as JSON values."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    parsed, unknown = _parser().parse_known_args(arguments)
    if unknown:  # told by the parser of the command, which knows its options
        parsed.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        code: int = parsed.command(parsed)
        sys.stdout.flush()
    except StreetVisionError as error:
        _complain(error)
        return BAD
    except KeyboardInterrupt:
        print(GOES_ON, file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever reads has enough, as `head` has. What Python still holds has to go somewhere when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GOOD
    except OSError as error:
        _complain(
            StoreError(
                "files that can be read",
                f"the error '{error.strerror}'",
                error.filename or "the store",
                "Check the path and its permissions.",
            )
        )
        return BAD
    return code


class _Parser(argparse.ArgumentParser):
    """A parser that answers wrong usage with one paragraph and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print the paragraph, with a guess where a command or an option is misspelt, and exit."""
        from difflib import get_close_matches

        usage = " ".join(self.format_usage().split())
        known = re.findall(r"[\w-]+", f"{usage} {message.partition('choose from')[2]}")
        wrong = re.search(r"(?:invalid choice: '|arguments: )([\w-]+)", message)
        close = get_close_matches(wrong[1], known, n=1) if wrong else []
        guess = f"Did you mean {close[0]}? " if close else ""
        advice = f"{guess}'{self.prog} --help' explains it."
        _complain(ConfigError(usage, f"a mistake: {message}", "the command line", advice))
        sys.exit(WRONG_USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="streetvision", description="Look at what StreetVision made.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (
        _add_runs,
        _add_lineage,
        _add_diff,
        _add_verify,
        _add_path,
        _add_report,
        _add_gc,
        _add_predict,
        _add_publish,
        _add_fetch,
    ):
        add(commands)
    return parser


def _add(commands: Commands, run: Run) -> argparse.ArgumentParser:
    """Add the command that ``run`` carries out, with its name (without the underscore) and its docstring."""
    text = " ".join((run.__doc__ or "-").split())  # Python leaves docstrings out with -OO
    summary = text.partition(".")[0]
    help_text = summary[0].lower() + summary[1:]
    command = commands.add_parser(run.__name__.lstrip("_"), help=help_text, description=text)
    command.set_defaults(command=run, parser=command)
    return command


def _add_to_store(commands: Commands, run: Run) -> argparse.ArgumentParser:
    command = _add(commands, run)
    command.add_argument("--store", metavar="PATH", help="the store (default: where the environment says)")
    return command


def _add_runs(commands: Commands) -> None:
    runs = _add_to_store(commands, _runs)
    runs.add_argument("steps", metavar="STEP", nargs="*", help="only runs that began one of these steps")
    runs.add_argument("--limit", metavar="N", type=_count, default=20, help="at most N runs (default: 20)")
    runs.add_argument("--all", action="store_true", help="all runs")
    runs.add_argument(
        "--val-test",
        action="store_true",
        help="also their MCC on val_calib and val_test; choose by neither",
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
    return _show(
        list_runs(store, steps=parsed.steps, limit=limit, judged=parsed.val_test), as_json=parsed.json
    )


def _add_lineage(commands: Commands) -> None:
    lineage = _add_to_store(commands, _lineage)
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

        _print(mermaid_text(chain))
        return GOOD if chain.good else BAD
    return _show(chain, as_json=parsed.json)


def _add_diff(commands: Commands) -> None:
    diff = _add_to_store(commands, _diff)
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
    return _show(compare(a, b), as_json=parsed.json)


def _add_verify(commands: Commands) -> None:
    verify = _add_to_store(commands, _verify)
    what = verify.add_mutually_exclusive_group()
    what.add_argument("name", metavar="RUN|BUNDLE", nargs="?", help="a run, or the folder of a bundle")
    what.add_argument("--all", action="store_true", help="everything published, and every pointer")
    _add_manifest_sha256(verify)
    verify.add_argument("--deep", action="store_true", help="also answer a bundle's golden images again")


def _verify(parsed: argparse.Namespace) -> int:
    """Tell whether what was made is whole and of one chain.

    Hash every file again, and follow what it was made from: of what is current, of a run, of everything in
    the store, or of a bundle's folder.
    """
    from streetvision_core.history.find import find_run, names_folder, open_store

    if parsed.name and names_folder(parsed.name):
        return _verify_bundle(parsed.name, deep=parsed.deep, manifest_sha256=parsed.manifest_sha256)
    if parsed.manifest_sha256:
        parsed.parser.error("--manifest-sha256 is for the folder of a bundle (./NAME)")
    from streetvision_core.history.verify import verify_current, verify_everything, verify_run

    store = open_store(parsed.store)
    if parsed.all:
        found = verify_everything(store)
    else:
        found = verify_run(store, find_run(store, parsed.name)) if parsed.name else verify_current(store)
    _print(found.text())
    if not found.good:
        return BAD
    if parsed.deep:
        for bundle in (one for one in found.checked if one.step == "bundle"):
            _verify_bundle(str(store.directory(bundle.run_id, bundle.step)), deep=True)
    return GOOD


def _verify_bundle(path: str, *, deep: bool, manifest_sha256: str | None = None) -> int:
    from streetvision_core.bundle import verify_bundle

    _print(verify_bundle(path, deep=deep, manifest_sha256=manifest_sha256).summary())
    return GOOD


def _add_path(commands: Commands) -> None:
    path = _add_to_store(commands, _path)
    path.add_argument("step", metavar="STEP", nargs="?", default="bundle", help="a step (default: bundle)")
    path.add_argument("--run", metavar="RUN", help="as this run made it (default: what is current)")


def _path(parsed: argparse.Namespace) -> int:
    """Print where something lies, for other programs.

    One line: the folder of a step's current artifact, of the bundle by default.
    """
    from streetvision_core.history.find import find_published

    # Not by _print: another program gets the path, and must get it as it is.
    print(find_published(parsed.step, run=parsed.run, store_path=parsed.store).directory.absolute())
    return GOOD


def _add_report(commands: Commands) -> None:
    report = _add_to_store(commands, _report)
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
    _tell(f"val_test: {look_text(evaluation.manifest.metrics)}.")
    if parsed.open:
        _open(page)
    return GOOD


def _open(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.as_uri()):
        raise StoreError("a browser on this machine", "none", page, "Open the file where there is one.")


def _add_gc(commands: Commands) -> None:
    gc = _add_to_store(commands, _gc)
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
    found = answer(store, keep_runs=parsed.keep_runs, features_bytes=features_bytes)
    return _show(found, as_json=parsed.json)


def _add_predict(commands: Commands) -> None:
    predict = _add(commands, _predict)
    predict.add_argument("path", metavar="PATH", help="the folder of the bundle")
    _add_manifest_sha256(predict)
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="an image's file")


def _add_publish(commands: Commands) -> None:
    publish = _add_to_store(commands, _publish)
    publish.add_argument("repository", metavar="REPO", help="OWNER/NAME on the hub")
    publish.add_argument("path", metavar="BUNDLE", nargs="?", help="its folder (default: the current one)")
    publish.add_argument("--revision", metavar="NAME", default="main", help="a branch (default: main)")
    publish.add_argument("--private", action="store_true", help="only into a private repository")
    publish.add_argument("--dry-run", action="store_true", help="only say what would go, and what it reveals")


def _publish(parsed: argparse.Namespace) -> int:
    """Publish a bundle on the Hugging Face hub, in one commit.

    The bundle is verified first. HF_ENDPOINT says where the hub is; the token is HF_TOKEN, or that of
    'hf auth login'.
    """
    from streetvision_core.bundle.hub.publish import plan, publish
    from streetvision_core.history.find import find_published

    path = parsed.path or find_published("bundle", run=None, store_path=parsed.store).directory
    publication = plan(path, parsed.repository, revision=parsed.revision, private=parsed.private)
    _print(publication.text())
    if not parsed.dry_run:
        commit = publish(publication)
        _print(f"published  {parsed.repository} at {commit}\nmanifest   {publication.manifest_sha256}")
    return GOOD


def _add_fetch(commands: Commands) -> None:
    fetch = _add(commands, _fetch)
    fetch.add_argument("repository", metavar="REPO", help="OWNER/NAME on the hub")
    fetch.add_argument("directory", metavar="DIR", help="a new or an empty folder")
    fetch.add_argument("--revision", metavar="NAME", default="main", help="a branch, a tag or a commit")


def _fetch(parsed: argparse.Namespace) -> int:
    """Fetch a bundle from the Hugging Face hub, and verify it.

    A folder that does not verify is not left behind.
    """
    from streetvision_core.bundle.hub.fetch import fetch

    verification, commit = fetch(parsed.repository, parsed.directory, revision=parsed.revision)
    _print(f"{verification.summary()}\nfrom       {parsed.repository} at {commit}")
    return GOOD


def _predict(parsed: argparse.Namespace) -> int:
    """Answer images with a bundle, one JSON line each.

    The bundle is verified first. A line has: picture, probability, decision.
    """
    from streetvision_core.bundle import Predictor, load_bundle

    bundle, unreadable = load_bundle(parsed.path, manifest_sha256=parsed.manifest_sha256), []
    if additions := str(bundle.contents.additions):
        _tell(f"Beside the bundle: {additions}.")
    predictor = Predictor(bundle.model, config=bundle.config, policy=bundle.policy)

    def note(name: str, error: DataError) -> None:
        unreadable.append(name)
        _complain(error)

    for answer in predictor.predict(parsed.images, on_error=note):
        line = {"picture": answer.name, "probability": answer.probability, "decision": answer.decision}
        print(for_json_text(json.dumps(line)), flush=True)
    return BAD if unreadable else GOOD


def _add_manifest_sha256(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--manifest-sha256",
        metavar="SHA256",
        type=_sha256,
        help="what the manifest of the bundle must hash to, from somebody you trust",
    )


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"64 hexadecimal digits are expected, not {text!r}")
    return text.lower()


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number from 0 is expected, not {text!r}")
    return int(text)


def _size(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"a number from 0 is expected, not {text!r}")
    return float(text)


def _show(answer: Answer, *, as_json: bool) -> int:
    if as_json:
        print(for_json_text(json.dumps(answer.facts(), indent=1)))
    else:
        _print(answer.text())
    return GOOD if answer.good else BAD


def _print(text: str) -> None:
    """Print a text; what a manifest from elsewhere holds must not steer the terminal."""
    print(for_terminal(text))


def _tell(text: str) -> None:
    """Tell a person on standard error, so that standard output is for programs alone."""
    print(for_terminal(text), file=sys.stderr)


def _complain(error: StreetVisionError) -> None:
    _tell(str(error))


if __name__ == "__main__":
    sys.exit(main())
