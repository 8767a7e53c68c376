# SPDX-License-Identifier: Apache-2.0
"""On a card: the real ttnn takes every program that is chosen and every call that ports make. Skipped without one."""

import pytest
import torch
from small_models import ENCODERS, MODELS

import tttdebug as td
from tttdebug.errors import DeviceError
from tttdebug.modules import CausalLM, EncoderModel, HardwareConfig, PlainFeedForward
from tttdebug.specs import FeedForwardSpec


@pytest.fixture(scope="module")
def card():
    try:
        device = td.open_device("ttnn")
    except DeviceError as error:
        pytest.skip(f"no card: {error}")
    yield device
    td.close_device(device)


@pytest.mark.parametrize("precision", ["bf16", "accuracy", "performance"])
@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
def test_a_language_model_prefills_and_decodes(card, spec, precision):
    model = CausalLM(spec, device=card, hw_config=HardwareConfig.preset(precision))
    model.allocate_cache(users=2, length=128)
    for user in range(2):
        logits = model.prefill(torch.arange(3, 48), user)
    assert list(logits.shape) == [1, 1, 64, 128]
    assert list(model.decode(torch.tensor([5, 6]), torch.tensor([45, 45])).shape)[-1] == 128


@pytest.mark.parametrize("position", ENCODERS)
def test_an_encoder_encodes(card, position):
    inputs = torch.randn(3, 56, 56) if position == "pre" else torch.arange(20)
    assert list(EncoderModel(ENCODERS[position], device=card).encode(inputs).shape)[-1] == 10


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
