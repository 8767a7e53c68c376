# SPDX-License-Identifier: Apache-2.0
"""The weights that each spec needs: their names in the port and their shapes, in torch's layout [out, in].

A module documents what its names mean; a module of several parts has theirs under the part's name and a dot.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, singledispatch
from typing import TYPE_CHECKING, TypeAlias

from tttdebug.errors import SpecError
from tttdebug.specs import (
    AttentionSpec,
    CausalLMSpec,
    ClassifierSpec,
    DecoderLayerSpec,
    EmbeddingSpec,
    EncoderLayerSpec,
    EncoderModelSpec,
    FeedForwardSpec,
    LMHeadSpec,
    MixtureOfExpertsSpec,
    ModuleSpec,
    NormSpec,
    PatchEmbeddingSpec,
    PoolerSpec,
)

if TYPE_CHECKING:
    import torch

Shapes: TypeAlias = dict[str, tuple[int, ...]]
INITIAL_STD = 0.02  # of drawn matrices, as transformers draws them


@lru_cache(maxsize=256)
def weight_shapes(spec: ModuleSpec) -> Shapes:
    """Every weight that a module of this spec needs, with its shape. Raises SpecError for a spec without weights."""
    return _shapes(spec)


def seeded_weights(spec: ModuleSpec, seed: int) -> dict[str, torch.Tensor]:
    """Weights drawn at random: matrices normal with standard deviation 0.02, gains 1 (0 where 1 is added), biases 0."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in weight_shapes(spec).items():
        is_gain = len(shape) == 1 and not _is_bias(name)
        weights[name] = torch.zeros(shape) if len(shape) == 1 else torch.randn(shape, generator=generator) * INITIAL_STD
        if is_gain and not _gains_are_offsets(spec):
            weights[name] += 1.0
    return weights


def _is_bias(name: str) -> bool:
    return name.rpartition(".")[2] in ("bias", "selection_bias", "bq", "bk", "bv", "bo", "b1", "b2", "b3")


def _gains_are_offsets(spec: ModuleSpec) -> bool:
    """Whether this spec's norms keep their gains as differences from one."""
    norms = [part for part in (spec, *_inside(spec)) if isinstance(part, NormSpec)]
    return any(norm.unit_offset for norm in norms)


def _inside(spec: ModuleSpec) -> Iterable[ModuleSpec]:
    for _, parts in spec._parts():
        yield parts[0]
        yield from _inside(parts[0])


def _part(name: str, spec: ModuleSpec | None) -> Shapes:
    return {} if spec is None else {f"{name}.{inner}": shape for inner, shape in weight_shapes(spec).items()}


@singledispatch
def _shapes(spec: ModuleSpec) -> Shapes:
    raise SpecError(f"{type(spec).__name__} has no weights of its own: give the spec of a module")


@_shapes.register
def _norm(spec: NormSpec) -> Shapes:
    vector: tuple[int, ...] = (spec.hidden_dim,)
    return {"weight": vector} | ({"bias": vector} if spec.bias else {})


@_shapes.register
def _attention(spec: AttentionSpec) -> Shapes:
    wide = {"q": spec.q_dim, "k": spec.kv_dim, "v": spec.kv_dim}
    shapes: Shapes = {f"w{part}": (width, spec.hidden_dim) for part, width in wide.items()}
    shapes["wo"] = (spec.hidden_dim, spec.q_dim)
    if spec.qkv_bias:
        shapes |= {f"b{part}": (width,) for part, width in wide.items()}
    if spec.output_bias:
        shapes["bo"] = (spec.hidden_dim,)
    return shapes | _part("q_norm", spec.qk_norm) | _part("k_norm", spec.qk_norm)


@_shapes.register
def _feed_forward(spec: FeedForwardSpec) -> Shapes:
    inward: tuple[int, ...] = (spec.intermediate_dim, spec.hidden_dim)
    outward: tuple[int, ...] = (spec.hidden_dim, spec.intermediate_dim)
    shapes: Shapes = {"w1": inward, "w2": outward} | ({"w3": inward} if spec.is_gated else {})
    return shapes | ({f"b{name[1]}": shape[:1] for name, shape in shapes.items()} if spec.bias else {})


