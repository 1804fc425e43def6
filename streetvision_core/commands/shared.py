"""The ground of all commands: exit codes, the parser, and the printing of answers and errors."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias

from streetvision_core.errors import ConfigError, StreetVisionError
from streetvision_core.escape import for_json_text, for_terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[[argparse.Namespace], int]
    Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - argparse names it nowhere else

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


class Parser(argparse.ArgumentParser):
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
        complain(ConfigError(usage, f"a mistake: {message}", "the command line", advice))
        sys.exit(WRONG_USAGE)


def add(commands: Commands, run: Run) -> argparse.ArgumentParser:
    """Add the command that `run` carries out, with its name (without the underscore) and its docstring."""
    text = " ".join((run.__doc__ or "-").split())  # Python leaves docstrings out with -OO
    summary = text.partition(".")[0]
    help_text = summary[0].lower() + summary[1:]
    command = commands.add_parser(run.__name__.lstrip("_"), help=help_text, description=text)
    command.set_defaults(command=run, parser=command)
    return command


def add_to_store(commands: Commands, run: Run) -> argparse.ArgumentParser:
    """Add a command that looks at a store."""
    command = add(commands, run)
    command.add_argument("--store", metavar="PATH", help="the store (default: where the environment says)")
    return command


def show(answer: Answer, *, as_json: bool) -> int:
    """Print an answer, and return the exit code that it means."""
    if as_json:
        print(for_json_text(json.dumps(answer.facts(), indent=1)))
    else:
        print_text(answer.text())
    return GOOD if answer.good else BAD


def print_text(text: str) -> None:
    """Print a text; what a manifest from elsewhere holds must not steer the terminal."""
    print(for_terminal(text))


def tell(text: str) -> None:
    """Tell a person on standard error, so that standard output is for programs alone."""
    print(for_terminal(text), file=sys.stderr)


def complain(error: StreetVisionError) -> None:
    """Tell what is bad, in one paragraph."""
    tell(str(error))


def add_origin(command: argparse.ArgumentParser) -> None:
    """Add what the bundle has to prove of its origin."""
    command.add_argument(
        "--manifest-sha256",
        metavar="SHA256",
        type=_sha256,
        help="what the manifest of the bundle must hash to, from somebody you trust",
    )
    command.add_argument("--key", metavar="PUBLIC.pem", help="the key of somebody you trust, who signed it")


def origin_of(parsed: argparse.Namespace) -> dict[str, str | None]:
    """Return what `add_origin` added, as `load_bundle` takes it."""
    return {"manifest_sha256": parsed.manifest_sha256, "key": parsed.key}


def check_outside(output: str | Path, bundle: str | Path) -> None:
    """Refuse to write a file into a bundle, which would change it; raises ConfigError."""
    if Path(output).resolve().is_relative_to(Path(bundle).resolve()):
        action = "In there it would change the bundle: name another."
        raise ConfigError("a file outside of the bundle", "one in it", output, action)


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"64 hexadecimal digits are expected, not {text!r}")
    return text.lower()
