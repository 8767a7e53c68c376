# SPDX-License-Identifier: Apache-2.0
"""What a module is in its model, whatever it is called: the many names of one role, and the field's boundary names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Names = Mapping[str, frozenset[str]]


def _names(**roles: str) -> Names:
    return {role: frozenset(names.split()) for role, names in roles.items()}


# Names are compared in lower case, without underscores, and with "layernorm" and "rmsnorm" as "norm".
IN_MODEL = _names(
    embed="embed embedding embeddings tokembeddings tokembedding embedtokens wte wordembeddings tokenembedding "
    "tokenembeddings embedin inputembedding inputembeddings tokensembed",
    positions="wpe positionembeddings positionembedding embedpositions posembed posembedding",
    final_norm="norm finalnorm lnf normf lnfinal outputnorm decodernorm",
    logits="lmhead output head outputprojection outputproj embedout unembed unembedding logits",
    rope="rotaryemb ropesetup rotary rope rotaryembedding rotemb ropelocal rotaryemblocal ropesetuplocal",
)
IN_LAYER = _names(
    self_attn="attention selfattn attn selfattention mha multiheadattention attentionlayer",
    cross_attn="crossattn crossattention encoderattn",
    mlp="feedforward mlp ffn ff moe blocksparsemoe sparsemoe mixture feedforwardnetwork densemlp",
    input_norm="attentionnorm inputnorm ln1 attnnorm norm1 normbefore preattentionnorm preattnnorm selfattnnorm lnattn",
    after_attention="postattentionnorm postattnnorm",
    before_mlp="ffnorm ffnnorm ln2 norm2 normafter mlpnorm premlpnorm feedforwardnorm lnmlp preffnorm preffnnorm "
    "finalnorm prefeedforwardnorm",
    post_mlp_norm="postfeedforwardnorm postffnorm postffnnorm postmlpnorm",
    rope="rotaryemb ropesetup rotary rope rotaryembedding rotemb",
)
IN_ATTENTION = _names(
    q_proj="q qproj wq query toq qlinear queryproj",
    k_proj="k kproj wk key tok klinear keyproj",
    v_proj="v vproj wv value tov vlinear valueproj",
    o_proj="o oproj wo outproj dense cproj proj toout outputproj",
    qkv="qkv qkvproj wqkv cattn querykeyvalue inproj xqkv",
    q_norm="qnorm querynorm",
    k_norm="knorm keynorm",
    rope="rotaryemb ropesetup rotary rope rotaryembedding rotemb",
)
GATED = _names(
    gate_proj="gateproj w1 wgate ffgate",
    up_proj="upproj w3 wup ffup",
    down_proj="downproj w2 wdown ffdown",
)
IN_MLP = _names(
    gate_proj="gateproj wgate ffgate",
    up_proj="upproj wup ffup",
    down_proj="downproj wdown ffdown",
    fc1="fc1 cfc densehto4h w1 fcin linin dense1",
    fc2="fc2 cproj dense4htoh w2 fcout linout dense2",
    gate_up_proj="gateupproj w13",
    act="actfn act activation",
    router="router gating",
    experts="experts expert",
    shared_expert="sharedexpert sharedexperts",
)
_KNOWN = frozenset({*IN_MODEL, *IN_LAYER, *IN_ATTENTION, *GATED, *IN_MLP, "post_attn_norm", "pre_mlp_norm"})
_STACKS = frozenset(["layers", "h", "blocks", "block", "layer", "decoderlayers", "transformerblocks"])
_NUMBERED = re.compile(r"(layer|layers|block|blocks|decoder_layer|h)_?(\d+)$")
_PASSED_THROUGH = frozenset({"self", "attn", "attention", "output"})
"""Parts of an attention's path that say nothing: BERT's `attention.self.query` is the attention's query."""


_SAID_BY_LAYER = (("router",), ("shared_expert",))
"""Parts of a mixture of experts that are called `L07.router`, without the `mlp.`."""


@dataclass(frozen=True)
class Role:
    """The stack a module's layer is in ("" for the only one), the number of the layer, and its parts' usual names.

    A module outside of layers has the layer None; a layer itself has no parts.
    """

    stack: str
    layer: int | None
    parts: tuple[str, ...]

    @property
    def boundary(self) -> str:
        """The name of its output, as the field writes it: `L07.self_attn`."""
        parts = self.parts[1:] if self.parts[:1] == ("mlp",) and self.parts[1:] in _SAID_BY_LAYER else self.parts
        prefix = f"{self.stack}." if self.stack else ""
        if self.layer is None:
            return prefix + ".".join(parts)
        return f"{prefix}L{self.layer:02d}.{'.'.join(parts) or 'layer_out'}"

    @property
    def is_known(self) -> bool:
        """Whether its name is one that modules of this role have, and not one of its own."""
        return self.parts[-1:] != () and self.parts[-1] in _KNOWN


def squashed(name: str) -> str:
    """A name as names are compared: `post_attention_layernorm` is `postattentionnorm`."""
    plain = name.lower().replace("_", "")
    for long in ("layernorm", "rmsnorm"):
        plain = plain.replace(long, "norm")
    return plain


def parts_of(path: str) -> tuple[str, ...]:
    """The parts of a path, numbers apart: `layer[3].attn_norm` and `layer_3.attn_norm` give layer, 3, attn_norm."""
    parts: list[str] = []
    for part in path.replace("[", ".").replace("]", "").split("."):
        numbered = _NUMBERED.match(part)
        parts += numbered.groups() if numbered else [part]
    return tuple(part for part in parts if part)