@_shapes.register
def _mixture(spec: MixtureOfExpertsSpec) -> Shapes:
    shapes: Shapes = {"router.weight": (spec.num_experts, spec.hidden_dim)}
    if spec.router_bias:
        shapes["router.bias"] = (spec.num_experts,)
    if spec.selection_bias:
        shapes["router.selection_bias"] = (spec.num_experts,)
    for expert in range(spec.num_experts):
        shapes |= _part(f"experts.{expert}", spec.expert)
    if spec.shared_expert_gate:
        shapes["shared_expert_gate"] = (1, spec.hidden_dim)
    return shapes | _part("shared_expert", spec.shared_expert)


@_shapes.register
def _embedding(spec: EmbeddingSpec) -> Shapes:
    tables = {"weight": spec.vocab_size, "positions": spec.learned_positions, "token_types": spec.token_types}
    shapes: Shapes = {name: (rows, spec.hidden_dim) for name, rows in tables.items() if rows is not None}
    return shapes | _part("norm", spec.norm)


@_shapes.register
def _patches(spec: PatchEmbeddingSpec) -> Shapes:
    shapes: Shapes = {
        "weight": (spec.hidden_dim, spec.patch_dim),
        "positions": (spec.learned_positions, spec.hidden_dim),
    }
    if spec.bias:
        shapes["bias"] = (spec.hidden_dim,)
    if spec.class_token:
        shapes["class_token"] = (1, spec.hidden_dim)
    return shapes


@_shapes.register
def _lm_head(spec: LMHeadSpec) -> Shapes:
    rows = spec.padded_vocab_size
    return {"weight": (rows, spec.hidden_dim)} | ({"bias": (rows,)} if spec.bias else {})


@_shapes.register
def _pooler(spec: PoolerSpec) -> Shapes:
    return {"weight": (spec.output_dim, spec.hidden_dim)} | ({"bias": (spec.output_dim,)} if spec.bias else {})


@_shapes.register
def _classifier(spec: ClassifierSpec) -> Shapes:
    return {"weight": (spec.num_classes, spec.hidden_dim)} | ({"bias": (spec.num_classes,)} if spec.bias else {})


@_shapes.register
def _decoder_layer(spec: DecoderLayerSpec) -> Shapes:
    around = {"attention_norm": spec.input_norm, "attention": spec.attention, "feed_forward": spec.feed_forward}
    if spec.norms_branch_outputs:
        around["post_attention_norm"] = spec.post_attention_norm  # type: ignore[assignment]
        around["ff_norm"] = spec.pre_feed_forward_norm  # type: ignore[assignment]
        around["post_ff_norm"] = spec.post_feed_forward_norm  # type: ignore[assignment]
    else:
        around["ff_norm"] = spec.post_attention_norm  # type: ignore[assignment]
    return {name: shape for part, inner in around.items() for name, shape in _part(part, inner).items()}


@_shapes.register
def _encoder_layer(spec: EncoderLayerSpec) -> Shapes:
    return (
        _part("attention_norm", spec.attention_norm)
        | _part("attention", spec.attention)
        | _part("ff_norm", spec.feed_forward_norm)
        | _part("feed_forward", spec.feed_forward)
    )


@_shapes.register
def _causal_lm(spec: CausalLMSpec) -> Shapes:
    shapes = _part("embedding", spec.embedding)
    for i, layer in enumerate(spec.layers):
        shapes |= _part(f"layers.{i}", layer)
    return shapes | _part("norm", spec.final_norm) | _part("lm_head", spec.lm_head)


@_shapes.register
def _encoder(spec: EncoderModelSpec) -> Shapes:
    shapes = _part("embedding", spec.embedding)
    for i, layer in enumerate(spec.layers):
        shapes |= _part(f"layers.{i}", layer)
    return shapes | _part("norm", spec.final_norm) | _part("pooler", spec.pooler) | _part("classifier", spec.classifier)
