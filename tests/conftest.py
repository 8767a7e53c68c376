# SPDX-License-Identifier: Apache-2.0
"""What all tests share: a fixed number of threads, since two busy processes can slow an unbounded torch many times."""

import pytest
import torch

pytest_plugins = ["pytester"]
torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
