# SPDX-License-Identifier: Apache-2.0
"""Emulated devices."""

import pytest

from tttdebug.emulator import open_device


@pytest.fixture
def device():
    return open_device("fast")


@pytest.fixture
def ideal():
    return open_device("ideal")


@pytest.fixture(params=["ideal", "fast", "exact"])
def any_device(request):
    return open_device(request.param)