def roles_of(paths: Iterable[str], *, norms_come_after: bool = False) -> dict[str, Role]:
    """The role of each path of one side; all of its paths are needed, for what a name means depends on its neighbours.

    `norms_come_after` says that the layers norm what a branch and the residual add up to, as BERT does.
    """
    split = {path: parts_of(path) for path in paths}
    return _Side(list(split.values()), norms_come_after).roles(split)


def has_norms_after(paths: Iterable[str]) -> bool:
    """Whether the layers of a torch model are BERT's: each branch is normed within its own `output` module."""
    names = [".".join(squashed(part) for part in parts_of(path)[-3:]) for path in paths]
    return any(name.endswith("attention.output.norm") for name in names)


class _Side:
    """One side's paths: where its stacks of layers are, and who stands beside whom."""

    def __init__(self, paths: list[tuple[str, ...]], norms_come_after: bool) -> None:
        self._children: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
        for parts in paths:
            for depth in range(len(parts)):
                self._children[parts[:depth]].add(squashed(parts[depth]))
        self._norms_come_after = norms_come_after
        self._is_bert = has_norms_after(".".join(parts) for parts in paths)
        self._stacks = _stacks(paths)
        self._wrapper = _common_start([stack[:-1] for stack in self._stacks])

    def roles(self, split: Mapping[str, tuple[str, ...]]) -> dict[str, Role]:
        return {path: self._role(parts) for path, parts in split.items()}

    def _role(self, parts: tuple[str, ...]) -> Role:
        for stack in self._stacks:
            depth = len(stack)
            if parts[:depth] == stack and len(parts) > depth and parts[depth].isdigit():
                label = ".".join(stack[len(self._wrapper) : -1])
                return Role(label, int(parts[depth]), self._in_layer(parts, depth + 1))
        kept = len(_common_start([parts, self._wrapper]))
        rest = parts[kept:]
        if not rest:
            return Role("", None, ("model", *parts))
        return Role("", None, (_role_among(rest[0], IN_MODEL, IN_LAYER), *map(str.lower, rest[1:])))

    def _in_layer(self, parts: tuple[str, ...], start: int) -> tuple[str, ...]:
        rest = parts[start:]
        if not rest:
            return ()
        if self._is_bert and self._norms_come_after and (role := _BERT.get(tuple(map(squashed, rest)))):
            return role
        first = self._norm_role(_role_among(rest[0], IN_LAYER), self._children[parts[:start]])
        if first in ("self_attn", "cross_attn"):
            return (first, *_in_attention(rest[1:]))
        if first == "mlp":
            return (first, *self._in_mlp(parts, start + 1))
        return (first, *map(str.lower, rest[1:]))

    def _norm_role(self, role: str, beside: set[str]) -> str:
        """What a norm's name means in its layer: `post_attention_layernorm` is before the MLP, unless another is."""
        if self._norms_come_after and not self._is_bert:
            shifted = {
                "input_norm": "post_attn_norm",
                "before_mlp": "post_mlp_norm",
                "after_attention": "post_attn_norm",
            }
            return shifted.get(role, role)
        if role == "before_mlp":
            return "pre_mlp_norm" if beside & IN_LAYER["after_attention"] else "post_attn_norm"
        return "post_attn_norm" if role == "after_attention" else role

    def _in_mlp(self, parts: tuple[str, ...], start: int) -> tuple[str, ...]:
        found = []
        for depth in range(start, len(parts)):
            beside = self._children[parts[:depth]]
            is_gated = bool(beside & (GATED["up_proj"] | {"w3"}))
            name = parts[depth]
            if squashed(name) == "gate" and beside & IN_MLP["experts"]:
                found.append("router")
            else:
                found.append(_role_among(name, *((GATED,) if is_gated else ()), IN_MLP))
        return tuple(found)


_BERT: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("attention", "output", "dense"): ("self_attn",),
    ("attention", "output", "norm"): ("post_attn_norm",),
    ("attention",): ("self_attn", "with_norm"),
    ("output", "dense"): ("mlp",),
    ("output", "norm"): ("post_mlp_norm",),
    ("intermediate", "dense"): ("mlp", "fc1"),
}
"""Where a BERT of separate branches and norms finds them in one that has them within its `output` modules."""


def _in_attention(rest: tuple[str, ...]) -> tuple[str, ...]:
    kept = [part for part in rest[:-1] if squashed(part) not in _PASSED_THROUGH] + list(rest[-1:])
    return tuple(_role_among(part, IN_ATTENTION) for part in kept)


def _role_among(name: str, *tables: Names) -> str:
    plain = squashed(name)
    return next((role for table in tables for role, names in table.items() if plain in names), name.lower())


def _stacks(paths: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The places of the lists of layers: what stands before a path's first number."""
    members: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    with_parts: set[tuple[str, ...]] = set()
    for parts in paths:
        first = next((depth for depth, part in enumerate(parts) if part.isdigit()), None)
        if first:
            members[parts[:first]].add(parts[first])
            if len(parts) > first + 1:
                with_parts.add(parts[:first])
    named = [stack for stack in members if squashed(stack[-1]) in _STACKS]
    if named:
        return named
    deep = [stack for stack in members if stack in with_parts]
    return [max(deep, key=lambda stack: len(members[stack]))] if deep else []


def _common_start(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    if not paths:
        return ()
    common = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return tuple(common)
