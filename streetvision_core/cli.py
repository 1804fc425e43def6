"""The `streetvision` command: for what was made, not for making it (`dagster` does that).

Exit codes: 0 the thing is good, 1 it is bad, 2 the command was used wrongly. What is bad is one readable
paragraph on standard error. Each command imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from streetvision_core.errors import StreetVisionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streetvision_core.errors import DataError

GOOD, BAD = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    parsed = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = parsed.command
    try:
        return command(parsed)
    except StreetVisionError as error:
        _complain(error)
        return BAD


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="streetvision", description="Look at what StreetVision made.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_verify(commands)
    _add_predict(commands)
    return parser


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    verify = commands.add_parser(
        "verify",
        help="tell whether a bundle is whole and of one chain",
        description="Hash every file of a bundle again and follow its chain down to the pictures.",
    )
    verify.add_argument("path", metavar="PATH", help="the folder of the bundle")
    verify.add_argument("--deep", action="store_true", help="also answer its golden pictures again")
    verify.set_defaults(command=_verify)


def _verify(parsed: argparse.Namespace) -> int:
    from streetvision_core.bundle import verify_bundle

    print(verify_bundle(parsed.path, deep=parsed.deep).summary())
    return GOOD


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    predict = commands.add_parser(
        "predict",
        help="answer pictures with a bundle, one JSON line each",
        description="Verify a bundle, then print one JSON line a picture: picture, probability, decision.",
    )
    predict.add_argument("path", metavar="PATH", help="the folder of the bundle")
    predict.add_argument("pictures", metavar="PICTURE", nargs="+", help="a picture's file")
    predict.set_defaults(command=_predict)


def _predict(parsed: argparse.Namespace) -> int:
    from streetvision_core.bundle import Predictor

    unreadable = []

    def note(name: str, error: DataError) -> None:
        unreadable.append(name)
        _complain(error)

    for answer in Predictor.load(parsed.path).predict(parsed.pictures, on_error=note):
        line = {"picture": answer.name, "probability": answer.probability, "decision": answer.decision}
        print(json.dumps(line), flush=True)
    return BAD if unreadable else GOOD


def _complain(error: StreetVisionError) -> None:
    print(error, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
