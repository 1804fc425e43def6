"""The ``dagster`` command as the function of ``activate.sh`` runs it: prepared, and ready for Ctrl-C."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from streetvision_assets.interrupts import interruptible
from streetvision_assets.preflight import prepare, prepare_to_serve
from streetvision_core.cli import BAD, GOOD
from streetvision_core.errors import StreetVisionError

if TYPE_CHECKING:
    from collections.abc import Sequence

# The commands that run steps in this very process. Others start servers.
_MAKES = {("asset", "materialize"), ("job", "execute")}


def main(words: Sequence[str]) -> int:
    """Run a ``dagster`` command and return its exit code."""
    try:
        (prepare_to_serve if words[:1] == ["dev"] else prepare)()
    except StreetVisionError as error:
        print(error, file=sys.stderr)  # noqa: T201 - what the person at the terminal reads
        return BAD
    if tuple(words[:2]) in _MAKES:
        return _make(words)
    return _become_dagster(words)


def _become_dagster(words: Sequence[str]) -> NoReturn:
    program = str(Path(sys.executable).with_name("dagster"))
    os.execv(program, [program, *words])  # noqa: S606 - no shell is wanted


def _make(words: Sequence[str]) -> int:
    """Run the command as Dagster does, but for the error that is raised and not printed after Ctrl-C."""
    import click
    from dagster._cli import ENV_PREFIX, cli

    run = partial(cli.main, list(words), "dagster", auto_envvar_prefix=ENV_PREFIX, standalone_mode=False)
    try:
        return interruptible(lambda: run() or GOOD)
    except click.ClickException as error:
        error.show()
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
