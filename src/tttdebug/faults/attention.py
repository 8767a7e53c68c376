# SPDX-License-Identifier: Apache-2.0
"""Faults inside attention: its scale, its mask, its window, its heads, its caps, its biases.

S queries, T keys, H query heads, K key/value heads, E head dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tttdebug.faults import kinds
from tttdebug.faults.seen_as import SeenAs, on_host, run_as
from tttdebug.faults.site import Fault, Site, fault
from tttdebug.modules.attention_programs import choose_prompt_attention
from tttdebug.modules.positions import TILE, PromptPositions, StepPositions, mask_on_device

if TYPE_CHECKING:
    import torch

Seen = Callable[[int, int], "torch.Tensor"]


def _other_scale(site: Site) -> None:
    spec = site.spec
    meant = spec.softmax_scale
    scales = (1.0, meant**2, meant**0.5, spec.hidden_dim**-0.5, 2 * meant)
    run_as(site.module, spec=spec.replace(scale=site.choose([s for s in scales if abs(s / meant - 1) > 0.05])))


def attend_prompt_with(site: Site, seen: Seen, zero_keys: int = 0) -> None:
    """Let prompts be attended to by `seen(length, padded length)` [S, T], with so many zero keys behind."""
    module, ttnn = site.module, site.ttnn
    original = module.attend_prompt

    def attend(q_1HSE: Any, k_1KSE: Any, v_1KSE: Any, positions: PromptPositions) -> Any:
        mask = mask_on_device(ttnn, module.device, seen(positions.length, positions.padded_length)[None, None])
        if not kinds.fused_attention(site):
            return original(q_1HSE, k_1KSE, v_1KSE, SeenAs(positions, {"causal_mask": lambda window: mask}))
        if zero_keys:
            _, heads, _, width = k_1KSE.shape
            nothing = ttnn.multiply(ttnn.slice(k_1KSE, [0, 0, 0, 0], [1, heads, zero_keys, width]), 0.0)
            k_1KSE, v_1KSE = (ttnn.concat([fresh, nothing], dim=2) for fresh in (k_1KSE, v_1KSE))
        return ttnn.transformer.scaled_dot_product_attention(
            q_1HSE,
            k_1KSE,
            v_1KSE,
            attn_mask=mask,
            is_causal=False,
            scale=module.spec.softmax_scale,
            program_config=choose_prompt_attention(q_1HSE.shape[-2], module.head_dim, module.grid).to_ttnn(ttnn),
            compute_kernel_config=module.kernels["sdpa_prefill"],
        )

    vars(module)["attend_prompt"] = attend


def _no_mask(site: Site) -> None:
    """Every query sees every token, padding excepted."""
    import torch

    attend_prompt_with(site, lambda length, padded: (torch.arange(padded) < length).expand(padded, -1))


def _one_ahead(site: Site) -> None:
    ahead = site.number(1, 4)
    attend_prompt_with(site, lambda length, padded: _causal(site, padded, ahead))


def _causal(site: Site, padded: int, ahead: int = 0) -> torch.Tensor:
    """What queries see of so many positions, [S, T]: those in their window, and some after their own."""
    import torch

    window, seen_SS = site.spec.sliding_window, torch.ones(padded, padded, dtype=torch.bool).tril(ahead)
    return seen_SS if window is None else seen_SS.triu(1 - window)


def _zero_keys(site: Site) -> None:
    """A tile of padding keys that every query sees."""
    import torch

    def seen(length: int, padded: int) -> torch.Tensor:
        return torch.cat([_causal(site, padded), torch.ones(padded, TILE, dtype=torch.bool)], dim=1)

    attend_prompt_with(site, seen, zero_keys=TILE)


def _added_window(site: Site) -> None:
    run_as(site.module, spec=site.spec.replace(sliding_window=site.choose((4, 8, 16, 24))))


def _other_window(site: Site) -> None:
    meant = site.spec.sliding_window
    run_as(site.module, spec=site.spec.replace(sliding_window=site.choose((None, max(1, meant // 2), meant + 1))))


def _steps_attend(site: Site, position: Callable[[int, int], int]) -> None:
    """Let a decode step attend as if it were at `position(its own, cache length)`."""
    module, ttnn = site.module, site.ttnn
    original = module.attend_step

    def attend(q_1BHE: Any, cache: Any, positions: StepPositions) -> Any:
        own, length = ttnn.to_torch(positions.on_device), cache.keys.shape[2]
        moved = StepPositions(module.device, own.clone().apply_(lambda place: position(int(place), length)))
        return original(q_1BHE, cache, moved)

    vars(module)["attend_step"] = attend


def _newest_unseen(site: Site) -> None:
    _steps_attend(site, lambda own, length: max(0, own - 1))


def _step_sees_all(site: Site) -> None:
    _steps_attend(site, lambda own, length: length - 1)


def _tiled_heads(site: Site) -> None:
    """Query head h reads key/value head h mod K, where h div (H/K) is meant: repeat and repeat_interleave mixed up."""
    import torch

    module, ttnn, spec = site.module, site.ttnn, site.spec
    order_H = torch.arange(spec.num_heads).reshape(-1, spec.num_kv_heads).T.flatten()
    back_H = order_H.argsort()

    def around(original: Callable[..., Any], dim: int) -> Callable[..., Any]:
        def attend(q: Any, *others: Any) -> Any:
            out = original(on_host(ttnn, q, lambda heads: heads.index_select(dim, order_H)), *others)
            return on_host(ttnn, out, lambda heads: heads.index_select(dim, back_H))

        return attend

    vars(module)["attend_prompt"] = around(module.attend_prompt, 1)
    vars(module)["attend_step"] = around(module.attend_step, 2)


def _no_head_norms(site: Site) -> None:
    run_as(site.module, q_norm=None, k_norm=None)


def _other_cap(site: Site) -> None:
    cap = site.spec.logit_softcap
    run_as(site.module, spec=site.spec.replace(logit_softcap=site.choose((1e4, cap / 4))))


def _no_qkv_bias(site: Site) -> None:
    run_as(site.module, bqkv=[None] * len(site.module.wqkv))


def _no_output_bias(site: Site) -> None:
    run_as(site.module, bo=None)


def _grouped(site: Site) -> bool:
    return kinds.attention(site) and 1 < site.spec.num_kv_heads < site.spec.num_heads


def _attention_with(condition: Callable[[Any], object]) -> kinds.Fits:
    return lambda site: kinds.projections(site) and bool(condition(site.spec))


_windowed = kinds.both(kinds.attention, lambda site: site.spec.sliding_window is not None)
_unwindowed = kinds.both(kinds.attention, lambda site: site.spec.sliding_window is None)
FAULTS: tuple[Fault, ...] = (
    fault("attention_scale", "code", "attention_scale", kinds.attention, _other_scale),
    fault("mask_missing", "code", "mask_missing", kinds.attention, _no_mask),
    fault("mask_ahead", "code", "mask_wrong", kinds.attention, _one_ahead),
    fault("padding_keys", "code", "padding_keys", kinds.fused_attention, _zero_keys),
    fault("padding_keys_in_decode", "code", "padding_keys mask_wrong", kinds.attention, _step_sees_all, steps=1),
    fault("newest_key_unseen", "code", "mask_wrong", kinds.attention, _newest_unseen, steps=1),
    fault("window_added", "code", "window", _unwindowed, _added_window),
    fault("window_other", "code", "window", _windowed, _other_window),
    fault("gqa_tiled", "code", "gqa_repeat", _grouped, _tiled_heads),
    fault("head_norms_missing", "code", "head_norm_missing", _attention_with(lambda s: s.qk_norm), _no_head_norms),
    fault("attention_softcap", "code", "softcap", _attention_with(lambda s: s.logit_softcap), _other_cap),
    fault("qkv_bias_missing", "code", "bias_missing", _attention_with(lambda s: s.qkv_bias), _no_qkv_bias),
    fault("output_bias_missing", "code", "bias_missing", _attention_with(lambda s: s.output_bias), _no_output_bias),
)
