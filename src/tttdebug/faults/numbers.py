# SPDX-License-Identifier: Apache-2.0
"""Faults of number formats and kernel settings: coarser ones than the hardware config declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tttdebug.faults import kinds
from tttdebug.faults.placing import held_by, place_again
from tttdebug.faults.seen_as import Entry, SeenAs, change_output, run_as, with_ops, wrap
from tttdebug.faults.site import Fault, Site, fault
from tttdebug.modules import LMHead
from tttdebug.modules.attention_projections import AttentionProjections
from tttdebug.modules.hardware import ComputeKernel

_COARSENESS = ("float32", "bfloat16", "bfloat8_b", "bfloat4_b")


def _coarser_than(dtype: str) -> tuple[str, ...]:
    return _COARSENESS[_COARSENESS.index(dtype) + 1 :]


def _matrices(site: Site) -> list[str]:
    """The matrices that the module keeps in a format than which there is a coarser one."""
    if not kinds.keeps()(site) or kinds.embedding(site):
        return []
    formats, shapes = site.module.weight_formats, site.module.shapes()
    kept = [name for names in site.module.places().values() for name in names]
    return [name for name in kept if len(shapes[name]) == 2 and _coarser_than(formats[name].dtype)]


def _coarser_weight(site: Site) -> None:
    module, name = site.module, site.choose(_matrices(site))
    names = module.places()[held_by(module, name)]
    dtype = site.choose(_coarser_than(module.weight_formats[name].dtype))
    place_again(module, {name: module.weight(name) for name in names}, dtype=dtype)


def _output_as(dtype: str) -> Callable[[Site], None]:
    def inject(site: Site) -> None:
        ttnn = site.ttnn

        def cast(out: Any) -> Any:
            return ttnn.typecast(ttnn.typecast(out, dtype=getattr(ttnn, dtype)), dtype=out.dtype)

        change_output(site.module, cast)

    return inject


def _input_as(dtype: str) -> Callable[[Site], None]:
    def inject(site: Site) -> None:
        ttnn = site.ttnn

        def around(entry: Entry) -> Entry:
            def called(x: Any, *others: Any, **named: Any) -> Any:
                return entry(
                    ttnn.typecast(ttnn.typecast(x, dtype=getattr(ttnn, dtype)), dtype=x.dtype), *others, **named
                )

            return called

        wrap(site.module, around)

    return inject


def _kernel_names(site: Site) -> tuple[str, ...]:
    """The kernel settings of the products that a module makes."""
    if isinstance(site.module, AttentionProjections):
        return ("li_qkv", "li_o", "li_qkv_decode", "li_o_decode")
    if isinstance(site.module, LMHead):
        return ("li_lm_head",)
    return ("li_ff1_ff3", "li_ff2") if kinds.network(site) else ()


def _kernels(site: Site, condition: Callable[[ComputeKernel], bool]) -> tuple[str, ...]:
    return tuple(name for name in _kernel_names(site) if condition(getattr(site.module.hw_config, name)))


def _with_kernels(
    condition: Callable[[ComputeKernel], bool], **settings: Any
) -> tuple[kinds.Fits, Callable[[Site], None]]:
    """Products of which a setting is another where the condition holds of what is declared."""

    def inject(site: Site) -> None:
        config = site.module.hw_config
        changed = {name: replace(getattr(config, name), **settings) for name in _kernels(site, condition)}
        run_as(site.module, hw_config=config.replace(**changed))

    return lambda site: bool(_kernels(site, condition)), inject


def _attention_kernels(site: Site, **settings: Any) -> None:
    config, ttnn = site.module.hw_config, site.ttnn
    run_as(
        site.module,
        kernels={name: replace(getattr(config, name), **settings).to_ttnn(ttnn) for name in site.module.kernels},
    )


def _coarse_norm(site: Site) -> None:
    kernel = replace(site.module.hw_config.norms, math_fidelity="LoFi")
    run_as(site.module, kernel=kernel.to_ttnn(site.ttnn))


def _approximate_exponential(site: Site) -> None:
    ttnn = site.ttnn
    grid = site.module.grid

    def approximate(op: Entry, chunk: int) -> Entry:
        def attend(*tensors: Any, program_config: Any, **others: Any) -> Any:
            program = ttnn.SDPAProgramConfig(
                compute_with_storage_grid_size=grid, q_chunk_size=chunk, k_chunk_size=chunk, exp_approx_mode=True
            )
            return op(*tensors, program_config=program, **others)

        return attend

    with_ops(
        site.module,
        transformer__scaled_dot_product_attention=approximate(ttnn.transformer.scaled_dot_product_attention, 32),
        transformer__scaled_dot_product_attention_decode=approximate(
            ttnn.transformer.scaled_dot_product_attention_decode, 0
        ),
    )


def _approximate_gelu(site: Site) -> None:
    ttnn = site.ttnn
    if kinds.gated(site):
        run_as(site.module, gate=ttnn.UnaryWithParam(ttnn.UnaryOpType.GELU, 1.0))
    else:
        with_ops(site.module, gelu=lambda x, **others: ttnn.gelu(x, fast_and_approximate_mode=True))


def _coarser_cache(site: Site) -> None:
    module = site.module
    config = module.hw_config.replace(kv_cache=site.choose(_coarser_than(module.hw_config.kv_cache)))
    allocate = type(module).allocate_cache
    vars(module)["allocate_cache"] = lambda users, length: allocate(
        SeenAs(module, {"hw_config": config}), users, length
    )


def _has_gelu(site: Site) -> bool:
    return kinds.network(site) and site.spec.nonlinearity == "gelu"


_LOFI = _with_kernels(lambda kernel: kernel.math_fidelity != "LoFi", math_fidelity="LoFi")
_BF16_SUMS = _with_kernels(lambda kernel: kernel.fp32_dest_acc_en, fp32_dest_acc_en=False)
FAULTS: tuple[Fault, ...] = (
    fault("weight_coarser", "numbers", "cast_low", lambda site: bool(_matrices(site)), _coarser_weight),
    fault("output_bfloat8", "numbers", "cast_low", kinds.anything, _output_as("bfloat8_b")),
    fault("output_bfloat4", "numbers", "cast_low", kinds.anything, _output_as("bfloat4_b")),
    fault("input_bfloat4", "numbers", "cast_low", kinds.branch, _input_as("bfloat4_b")),
    fault("cache_coarser", "numbers", "cast_low", kinds.both(kinds.attention, kinds.in_language_model), _coarser_cache),
    fault("lofi", "numbers", "fidelity_low", *_LOFI),
    fault(
        "attention_lofi",
        "numbers",
        "fidelity_low",
        kinds.attention,
        lambda site: _attention_kernels(site, math_fidelity="LoFi"),
    ),
    fault("norm_lofi", "numbers", "fidelity_low", kinds.norm, _coarse_norm),
    fault("bfloat16_sums", "numbers", "accumulation_low", *_BF16_SUMS),
    fault(
        "attention_bfloat16_sums",
        "numbers",
        "accumulation_low",
        kinds.attention,
        lambda site: _attention_kernels(site, fp32_dest_acc_en=False),
    ),
    fault("approximate_exponential", "numbers", "approximate_exp", kinds.fused_attention, _approximate_exponential),
    fault("approximate_gelu", "numbers", "approximate_exp activation", _has_gelu, _approximate_gelu),
)
