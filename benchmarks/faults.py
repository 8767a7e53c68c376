# SPDX-License-Identifier: Apache-2.0
"""How often an explanation finds a fault that was put into a port, and how often it blames a sound one.

Seeds are drawn afresh; the first line says which, and `--seed` repeats all of it, `--case` one fault alone and
`--harmless-case` one sound port. Exit code 1 where a target is missed.
usage: python benchmarks/faults.py [--faults N] [--harmless N] [--seed N] [--case N] [--harmless-case N]
                                   [--only NAME]... [--family NAME]...
"""

from __future__ import annotations

import argparse
import sys

from tttdebug.analysis.explain import explain
from tttdebug.reporting.selftest_report import print_selftest
from tttdebug.selftest_job import SelftestResult, run_case, selftest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--harmless", type=int, default=20)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--case", type=int)
    parser.add_argument("--harmless-case", type=int)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--family", action="append", default=[], metavar="NAME")
    asked = parser.parse_args()
    narrowed = {"names": tuple(asked.only), "families": tuple(asked.family)}
    alone = {"fault": asked.case, "harmless": asked.harmless_case}
    outcomes = [run_case(kind, seed, explain, **narrowed) for kind, seed in alone.items() if seed is not None]
    if outcomes:
        result = SelftestResult(outcomes[0].seed, tuple(outcomes))
    else:
        result = selftest(asked.faults, asked.harmless, asked.seed, progress=_say, **narrowed)
    print_selftest(result)
    seconds = sorted(outcome.seconds for outcome in result.outcomes)
    print(f"a case takes {seconds[len(seconds) // 2]:.1f} s in the median, {seconds[-1]:.1f} s at most")
    return 0 if result.reached else 1


def _say(message: str, fraction: float | None) -> None:
    print(f"{fraction or 0:4.0%} {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
