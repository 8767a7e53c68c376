# SPDX-License-Identifier: Apache-2.0
"""The main job: a named model, its port on a device, ours or the user's own, both tracked side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tttdebug.errors import RunError
from tttdebug.foreign_port import own_exceptions
from tttdebug.tracking.tensor_budget import DEFAULT_TENSOR_BUDGET

if TYPE_CHECKING:
    from tttdebug.job_sides import Sides
    from tttdebug.tracking import Run
    from tttdebug.tracking.writer import SaveTensors

Progress = Callable[[str, "float | None"], None]
_PATHS = ("weights", "family", "port_weights", "pairs", "tokens_from")
_OF_ONE_RUN = (
    "out",
    "command",
    "save_tensors",
    "tensor_budget",
    "ops",
    "golden_cache",
    "goldens",
)  # what is of no account for building both sides again


@dataclass(frozen=True)
class Job:
    """What `tttdebug run` was asked for. `port` is `FILE_OR_MODULE:build` of a port that is not ours."""

    model: str = "llama"
    weights: Path | None = None
    family: Path | None = None
    port_weights: Path | None = None
    port: str | None = None
    pairs: Path | None = None
    together: bool = False
    device: str = "emulated"
    fabric: str | None = None
    trace_region_size: int = 0
    command_queues: int = 1
    engine: str = "fast"
    precision: str = "accuracy"
    prompts: tuple[str, ...] = ()
    token_ids: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()
    tokens_from: Path | None = None
    decode_steps: int = 8
    layers: int | None = None
    save_tensors: SaveTensors = "failed"
    tensor_budget: int = DEFAULT_TENSOR_BUDGET
    ops: bool = False
    audit: bool = False
    inject: str | None = None
    stream_reference: bool | None = None
    golden_cache: bool = True
    goldens: tuple[Path, ...] = ()
    out: Path | None = None
    seed: int = 0
    command: str = field(default="", compare=False)

    def to_json(self) -> dict[str, Any]:
        """What builds both sides again, JSON-ready; its paths are whole, so that it can be done from any folder."""
        kept = {name: value for name, value in asdict(self).items() if name not in _OF_ONE_RUN}
        kept |= {name: str(Path(kept[name]).resolve()) for name in _PATHS if kept[name] is not None}
        kept["images"] = [str(path.resolve()) for path in self.images]
        kept["prompts"], kept["token_ids"] = list(self.prompts), list(self.token_ids)
        if self.weights is None:  # else it is but a name
            kept["model"] = _whole(self.model)
        if self.precision.endswith(".json"):
            kept["precision"] = _whole(self.precision)
        if self.port is not None:
            file, colon, name = self.port.rpartition(":") if ":" in self.port else (self.port, "", "")
            kept["port"] = f"{_whole(file)}{colon}{name}"
        return kept

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Job:
        """The job of a parsed dict; what it does not know of a later version is left out.

        Raises TypeError or ValueError where it is none.
        """
        known = {f.name for f in fields(cls)} - set(_OF_ONE_RUN)
        given = {name: value for name, value in content.items() if name in known}
        given |= {name: Path(given[name]) for name in _PATHS if given.get(name) is not None}
        given |= {name: tuple(given[name]) for name in ("prompts", "token_ids") if name in given}
        if "images" in given:
            given["images"] = tuple(Path(path) for path in given["images"])
        return cls(**given)


def do(job: Job, progress: Progress) -> Run:
    """Load the reference, check it, build its port and compare them.

    Raises a TttdebugError for whatever stands in the way; a PortRaisedError for an exception of the user's own port.
    """
    with tracked(job, progress) as run:
        return run


@contextmanager
def tracked(job: Job, progress: Progress) -> Iterator[Run]:
    """The run of a job, within the block with the port still on its open device, for further experiments."""
    from tttdebug.job_sides import both_sides, compared
    from tttdebug.tracking import track

    out = job.out or _new_folder(job.model)
    _refuse_unwritable(out)
    with both_sides(job, progress) as sides:
        whose = nullcontext() if job.port is None else own_exceptions(f"the port raised; the run so far is in {out}")
        with whose:
            run = track(
                **compared(job, sides),
                out=out,
                save_tensors=job.save_tensors,
                tensor_budget=job.tensor_budget,
                ops=job.ops,
                golden_cache=sides.golden_cache,
                goldens=job.goldens,
                command=job.command,
                seed=job.seed,
                job=_as_read(job, sides).to_json(),
                progress=progress,
            )
        yield run


def _as_read(job: Job, sides: Sides) -> Job:
    """The job with what was read in the place of files, which may change, and the fault where it was put."""
    from tttdebug.tracking.images import Image
    from tttdebug.tracking.prompts import read_prompt

    read = [
        read_prompt(sides.reference, prompt, sides.decode_steps).token_ids
        for prompt in sides.prompts
        if not isinstance(prompt, Image)
    ]
    token_ids = tuple(" ".join(map(str, ids)) for ids in read)
    return replace(job, prompts=(), tokens_from=None, token_ids=token_ids, inject=sides.injected)


def _whole(name: str) -> str:
    """A path that is there, in full; what is no path, a hub id say, as it is."""
    from tttdebug.references import NAMES

    path = Path(name).expanduser()
    return str(path.resolve()) if name not in NAMES and path.exists() else name


def _new_folder(model: str) -> Path:
    """`reports/<model>_<monDD>_<HHMMSS>`, the field's way of naming a report."""
    name = Path(model).name or "model"
    return Path("reports") / f"{name}_{datetime.now():%b%d_%H%M%S}".lower()


def _refuse_unwritable(out: Path) -> None:
    """Find out before minutes of work whether a run can be written there, leaving nothing behind."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(
            f"--out {out} exists and is not an empty folder; give a new one, so that no run overwrites another"
        )
    parent = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    try:
        with TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        raise RunError(f"--out {out}: cannot write into {parent} ({error.strerror}); choose another folder") from None
