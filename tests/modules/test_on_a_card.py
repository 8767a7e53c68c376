# SPDX-License-Identifier: Apache-2.0
"""On a card: the real ttnn takes every program that is chosen and every call that ports make. Skipped without one."""

import pytest
import torch

import tttdebug as td
from tttdebug.errors import DeviceError
from tttdebug.modules import CausalLM, EncoderModel, HardwareConfig, PlainFeedForward
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
    NormSpec,
    PatchEmbeddingSpec,
    PoolerSpec,
    RopeSpec,
)

LAYERNORM = {"norm_type": "layernorm", "bias": True}


@pytest.fixture(scope="module")
def card():
    try:
        device = td.open_device("ttnn")
    except DeviceError as error:
        pytest.skip(f"no card: {error}")
    yield device
    td.close_device(device)


def language_model(network, width=256, norm=None, parallel=False, **attention):
    norm = norm or NormSpec(width)
    heads = AttentionSpec(width, 4, 2, max_sequence_length=256, **attention)
    layer = DecoderLayerSpec(heads, network, norm, None if parallel else norm, parallel_residual=parallel)
    return CausalLMSpec(EmbeddingSpec(128, width), (layer,), norm, LMHeadSpec(width, 128), max_sequence_length=256)


SHARED = {"shared_expert": FeedForwardSpec(256, 64)}
MODELS = {
    "llama": language_model(FeedForwardSpec(256, 512)),
    "heads_that_fill_no_tile": language_model(FeedForwardSpec(320, 512), 320),
    "head_norms_and_window": language_model(
        FeedForwardSpec(160, 96), 160, qk_norm=NormSpec(40), sliding_window=40, head_dim=40
    ),
    "soft_cap": language_model(FeedForwardSpec(256, 96, "geglu_tanh"), logit_softcap=20.0),
    "side_by_side": language_model(
        FeedForwardSpec(256, 96, "relu2", bias=True),
        norm=NormSpec(256, **LAYERNORM),
        parallel=True,
        qkv_bias=True,
        output_bias=True,
        rope=RopeSpec(rotary_dim=24),
    ),
    "experts": language_model(MixtureOfExpertsSpec(FeedForwardSpec(256, 64), 8, 2, shared_expert_gate=True, **SHARED)),
    "sigmoid_routing": language_model(
        MixtureOfExpertsSpec(FeedForwardSpec(256, 64), 8, 2, "sigmoid", selection_bias=True, routed_scale=2.5, **SHARED)
    ),
    "wide": language_model(FeedForwardSpec(8224, 96), 8224, head_dim=64),
    "large": language_model(FeedForwardSpec(4096, 2048), 4096, head_dim=128),
}


@pytest.mark.parametrize("precision", ["bf16", "accuracy", "performance"])
@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
def test_a_language_model_prefills_and_decodes(card, spec, precision):
    model = CausalLM(spec, device=card, hw_config=HardwareConfig.preset(precision))
    model.allocate_cache(users=2, length=128)
    for user in range(2):
        logits = model.prefill(torch.arange(3, 48), user)
    assert list(logits.shape) == [1, 1, 64, 128]
    assert list(model.decode(torch.tensor([5, 6]), torch.tensor([45, 45])).shape)[-1] == 128


@pytest.mark.parametrize("position", ["pre", "post"])
def test_an_encoder_encodes(card, position):
    norm = NormSpec(160, **LAYERNORM)
    attention = AttentionSpec(160, 4, rope=None, causal=False, qkv_bias=True, output_bias=True)
    layer = EncoderLayerSpec(attention, FeedForwardSpec(160, 96, "gelu", bias=True), norm, norm, position)
    ends = {"pooler": PoolerSpec(160), "classifier": ClassifierSpec(160, 10), "max_sequence_length": 50}
    if position == "pre":
        spec = EncoderModelSpec(PatchEmbeddingSpec(56, 8, 160), (layer,), norm, **ends)
        inputs = torch.randn(3, 56, 56)
    else:
        embedding = EmbeddingSpec(100, 160, learned_positions=50, token_types=2, norm=norm)
        spec, inputs = EncoderModelSpec(embedding, (layer,), **ends), torch.arange(20)
    assert list(EncoderModel(spec, device=card).encode(inputs).shape)[-1] == 10


@pytest.mark.parametrize("rows", [32, 128, 1024, 4096])
@pytest.mark.parametrize(("inner", "columns"), [(2048, 2048), (2560, 10240), (11008, 4096), (4096, 32000)])
@pytest.mark.parametrize("kernel", ["li_ff1_ff3", "li_qkv", "li_router"])
@pytest.mark.parametrize("in_l1", [False, True])
def test_every_program_is_taken(card, rows, inner, columns, kernel, in_l1):
    network = PlainFeedForward(FeedForwardSpec(32, 32, "gelu"), device=card)
    ttnn = network.ttnn
    put = {"dtype": ttnn.bfloat16, "layout": ttnn.TILE_LAYOUT, "device": card}
    x, weight = ttnn.zeros((1, 1, rows, inner), **put), ttnn.zeros((inner, columns), **put)
    out = network.linear(x, weight, kernel, in_l1=in_l1)
    assert list(out.shape) == [1, 1, rows, columns]
    for tensor in (x, weight, out):
        ttnn.deallocate(tensor)
