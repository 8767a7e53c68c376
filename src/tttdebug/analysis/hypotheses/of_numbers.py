# SPDX-License-Identifier: Apache-2.0
"""Causes that lie in number formats coarser than declared: of weights, of products, of sums, of functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tttdebug.analysis.finding import Fix
from tttdebug.analysis.hypotheses.hypothesis import Change
from tttdebug.analysis.mathematics import Numbers
from tttdebug.analysis.mathematics.low_sums import low_sums
from tttdebug.analysis.module_call import KeysValues, ModuleCall
from tttdebug.modules.hardware import FIDELITIES
from tttdebug.specs import AttentionSpec, NormSpec

if TYPE_CHECKING:
    import torch

    from tttdebug.analysis.hypotheses.bench import Bench
    from tttdebug.modules.placement import WeightFormat

FORMATS = ("bfloat16", "bfloat8_b", "bfloat4_b")
"""From the finest to the coarsest."""
GROUPS = (("wq", "wk", "wv"), ("wo",), ("w1", "w3"), ("w1",), ("w2",), ("weight",))
"""Weights that have their settings in common: in the field's decoder_config.json, WQKV, WO, FF1_FF3, FF2."""
_MOST_OF_A_FORMAT = 0.7
"""No number format costs more than this."""
_BETTER = 0.95  # of what the declared settings leave is left by others that are worth a trial
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


