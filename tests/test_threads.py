# SPDX-License-Identifier: Apache-2.0
"""In a container that has a share of its host's processors, no more threads run than it has time for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tttdebug.threads import processors_allowed, suit_machine


def container(folder: Path, **files: str) -> Path:
    """A folder of control groups; `cpu__max` is the file cpu.max, `v1__…` those of version 1."""
    for name, text in files.items():
        path = folder / name.replace("v1__", "cpu/cpu.").replace("__", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        ({"cpu__max": "200000 100000\n"}, 2),
        ({"cpu__max": "150000 100000\n"}, 2),
        ({"cpu__max": "5000 100000\n"}, 1),
        ({"cpu__max": "max 100000\n"}, None),
        ({"cpu__max": "nonsense\n"}, None),
        ({"v1__cfs_quota_us": "400000\n", "v1__cfs_period_us": "100000\n"}, 4),
        ({"v1__cfs_quota_us": "-1\n", "v1__cfs_period_us": "100000\n"}, None),
        ({"v1__cfs_quota_us": "400000\n"}, None),
        ({}, None),
    ],
)
def test_a_containers_share_is_read(tmp_path, files, allowed):
    assert processors_allowed(container(tmp_path, **files)) == allowed


def test_a_share_below_the_hosts_processors_limits_the_threads(tmp_path):
    environment: dict[str, str] = {}
    suit_machine(environment, container(tmp_path, cpu__max="50000 100000"))
    assert environment == {"OMP_WAIT_POLICY": "passive"} | ({"OMP_NUM_THREADS": "1"} if os.cpu_count() != 1 else {})


def test_what_the_user_has_set_stays(tmp_path):
    environment = {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "active"}
    suit_machine(environment, container(tmp_path, cpu__max="50000 100000"))
    assert environment == {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "active"}


def test_a_share_of_more_than_the_host_has_limits_nothing(tmp_path):
    environment: dict[str, str] = {}
    suit_machine(environment, container(tmp_path, cpu__max="99900000 100000"))
    assert "OMP_NUM_THREADS" not in environment
