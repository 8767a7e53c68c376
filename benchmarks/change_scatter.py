# SPDX-License-Identifier: Apache-2.0
"""How the error of one call scatters where the same roundings fall otherwise: MOST_NOISE of `tttdebug compare`.

Run: python benchmarks/change_scatter.py EARLIER LATER

Give two runs with the same prompts and formats whose sums are taken in another order, such as
    tttdebug run --layers 6 --decode-steps 6 --prompt … --prompt … --engine fast (and exact)
A row a kind of boundary and phase: ln(rel_l2 later / earlier) over all calls, its median, its standard deviation by the
median absolute deviation about the median of each boundary, and its extremes.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from statistics import median

from rich.console import Console
from rich.table import Table

from tttdebug.testing.side import side_of_run
from tttdebug.testing.standing import change
from tttdebug.tracking.gates import kind_of

DEVIATION_OF_MAD = 1.4826


def main() -> None:
    earlier, later = map(side_of_run, sys.argv[1:3])
    changes, deviations = defaultdict(list), defaultdict(list)
    for place, calls in earlier.calls.items():
        each = [change(measured.rel_l2, later.calls[place][at].rel_l2) for at, measured in calls.items()]
        changes[kind_of(place.boundary), place.phase] += each
        deviations[kind_of(place.boundary), place.phase] += [abs(one - median(each)) for one in each]
    table = Table("boundary", "phase", "calls", "median", "deviation", "least", "greatest", box=None)
    for (kind, phase), each in sorted(changes.items(), key=lambda item: item[0][::-1]):
        scatter = DEVIATION_OF_MAD * median(deviations[kind, phase])
        numbers = (median(each), scatter, min(each), max(each))
        table.add_row(kind, phase, str(len(each)), *(f"{number:.3f}" for number in numbers))
    Console().print(table)


if __name__ == "__main__":
    main()
