# SPDX-License-Identifier: Apache-2.0
"""Special cases that a running port shows: values that are not finite, state, chance, and flipped choices of a run."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_llamas import THREE_HEADS, tiny_llama

import tttdebug as td
from families.random_models import random_model
from tttdebug.analysis.special import decisions, first_leak, first_nonfinite, first_varying, read_cache
from tttdebug.analysis.special.determinism import digest_of
from tttdebug.errors import PairingError
from tttdebug.tracking.driving import driver_of
from tttdebug.tracking.pairing import Pair, pair_modules

PROMPT, OTHER = list(range(3, 40)), list(range(50, 90))


@pytest.fixture(scope="module")
def reference():
    return td.load_reference(tiny_llama(7, **THREE_HEADS))


def build(reference, weights=None, precision="bf16", engine="ideal"):
    return td.build_model(reference, td.open_device("emulated", engine=engine), precision, weights=weights)


def changed(reference, name, change):
    state = dict(reference.model.state_dict())
    state[name] = change(state[name])
    return state


# Values that are not finite


def test_an_infinite_weight_is_found_at_the_op_that_reads_it(reference):
    broken = changed(reference, "model.layers.1.mlp.up_proj.weight", lambda weight: torch.full_like(weight, torch.inf))
    run = td.track(build(reference, broken), reference, [PROMPT], ops=True, save_tensors="all")
    finding = first_nonfinite(run)
    assert (finding.boundary, finding.cause) == ("L01.mlp", "nonfinite")
    assert finding.module == "layers.1.feed_forward"
    assert finding.records == (run.first_divergence().key,)
    (experiment,) = finding.experiments
    assert (experiment.before, experiment.after) == (37 * 96, 0)
    assert "L01.post_attn_norm" in experiment.what
    assert "ttnn.linear (op 1 of L01.mlp) makes them" in finding.says
    assert any("a weight say, holds" in sentence for sentence in finding.where)
    assert td.Run.load(run.path).op_records  # what was said is in the files too
    assert first_nonfinite(td.Run.load(run.path)) == finding


def test_a_product_beyond_all_range_is_found_at_its_op(reference):
    huge = changed(reference, "model.layers.0.mlp.gate_proj.weight", lambda weight: 0 * weight + 3e38)
    run = td.track(build(reference, huge), reference, [PROMPT], ops=True)
    finding = first_nonfinite(run)
    assert finding.boundary == "L00.mlp"
    op = next(op for op in run.op_records if op.nonfinite_port)
    assert f"{op.op} (op {op.index} of L00.mlp)" in finding.says
    assert any("beyond the range of fp32" in sentence for sentence in finding.where)


def test_without_ops_the_boundary_is_named_and_how_to_go_on(reference):
    broken = changed(reference, "model.layers.1.self_attn.o_proj.weight", lambda weight: weight * torch.nan)
    finding = first_nonfinite(td.track(build(reference, broken), reference, [PROMPT]))
    assert finding.boundary == "L01.self_attn"
    assert "--ops" in finding.fix.says
    assert any("values are not finite in the port" in sentence for sentence in finding.where)


def test_a_sound_run_has_no_such_values(reference):
    assert first_nonfinite(td.track(build(reference), reference, [PROMPT], ops=True)) is None


# State and chance


def paired_of(port, reference):
    return pair_modules(port, reference.model, port.pairs)


def asked(question, port, reference, *more, **options):
    return question(port, driver_of(port, None, None), paired_of(port, reference), *more, **options)


def after(module, name, change):
    """Let an entry of one instance give `change` of what it gives."""
    entry = getattr(module, name)
    setattr(module, name, lambda *args, **kwargs: change(entry(*args, **kwargs)))


def test_a_sound_port_gives_the_same_bits_each_time(reference):
    port = build(reference)
    assert asked(first_varying, port, reference, PROMPT) is None
    assert asked(first_leak, port, reference, PROMPT, OTHER) is None


def test_bits_that_vary_are_found_where_they_first_do(reference):
    port = build(reference)
    ttnn, calls = port.ttnn, []

    def noisy(output):
        calls.append(1)
        return ttnn.multiply(output, 1.0 + 0.01 * len(calls))

    after(port.layers[1].feed_forward, "forward", noisy)
    finding = asked(first_varying, port, reference, PROMPT)
    assert (finding.boundary, finding.cause) == ("L01.mlp", "nondeterministic")
    assert "3 different results" in finding.says
    assert finding.module == "layers.1.feed_forward"
    assert finding.experiments[0].before == 3
    assert asked(first_leak, port, reference, PROMPT, OTHER) is None  # it says nothing of the other prompt


def test_what_the_first_call_leaves_behind_is_a_state_leak(reference):
    port = build(reference)
    ttnn, calls = port.ttnn, []

    def scaled_once(output):
        calls.append(1)
        return output if len(calls) == 1 else ttnn.multiply(output, 1.5)

    after(port.layers[0].attention, "prefill_forward", scaled_once)
    finding = asked(first_varying, port, reference, PROMPT, runs=4)
    assert (finding.boundary, finding.cause) == ("L00.self_attn", "state_leak")
    assert "3 after it, which agree" in finding.says
    assert finding.where == ("all 2 outputs before it have the same bits in every run",)


def test_what_another_prompt_leaves_behind_is_a_state_leak(reference):
    port = build(reference)
    ttnn, norm = port.ttnn, port.layers[1].attention_norm
    seen, entry = [], norm.forward

    def stale(x, *args, **kwargs):
        """As a buffer that is as long as the longest prompt so far, and is not cleared."""
        longest = max([x.shape[-2], *seen])
        seen.append(x.shape[-2])
        return ttnn.multiply(entry(x, *args, **kwargs), x.shape[-2] / longest)

    norm.forward = stale
    longer = [3 + place % 90 for place in range(100)]
    assert asked(first_varying, port, reference, PROMPT) is None
    finding = asked(first_leak, port, reference, PROMPT, longer)
    assert (finding.boundary, finding.cause) == ("L01.input_norm", "state_leak")
    assert finding.experiments[0].before > 1


def test_two_runs_cannot_tell_state_from_chance(reference):
    with pytest.raises(ValueError, match="3 or more"):
        asked(first_varying, build(reference), reference, PROMPT, runs=2)


def test_a_port_that_calls_no_paired_module_is_refused(reference):
    port = build(reference)
    port.unused = build(reference).norm
    pairs = pair_modules(port, reference.model, [Pair("final_norm", "unused", "model.norm")])
    with pytest.raises(PairingError, match="no paired module"):
        first_varying(port, driver_of(port, None, None), pairs, PROMPT)


def test_outputs_are_told_apart_by_their_bits():
    zeros = torch.zeros(4)
    assert digest_of(zeros) == digest_of(zeros.clone())
    assert digest_of(torch.full((4,), math.nan)) == digest_of(torch.full((4,), math.nan))
    assert digest_of(zeros) != digest_of(-zeros)
    assert digest_of(zeros) != digest_of(zeros.view(2, 2))
    assert digest_of(zeros) != digest_of(zeros.int())


# Choices of a run


def test_flips_of_next_tokens_are_judged_by_the_noise_of_the_logits(reference):
    sound = decisions(
        td.track(build(reference, precision="performance", engine="fast"), reference, [PROMPT, OTHER], decode_steps=3)
    )
    assert [choices.count for choices in sound.choices] == [len(PROMPT) + len(OTHER), 6]
    assert sound.real == ()
    broken = changed(reference, "model.layers.1.mlp.down_proj.weight", lambda weight: -weight)
    run = td.track(build(reference, broken), reference, [PROMPT], decode_steps=1)
    found = decisions(run)
    tokens = [line for line in run.tokens if line["phase"] == "prefill"]
    flipped = [line["position"] for line in tokens if line["reference_top"][0][0] != line["port_top"][0][0]]
    assert [flip.token for flip in found.choices[0].flips] == flipped
    assert found.real
    of_flips = sum(line["kl"] for line in tokens if line["position"] in flipped)
    assert found.choices[0].kl_of_flips == pytest.approx(of_flips)
    assert found.sentences()[0].startswith(f"next token, prefill: {len(flipped)} of 37 choices fall the other way")


def test_flips_of_a_router_are_found_in_its_saved_scores():
    import transformers

    config = transformers.MixtralConfig(
        **{**THREE_HEADS, "num_key_value_heads": 3},
        num_local_experts=5,
        num_experts_per_tok=2,
        max_position_embeddings=128,
    )
    mixture = td.load_reference(random_model(config, "MixtralForCausalLM", 3))
    sound = td.track(build(mixture), mixture, [PROMPT])
    routers = [choices for choices in decisions(sound, 2).choices if "router" in choices.place]
    assert [choices.place[:10] for choices in routers] == ["L00.router", "L01.router"]
    assert all(choices.real == () for choices in routers)
    tied = {choices.key: {flip.token for flip in choices.flips} for choices in routers if choices.flips}
    assert decisions(sound, 2).tied == tied
    swap = [1, 0, 2, 3, 4]
    broken = changed(mixture, "model.layers.0.mlp.gate.weight", lambda weight: weight[swap])
    run = td.track(build(mixture, broken), mixture, [PROMPT])
    choices = decisions(run, 2).choices[0]
    assert choices.key not in decisions(run, 2).tied
    assert choices.place.startswith("L00.router")
    assert choices.real
    assert {expert for flip in choices.real for expert in (*flip.lost, *flip.gained)} == {0, 1}
    assert not math.isnan(choices.kl_of_flips)


# Caches of a run


def diverged_caches(run, head_dim):
    """How each cache of a run that misses its gate has to be read."""
    found = {}
    for record in run.failed:
        if record.boundary.endswith("_cache"):
            sides = (side.unflatten(-1, (-1, head_dim)).transpose(0, 1) for side in run.tensors(record.key))
            found[record.key] = read_cache(*sides, floor_rel_l2=record.floor_rel_l2)
    return found


def test_keys_that_only_lie_in_the_other_rotary_order_are_told_from_wrong_ones(reference, monkeypatch):
    from tttdebug.modules.placement import interleave_heads

    port = build(reference)
    undeclared = tuple(replace(pair, interleaved=False) for pair in port.caches)
    with monkeypatch.context() as patched:
        patched.setattr(type(port), "caches", undeclared)
        harmless = diverged_caches(td.track(port, reference, [PROMPT, OTHER]), head_dim=32)
    assert {key.user for key in harmless} == {0, 1}
    assert {key.boundary for key in harmless} == {"L00.k_cache", "L01.k_cache"}
    assert {reading.cause for reading in harmless.values()} == {"rope_order"}
    name = "model.layers.1.self_attn.k_proj.weight"
    turned_in_wrong_pairs = changed(reference, name, lambda weight: interleave_heads(weight, 32, 32))
    wrong = diverged_caches(td.track(build(reference, turned_in_wrong_pairs), reference, [PROMPT]), head_dim=32)
    assert [(key.boundary, reading.cause) for key, reading in wrong.items()] == [("L01.k_cache", "unknown")]
    assert diverged_caches(td.track(build(reference), reference, [PROMPT], save_tensors="all"), head_dim=32) == {}


def test_heads_of_values_in_another_order_are_recognised_in_a_run():
    many_heads = td.load_reference(tiny_llama(7, **{**THREE_HEADS, "num_key_value_heads": 3}))
    rows = torch.arange(96).view(3, 32)[[2, 0, 1]].flatten()
    broken = changed(many_heads, "model.layers.0.self_attn.v_proj.weight", lambda weight: weight[rows])
    readings = diverged_caches(td.track(build(many_heads, broken), many_heads, [PROMPT]), head_dim=32)
    reading = next(reading for key, reading in readings.items() if key.boundary == "L00.v_cache")
    assert (reading.cause, reading.order) == ("heads_permuted", (2, 0, 1))
