# SPDX-License-Identifier: Apache-2.0
"""Pairs are found whatever a port calls its modules, by rules in order; what stays unpaired is listed with a reason."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import tttdebug as td
from families.random_models import ARCHITECTURES, DECODERS, decoders, encoders, random_model
from tttdebug.errors import PairingError
from tttdebug.tracking.pairing import Pair
from tttdebug.tracking.pairing_plan import plan_pairs
from tttdebug.tracking.plan_file import plan_from_toml

LAYERS = 3


class Part:
    """A module of a port that nobody will run."""

    def __init__(self, **held):
        vars(self).update(held)

    def forward(self, x):
        raise AssertionError("pairing runs nothing")


class RMSNorm1D(Part):
    pass


class Attention1D(Part):
    pass


class Embedding1D(Part):
    pass


class TorchAttention(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.q, self.o = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        return self.o(self.q(x))


def llama(layers=LAYERS):
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )


@pytest.fixture(scope="module")
def model():
    return llama()


# what six code bases call the same eight modules
STYLES = {
    "TT-Transformers": ("embedding", "attention_norm", "attention", "ff_norm", "feed_forward", "norm", "lm_head"),
    "Qwen in TT-Transformers": (
        *("embedding", "input_layernorm", "self_attn", "post_attention_layernorm", "mlp"),
        *("norm", "lm_head"),
    ),
    "Meta": ("tok_embeddings", "attention_norm", "attention", "ffn_norm", "feed_forward", "norm", "output"),
    "GPT-2": ("wte", "ln_1", "attn", "ln_2", "mlp", "ln_f", "lm_head"),
    "GPT-NeoX": (
        "embed_in",
        "input_layernorm",
        "attention",
        "post_attention_layernorm",
        "mlp",
        "final_layer_norm",
        "embed_out",
    ),
    "plain": ("embed", "norm1", "attn", "norm2", "ffn", "final_norm", "head"),
}
STACKS = {
    "layers": lambda layers: {"layers": layers},
    "h": lambda layers: {"h": layers},
    "blocks": lambda layers: {"blocks": tuple(layers)},
    "decoder.layers": lambda layers: {"decoder": SimpleNamespace(layers=layers)},
    "a dictionary": lambda layers: {"layers": {str(i): layer for i, layer in enumerate(layers)}},
    "attributes": lambda layers: {f"layer_{i}": layer for i, layer in enumerate(layers)},
}


def port_of(style, stack="layers", wrapped=False, layers=LAYERS):
    embed, first, attention, second, mlp, norm, head = STYLES[style]
    inside = [{first: Part(), attention: Part(), second: Part(), mlp: Part()} for _ in range(layers)]
    model = Part(
        **{embed: Part(), **STACKS[stack]([Part(**parts) for parts in inside]), norm: Part(), head: Part()},
        rope_setup=Part(),
    )
    return SimpleNamespace(model=model, device=None) if wrapped else model


def answers(plan):
    return {pair.boundary: (pair.port.split(".")[-1], pair.reference) for pair in plan.pairs}


@given(
    style=st.sampled_from(sorted(STYLES)),
    stack=st.sampled_from(sorted(STACKS)),
    wrapped=st.booleans(),
    layers=st.sampled_from([1, 2, 12]),
)
@settings(max_examples=40, deadline=None)
def test_a_llama_is_paired_whatever_its_modules_are_called(style, stack, wrapped, layers):
    model, names = llama(layers), STYLES[style]
    plan = plan_pairs(port_of(style, stack, wrapped, layers), model)
    expected = {"embed": (names[0], "model.embed_tokens")}
    for i in range(layers):
        at, boundary = f"model.layers.{i}", f"L{i:02d}"
        expected[f"{boundary}.input_norm"] = (names[1], f"{at}.input_layernorm")
        expected[f"{boundary}.self_attn"] = (names[2], f"{at}.self_attn")
        expected[f"{boundary}.post_attn_norm"] = (names[3], f"{at}.post_attention_layernorm")
        expected[f"{boundary}.mlp"] = (names[4], f"{at}.mlp")
        expected[f"{boundary}.layer_out"] = (f"layer_{i}" if stack == "attributes" else str(i), at)
    expected |= {"final_norm": (names[5], "model.norm"), "logits": (names[6], "lm_head")}
    assert answers(plan) == expected
    assert [pair.boundary for pair in plan.pairs] == list(expected)
    everything = {name for name, module in model.named_modules() if not isinstance(module, nn.ModuleList)}
    assert everything == {pair.reference for pair in plan.pairs} | {left.path for left in plan.unpaired_reference}
    assert {left.path for left in plan.unpaired_port} == (
        {"model", "model.rope_setup"} if wrapped else {"", "rope_setup"}
    )
    assert all(left.reason for left in (*plan.unpaired_port, *plan.unpaired_reference))


@pytest.mark.parametrize("architecture", [name for names in ARCHITECTURES.values() for name in names])
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_every_family_is_paired_as_its_own_table_says(architecture, data):
    family = next(family for family, names in ARCHITECTURES.items() if architecture in names)
    config = data.draw((decoders if family in DECODERS else encoders)(family))
    reference = td.load_reference(random_model(config, architecture, 0))
    port = td.build_model(reference, td.open_device("emulated"), "bf16")
    plan = plan_pairs(port, reference.model)
    found = {(pair.boundary, pair.port, pair.reference) for pair in plan.pairs}
    table = {(pair.boundary, pair.port, pair.reference) for pair in port.pairs}
    # what a port's head does besides cannot be told by names: that is reported
    scales = getattr(config, "final_logit_softcapping", None) or getattr(config, "logit_scale", 1.0) != 1.0
    assert {boundary for boundary, _, _ in table - found} == ({"logits"} if scales else set()) or (
        table - found == {("logits", "lm_head", "")} and ("logits", "lm_head", "lm_head") in found
    )
    left = {item.path: item.reason for item in plan.unpaired_port}
    assert left.get("lm_head", "").startswith("ambiguous: the reference caps or scales") == bool(scales)
    extra = {boundary.partition(".")[2] for boundary, _, _ in found - table} - {""}
    assert extra <= {"self_attn.q_norm", "self_attn.k_norm", "post_mlp_norm", "layernorm"}
    known = found & table  # what a table says of the way through the reference besides, no name tells
    in_order = [
        [replace(pair, through=()) for pair in pairs if (pair.boundary, pair.port, pair.reference) in known]
        for pairs in (plan.pairs, port.pairs)
    ]
    assert in_order[0] == in_order[1]


def test_the_same_path_comes_before_the_same_role(model):
    port = port_of("Qwen in TT-Transformers", wrapped=True)
    port.model.layers[0].attention = Part()  # by its role it would do as well
    plan = plan_pairs(port, model)
    found = {planned.pair.boundary: planned for planned in plan.planned}
    assert found["L00.self_attn"].found_by == "path"
    assert found["L00.self_attn"].pair.port == "model.layers.0.self_attn"
    left = {item.path: item.reason for item in plan.unpaired_port}
    assert left["model.layers.0.attention"] == "its counterpart of the reference is in another pair"


def test_upstreams_own_names_say_what_attributes_do_not(model):
    class Named(Part):
        def iter_executor_named_modules(self):
            for i, layer in enumerate(self.things):
                yield f"layer[{i}].attn_norm", layer.a
                yield f"layer[{i}].attention", layer.b

    port = Named(things=[Part(a=Part(), b=Part()) for _ in range(LAYERS)], lm_head=Part())
    found = answers(plan_pairs(port, model))
    assert found["L02.input_norm"] == ("a", "model.layers.2.input_layernorm")
    assert found["L02.self_attn"] == ("b", "model.layers.2.self_attn")


def test_parts_without_known_names_are_paired_by_class_and_order(model):
    port = port_of("TT-Transformers")
    for layer in port.layers:
        layer.zork, layer.quux = RMSNorm1D(), RMSNorm1D()
        layer.glarb = Attention1D()
        del layer.attention_norm, layer.ff_norm, layer.attention
    plan = plan_pairs(port, model)
    found = {planned.pair.boundary: planned for planned in plan.planned}
    assert found["L01.input_norm"].pair.port == "layers.1.zork"
    assert found["L01.post_attn_norm"].pair.port == "layers.1.quux"
    assert found["L01.self_attn"].pair.port == "layers.1.glarb"
    assert found["L01.input_norm"].found_by == "class and order"
    assert found["L01.input_norm"].because == "norm 1 of 2 that had no known name"


def test_class_and_order_do_not_overrule_the_sizes_of_weights():
    class Reference(nn.Module):
        def __init__(self):
            super().__init__()
            self.first_norm, self.lm_head = nn.LayerNorm(64), nn.Linear(64, 10)

    port = Part(strange=RMSNorm1D(weight=torch.zeros(1, 1, 8, 32)), lm_head=Part())
    plan = plan_pairs(port, Reference())
    assert {pair.boundary for pair in plan.pairs} == {"logits"}
    left = {item.path: item.reason for item in (*plan.unpaired_port, *plan.unpaired_reference)}
    assert left["strange"] == "the sizes of its weights are not those of the reference's norm in that place"
    assert left["first_norm"] == "the sizes of its weights are not those of the port's norm in that place"


class Odd(nn.Module):
    """Two norms and a port's three: only sizes tell."""

    def __init__(self, sizes=(64, 96)):
        super().__init__()
        self.one_norm, self.two_norm = (nn.LayerNorm(size, bias=False) for size in sizes)
        self.lm_head = nn.Linear(96, 10)


