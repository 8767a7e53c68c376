# SPDX-License-Identifier: Apache-2.0
"""How far the modules of sound ports are from their floors when they are fed with the reference's input.

python benchmarks/own_error_margins.py [LAYERS [DECODE_STEPS]]: SmolLM2 in three precisions, each kind of module in
units of its limit: beside the reference in the port's formats, and beside the same module of an emulated twin. The
port runs on the `exact` engine, which gives the chip's bits, and the twin on `fast`, so that they differ as a card and
the emulator do at most. The limits in `analysis/own_error.py` are chosen by the greatest ratios.
"""

import sys
from collections import defaultdict

import tttdebug as td
from tttdebug.analysis.anatomy import Anatomy, formats_of
from tttdebug.analysis.examination import Examiner
from tttdebug.analysis.twin import emulated_twin
from tttdebug.tracking.gates import kind_of
from tttdebug.tracking.reopening import ReopenedRun


def measured(reference, precision, decode_steps):
    """For each kind, phase and floor the greatest own error in units of its limit, and how many are above it."""
    port = td.build_model(reference, td.open_device("emulated", engine="exact"), precision)
    run = td.track(port, reference, decode_steps=decode_steps)
    anatomy = Anatomy(reference, formats_of(port))
    twin = emulated_twin(run.subject, "fast")
    ratios = defaultdict(list)
    for floor, sound in (("formats", None), ("emulated", twin)):
        found = Examiner(run.subject, anatomy, ReopenedRun(run), sound).examine((), lambda message, fraction: None)
        for key, error in found.errors.items():
            ratios[kind_of(key.boundary), key.phase, floor].append(error.unexplained / error.limit)
    return ratios


def main(layers="8", decode_steps="3"):
    reference = td.load_reference("llama", layers=int(layers))
    for precision in ("accuracy", "performance", "bf16"):
        print(f"{precision}: own error in units of its limit, greatest (median)")
        ratios = measured(reference, precision, int(decode_steps))
        kinds = sorted({(kind, phase) for kind, phase, _ in ratios})
        for kind, phase in kinds:
            said = []
            for floor in ("formats", "emulated"):
                these = sorted(ratios[kind, phase, floor])
                said.append(f"{floor} {these[-1]:5.2f} ({these[len(these) // 2]:.2f})")
            print(f"  {kind:<15} {phase:<8} {'   '.join(said)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
