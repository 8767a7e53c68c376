# SPDX-License-Identifier: Apache-2.0
"""Changes to a port that are no faults: other formats that it declares, other programs, the same sums in another order.

An explanation that blames one of them cries wolf.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tttdebug.backends.devices import Engine
from tttdebug.faults import kinds
from tttdebug.faults.placing import place_again
from tttdebug.faults.seen_as import Entry, OtherOps, SeenAs, on_host, run_as, with_ops
from tttdebug.faults.site import Site
from tttdebug.modules.build import build_model
from tttdebug.modules.hardware import HIFI4, LOFI, ComputeKernel, HardwareConfig
from tttdebug.tracking.pairing import module_at

if TYPE_CHECKING:
    import torch

    from tttdebug.references import Reference

Build = Callable[["Reference", Any, str], Any]
Change = Callable[[Site], None]
_WEIGHTS = ("wqkv", "wo", "ff1_ff3", "ff2", "lm_head")
_PRODUCTS = ("li_qkv", "li_o", "li_qkv_decode", "li_o_decode", "li_ff1_ff3", "li_ff2", "li_lm_head")


@dataclass(frozen=True)
class Harmless:
    """A port that is sound though it is not the plainest: `build(reference, device, precision)` makes it.

    `engine` is the one it is for, `tokens` how long the prompt should be and `users` how many prompts there should be,
    where that is the point of it. `may_say` are causes that name what is so, though it harms nothing.
    """

    name: str
    build: Build
    engine: Engine = "fast"
    tokens: int | None = None
    users: int = 1
    may_say: frozenset[str] = frozenset()


def _as_it_is(reference: Reference, device: Any, precision: str) -> Any:
    return build_model(reference, device, precision)


def _declared(change: Callable[[HardwareConfig], HardwareConfig]) -> Build:
    """A port that declares another hardware config."""

    def build(reference: Reference, device: Any, precision: str) -> Any:
        return build_model(reference, device, hw_config=change(HardwareConfig.preset(precision)))

    return build


def _kernels(change: Callable[[ComputeKernel], ComputeKernel]) -> Build:
    return _declared(lambda hw: hw.replace(**{name: change(getattr(hw, name)) for name in _PRODUCTS}))


def _weights_as(dtype: str) -> Build:
    """A port whose weights came in another torch dtype."""

    def build(reference: Reference, device: Any, precision: str) -> Any:
        import torch

        state = reference.model.state_dict()
        other = {name: weight.to(getattr(torch, dtype)) for name, weight in state.items()}
        return build_model(reference, device, precision, weights=other)

    return build


def _everywhere(fits: kinds.Fits, change: Change) -> Build:
    """A port in which all modules that fit are changed alike."""

    def build(reference: Reference, device: Any, precision: str) -> Any:
        import torch

        port = build_model(reference, device, precision)
        generator = torch.Generator().manual_seed(0)
        for pair in port.pairs:
            site = Site(port, pair.boundary, module_at(port, pair.port, pair.boundary), generator)
            if fits(site):
                change(site)
        return port

    return build


def _queries_permuted(site: Site) -> None:
    """Query heads that share a key/value head exchange places, and so do the columns that read them."""
    import torch

    spec, module = site.spec, site.module
    groups = torch.arange(spec.num_heads).reshape(spec.num_kv_heads, -1)
    _permute_heads(module, {"q": groups.flip(-1).flatten()})


def _groups_permuted(site: Site) -> None:
    """Key/value heads move on by one, and their query heads with them."""
    import torch

    spec = site.spec
    kv = torch.arange(spec.num_kv_heads).roll(1)
    queries = torch.arange(spec.num_heads).reshape(spec.num_kv_heads, -1)[kv].flatten()
    _permute_heads(site.module, {"q": queries, "k": kv, "v": kv})


def _permute_heads(module: Any, orders: dict[str, torch.Tensor]) -> None:
    spec = module.spec
    changed = {"wo": _by_heads(module.weight("wo"), orders["q"], spec.head_dim, 1)}
    for part, order in orders.items():
        for kind in ("w", "b") if spec.qkv_bias else ("w",):
            changed[f"{kind}{part}"] = _by_heads(module.weight(f"{kind}{part}"), order, spec.head_dim, 0)
    place_again(module, changed)


def _by_heads(weight: torch.Tensor, order: torch.Tensor, head_dim: int, dim: int) -> torch.Tensor:
    return weight.unflatten(dim, (-1, head_dim)).index_select(dim, order).flatten(dim, dim + 1)


def _channels_permuted(site: Site) -> None:
    """The inner channels of a network in another order, in all its matrices."""
    import torch

    module, spec = site.module, site.spec
    order = torch.randperm(spec.intermediate_dim, generator=site.generator)
    inward = ("w1", "w3", "b1", "b3") if spec.is_gated else ("w1", "b1")
    changed = {name: module.weight(name)[order] for name in inward if spec.bias or name.startswith("w")}
    place_again(module, {**changed, "w2": module.weight("w2")[:, order]})


def _up_folded(site: Site) -> None:
    """Twice the up projection, half the down projection."""
    module, up = site.module, ("w3", "b3") if site.spec.bias else ("w3",)
    doubled = {name: 2.0 * module.weight(name) for name in up}
    place_again(module, {**doubled, "w2": module.weight("w2") / 2.0})


def _scale_folded(site: Site) -> None:
    """Twice the queries, half the softmax scale."""
    module, spec = site.module, site.spec
    names = ("wq", "bq") if spec.qkv_bias else ("wq",)
    place_again(module, {name: 2.0 * module.weight(name) for name in names})
    run_as(module, spec=spec.replace(scale=spec.softmax_scale / 2.0))


def _other_chunks(site: Site) -> None:
    ttnn, grid = site.ttnn, site.module.grid

    def attend(*tensors: Any, program_config: Any, **others: Any) -> Any:
        program = ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=grid, q_chunk_size=64, k_chunk_size=64, exp_approx_mode=False
        )
        return ttnn.transformer.scaled_dot_product_attention(*tensors, program_config=program, **others)

    with_ops(site.module, transformer__scaled_dot_product_attention=attend)


def _in_halves(site: Site) -> None:
    """The last product as the sum of two, as two devices make it."""
    module, ttnn = site.module, site.ttnn
    whole = type(module).linear

    def part(x: Any, weight: Any, kernel: str, start: int, stop: int) -> Any:
        rows = on_host(ttnn, weight, lambda values: values[..., start:stop, :].contiguous())
        columns = ttnn.slice(x, [0, 0, 0, start], [1, 1, x.shape[-2], stop])
        return whole(module, columns, rows, kernel)

    def linear(x: Any, weight: Any, kernel: str, bias: Any = None, **others: Any) -> Any:
        if weight is not module.w2:
            return whole(module, x, weight, kernel, bias, **others)
        inner = weight.shape[-2]
        total = ttnn.add(part(x, weight, kernel, 0, inner // 2), part(x, weight, kernel, inner // 2, inner))
        return total if bias is None else ttnn.add(total, bias)

    run_as(module, linear=linear)


def _halvable(site: Site) -> bool:
    return kinds.network(site) and site.spec.intermediate_dim % 64 == 0


def _gate_apart(site: Site) -> None:
    """The gate's function as an op of its own."""
    ttnn = site.ttnn
    functions: dict[str, Entry] = {
        "silu": ttnn.silu,
        "relu": ttnn.relu,
        "gelu": ttnn.gelu,
        "gelu_tanh": lambda x: ttnn.gelu(x, variant=ttnn.GeluVariant.Tanh),
    }
    function = functions[site.spec.nonlinearity]
    with_ops(site.module, multiply=lambda a, b, input_tensor_a_activations=(): ttnn.multiply(function(a), b))


