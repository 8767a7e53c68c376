# SPDX-License-Identifier: Apache-2.0
"""What a hardware config decides for a spec and all inside it on a device, each decision with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.backends import describe_device
from tttdebug.modules.attention_programs import choose_prompt_attention, choose_step_attention
from tttdebug.modules.matmul_programs import Product, choose_matmul
from tttdebug.modules.positions import MAX_USERS, whole_tiles
from tttdebug.specs import AttentionSpec, FeedForwardSpec, LMHeadSpec, MixtureOfExpertsSpec

if TYPE_CHECKING:
    from tttdebug.modules.hardware import ComputeKernel, HardwareConfig
    from tttdebug.specs import ModuleSpec

WIDEST_INTERLEAVED = 8192
"""The widest hidden dimension whose activations stay interleaved in DRAM; wider ones are cut up into the cores' L1."""


@dataclass(frozen=True)
class Decision:
    """Something that a spec leaves open: what it is, what was chosen, and why."""

    about: str
    choice: str
    why: str

    def __str__(self) -> str:
        return f"{self.about}: {self.choice}, {self.why}"


@dataclass(frozen=True)
class _Projection:
    """A product with a weight that a spec asks for: its weight group, its kernels by phase, its sizes."""

    group: str
    prefill: str
    decode: str
    inner: int
    columns: int
    has_bias: bool
    in_l1: bool = False


def stays_in_l1(hidden_dim: int) -> bool:
    """Whether what a projection of such width gives stays in the cores' L1, where its blocks fit."""
    return hidden_dim > WIDEST_INTERLEAVED


def explain(config: HardwareConfig, spec: ModuleSpec, device: Any, prompt_length: int) -> tuple[Decision, ...]:
    """Every decision for a spec and all inside it; a line each when printed."""
    grid = describe_device(device).grid
    parts = tuple(dict.fromkeys(_parts(spec)))
    decisions = [*_formats(config), *_formats_of_layers(config)]
    for attention in (part for part in parts if isinstance(part, AttentionSpec)):
        decisions += [_fusion(config, attention), _memory(attention)]
        decisions += _attention_programs(attention, grid, prompt_length)
    for projection in dict.fromkeys(each for part in parts for each in _projections(config, part)):
        decisions += _programs(config, projection, grid, prompt_length)
    return tuple(dict.fromkeys(decisions))


def _parts(spec: ModuleSpec) -> Iterator[ModuleSpec]:
    """The spec and all specs inside it."""
    yield spec
    for _, parts in spec._parts():
        yield from _parts(parts[0])


def _formats(config: HardwareConfig) -> Iterator[Decision]:
    for weights, op in _GROUPS:
        yield _group(config, weights, op)
    yield Decision("kv_cache", config.kv_cache, f"as {config.name} has it; {MEANING_OF_DTYPE[config.kv_cache]}")


def _formats_of_layers(config: HardwareConfig) -> Iterator[Decision]:
    """The formats of layers of their own, where they are other than the rest's."""
    everywhere = set(_formats(config))
    for layer, own in config.layers:
        for decision in _formats(own):
            if decision not in everywhere:
                yield Decision(f"layer {layer}: {decision.about}", decision.choice, decision.why)


def _group(config: HardwareConfig, weights: str, op: str) -> Decision:
    dtype, kernel = getattr(config, weights), getattr(config, op)
    return Decision(weights, f"{dtype} with {_short(kernel)}", f"as {config.name} has it; {MEANING_OF_DTYPE[dtype]}")


def _fusion(config: HardwareConfig, spec: AttentionSpec) -> Decision:
    width = (spec.num_heads + 2 * spec.num_kv_heads) * whole_tiles(spec.head_dim)
    if config.fuse_qkv:
        return Decision(
            "query, key and value", "one matmul", f"fuse_qkv: the input is read once for all {width} outputs"
        )
    return Decision("query, key and value", "three matmuls", "fuse_qkv is off: each projection can be compared alone")