def coarser_values(bench: Bench) -> Iterator[Change]:
    """The output, the input or the cache in a block format where bfloat16 is declared, as the device packs it."""
    call = bench.call
    for dtype in FORMATS[1:]:
        packed = partial(_packed, dtype, precise=dtype == "bfloat8_b")
        yield Change(
            "cast_low",
            f"the output is kept in {dtype}",
            Fix("keep the output in bfloat16", "dtype=ttnn.bfloat16"),
            output=partial(_put_out, packed),
        )
        if call.kind in ("attention", "feed_forward", "mixture", "norm", "lm_head"):
            fix = Fix("keep the input in bfloat16", "dtype=ttnn.bfloat16")
            yield Change("cast_low", f"the input is read in {dtype}", fix, reads=packed)
        if isinstance(call.spec, AttentionSpec) and call.past is not None:
            of_step = partial(_cached, partial(_packed, dtype), call.spec.rotary_dim if call.spec.rope else 0)
            of_prompt = partial(_cached, partial(_rounded, dtype), call.spec.rotary_dim if call.spec.rope else 0)
            for written, before in (("", of_step), (", those before the step to the nearest", of_prompt)):
                yield Change(
                    "cast_low",
                    f"the cache holds keys and values in {dtype}{written}",
                    Fix("allocate the cache in the declared format", "ttnn.zeros(shape, dtype=...)"),
                    steps={"edit_past": before, "own_cached_as": of_step},
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


def attention_kernels(bench: Bench) -> Iterator[Change]:
    """Attention at a lower fidelity, with sums in bfloat16, or with the approximate exponential."""
    from tttdebug.analysis.mathematics.emulated_attention import AttentionKernel
    from tttdebug.modules.hardware import HIFI2, HIFI4

    spec = bench.call.spec
    if not isinstance(spec, AttentionSpec) or spec.logit_softcap is not None or bench.before > _MOST_OF_A_FORMAT:
        return
    usual = HIFI4 if bench.call.past is None else replace(HIFI2, math_fidelity="HiFi4")
    likely = [
        Change(
            "approximate_exp",
            "the softmax takes the approximate exponential",
            Fix("take the accurate exponential", "SDPAProgramConfig(..., exp_approx_mode=False)"),
            steps={"kernel": AttentionKernel(usual, approximates_exp=True)},
        )
    ]
    for fidelity in ("LoFi", "HiFi2"):
        kernel = replace(usual, math_fidelity=fidelity)
        likely.append(
            Change(
                "fidelity_low",
                f"attention multiplies queries with keys, and weights with values, at {fidelity}",
                Fix("give attention the declared math fidelity", "compute_kernel_config=..., math_fidelity=HiFi4"),
                steps={"kernel": AttentionKernel(kernel)},
            )
        )
    for fidelity in ("HiFi4", "HiFi2"):
        kernel = replace(usual, math_fidelity=fidelity, fp32_dest_acc_en=False)
        likely.append(
            Change(
                "accumulation_low",
                f"attention adds up in bfloat16, at {fidelity}",
                Fix("add up in fp32 in attention", "compute_kernel_config=..., fp32_dest_acc_en=True"),
                steps={"kernel": AttentionKernel(kernel)},
            )
        )
    yield from _better_than_declared(bench, AttentionKernel(usual), likely)


def norm_kernel(bench: Bench) -> Iterator[Change]:
    """A norm at a lower fidelity, or with sums in bfloat16."""
    from tttdebug.modules.placement import WeightFormat

    gain = bench.call.formats.get("weight")
    if not isinstance(bench.call.spec, NormSpec) or not isinstance(gain, WeightFormat):
        return
    own = gain.kernel
    likely = [
        Change(
            "fidelity_low",
            f"the norm runs at {fidelity}, {own.math_fidelity} is declared",
            Fix(f"run the norm at {own.math_fidelity}", f"math_fidelity=ttnn.MathFidelity.{own.math_fidelity}"),
            steps={"kernel": replace(own, math_fidelity=fidelity)},
        )
        for fidelity in _coarser(own.math_fidelity, FIDELITIES)
    ]
    if own.fp32_dest_acc_en:
        says, fix = "the norm adds up in bfloat16, fp32 is declared", Fix("add up in fp32", "fp32_dest_acc_en=True")
        steps = {"kernel": replace(own, fp32_dest_acc_en=False)}
        likely.append(Change("accumulation_low", says, fix, steps=steps))
    yield from _better_than_declared(bench, own, likely)


def _better_than_declared(bench: Bench, declared: object, likely: Sequence[Change]) -> Iterator[Change]:
    """Those that leave less than the declared settings do when these are emulated too, every rounding included."""
    sound = bench.sketch.error(Change("unknown", "", Fix(""), steps={"kernel": declared}))
    yield from (change for change in likely if bench.sketch.error(change) < _BETTER * sound)


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
        if not names or names in seen or bench.call.kind in ("embedding", "norm"):
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


def _put_out(packed: Callable[[torch.Tensor], torch.Tensor], out_TC: torch.Tensor, call: ModuleCall) -> torch.Tensor:
    return packed(out_TC)


def _packed(dtype: str, values: torch.Tensor, *, precise: bool = False) -> torch.Tensor:
    """What the device's packer leaves of values, which come to it in bfloat16; groups lie along the last dimension.

    A typecast to bfloat8_b is `precise`: it rounds once.
    """
    import torch

    from tttdebug.emulator.formats import FORMATS as KNOWN

    return KNOWN[dtype].pack(values.to(torch.bfloat16).float(), precise=precise).float()


def _rounded(dtype: str, values: torch.Tensor) -> torch.Tensor:
    """What the host leaves of values."""
    from tttdebug.emulator.formats import FORMATS as KNOWN

    return KNOWN[dtype].quantise(values.float()).float()


def _cached(kept: Callable[[torch.Tensor], torch.Tensor], rotary_dim: int, held: KeysValues) -> KeysValues:
    """What a format leaves of a cache, whose keys lie on the device in interleaved rotary order."""
    from tttdebug.modules.placement import interleave_heads, split_heads_in_halves

    width = held.keys_KPE.shape[-1]
    placed_EX = interleave_heads(held.keys_KPE.flatten(0, 1).T, width, rotary_dim)
    keys_EX = split_heads_in_halves(kept(placed_EX.T.contiguous()).T, width, rotary_dim)
    return KeysValues(keys_EX.T.reshape(held.keys_KPE.shape), kept(held.values_KPE))


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"
