# SPDX-License-Identifier: Apache-2.0
"""Attention: `RopeSpec`, how positions turn queries and keys, and `AttentionSpec`, a whole self-attention module."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from tttdebug.specs.cost import Cost, Workload, linear
from tttdebug.specs.module_spec import ModuleSpec
from tttdebug.specs.norm import NormSpec
from tttdebug.specs.validation import EVEN, Count, Dim, Positive, Rule, at_least, derived

RopeScaling = Literal["default", "linear", "llama3", "yarn"]
AttentionType = Literal["standard", "flash"]


@dataclass(frozen=True, repr=False)
class RopeSpec(ModuleSpec):
    """Rotary position embedding: pair i of a head's first `rotary_dim` elements turns by position * f_i.

    f_i = theta ** (-2 i / rotary_dim), then changed by `scaling`:
      linear  f_i / factor
      llama3  wavelengths above original_max_position / low_freq_factor divided by factor, those below
              original_max_position / high_freq_factor kept, a blend between (Llama 3.1)
      yarn    a blend by rotations within original_max_position, between beta_slow (divided by factor) and beta_fast
              (kept); cosine and sine times `attention_factor` (Peng et al. 2023, arXiv 2309.00071)
    Which elements form a pair (halves or neighbours) is a matter of weight layout and belongs to the model family.
    """

    theta: Positive = 10000.0
    scaling: RopeScaling = "default"
    factor: Positive = 1.0
    low_freq_factor: Positive = 1.0
    high_freq_factor: Positive = 4.0
    original_max_position: Count | None = None
    beta_fast: Positive = 32.0
    beta_slow: Positive = 1.0
    attention_factor: Positive | None = None  # None: 0.1 ln(factor) + 1, or from mscale and mscale_all_dim
    mscale: Positive | None = None
    mscale_all_dim: Positive | None = None
    truncate: bool = True  # yarn: round the blend's borders outwards to whole pairs
    rotary_dim: Annotated[int, at_least(2), EVEN] | None = None  # None: the whole head

    RULES = (
        Rule(
            "factor",
            needs=("scaling",),
            holds=lambda spec: spec.scaling != "default" or spec.factor == 1.0,
            says="has no effect when scaling is 'default'",
            suggestion="name the scaling ('linear', 'llama3' or 'yarn'), or leave factor at 1.0",
        ),
        Rule(
            "original_max_position",
            needs=("scaling",),
            holds=lambda spec: spec.scaling in ("default", "linear") or spec.original_max_position is not None,
            says="is needed when scaling is {spec.scaling!r}",
            suggestion="give the context length that the model was trained on before it was stretched, e.g. 8192",
        ),
        Rule(
            "low_freq_factor",
            needs=("scaling", "high_freq_factor"),
            holds=lambda spec: spec.scaling != "llama3" or spec.low_freq_factor < spec.high_freq_factor,
            says="must be less than high_freq_factor ({spec.high_freq_factor:g})",
            suggestion="Llama 3.1 has 1.0 and 4.0; are the two exchanged?",
        ),
        Rule(
            "beta_slow",
            needs=("scaling", "beta_fast"),
            holds=lambda spec: spec.scaling != "yarn" or spec.beta_slow < spec.beta_fast,
            says="must be less than beta_fast ({spec.beta_fast:g})",
            suggestion="YaRN has 1 and 32; are the two exchanged?",
        ),
    )

    @property
    def cos_sin_scale(self) -> float:
        """What cosine and sine are multiplied by; other than 1 with yarn only (Peng et al. 2023, section 3.4)."""
        if self.scaling != "yarn":
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale is not None and self.mscale_all_dim is not None:
            return self._yarn_temperature(self.mscale) / self._yarn_temperature(self.mscale_all_dim)
        return self._yarn_temperature(1.0)

    def _yarn_temperature(self, mscale: float) -> float:
        return 0.1 * mscale * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0


def _nearest_divisors(number: int, wanted: int) -> str:
    small = [candidate for candidate in range(1, min(math.isqrt(number), 10_000) + 1) if number % candidate == 0]
    divisors = {*small, *(number // divisor for divisor in small)}
    near = sorted(sorted(divisors, key=lambda divisor: abs(divisor - wanted))[:3])
    return f"take {', '.join(map(str, near))}"


@dataclass(frozen=True, repr=False)
class AttentionSpec(ModuleSpec):
    """Self-attention: `num_heads` query heads of `head_dim` elements that share `num_kv_heads` key/value heads.

    softmax(mask(cap(scale * q k^T))) v per head, then the output projection. `rope=None` means that positions enter
    elsewhere (learned, added in the embedding); the default is plain rotary embedding over the whole head.
    """

    hidden_dim: Dim
    num_heads: Count
    num_kv_heads: Count = derived("num_heads", compute=lambda spec: spec.num_heads)  # noqa: RUF009
    head_dim: Dim = derived(  # noqa: RUF009
        "hidden_dim",
        "num_heads",
        compute=lambda spec: spec.hidden_dim // spec.num_heads if spec.hidden_dim % spec.num_heads == 0 else None,
        otherwise=Rule(
            "num_heads",
            needs=(),
            holds=lambda spec: False,
            says="must divide hidden_dim ({spec.hidden_dim}) when head_dim is not given",
            suggestion=lambda spec: f"{_nearest_divisors(spec.hidden_dim, spec.num_heads)}, or give head_dim",
        ),
    )
    rope: RopeSpec | None = RopeSpec()
    max_sequence_length: Count = 8192
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: NormSpec | None = None  # over each head's elements, before the rotary embedding
    sliding_window: Count | None = None  # a query sees itself and the sliding_window - 1 positions before it
    logit_softcap: Positive | None = None  # c: scores become c tanh(scores / c) before the mask
    scale: Positive | None = None  # None: head_dim ** -0.5, see softmax_scale
    causal: bool = True
    attention_type: AttentionType = "standard"  # flash: the same, but scores never reach memory

    RULES = (
        Rule(
            "num_kv_heads",
            needs=("num_heads",),
            holds=lambda spec: spec.num_heads % spec.num_kv_heads == 0,
            says="must divide num_heads ({spec.num_heads}), for every key/value head serves equally many query heads",
            suggestion=lambda spec: _nearest_divisors(spec.num_heads, spec.num_kv_heads),
        ),
        Rule(
            "head_dim",
            needs=("rope",),
            holds=lambda spec: spec.rope is None or spec.rope.rotary_dim is not None or spec.head_dim % 2 == 0,
            says="must be even, for the rotary embedding turns pairs of elements",
            suggestion="give an even head_dim, a rope with an even rotary_dim below it, or rope=None",
        ),
        Rule(
            "rope",
            needs=("head_dim",),
            holds=lambda spec: spec.rope is None or (spec.rope.rotary_dim or 0) <= spec.head_dim,
            says="must not turn more elements than head_dim ({spec.head_dim})",
            suggestion="give a rotary_dim of {spec.head_dim} or less",
        ),
        Rule(
            "qk_norm",
            needs=("head_dim",),
            holds=lambda spec: spec.qk_norm is None or spec.qk_norm.hidden_dim == spec.head_dim,
            says="must normalise a head's {spec.head_dim} elements",
            suggestion="give it hidden_dim={spec.head_dim}",
        ),
    )

    @property
    def is_multi_query(self) -> bool:
        """Whether all query heads share one key/value head."""
        return self.num_kv_heads == 1 < self.num_heads

    @property
    def is_grouped_query(self) -> bool:
        """Whether query heads share key/value heads at all; multi-query is the extreme of it."""
        return self.num_kv_heads < self.num_heads

    @property
    def queries_per_kv_head(self) -> int:
        """How many query heads one key/value head serves."""
        return self.num_heads // self.num_kv_heads

    @property
    def q_dim(self) -> int:
        """Width of all query heads together, which is what the output projection reads."""
        return self.num_heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of all key heads together; of all value heads as well."""
        return self.num_kv_heads * self.head_dim

    @property
    def softmax_scale(self) -> float:
        """What the scores q k^T are multiplied by."""
        return self.head_dim**-0.5 if self.scale is None else self.scale

    @property
    def rotary_dim(self) -> int:
        """How many of a head's elements the rotary embedding turns; 0 without one."""
        return 0 if self.rope is None else self.rope.rotary_dim or self.head_dim

    def _cost(self, workload: Workload) -> Cost:
        tokens, batch = workload.tokens, workload.batch
        kept = min(workload.seq_len, self.sliding_window or workload.seq_len)
        keys = kept if workload.phase == "decode" else workload.seq_len
        scores = tokens * self.num_heads * keys
        fresh_kv = 2 * batch * keys * self.kv_dim if workload.phase == "prefill" else 0
        norms = 2 * self.qk_norm.hidden_dim * (2 if self.qk_norm.bias else 1) if self.qk_norm else 0
        attend = Cost(
            flops=2 * 2 * scores * self.head_dim,
            weight_count=norms,
            weights_read=norms,
            activation_count=2 * tokens * self.q_dim
            + fresh_kv
            + (2 * scores if self.attention_type == "standard" else 0),
            kv_cache_count=2 * batch * kept * self.kv_dim if self.causal else 0,
        )
        project = linear(tokens, self.hidden_dim, self.q_dim + 2 * self.kv_dim, self.qkv_bias)
        return project + attend + linear(tokens, self.q_dim, self.hidden_dim, self.output_bias)
