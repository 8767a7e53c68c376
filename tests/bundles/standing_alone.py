# SPDX-License-Identifier: Apache-2.0
"""A bundle where nothing of tttdebug is but the emulator: unpacked elsewhere, its pytest run in another process."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from safetensors.torch import load_file, save_file

import tttdebug.emulator

EMULATOR = Path(tttdebug.emulator.__file__).parent


class StandingAlone:
    """An unpacked bundle; `folder` holds its files, `passes()` runs its test."""

    def __init__(self, packed: Path, place: Path) -> None:
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(place)
        (self.folder,) = place.iterdir()
        (self.test,) = self.folder.glob("test_*.py")
        self._only_the_emulator = place.with_name(f"{place.name}_path")
        package = self._only_the_emulator / "tttdebug"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "emulator").symlink_to(EMULATOR)
        self.said = ""

    def passes(self) -> bool:
        environment = os.environ | {
            "PYTHONPATH": str(self._only_the_emulator),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "BUNDLE_ON": "emulator",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", self.test.name]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        self.said = done.stdout + done.stderr
        assert done.returncode in (0, 1), self.said
        assert "1 passed" in self.said or "1 failed" in self.said
        return done.returncode == 0

    @property
    def tensors(self):
        return load_file(self.folder / "tensors.safetensors")

    def change_tensors(self, **changed) -> None:
        save_file({**self.tensors, **changed}, self.folder / "tensors.safetensors")

    def change_text(self, old: str, new: str) -> None:
        text = self.test.read_text(encoding="utf-8")
        assert old in text
        self.test.write_text(text.replace(old, new), encoding="utf-8")
