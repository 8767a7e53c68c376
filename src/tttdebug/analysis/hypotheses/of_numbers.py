# SPDX-License-Identifier: Apache-2.0
"""Causes that lie in number formats coarser than declared: of weights, of products, of sums, of functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.analysis.mathematics import Numbers
from tttdebug.analysis.mathematics.low_sums import low_sums
from tttdebug.specs import AttentionSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench
    from tttdebug.analysis.module_call import ModuleCall
    from tttdebug.modules.placement import WeightFormat

FORMATS = ("bfloat16", "bfloat8_b", "bfloat4_b")
"""From the finest to the coarsest."""
FIDELITIES = ("HiFi4", "HiFi3", "HiFi2", "LoFi")
"""From the finest to the coarsest."""
GROUPS = (("wq", "wk", "wv"), ("wo",), ("w1", "w3"), ("w1",), ("w2",), ("weight",))
"""Weights that have their settings in common: in the field's decoder_config.json, WQKV, WO, FF1_FF3, FF2."""
_MOST_OF_A_FORMAT = 0.5
"""No number format costs more than this."""
_NAMES = {"wq": "WQKV", "wo": "WO", "w1": "FF1_FF3", "w2": "FF2"}
_DTYPES = {"bfloat16": "BF16", "bfloat8_b": "BFP8", "bfloat4_b": "BFP4"}


def coarser_weights(bench: Bench) -> Iterator[Change]:
    """Weights in a coarser format than declared."""
    if bench.before > _MOST_OF_A_FORMAT:
        return
    for names, declared in _groups(bench):
        for dtype in _coarser(declared.dtype, FORMATS):
            group = _NAMES.get(names[0])
            yield Change(
                "cast_low",
                f"{_listed(names)} kept in {dtype}, {declared.dtype} is declared",
                Fix(
                    f"place {', '.join(names)} in {declared.dtype}",
                    f"ttnn.from_torch(weight, dtype=ttnn.{declared.dtype})",
                    {"precision_cfg": {group: _DTYPES[declared.dtype]}} if group and declared.dtype in _DTYPES else {},
                ),
                numbers=_with(names, lambda read_as, dtype=dtype: replace(read_as, dtype=dtype)),
            )


def coarser_output(bench: Bench) -> Iterator[Change]:
    """The output in a block format where bfloat16 is declared."""
    for dtype in FORMATS[1:]:
        yield Change(
            "cast_low",
            f"the output is kept in {dtype}",
            Fix("keep the output in bfloat16", "dtype=ttnn.bfloat16"),
            output=_packed(dtype),
        )


def lower_fidelity(bench: Bench) -> Iterator[Change]:
    """Products at a lower math fidelity than declared."""
    if bench.before > _MOST_OF_A_FORMAT:
        return
    for names, declared in _groups(bench):
        own = declared.kernel.math_fidelity
        for fidelity in _coarser(own, FIDELITIES):
            yield Change(
                "fidelity_low",
                f"the product with {', '.join(names)} runs at {fidelity}, {own} is declared",
                Fix(f"multiply by {', '.join(names)} at {own}", f"math_fidelity=ttnn.MathFidelity.{own}"),
                numbers=_with(
                    names,
                    lambda read_as, fidelity=fidelity: replace(
                        read_as, kernel=replace(read_as.kernel, math_fidelity=fidelity)
                    ),
                ),
            )


def lower_sums(bench: Bench) -> Iterator[Change]:
    """Sums in bfloat16 where fp32 is declared."""
    if bench.before > _MOST_OF_A_FORMAT:
        return
    for names, declared in _groups(bench):
        if declared.kernel.fp32_dest_acc_en and declared.register == "SrcA":
            yield Change(
                "accumulation_low",
                f"the sums of the product with {', '.join(names)} are kept in bfloat16, fp32 is declared",
                Fix(f"add up in fp32 in the product with {', '.join(names)}", "fp32_dest_acc_en=True"),
                numbers=_in_bfloat16(names),
            )


def approximate_functions(bench: Bench) -> Iterator[Change]:
    """The approximate exponential in the softmax."""
    if isinstance(bench.call.spec, AttentionSpec):
        yield Change(
            "approximate_exp",
            "the softmax takes the approximate exponential",
            Fix("take the accurate exponential", "SDPAProgramConfig(..., exp_approx_mode=False)"),
            steps={"exp": _approximate_exp},
        )


def _groups(bench: Bench) -> Iterator[tuple[tuple[str, ...], WeightFormat]]:
    """The weights that have a setting in common, with it; only those that the call knows the whole setting of."""
    from tttdebug.modules.placement import WeightFormat

    groups = list(GROUPS)
    of_module = [name for group in (("wq", "wk", "wv", "wo"), ("w1", "w3", "w2")) for name in group]
    if bench.call.kind in ("attention", "feed_forward"):
        groups.append(tuple(of_module))
    seen = set()
    for group in groups:
        names = tuple(name for name in group if name in bench.call.weights)
        formats = [bench.call.formats.get(name) for name in names]
        if not names or names in seen or bench.call.kind == "embedding":
            continue
        seen.add(names)
        if all(isinstance(read_as, WeightFormat) for read_as in formats):
            yield names, formats[0]  # type: ignore[misc]


def _coarser(declared: str, scale: Sequence[str]) -> tuple[str, ...]:
    return tuple(scale[scale.index(declared) + 1 :]) if declared in scale else ()


def _with(names: Sequence[str], change: Callable[..., WeightFormat]) -> Callable[[Numbers], Numbers]:
    made: dict[str, WeightFormat] = {}

    def changed(numbers: Numbers) -> Numbers:
        for name in names:
            if name not in made:
                made[name] = change(numbers.formats[name])
        return replace(numbers, formats={**numbers.formats, **{name: made[name] for name in names}})

    return changed


def _in_bfloat16(names: Sequence[str]) -> Callable[[Numbers], Numbers]:
    def changed(numbers: Numbers) -> Numbers:
        formats = {
            name: replace(read_as, kernel=replace(read_as.kernel, fp32_dest_acc_en=False))  # type: ignore[type-var, attr-defined]
            for name, read_as in numbers.formats.items()
            if name in names
        }
        return replace(numbers, multipliers={**numbers.multipliers, **low_sums(formats)})

    return changed


def _packed(dtype: str) -> Callable[[torch.Tensor, ModuleCall], torch.Tensor]:
    def packed(out_TC: torch.Tensor, call: ModuleCall) -> torch.Tensor:
        from tttdebug.emulator.formats import FORMATS as KNOWN

        return KNOWN[dtype].quantise(out_TC).float()

    return packed


def _approximate_exp(below: torch.Tensor) -> torch.Tensor:
    from tttdebug.emulator.engines.exponentials import exp_approx

    return exp_approx(below.contiguous(), fp32_dest=True).float().clamp_min(0.0)


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
