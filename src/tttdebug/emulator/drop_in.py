# SPDX-License-Identifier: Apache-2.0
"""The emulator in the real package's place: `import ttnn` gives it, and a program written for ttnn runs unchanged."""

from __future__ import annotations

import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType

from tttdebug.emulator import ttnn
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.opening import DeviceOptions, use_options
from tttdebug.emulator.real_names import real_modules

_NAME = "ttnn"


class Installation:
    """The emulator as `ttnn`, until `uninstall`, or until the end of a `with` block."""

    def __init__(self, options: DeviceOptions) -> None:
        self._before = use_options(options)
        self._modules: dict[str, ModuleType] = {_NAME: ttnn}
        self._modules |= {f"{_NAME}.{part}": getattr(ttnn, part) for part in real_modules()}
        sys.modules.update(self._modules)

    def uninstall(self) -> None:
        """Takes the emulator out of `sys.modules` again; a module that imported it keeps what it took."""
        for name, module in self._modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
        use_options(self._before)

    def __enter__(self) -> ModuleType:
        return ttnn

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.uninstall()


def install(
    engine: str = "fast",
    architecture: str = "wormhole_b0",
    grid: tuple[int, int] = (8, 8),
    torch_device: str = "cpu",
) -> Installation:
    """Registers the emulator as `ttnn`; its devices are opened with these options.

        with tttdebug.emulator.install(engine="ideal"):
            import my_model  # which says `import ttnn`

    Raises EmulatorError when another ttnn has been imported already, for its objects would mix with ours, and on an
    unknown engine or architecture.
    """
    present = sys.modules.get(_NAME)
    if present is not None:
        where = getattr(present, "__file__", None) or "an unknown place"
        what = "the emulator is installed already" if present is ttnn else f"ttnn was imported already, from {where}"
        raise EmulatorError(f"install: {what}; install the emulator once, before anything imports ttnn")
    options = DeviceOptions(engine, architecture, grid, torch_device)
    options.open(0).close()  # unknown options are an error here and not in the program
    return Installation(options)


def run_script(script: Path, arguments: Sequence[str], options: DeviceOptions) -> int:
    """Runs a Python file as `python script arguments…` would, with the emulator as ttnn; gives its exit code.

    An error of the script is printed as Python prints it and gives 1. Raises EmulatorError when there is no such file.
    """
    if not script.is_file():
        raise EmulatorError(f"--as-ttnn: {script} is not a file")
    argv, path = sys.argv, list(sys.path)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        with install(options.engine, options.architecture, options.grid, options.torch_device):
            return _run(script)
    finally:
        sys.argv, sys.path[:] = argv, path


def _run(script: Path) -> int:
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        print(leaving.code, file=sys.stderr)
        return 1
    except Exception as error:  # noqa: BLE001 (the program's own, shown from its first line on, as Python does)
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != str(script):
            trace = trace.tb_next
        traceback.print_exception(type(error), error, trace or error.__traceback__)
        return 1
    return 0