def test_of_several_of_one_kind_the_shapes_of_weights_tell():
    norms = {f"strange{i}": RMSNorm1D(weight=torch.zeros(1, 1, size // 32, 32)) for i, size in enumerate((96, 64, 128))}
    plan = plan_pairs(Part(**norms, lm_head=Part()), Odd())
    by_shapes = {planned.pair.reference: planned.pair.port for planned in plan.planned if planned.found_by == "shapes"}
    assert by_shapes == {"one_norm": "strange1", "two_norm": "strange0"}


def test_a_link_back_to_the_whole_adds_no_weights_to_a_part():
    class Frozen:
        __slots__ = ("layer", "weight")

        def forward(self, x):
            raise AssertionError("pairing runs nothing")

    norms = [Frozen() for _ in range(3)]
    port = Part(a_norm=norms[0], b_norm=norms[1], c_norm=norms[2], lm_head=Part(weight=torch.zeros(96, 10)))
    for norm, size in zip(norms, (96, 64, 128), strict=True):
        norm.layer, norm.weight = port, torch.zeros(size)
    found = {pair.reference: pair.port for pair in plan_pairs(port, Odd()).pairs}
    assert (found["one_norm"], found["two_norm"]) == ("b_norm", "a_norm")


def test_a_lazily_loaded_weight_counts_by_its_source():
    lazy = SimpleNamespace(source=torch.zeros(96), device=None)
    port = Part(a=RMSNorm1D(weight=lazy), b=RMSNorm1D(weight=torch.zeros(40)), c=RMSNorm1D(), lm_head=Part())
    found = {pair.reference: pair.port for pair in plan_pairs(port, Odd()).pairs}
    assert found["two_norm"] == "a"


def test_two_equally_good_candidates_are_reported_and_not_guessed_among():
    norms = {name: RMSNorm1D(weight=torch.zeros(64)) for name in "abc"}
    plan = plan_pairs(Part(**norms, lm_head=Part()), Odd((64, 64)))
    assert {pair.boundary for pair in plan.pairs} == {"logits"}
    left = {item.path: item.reason for item in (*plan.unpaired_port, *plan.unpaired_reference)}
    assert left["a"] == "ambiguous: one_norm, two_norm of the reference fit equally well; give a pair"
    assert left["one_norm"] == "ambiguous: a, b, c of the port fit equally well; give a pair"


def test_two_modules_of_one_role_are_ambiguous(model):
    port = port_of("TT-Transformers")
    port.layers[1].self_attention = Part()
    plan = plan_pairs(port, model)
    assert "L01.self_attn" not in answers(plan)
    reason = {item.path: item.reason for item in plan.unpaired_reference}["model.layers.1.self_attn"]
    assert reason == "ambiguous: layers.1.attention, layers.1.self_attention of the port fit equally well; give a pair"


def test_a_users_pair_overrules_and_the_rest_is_found(model):
    port = port_of("TT-Transformers")
    mapping = {"my_norm": ("layers.0.ff_norm", "model.layers.0.input_layernorm")}
    plan = plan_pairs(port, model, mapping)
    assert answers(plan)["my_norm"] == ("ff_norm", "model.layers.0.input_layernorm")
    assert [planned.found_by for planned in plan.planned].count("mapping") == 1
    assert "L00.post_attn_norm" not in answers(plan)
    assert "L01.post_attn_norm" in answers(plan)
    left = {item.path: item.reason for item in plan.unpaired_port}
    assert left["layers.0.attention_norm"] == "its counterpart of the reference is in another pair"


def test_a_template_stands_for_every_layer_of_the_reference(model):
    plan = plan_pairs(port_of("TT-Transformers"), model, [Pair("L{i}.x", "layers.{i}.ff_norm", "model.layers.{i}.mlp")])
    assert [pair.boundary for pair in plan.pairs if pair.boundary.endswith(".x")] == ["L00.x", "L01.x", "L02.x"]


def test_a_complete_plan_is_all_that_is_paired(model):
    text = """
        complete = true
        [[pair]]
        boundary = "L{i}.mlp"
        port = "layers.{i}.feed_forward"
        reference = "model.layers.{i}.mlp"
        layers = "0, 2"
    """
    plan = plan_pairs(port_of("TT-Transformers"), model, plan_from_toml(text, "mine.toml"))
    assert [pair.boundary for pair in plan.pairs] == ["L00.mlp", "L02.mlp"]
    left = {item.path: item.reason for item in plan.unpaired_port}
    assert left["layers.1.feed_forward"] == "the plan that was given leaves it out"


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"x": ("layers.0.atention", "model.norm")}, r"no 'atention'.*nearest: attention"),
        ({"x": ("norm", "model.nrm")}, r"x: the reference has no module 'model.nrm'; nearest: model\.norm"),
        ([Pair("L{i}.x", "layers.{i}.atention", "model.layers.{i}.mlp")], "nearest: attention"),
        ([Pair("L{i}.x", "layers.{i}.attention", "model.layer.{i}.mlp")], r"nearest: model\.layers\.0\.mlp"),
        ([Pair("x", "layers.{i}.attention", "model.layers.{i}.mlp")], r"\{i\} stands for the layer number"),
        ([Pair("x", "norm", "model.norm"), Pair("x", "norm", "lm_head")], "two pairs have this boundary"),
    ],
)
def test_a_pair_that_names_no_module_is_refused_with_the_nearest_names(model, mapping, message):
    with pytest.raises(PairingError, match=message):
        plan_pairs(port_of("TT-Transformers"), model, mapping)


