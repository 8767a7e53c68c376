# SPDX-License-Identifier: Apache-2.0
"""Explaining whole runs: sound ports are left in peace, broken ones get the module, the cause and the change."""

import types

import pytest
import torch
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.analysis.explanation import Explanation
from tttdebug.backends import to_torch
from tttdebug.emulator import install
from tttdebug.tracking.placing import like

SHAPE = {
    "hidden_size": 96,
    "head_dim": 32,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "num_hidden_layers": 3,
    "vocab_size": 128,
    "intermediate_size": 160,
}
PROMPT = [(7 * i) % 120 + 3 for i in range(40)]


@pytest.fixture(scope="module")
def reference():
    return td.load_reference(tiny_llama(7, **SHAPE))


def built(reference, precision="accuracy", weights=None):
    return td.build_model(reference, td.open_device("emulated"), precision, weights=weights)


def explained(port, reference, **options):
    return td.explain(td.track(port, reference, [PROMPT], decode_steps=2), **options)


def exchanged(reference, one, other):
    state = dict(reference.model.state_dict())
    state[one], state[other] = state[other], state[one]
    return state


@pytest.mark.parametrize("emulated_floor", [True, False])
@pytest.mark.parametrize("precision", ["accuracy", "performance", "bf16"])
def test_nothing_is_found_in_a_sound_port(reference, precision, emulated_floor):
    explanation = explained(built(reference, precision), reference, emulated_floor=emulated_floor)
    assert not explanation.findings
    assert not explanation.detected
    modes = {record.mode for record in explanation.run.experiments}
    assert modes == {"isolated", "inherited"}


@pytest.mark.parametrize("emulated_floor", [True, False])
def test_exchanged_weights_are_named_with_the_change_and_its_cost(reference, emulated_floor):
    gate, up = ("model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight")
    port = built(reference, weights=exchanged(reference, gate, up))
    (finding,) = explained(port, reference, emulated_floor=emulated_floor)
    assert (finding.boundary, finding.cause) == ("L01.mlp", "weights_exchanged")
    assert finding.confirmed
    assert finding.experiments[0].after < 1.5 * finding.experiments[0].floor < finding.experiments[0].before
    assert len(finding.experiments) == 3  # the prefill and both decode steps
    assert finding.share > 0.9
    assert finding.fix is not None


def test_the_module_at_fault_is_told_from_those_that_inherit(reference):
    value = "model.layers.0.self_attn.v_proj.weight"
    state = dict(reference.model.state_dict())
    state[value] = state[value].roll(5, 0)
    explanation = explained(built(reference, weights=state), reference)
    verdicts = {record.boundary: record.verdict for record in explanation.run.records if record.phase == "prefill"}
    assert verdicts["L00.self_attn"] == "injected"
    assert "injected" not in {verdict for name, verdict in verdicts.items() if name.startswith(("L01", "L02"))}
    assert "inherited" in verdicts.values()
    assert explanation[0].boundary == "L00.self_attn"


def test_a_missing_residual_is_the_layers_own_fault(reference):
    port = built(reference)

    def rest(self, x_11SD, attended_11SD):
        return self.ttnn.add(attended_11SD, self.feed_forward(self.ff_norm(attended_11SD)))

    port.layers[1].rest = types.MethodType(rest, port.layers[1])
    explanation = explained(port, reference)
    assert (explanation[0].boundary, explanation[0].cause) == ("L01.layer_out", "residual_missing")
    assert len(explanation) == 1


def test_exchanged_blocks_of_a_cache_are_seen_though_attention_does_not_mind(reference):
    port = built(reference)
    read = port.prefill

    def prefill(token_ids, user=0):
        logits = read(token_ids, user)
        keys, values = port.layers[2].attention.cache.keys, port.layers[2].attention.cache.values
        for cache in (keys, values):
            held_BKLE = to_torch(cache).float().clone()
            held_BKLE[:, :, :64] = torch.cat([held_BKLE[:, :, 32:64], held_BKLE[:, :, :32]], dim=2)
            port.ttnn.copy(like(cache, held_BKLE), cache)
        return logits

    port.prefill = prefill
    run = td.track(port, reference, [PROMPT + PROMPT[:24]], decode_steps=1)
    assert run.passed
    explanation = td.explain(run)
    assert [(finding.boundary, finding.cause) for finding in explanation] == [("L02.self_attn", "kv_block_swapped")]
    assert explanation.detected


def test_two_faults_are_two_findings(reference):
    gate, up = ("model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight")
    state = exchanged(reference, gate, up)
    state["model.layers.2.self_attn.o_proj.weight"] = state["model.layers.2.self_attn.o_proj.weight"].T.contiguous()
    explanation = explained(built(reference, weights=state), reference)
    assert {(finding.boundary, finding.cause) for finding in explanation} == {
        ("L00.mlp", "weights_exchanged"),
        ("L02.self_attn", "weight_transposed"),
    }


def test_what_was_found_is_read_again_from_the_folder(reference, tmp_path):
    gate, up = ("model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight")
    explanation = explained(built(reference, weights=exchanged(reference, gate, up)), reference)
    loaded = td.Run.load(explanation.run.save(tmp_path / "run"))
    again = Explanation.load(loaded)
    assert [str(finding.to_json()) for finding in again] == [str(finding.to_json()) for finding in explanation]
    assert len(loaded.experiments) == len(explanation.run.experiments)
    assert len(loaded.records) == loaded.manifest.compared


def test_explaining_again_replaces_what_was_explained_before(reference):
    run = td.track(built(reference), reference, [PROMPT], decode_steps=1)
    once = td.explain(run)
    twice = td.explain(once.run)
    assert len(twice.run.experiments) == len(once.run.experiments)
    assert [str(record) for record in twice.run.records] == [str(record) for record in run.records]


class TestAPortOfSomebodyElse:
    @pytest.fixture(scope="class")
    def driven(self):
        with install("fast"):
            import drive_ttt_llama

            yield drive_ttt_llama

    def explained(self, driven, reference, break_it=lambda port: None):
        import ttnn

        port = driven.build(reference.model, ttnn.open_device(device_id=0))
        break_it(port)
        run = td.track(port, reference, [PROMPT], 2, prefill=driven.prefill, decode=driven.decode)
        return td.explain(run)

    def test_a_sound_one_is_left_in_peace(self, driven, reference):
        explanation = self.explained(driven, reference)
        assert not explanation.findings, explanation.findings
        assert not explanation.detected

    def test_the_cause_is_named_from_what_it_gives(self, driven, reference):
        def exchange(port):
            mlp = port.layers[1].feed_forward
            mlp.w1, mlp.w3 = mlp.w3, mlp.w1

        explanation = self.explained(driven, reference, exchange)
        assert (explanation[0].boundary, explanation[0].cause) == ("L01.mlp", "weights_exchanged")
        assert len(explanation) == 1
