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

from tttdebug.commands import golden_cache
from tttdebug.commands.bundle import bundle
from tttdebug.commands.comparing import baseline, compare
from tttdebug.commands.explain import explain
from tttdebug.commands.gate import gate
from tttdebug.commands.installation import conformance, doctor, models
from tttdebug.commands.own_port import audit, pair
from tttdebug.commands.report import report
from tttdebug.commands.run import run
from tttdebug.commands.saved_run import dashboard, show, visualizer
from tttdebug.commands.selftest import selftest
from tttdebug.commands.swapping import bisect, swap
from tttdebug.errors import PortRaisedError, TttdebugError
from tttdebug.threads import suit_machine

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
_IN_ORDER = (
    *(explain, swap, bisect, bundle, show, report, gate, compare, baseline, dashboard, visualizer),
    *(pair, audit, models, doctor, selftest),
)
for command in _IN_ORDER:
    app.command()(command)
emulator = typer.Typer(help="The emulated chip itself.", no_args_is_help=True)
emulator.command()(conformance)
app.add_typer(emulator, name="emulator")
cache = typer.Typer(help="What references gave in earlier runs: goldens.", no_args_is_help=True)
cache.command("list")(golden_cache.list_goldens)
cache.command("verify")(golden_cache.verify)
cache.command("prune")(golden_cache.prune)
app.add_typer(cache, name="cache")


@app.callback()
def _options(debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error.")] = False) -> None:
    """Read by `main` before typer sees it; declared here so that --help lists it."""


def main() -> None:
    """Entry point: an error is one line on standard error and exit code 2; `--debug`, anywhere, shows its traceback."""
    suit_machine(os.environ)
    debug = DEBUG in sys.argv
    if debug:
        sys.argv.remove(DEBUG)
    try:
        app()
    except Exception as error:
        if debug:
            raise
        if isinstance(error, PortRaisedError):  # the user's own code: its traceback is what he needs
            traceback.print_exception(error.__cause__)
        print(f"tttdebug: {_in_one_line(error)}", file=sys.stderr)
        sys.exit(2)  # an exit code of 1 would say that a gate failed


def _in_one_line(error: Exception) -> str:
    """An error that is the user's to mend as it is; any other, the last line of defence, with what to do about it."""
    if isinstance(error, TttdebugError):
        return str(error)
    from tttdebug.emulator.errors import EmulatorError  # imports torch, which reading a run does not wait for

    if isinstance(error, EmulatorError):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}; add --debug to see where, and please report it"


if __name__ == "__main__":
    main()
