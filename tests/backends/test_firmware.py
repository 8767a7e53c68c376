# SPDX-License-Identifier: Apache-2.0
"""What a run says of the card's firmware and driver comes from files that the driver keeps under /sys."""

from pathlib import Path

import tttdebug as td
from tttdebug.backends import describe_device
from tttdebug.backends.firmware import firmware, kernel_driver


def written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_versions_of_all_cards_are_said_each_once(tmp_path):
    for card, version in enumerate(("18.7.0.0", "18.7.0.0", "18.10.0.0")):
        written(tmp_path / "class" / "tenstorrent" / f"tenstorrent!{card}" / "tt_fw_bundle_ver", f"{version}\n")
    written(tmp_path / "module" / "tenstorrent" / "version", "2.4.1\n")
    assert firmware(tmp_path) == "18.7.0.0, 18.10.0.0"
    assert kernel_driver(tmp_path) == "2.4.1"


def test_an_older_driver_and_a_machine_without_a_card_say_nothing(tmp_path):
    (tmp_path / "class" / "tenstorrent" / "tenstorrent!0").mkdir(parents=True)
    assert (firmware(tmp_path), kernel_driver(tmp_path)) == ("", "")
    assert (firmware(tmp_path / "nowhere"), kernel_driver(tmp_path / "nowhere")) == ("", "")


def test_an_emulated_device_has_neither():
    description = describe_device(td.open_device("emulated"))
    assert (description.firmware, description.driver) == ("", "")
