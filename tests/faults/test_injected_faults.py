# SPDX-License-Identifier: Apache-2.0
"""A fault changes what its own module computes, by more than number formats do, and nothing else."""

from functools import lru_cache

import pytest
import torch

import tttdebug as td
from tttdebug.analysis.causes import CAUSES
from tttdebug.errors import FaultError
from tttdebug.faults import FAULTS, fault_named, inject, sites
from tttdebug.faults.isolation import Text, effect, isolated_outputs
from tttdebug.faults.small_models import SMALL_FAMILIES, small_model

MODELS = (("llama", 3), ("qwen3", 3), ("gemma2", 3), ("gpt2", 3), ("mixtral", 3), ("cohere", 3), ("gpt2", 5))
SMALL = {"bfloat16_sums", "attention_bfloat16_sums", "approximate_exponential", "approximate_gelu", "output_bfloat8"}
WITHIN_LAYER = {"attention_residual_missing", "attention_residual_doubled"}  # what is between the two sums errs too


@lru_cache(maxsize=len(MODELS))
def sound(family, seed):
    """A reference, what it read and gave, and what a sound port's modules give for that."""
    reference = td.load_reference(small_model(family, seed))
    generator = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(3, 250, (length,), generator=generator).tolist() for length in (65, 39)]
    port = built(reference)
    text = Text.read(reference, port, prompts, 2)
    return reference, text, isolated_outputs(port, text)


def built(reference):
    return td.build_model(reference, td.open_device("emulated"))


def faulty(fault, seed):
    """The fault in a model that it fits, with its effect."""
    for family, of_model in MODELS:
        reference, text, healthy = sound(family, of_model)
        port = built(reference)
        if sites(port, fault):
            site = inject(port, fault.name, seed)
            return site, effect(site, text, healthy, isolated_outputs(port, text))
    pytest.fail(f"{fault.name} fits none of {MODELS}")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_it_errs_above_the_formats_in_its_own_module_alone(fault):
    greatest = 0.0
    for seed in range(4):
        site, found = faulty(fault, seed)
        allowed = {site.boundary, *site.caches}
        if fault.name in WITHIN_LAYER:
            allowed |= {pair.boundary for pair in site.port.pairs if pair.boundary.startswith(f"L{site.layer:02d}.")}
        assert found.changed <= allowed
        greatest = max(greatest, found.ratio)
        if greatest > 1.0:
            break
    assert found.changed, "the port computes the same bits as before"
    assert greatest > (0.0 if fault.name in SMALL else 1.0)


def test_the_catalogue_is_wide_and_names_known_causes():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 60
    assert {fault.level for fault in FAULTS} == {"weights", "code", "state", "numbers"}
    assert all(fault.causes and fault.causes <= CAUSES.keys() for fault in FAULTS)


@pytest.mark.parametrize("name", ["lofi", "rope_theta", "weight_stale", "weight_coarser", "norm_eps", "cache_coarser"])
def test_what_the_port_declares_stays_as_it_was(name):
    reference, _, _ = sound("llama", 3)
    before = {key: value.clone() for key, value in reference.model.state_dict().items()}
    plain, port = built(reference), built(reference)
    site = inject(port, name, 1)
    assert dict(port.declared_formats()) == dict(plain.declared_formats())
    assert port.spec == plain.spec
    assert site.module.spec == next(s for s in sites(plain, fault_named(name)) if s.boundary == site.boundary).spec
    assert site.module.hw_config == plain.hw_config
    assert all(torch.equal(before[key], value) for key, value in reference.model.state_dict().items())


def test_a_seed_puts_the_same_fault_at_the_same_place():
    reference, text, _ = sound("qwen3", 3)
    first, second = built(reference), built(reference)
    assert inject(first, "columns_garbage", 7).boundary == inject(second, "columns_garbage", 7).boundary
    for one, other in zip(isolated_outputs(first, text), isolated_outputs(second, text), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("what", ["gate_up_exchanged@L01.mlp", "rope_theta@L00.self_attn", "rows_garbage@final_norm"])
def test_a_run_diverges_first_where_the_fault_is(what):
    reference, text, _ = sound("llama", 3)
    port = built(reference)
    site = inject(port, what)
    run = td.track(port, reference, text.prompts, decode_steps=1)
    assert run.first_divergence().boundary in (site.boundary, *site.caches)
    assert not run.manifest.skipped


def test_errors_name_the_nearest():
    port = built(sound("llama", 3)[0])
    with pytest.raises(FaultError, match="'rope_teta'; nearest: rope_theta"):
        inject(port, "rope_teta")
    with pytest.raises(FaultError, match=r"cannot be at 'L00.mlp'.*L00.self_attn"):
        inject(port, "rope_theta@L00.mlp")
    with pytest.raises(FaultError, match="fits no module of this model"):
        inject(port, "experts_permuted")


@pytest.mark.parametrize("family", SMALL_FAMILIES)
def test_every_small_family_has_a_port_and_places_for_faults(family):
    port = built(td.load_reference(small_model(family, 1, layers=1)))
    assert sum(bool(sites(port, fault)) for fault in FAULTS) >= 40
