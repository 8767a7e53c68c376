# SPDX-License-Identifier: Apache-2.0
"""The `tttdebug` command: its commands in the order of --help, and what becomes of an error.

Exit codes: 0 nothing is wrong, 1 a gate fails or something was found, 2 no result.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from tttdebug.commands.explain import explain
from tttdebug.commands.installation import conformance, doctor, models
from tttdebug.commands.own_port import audit, pair
from tttdebug.commands.report import report
from tttdebug.commands.run import run
from tttdebug.commands.saved_run import dashboard, show, visualizer
from tttdebug.commands.selftest import selftest
from tttdebug.commands.swapping import bisect, swap
from tttdebug.errors import PortRaisedError, TttdebugError

app = typer.Typer(
    name="tttdebug",
    help="Says which module of a TTNN port diverged from its torch reference, by how much, why, and what mends it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
DEBUG = "--debug"

app.command(context_settings={"allow_interspersed_args": False})(run)
for command in (explain, swap, bisect, show, report, dashboard, visualizer, pair, audit, models, doctor, selftest):
    app.command()(command)
emulator = typer.Typer(help="The emulated chip itself.", no_args_is_help=True)
emulator.command()(conformance)
app.add_typer(emulator, name="emulator")


@app.callback()
def _options(debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error.")] = False) -> None:
    """Read by `main` before typer sees it; declared here so that --help lists it."""


def main() -> None:
    """Entry point: an error is one line on standard error and exit code 2; `--debug`, anywhere, shows its traceback."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads are many times slower on a busy machine
    debug = DEBUG in sys.argv
    if debug:
        sys.argv.remove(DEBUG)
    try:
        app()
    except TttdebugError as error:
        if debug:
            raise
        if isinstance(error, PortRaisedError):  # the user's own code: its traceback is what he needs
            traceback.print_exception(error.__cause__)
        print(f"tttdebug: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:  # the last line of defence: an exit code of 1 would say that a gate failed
        if debug:
            raise
        from tttdebug.emulator.errors import EmulatorError  # brings torch along, seconds that most commands do without

        if isinstance(error, EmulatorError):
            print(f"tttdebug: {error}", file=sys.stderr)
        else:
            print(
                f"tttdebug: unexpected {type(error).__name__}: {error}; add --debug to see where, and please report it",
                file=sys.stderr,
            )
        sys.exit(2)


if __name__ == "__main__":
    main()
