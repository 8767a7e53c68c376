# SPDX-License-Identifier: Apache-2.0
"""Writing a bundle: made whole under another name, then put in its place in one step, as a folder, a .zip, or both."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tttdebug.bundles.bundle import ABOUT, ISSUE, Bundle
from tttdebug.bundles.issue import issue_text
from tttdebug.bundles.standalone import TENSORS
from tttdebug.errors import BundleError

_EPOCH = (1980, 1, 1, 0, 0, 0)


def refuse_what_is_there(output: Path) -> None:
    """Raise BundleError where a bundle would overwrite something, or cannot be written."""
    for path in _targets(output):
        if path.exists() or path.is_symlink():
            raise BundleError(f"--output {path} exists already; give another name, so that nothing is overwritten")
    if not output.absolute().parent.is_dir():
        raise BundleError(f"--output {output}: there is no folder {output.absolute().parent}; make it first")


def write_bundle(bundle: Bundle, output: Path, check: Callable[[Path], None]) -> list[Path]:
    """Write a bundle as the folder `output` and a .zip beside it, or only as `output` where that is a .zip.

    `check` is called with the test's path before anything is put in its place, and may raise. Gives what was written.
    Raises BundleError where it cannot be; nothing is left behind then.
    """
    refuse_what_is_there(output)
    zipped, folder = _targets(output)[0], output.suffix != ".zip"
    try:
        with TemporaryDirectory(prefix=".bundle-", dir=output.absolute().parent) as scratch:
            made = Path(scratch, bundle.name)
            made.mkdir()
            _write_files(bundle, made)
            check(made / f"test_{bundle.name}.py")
            packed = Path(scratch, "bundle.zip")
            _pack(made, packed)
            written = []
            if folder:
                made.rename(output)
                written.append(output)
            packed.replace(zipped)
            return [*written, zipped]
    except OSError as error:
        raise BundleError(
            f"cannot write {output}: {error.strerror or error}; make room, or choose another place"
        ) from None


def _targets(output: Path) -> tuple[Path, ...]:
    """The .zip first; a folder has one beside it."""
    if output.suffix == ".zip":
        return (output,)
    return (output.with_name(f"{output.name}.zip"), output)


def _write_files(bundle: Bundle, folder: Path) -> None:
    from safetensors.torch import save

    (folder / TENSORS).write_bytes(save(bundle.tensors()))
    texts = {f"test_{bundle.name}.py": bundle.test(), ISSUE: issue_text(bundle), ABOUT: bundle.about()}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _pack(folder: Path, target: Path) -> None:
    """The same bytes for the same files, whenever they were written."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(f"{folder.name}/{path.name}", _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, path.read_bytes())