def _memory(spec: AttentionSpec) -> Decision:
    if stays_in_l1(spec.hidden_dim):
        reason = f"hidden_dim {spec.hidden_dim} exceeds {WIDEST_INTERLEAVED}"
        return Decision("memory", "L1, sharded", f"{reason}; DRAM, interleaved, where the blocks do not fit")
    return Decision("memory", "DRAM, interleaved", f"hidden_dim {spec.hidden_dim} is at most {WIDEST_INTERLEAVED}")


def _attention_programs(spec: AttentionSpec, grid: tuple[int, int], length: int) -> Iterator[Decision]:
    if spec.logit_softcap is not None:
        why = "the fused op has no logit_softcap: the scores lie in memory"
        yield Decision("attention", "step by step, automatic", why)
        return
    prompt = choose_prompt_attention(length, whole_tiles(spec.head_dim), grid)
    yield Decision(f"attention, prefill of {length}", str(prompt), prompt.why)
    if spec.causal:
        step = choose_step_attention(grid)
        yield Decision("attention, decode", str(step), step.why)


def _projections(config: HardwareConfig, spec: ModuleSpec) -> Iterator[_Projection]:
    """The products that one spec itself asks for."""
    if isinstance(spec, AttentionSpec):
        head, wide = whole_tiles(spec.head_dim), stays_in_l1(spec.hidden_dim)
        queries, keys = spec.num_heads * head, spec.num_kv_heads * head
        for columns in (queries + 2 * keys,) if config.fuse_qkv else (queries, keys):
            kernels = ("li_qkv", "li_qkv_decode")
            yield _Projection("wqkv", *kernels, spec.hidden_dim, columns, spec.qkv_bias, wide)
        yield _Projection("wo", "li_o", "li_o_decode", queries, spec.hidden_dim, spec.output_bias, wide)
    elif isinstance(spec, FeedForwardSpec):
        kernels = ("li_ff1_ff3", "li_ff1_ff3")
        yield _Projection("ff1_ff3", *kernels, spec.hidden_dim, spec.intermediate_dim, spec.bias)
        yield _Projection("ff2", "li_ff2", "li_ff2", spec.intermediate_dim, spec.hidden_dim, spec.bias)
    elif isinstance(spec, MixtureOfExpertsSpec):
        yield _Projection("router", "li_router", "li_router", spec.hidden_dim, spec.num_experts, spec.router_bias)
    elif isinstance(spec, LMHeadSpec):
        kernels = ("li_lm_head", "li_lm_head")
        yield _Projection("lm_head", *kernels, spec.hidden_dim, spec.padded_vocab_size, spec.bias)


def _programs(
    config: HardwareConfig, projection: _Projection, grid: tuple[int, int], length: int
) -> Iterator[Decision]:
    for phase, rows, kernel in (
        (f"prefill of {length}", whole_tiles(length), projection.prefill),
        ("decode", MAX_USERS, projection.decode),
    ):
        sizes = (rows, projection.inner, projection.columns)
        formats = (getattr(config, projection.group), config.activation)
        product = Product(*sizes, *formats, has_bias=projection.has_bias)
        choice = choose_matmul(product, getattr(config, kernel), grid, config.matmul_programs, projection.in_l1)
        about = f"{projection.group} {projection.inner}x{projection.columns}, {phase}"
        memory = f", output in {choice.memory}" if projection.in_l1 else ""
        yield Decision(about, f"{choice}{memory}", choice.why)


def _short(kernel: ComputeKernel) -> str:
    return f"{kernel.math_fidelity}{', fp32 sums' if kernel.fp32_dest_acc_en else ''}"


_GROUPS = (
    ("wqkv", "li_qkv"),
    ("wo", "li_o"),
    ("ff1_ff3", "li_ff1_ff3"),
    ("ff2", "li_ff2"),
    ("lm_head", "li_lm_head"),
    ("router", "li_router"),
)
MEANING_OF_DTYPE = {
    "bfloat16": "8 significand bits, 2 bytes a value",
    "bfloat8_b": "7 significand bits and an exponent shared by 16, half the bytes of bfloat16",
    "bfloat4_b": "3 significand bits and an exponent shared by 16, a quarter of the bytes of bfloat16",
    "float32": "24 significand bits, 4 bytes a value",
}
