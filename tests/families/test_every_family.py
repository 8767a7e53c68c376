# SPDX-License-Identifier: Apache-2.0
"""On the ideal engine, plain fp32 without the chip's formats, every family's port computes what its reference computes.

This is the test that finds a wrong rotation, offset, mask, scale, norm or head order.
"""

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tttdebug as td
from families.random_models import ARCHITECTURES, DECODERS, decoders, encoders, random_model
from tttdebug.families import all_families
from tttdebug.modules import HardwareConfig

EXACT = 1e-5
SEEDS = st.integers(0, 2**16)
CHECKED = settings(
    max_examples=3,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a failure prints its config; to shrink it takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def worst_of(run):
    assert run.passed, [(str(record.key), record.verdict, record.rel_l2, record.note) for record in run.failed][:4]
    assert not run.manifest.skipped
    return max(run.records, key=lambda record: record.rel_l2)


def check_decoder(data, family, **of_config):
    config, seed = data.draw(decoders(family, **of_config)), data.draw(SEEDS)
    length, fuse_qkv = data.draw(st.integers(1, 50)), data.draw(st.booleans())
    print(f"{family}: seed {seed}, length {length}, {config.to_diff_dict()}")
    reference = td.load_reference(random_model(config, ARCHITECTURES[family][0], seed))
    hw_config = HardwareConfig.preset("bf16").replace(fuse_qkv=fuse_qkv)
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"), hw_config=hw_config)
    generator = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(3, 61, (size,), generator=generator).tolist() for size in (length, 33)]
    audit = td.audit(port, reference)
    assert audit.passed, audit.faults[:3]
    run = td.track(port, reference, prompts, decode_steps=4)
    worst = worst_of(run)
    assert worst.rel_l2 < EXACT, f"{worst.boundary} in {worst.phase} {worst.step}: rel_l2 {worst.rel_l2}"
    assert {record.boundary for record in run.records} >= {"embed", "L01.k_cache", "L01.self_attn", "L01.mlp", "logits"}


@pytest.mark.parametrize("family", DECODERS)
@CHECKED
@given(st.data())
def test_every_boundary_of_a_random_decoder_is_exact(family, data):
    check_decoder(data, family)


@pytest.mark.parametrize("head_dim", [80, 72, 40])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "phi3", "phi", "gpt_neox", "gpt2"])
@settings(CHECKED, max_examples=1)
@given(st.data())
def test_heads_that_fill_no_whole_tile_are_exact(family, head_dim, data):
    check_decoder(data, family, head_dims=(head_dim,))


@pytest.mark.parametrize("family", ["bert", "vit"])
@CHECKED
@given(st.data())
def test_every_boundary_of_a_random_encoder_is_exact(family, data):
    config, seed = data.draw(encoders(family)), data.draw(SEEDS)
    architecture, fuse_qkv = data.draw(st.sampled_from(ARCHITECTURES[family])), data.draw(st.booleans())
    lengths = data.draw(st.lists(st.integers(1, 70), min_size=1, max_size=2))
    print(f"{architecture}: seed {seed}, lengths {lengths}, {config.to_diff_dict()}")
    reference = td.load_reference(random_model(config, architecture, seed))
    hw_config = HardwareConfig.preset("bf16").replace(fuse_qkv=fuse_qkv)
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"), hw_config=hw_config)
    audit = td.audit(port, reference)
    assert audit.passed, audit.faults[:3]
    generator = torch.Generator().manual_seed(seed)
    if family == "vit":
        inputs = [torch.randn(3, 24, 24, generator=generator)]
    else:
        inputs = [torch.randint(3, 61, (length,), generator=generator).tolist() for length in lengths]
    run = td.track(port, reference, inputs)
    worst = worst_of(run)
    assert worst.rel_l2 < EXACT, f"{worst.boundary}: rel_l2 {worst.rel_l2}"
    last = "classifier" if "Classification" in architecture else "pooler"
    assert {record.boundary for record in run.records} >= {"embed", "L01.self_attn", "L01.mlp", last}


@pytest.mark.slow
@pytest.mark.parametrize("family", DECODERS)
@settings(CHECKED, max_examples=25)
@given(st.data())
def test_many_random_decoders_are_exact(family, data):
    check_decoder(data, family)


def test_no_family_is_left_out():
    assert {family.name for family in all_families()} == ARCHITECTURES.keys()
