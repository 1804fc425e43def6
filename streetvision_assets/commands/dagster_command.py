"""The `dagster` command as the function of `activate.sh` runs it: prepared, readable, ready for Ctrl-C.

Without a logger in its configuration Dagster prints traces, and only a configuration can name ours. So
`asset materialize` is given one file more. Dagster takes configuration files or `--config-json` and not
both; JSON is YAML, so it goes in as a file as well, the last one. `dev` is served by `serve.py`.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn

from streetvision_assets.commands.interrupts import interruptible, one_line_after_ctrl_c
from streetvision_core.commands.shared import BAD, GOOD
from streetvision_core.errors import StreetVisionError

with one_line_after_ctrl_c():
    from streetvision_assets.commands.preflight import prepare, prepare_to_serve

if TYPE_CHECKING:
    from collections.abc import Sequence

# The commands that run steps in this very process. Others start servers.
_MATERIALIZE, _EXECUTE = ("asset", "materialize"), ("job", "execute")
_JSON = "--config-json"
_DAGSTER = str(Path(sys.executable).with_name("dagster"))


def main(words: Sequence[str]) -> int:
    """Run a `dagster` command and return its exit code."""
    serves = words[:1] == ["dev"]
    try:
        (prepare_to_serve if serves else prepare)()
    except StreetVisionError as error:
        print(error, file=sys.stderr)  # noqa: T201 - what the person at the terminal reads
        return BAD
    if not serves:
        _import_nothing_from_here(words)
    if tuple(words[:2]) in {_MATERIALIZE, _EXECUTE}:
        with TemporaryDirectory(prefix="streetvision-") as folder:
            return _make(words, Path(folder))
    server = [sys.executable, "-P", "-m", "streetvision_assets.commands.serve"]
    return _become(server if serves else [_DAGSTER], words)


def _import_nothing_from_here(words: Sequence[str]) -> None:
    """Name a folder without modules to a command that would put the working directory first on its path."""
    if len(words) > 1:
        option = f"DAGSTER_CLI_{words[0]}_{words[1]}_WORKING_DIRECTORY".upper().replace("-", "_")
        os.environ.setdefault(option, sys.prefix)


def _check_files(words: Sequence[str]) -> None:
    """Refuse what is no run configuration in the files and the text that a command names.

    Raises:
        ConfigError: one is not.
    """
    from streetvision_assets.presets import parse_run_config, read_preset
    from streetvision_assets.settings.refusals import check_written, refuse_nothing

    check = check_written if tuple(words[:2]) == _MATERIALIZE else refuse_nothing
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-c", "--config", action="append", default=[], type=Path)
    parser.add_argument(_JSON, dest="text")
    given = parser.parse_known_args(words)[0]
    for file in given.config:
        if file.is_file():  # else Dagster says that there is none
            check(read_preset(file))
    if given.text is not None:
        check(parse_run_config(given.text, _JSON))


def _with_our_logger(words: Sequence[str], folder: Path) -> list[str]:
    """Return the command with our logger, and what `--config-json` gives, as files of configuration."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(_JSON, dest="text")
    known, rest = parser.parse_known_args(words)
    for name, text in {"console.yaml": "loggers: {console: {}}\n", "settings.yaml": known.text}.items():
        if text:
            (folder / name).write_text(text, encoding="utf-8")
            rest += ["-c", str(folder / name)]
    return rest


def _become(program: Sequence[str], words: Sequence[str]) -> NoReturn:
    os.execv(program[0], [*program, *words])  # noqa: S606 - no shell is wanted


def _make(words: Sequence[str], folder: Path) -> int:
    """Run the command as Dagster does, but for errors that it would raise and not print."""
    import click
    import dagster as dg
    from dagster._cli import ENV_PREFIX, cli

    from streetvision_assets.settings.refusals import paragraph

    try:
        _check_files(words)
        if tuple(words[:2]) == _MATERIALIZE:
            words = _with_our_logger(words, folder)
        run = partial(cli.main, list(words), "dagster", auto_envvar_prefix=ENV_PREFIX, standalone_mode=False)
        return interruptible(lambda: run() or GOOD)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (dg.DagsterInvalidConfigError, StreetVisionError) as error:
        refusal = paragraph(error) if isinstance(error, dg.DagsterInvalidConfigError) else error
        print(refusal, file=sys.stderr)  # noqa: T201 - as above
        return BAD


if __name__ == "__main__":
    with one_line_after_ctrl_c():
        sys.exit(main(sys.argv[1:]))