def test_nothing_to_pair_is_an_error_that_says_what_was_found(model):
    with pytest.raises(
        PairingError, match=r"no module of Part answers to one of LlamaForCausalLM.*modules: Part, zork, quux"
    ):
        plan_pairs(Part(zork=Part(), quux=Part()), model)


def test_a_fused_projection_is_compared_part_by_part(model):
    port = port_of("TT-Transformers")
    for layer in port.layers:
        layer.attention.wqkv, layer.attention.wo = Part(), Part()
    plan = plan_pairs(port, model)
    parts = {pair.boundary: pair for pair in plan.pairs if pair.port == "layers.1.attention.wqkv"}
    columns = {boundary.rpartition(".")[2]: pair.layout.port_columns for boundary, pair in parts.items()}
    assert columns == {"q_proj": (0, 16), "k_proj": (16, 24), "v_proj": (24, 32)}
    assert parts["L01.self_attn.k_proj"].reference == "model.layers.1.self_attn.k_proj"
    orders = {boundary.rpartition(".")[2]: pair.layout.head_order for boundary, pair in parts.items()}
    assert orders == {"q_proj": "auto", "k_proj": "auto", "v_proj": "same"}
    assert answers(plan)["L01.self_attn.o_proj"] == ("wo", "model.layers.1.self_attn.o_proj")


