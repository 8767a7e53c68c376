# SPDX-License-Identifier: Apache-2.0
"""A process of its own that tracks a tiny model with a golden cache: `golden_keeping.py CACHE [--slowly]`."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "references"))
from tiny_llamas import tiny_llama

import tttdebug as td


class Slow:
    """A port that waits in its second decode step, so that somebody can end the process there."""

    def __init__(self, port):
        self.port, self.steps = port, 0

    def __getattr__(self, name):
        return getattr(self.port, name)

    def decode(self, ids_B, positions_B):
        self.steps += 1
        if self.steps == 2:
            time.sleep(300)
        return self.port.decode(ids_B, positions_B)


def main() -> None:
    reference = td.load_reference(tiny_llama(7))
    port = td.build_model(reference, td.open_device("emulated"))
    if "--slowly" in sys.argv:
        port = Slow(port)
    prompts = [list(range(3, 40)), list(range(50, 90))]
    run = td.track(port, reference, prompts, decode_steps=2, golden_cache=sys.argv[1])
    print([(str(record.key), record.rel_l2) for record in run.records])


if __name__ == "__main__":
    main()