def _sums_turned_round(site: Site) -> None:
    """Residuals added to branches, not branches to residuals."""
    module, ttnn = site.module, site.ttnn
    seen = SeenAs(module, {"ttnn": OtherOps(ttnn, {"add": lambda a, b: ttnn.add(b, a)})})
    vars(module)["rest"] = lambda x_11SD, attended_11SD: type(module).rest(seen, x_11SD, attended_11SD)


def _last_layer_finer(reference: Reference, device: Any, precision: str) -> Any:
    """A hardware config that says something else of one layer, as TT-Transformers' own do of the last one."""
    last, base = reference.config.num_hidden_layers - 1, HardwareConfig.preset(precision)
    return build_model(reference, device, hw_config=replace(base, layers=((last, HardwareConfig.preset("bf16")),)))


HARMLESS: tuple[Harmless, ...] = (
    Harmless("plain", _as_it_is),
    Harmless("bfloat4_declared", _declared(lambda hw: hw.replace(**dict.fromkeys(_WEIGHTS, "bfloat4_b")))),
    Harmless("bfloat8_declared", _declared(lambda hw: hw.replace(**dict.fromkeys(_WEIGHTS, "bfloat8_b")))),
    Harmless("lofi_declared", _kernels(lambda kernel: LOFI)),
    Harmless("hifi4_declared", _kernels(lambda kernel: HIFI4)),
    Harmless("bfloat16_sums_declared", _kernels(lambda kernel: replace(kernel, fp32_dest_acc_en=False))),
    Harmless("separate_qkv", _declared(lambda hw: hw.replace(fuse_qkv=False))),
    Harmless("automatic_programs", _declared(lambda hw: hw.replace(matmul_programs="automatic"))),
    Harmless("cache_bfloat16", _declared(lambda hw: hw.replace(kv_cache="bfloat16"))),
    Harmless("bf16_precision", _declared(lambda hw: HardwareConfig.preset("bf16"))),
    Harmless("last_layer_finer", _last_layer_finer),
    Harmless("weights_in_bfloat16", _weights_as("bfloat16")),
    Harmless("weights_in_float64", _weights_as("float64")),
    Harmless("exact_engine", _as_it_is, engine="exact"),
    Harmless("one_token_over_a_tile", _as_it_is, tokens=33),
    Harmless("one_token_short_of_a_tile", _as_it_is, tokens=63),
    Harmless("whole_tiles", _as_it_is, tokens=64),
    Harmless("two_prompts", _as_it_is, users=2),
    Harmless("attention_chunks", _everywhere(kinds.fused_attention, _other_chunks)),
    Harmless("query_heads_permuted", _everywhere(kinds.attention, _queries_permuted)),
    Harmless(
        "kv_heads_permuted",  # the caches do hold heads in another order than the reference's
        _everywhere(kinds.attention, _groups_permuted),
        may_say=frozenset({"heads_permuted"}),
    ),
    Harmless("inner_channels_permuted", _everywhere(kinds.network, _channels_permuted)),
    Harmless("up_folded_into_down", _everywhere(kinds.gated, _up_folded)),
    Harmless("scale_folded_into_queries", _everywhere(kinds.attention, _scale_folded)),
    Harmless("sums_in_halves", _everywhere(_halvable, _in_halves)),
    Harmless("gate_apart", _everywhere(kinds.gated, _gate_apart)),
    Harmless("sums_turned_round", _everywhere(kinds.layer, _sums_turned_round)),
)