def test_a_fused_reference_is_compared_part_by_part():
    reference = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=32, n_embd=24, n_head=2, n_layer=1, n_positions=16)
    )
    port = port_of("GPT-2", "h", layers=1)
    attention = port.h[0].attn
    attention.wq, attention.wk, attention.wv = Part(), Part(), Part()
    plan = plan_pairs(port, reference)
    parts = {pair.port: pair.layout.reference_columns for pair in plan.pairs if pair.reference.endswith("c_attn")}
    assert parts == {"h.0.attn.wq": (0, 24), "h.0.attn.wk": (24, 48), "h.0.attn.wv": (48, 72)}
    assert answers(plan)["embed"] == ("wte", "transformer.drop")


def test_bert_as_hugging_face_nests_it_is_paired_by_its_parts():
    reference = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
        )
    )

    def layer():
        output = Part(dense=Part(), LayerNorm=Part())
        inner = Part(query=Part(), key=Part(), value=Part())
        attention = Part(output=output)
        vars(attention)["self"] = inner
        return Part(attention=attention, intermediate=Part(dense=Part()), output=Part(dense=Part(), LayerNorm=Part()))

    port = Part(embeddings=Part(), encoder=SimpleNamespace(layer=[layer(), layer()]), pooler=Part())
    plan = plan_pairs(port, reference)
    assert all(planned.found_by == "path" for planned in plan.planned)
    assert all(pair.port == pair.reference for pair in plan.pairs)
    assert {item.path for item in plan.unpaired_port} == {""}
