# SPDX-License-Identifier: Apache-2.0
"""Errors about as great as rounding, beside a twin: told where a variant of the twin gives just the port's output."""

import pytest
import torch
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.backends import to_torch
from tttdebug.faults import inject
from tttdebug.faults.placing import change_weight
from tttdebug.faults.seen_as import change_output
from tttdebug.modules.hardware import HIFI4, LOFI

SHAPE = {
    "hidden_size": 128,
    "head_dim": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 128,
    "intermediate_size": 192,
}
PROMPT = [(7 * i) % 120 + 3 for i in range(48)]


@pytest.fixture(scope="module")
def reference():
    return td.load_reference(tiny_llama(11, **SHAPE))


def built(reference, precision="accuracy"):
    return td.build_model(reference, td.open_device("emulated"), precision)


def explained(port, reference):
    return td.explain(td.track(port, reference, [PROMPT], decode_steps=2))


def in_bfloat16_sums(port):
    inject(port, "attention_bfloat16_sums@L01.self_attn")


def in_lofi(port):
    inject(port, "attention_lofi@L02.self_attn")


def a_little_scaled(port):
    change_output(port.layers[1].feed_forward, lambda out: port.ttnn.multiply(out, 1.0234375))


def with_another_epsilon(port):
    port.layers[0].attention_norm.epsilon = 1e-4


def with_a_wrong_block(port):
    def faded(weight):
        weight[32:64, 64:96] *= 0.0
        return weight

    change_weight(port.layers[0].feed_forward, "w1", faded)


SMALL = {
    "sums of attention": (in_bfloat16_sums, "L01.self_attn", "accumulation_low", "sums are kept in bfloat16"),
    "fidelity of attention": (in_lofi, "L02.self_attn", "fidelity_low", "LoFi, HiFi4 is declared"),
    "a factor": (a_little_scaled, "L01.mlp", "scaled", "1.023 times"),
    "an epsilon": (with_another_epsilon, "L00.input_norm", "norm_eps", "0.0001 instead of 1e-05"),
    "a tile of a weight": (
        with_a_wrong_block,
        "L00.mlp",
        "weight_block_bad",
        "rows 32..63 of columns 64..95 are zeros",
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_error_is_told_by_what_makes_it(reference, name):
    change, boundary, cause, words = SMALL[name]
    port = built(reference, "performance" if name == "a tile of a weight" else "accuracy")
    change(port)
    (finding,) = explained(port, reference)
    assert (finding.boundary, finding.cause) == (boundary, cause)
    assert words in finding.says
    assert all(experiment.after <= 0.25 * experiment.before for experiment in finding.experiments)


def test_a_sound_port_in_other_declared_settings_is_left_in_peace(reference):
    assert not explained(built(reference, "bf16"), reference).findings
    assert not explained(built(reference, "performance"), reference).findings


def test_noise_of_the_size_of_rounding_is_no_setting(reference):
    port = built(reference)

    def with_noise(out):
        values = to_torch(out).float()
        noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(values.shape[-2]))
        changed = values + 0.006 * values.std() * noise
        return port.ttnn.from_torch(changed, dtype=out.dtype, layout=out.layout, device=port.device)

    change_output(port.layers[1].attention, with_noise)
    assert not explained(port, reference).findings


def test_a_module_with_other_kernels_shares_weights_and_leaves_the_first_as_it_is(reference):
    port = built(reference)
    attention = port.layers[0].attention
    other = attention.with_kernels(sdpa_prefill=LOFI, li_o=HIFI4)
    assert other.wo is attention.wo
    assert (other.hw_config.li_o, attention.hw_config.li_o) == (HIFI4, port.hw_config.li_o)
    assert str(other.kernels["sdpa_prefill"]) != str(attention.kernels["sdpa_prefill"])


def test_a_module_with_other_values_in_its_places(reference):
    attention = built(reference).layers[0].attention
    values = to_torch(attention.wqkv[0]).float() * 0.5
    other = attention.with_placed({"wqkv.0": values})
    assert torch.equal(to_torch(other.wqkv[0]).float(), values)
    assert not torch.equal(to_torch(attention.wqkv[0]).float(), values)
