# SPDX-License-Identifier: Apache-2.0
"""Models that know nothing of tttdebug, tracked beside a Hugging Face Llama: sound ones pass, faults are found."""

import pytest
import torch
import transformers
from tiny_llamas import tiny_llama

import tttdebug as td
from families.random_models import random_model
from tttdebug.emulator import install
from tttdebug.errors import PairingError, PromptError

PROMPTS = [list(range(3, 40)), list(range(50, 90))]
SHAPE = {
    "hidden_size": 96,
    "head_dim": 32,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "num_hidden_layers": 3,
    "vocab_size": 128,
    "intermediate_size": 160,
}

TINY_BERT = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}


@pytest.fixture(scope="module")
def ttnn():
    with install("fast") as namespace:
        yield namespace


@pytest.fixture(scope="module")
def models(ttnn):
    """The lookalikes, imported with the emulator as their ttnn."""
    import drive_ttt_llama
    import ttt_llama
    import ttt_qwen_style

    return {"driven": drive_ttt_llama, "llama": ttt_llama, "qwen": ttt_qwen_style}


@pytest.fixture(scope="module")
def reference():
    return td.load_reference(tiny_llama(7, **SHAPE))


@pytest.fixture
def port(models, reference, ttnn):
    return models["driven"].build(reference.model, ttnn.open_device(device_id=0))


def track(models, port, reference, prompts=PROMPTS[:1], steps=1, **options):
    driven = models["driven"]
    how = {"prefill": driven.prefill, "decode": driven.decode} | options
    return td.track(port, reference, prompts, steps, **how)


def names_of(port):
    """Everything that wrapping could leave behind on the port's own objects."""
    objects = [port, port.embedding, port.norm, port.lm_head, *port.layers]
    objects += [part for layer in port.layers for part in vars(layer).values()]
    lazily = {"wqkv", "wo", "keys", "values"}
    return [(type(it), set(vars(it)) - lazily, set(vars(type(it)))) for it in objects]


def test_a_sound_ttt_model_passes_with_pairs_that_are_found(models, port, reference):
    before = names_of(port)
    run = track(models, port, reference, PROMPTS, steps=2)
    assert run.passed, [(str(record.key), record.note) for record in run.failed]
    assert run.manifest.expected == run.manifest.compared == 18 * len(PROMPTS) * 3
    assert {"embed", "L01.self_attn", "L02.mlp", "final_norm", "logits"} <= set(run.frame["boundary"])
    assert set(run.frame["user"]) == {0, 1}
    assert run.manifest.device["engine"] == "fast"
    assert set(run.frame["engine"]) == {"fast"}
    assert ("port", "rope_setup") in {(alone.side, alone.path) for alone in run.manifest.unpaired}
    assert all(alone.reason for alone in run.manifest.unpaired)
    assert any("declares no weight formats" in note for note in run.manifest.notes)
    record = next(record for record in run.records if record.boundary == "L00.self_attn")
    assert (record.module, record.reference_path) == ("layers.0.attention", "model.layers.0.self_attn")
    assert any("row 4 of 32" in step for record in run.records for step in record.adapters)  # the last token's tile
    assert names_of(port) == before


def test_an_audit_tells_the_floors_the_formats_that_the_port_does_not_declare(models, port, reference, ttnn):
    for layer in port.layers:
        for weight in (layer.feed_forward.w1, layer.feed_forward.w2, layer.feed_forward.w3):
            weight.dtype, weight._placed = ttnn.bfloat4_b, None
    blind = track(models, port, reference, steps=0)
    told = track(models, port, reference, steps=0, weights=td.audit(port, reference))
    assert blind.first_divergence().boundary == "L00.mlp"
    assert told.passed, told.first_divergence()
    floors = [next(r.floor_rel_l2 for r in run.records if r.boundary == "L00.mlp") for run in (blind, told)]
    assert floors[1] > 5 * floors[0]
    assert "--audit" in blind.manifest.notes[0]


def test_the_other_names_and_harder_objects_pass_too_by_the_ports_own_methods(models, reference, ttnn):
    port = models["qwen"].build(reference.model, ttnn.open_device(device_id=0))
    run = td.track(port, reference, PROMPTS, 2)
    assert run.passed, [(str(record.key), record.note) for record in run.failed]
    assert run.manifest.compared == 18 * len(PROMPTS) * 3


def test_prompts_read_in_one_prefill_are_compared_user_by_user(models, port, reference):
    prompts = [list(range(first, first + 37)) for first in (3, 50, 80)]
    run = track(models, port, reference, prompts, steps=2, together=True)
    assert run.passed, [(str(record.key), record.note) for record in run.failed]
    assert run.manifest.expected == run.manifest.compared == 18 * len(prompts) * 3
    assert set(run.frame["user"]) == {0, 1, 2}
    assert len([call for call in run.calls if call["boundary"] == "L00.self_attn"]) == 3  # a prefill and two steps
    with pytest.raises(PromptError, match="prompts of 37, 40 tokens cannot be read in one prefill"):
        track(models, port, reference, PROMPTS, together=True)
    two = [list(range(first, first + 16)) for first in (3, 50)]
    with pytest.raises(PromptError, match=r"2 prompts of 16 tokens .* as long as one .* padded to 32"):
        track(models, port, reference, two, together=True)


def one_by_one(models, port, token_ids):
    """A prefill that takes a batch and reads its prompts in turn, into slots of their own."""
    table, logits = models["driven"].page_table(port), []
    for user, ids in enumerate(token_ids):
        padded = torch.nn.functional.pad(ids, (0, 128 - len(ids)))
        x = port.embedding.forward(models["driven"].integers(port, padded[None], models["driven"].ttnn.uint32))
        rot_mats = port.rope_setup.prefill_forward(0, 128)
        last = len(ids) - 1
        rows = port.prefill_forward(x, rot_mats, user_id=user, page_table=table, get_last_token=last)
        logits.append(models["driven"].ttnn.to_torch(rows)[0, 0, last % 32])
    return torch.stack(logits)


def test_a_prefill_that_reads_its_prompts_in_turn_is_compared_prompt_by_prompt(models, port, reference):
    prompts = [list(range(first, first + 37)) for first in (3, 50, 80)]

    def prefill(port, token_ids):
        return one_by_one(models, port, token_ids)

    run = track(models, port, reference, prompts, prefill=prefill, steps=2, together=True)
    assert run.passed, [(str(record.key), record.note) for record in run.failed]
    assert run.manifest.expected == run.manifest.compared == 18 * len(prompts) * 3
    assert not run.frame["boundary"].str.contains("#").any()
    in_prefill = [call for call in run.calls if call["boundary"] == "L01.self_attn" and call["phase"] == "prefill"]
    assert [call["user"] for call in in_prefill] == [0, 1, 2]


def test_prompts_that_such_a_prefill_leaves_out_are_skipped_user_by_user(models, port, reference):
    prompts = [list(range(first, first + 37)) for first in (3, 50, 80)]

    def prefill(port, token_ids):
        return one_by_one(models, port, token_ids[:2]).repeat(2, 1)[:3]

    run = track(models, port, reference, prompts, prefill=prefill, steps=0, together=True)
    skipped = run.manifest.skipped
    assert {(entry.user, entry.reason) for entry in skipped if entry.boundary == "L01.mlp"} == {
        (2, "the port did not use layers.1.feed_forward in this call")
    }
    assert len(skipped) == 18
    assert {record.user for record in run.records} == {0, 1}
    assert not run.passed


def test_a_fault_of_one_users_slot_is_found_for_that_user(models, port, reference):
    """The third user's keys are read from the second's pages."""
    driven = models["driven"]

    def decode(port, token_ids, positions):
        right = driven.page_table

        def wrong(port):
            table = right(port)
            table.data[2] = table.data[1]
            return table

        driven.page_table = wrong
        try:
            return driven.decode(port, token_ids, positions)
        finally:
            driven.page_table = right

    prompts = [list(range(first, first + 37)) for first in (3, 50, 80)]
    run = track(models, port, reference, prompts, decode=decode, together=True)
    first = run.first_divergence()
    assert (first.boundary, first.phase, first.user) == ("L00.self_attn", "decode", 1)
    assert {record.user for record in run.failed} == {1, 2}


def swap_gate_and_up(models, port, reference):
    feed_forward = port.layers[1].feed_forward
    feed_forward.w1, feed_forward.w3 = feed_forward.w3, feed_forward.w1


def keep_halves_in_one_layer(models, port, reference):
    llama = models["llama"]
    state = {name: tensor.clone() for name, tensor in reference.model.state_dict().items()}
    order = torch.arange(32).view(16, 2).T.reshape(-1)  # what undoes Meta's order
    for part, heads in (("q", 3), ("k", 1)):
        name = f"model.layers.2.self_attn.{part}_proj.weight"
        state[name] = state[name].view(heads, 32, -1)[:, order].reshape(state[name].shape)
    config = reference.model.config
    port.layers[2].attention = llama.attention_of(state, 2, config, port.mesh_device, port.pages)


def forget_the_mask(models, port, reference):
    port.layers[0].attention.is_causal = False


@pytest.mark.parametrize(
    ("break_it", "boundary"),
    [(swap_gate_and_up, "L01.mlp"), (keep_halves_in_one_layer, "L02.self_attn"), (forget_the_mask, "L00.self_attn")],
)
def test_a_fault_is_found_at_its_own_boundary(models, port, reference, break_it, boundary):
    break_it(models, port, reference)
    run = track(models, port, reference, steps=0)
    assert not run.passed
    first = run.first_divergence()
    assert (first.boundary, first.phase, first.verdict) == (boundary, "prefill", "diverged")


def test_a_wrong_position_is_found_in_decode_and_named_by_the_arguments(models, port, reference):
    def late(port, token_ids, positions):
        return models["driven"].decode(port, token_ids, positions + 1)

    run = track(models, port, reference, decode=late)
    first = run.first_divergence()
    assert (first.boundary, first.phase) == ("L00.self_attn", "decode")
    assert "the module was told position 38 of row 0, the step is at 37" in first.note


def test_what_each_call_was_told_is_kept(models, port, reference, tmp_path):
    track(models, port, reference, out=tmp_path / "run")
    calls = [call for call in td.Run.load(tmp_path / "run").calls if call["boundary"] == "L01.self_attn"]
    assert [(call["phase"], call["step"], call["entry"]) for call in calls] == [
        ("prefill", 0, "prefill_forward"),
        ("decode", 0, "decode_forward"),
    ]
    assert calls[0]["user"] == 0
    assert calls[1]["positions"] == [37, *[-1] * 31]
    assert calls[1]["page_table"] == [models["driven"].page_table(port).values[0].tolist()]
    assert calls[1]["within"] == ["L01.layer_out"]


def test_a_port_that_raises_half_way_leaves_a_run_that_loads_and_its_own_exception(models, port, reference, tmp_path):
    raised = ZeroDivisionError("in the port")

    def fail(x):
        raise raised

    port.layers[1].feed_forward.prefill_forward = fail
    with pytest.raises(ZeroDivisionError) as caught:
        track(models, port, reference, out=tmp_path / "run")
    assert caught.value is raised
    run = td.Run.load(tmp_path / "run")
    assert run.manifest.status == "failed: ZeroDivisionError: in the port"
    assert run.records[-1].boundary == "L01.post_attn_norm"
    assert port.layers[1].feed_forward.prefill_forward is fail


def test_logits_of_a_wrong_shape_are_recorded_with_both_shapes(models, port, reference):
    def narrow(port, token_ids):
        return models["driven"].prefill(port, token_ids)[..., :100]

    pairs = {"final_norm": ("norm", "model.norm")}
    run = track(models, port, reference, prefill=narrow, pairs=pairs)
    (mismatch,) = run.failed
    assert (mismatch.boundary, mismatch.phase, mismatch.verdict) == ("logits", "prefill", "shape_mismatch")
    assert "(1, 1, 100)" in mismatch.note
    assert "(37, 128)" in mismatch.note
    assert run.manifest.expected == run.manifest.compared == 4
    assert any("what it writes on its own is unknown" in note for note in run.manifest.notes)


def test_an_output_that_was_freed_already_is_skipped_with_that_reason(models, port, reference, ttnn):
    norm = port.layers[0].ff_norm
    sound = norm.prefill_forward

    class FreesWhatItReturns:
        """Hands the values on by itself, as a module with a buffer of its own does."""

        def prefill_forward(self, x):
            out = sound(x)
            self.kept = ttnn.clone(out)
            ttnn.deallocate(out)
            return out

        def decode_forward(self, x):
            return norm.decode_forward(x)

    port.layers[0].ff_norm = FreesWhatItReturns()
    feed_forward = port.layers[0].feed_forward
    heard = feed_forward.prefill_forward
    feed_forward.prefill_forward = lambda x: heard(port.layers[0].ff_norm.kept)
    run = track(models, port, reference)
    (skipped,) = run.manifest.skipped
    assert (skipped.boundary, skipped.phase) == ("L00.post_attn_norm", "prefill")
    assert skipped.reason == "layers.0.ff_norm returned a tensor (1, 1, 128, 96) that it had freed already"
    assert not run.failed
    assert not run.passed


class CallsTwice:
    """A module between the model and one of its own, with another call of that before the one that counts."""

    def __init__(self, inner, before):
        self.inner, self.before = inner, before

    def prefill_forward(self, x):
        return self.inner.prefill_forward(x)

    def decode_forward(self, x):
        self.inner.decode_forward(self.before(x))
        return self.inner.decode_forward(x)


def test_a_call_that_the_reference_does_not_make_is_set_beside_its_only_one(models, port, reference, ttnn):
    inner, pairs = port.norm, {"final_norm": ("norm.inner", "model.norm")}
    port.norm = CallsTwice(inner, lambda x: x)
    sound = track(models, port, reference, pairs=pairs)
    assert sound.passed
    assert list(sound.frame.query("phase == 'decode'")["boundary"]) == ["final_norm", "final_norm#2", "logits"]
    assert "beside the only call that the reference makes" in sound.records[-2].note
    port.norm = CallsTwice(inner, ttnn.neg)
    wrong = track(models, port, reference, pairs=pairs)
    assert [record.boundary for record in wrong.failed] == ["final_norm"]


def test_a_call_more_than_the_references_several_is_skipped_and_the_run_does_not_pass(models, ttnn):
    model = tiny_llama(7, **SHAPE)
    model.model.layers[0].post_attention_layernorm = model.model.layers[0].input_layernorm
    reference = td.load_reference(model)
    port = models["driven"].build(reference.model, ttnn.open_device(device_id=0))
    layer = port.layers[0]
    inner = layer.attention_norm
    layer.attention_norm = CallsTwice(inner, lambda x: x)
    layer.ff_norm = inner
    run = track(models, port, reference, pairs={"norm": ("layers.0.ff_norm", "model.layers.0.input_layernorm")})
    (skipped,) = run.manifest.skipped
    assert (skipped.boundary, skipped.phase) == ("norm#3", "decode")
    assert skipped.reason == "the reference did not use model.layers.0.input_layernorm so often in this call"
    assert run.manifest.expected == run.manifest.compared + 1
    assert not run.passed


def test_calls_of_shared_modules_are_compared_by_their_number(models, ttnn):
    model = tiny_llama(7, **SHAPE)
    model.model.layers[0].post_attention_layernorm = model.model.layers[0].input_layernorm
    reference = td.load_reference(model)
    port = models["driven"].build(reference.model, ttnn.open_device(device_id=0))
    layer = port.layers[0]
    both_paths = {
        "before": ("layers.0.attention_norm", "model.layers.0.input_layernorm"),
        "after": ("layers.0.ff_norm", "model.layers.0.post_attention_layernorm"),
    }
    apart = track(models, port, reference, pairs=both_paths)
    assert apart.passed
    layer.ff_norm = layer.attention_norm
    shared = track(models, port, reference, pairs=both_paths)
    assert shared.passed
    assert [record.pcc for record in shared.records] == [record.pcc for record in apart.records]
    one_path = track(models, port, reference, pairs={"norm": both_paths["before"]})
    assert one_path.passed
    names = one_path.frame.query("phase == 'prefill'")["boundary"]
    assert list(names) == ["norm", "norm#2", "logits"]


def test_a_warm_up_within_prefill_is_not_recorded(models, port, reference):
    def warmed_up(port, token_ids):
        with td.unrecorded():
            models["driven"].prefill(port, token_ids)
        return models["driven"].prefill(port, token_ids)

    run = track(models, port, reference, prefill=warmed_up)
    assert run.passed
    assert not run.manifest.skipped


def test_a_port_without_decode_is_compared_in_prefill_and_the_run_says_so(models, port, reference):
    run = track(models, port, reference, decode=None, steps=0)
    assert run.passed
    assert "nothing says how the port decodes: its prefill alone was compared" in run.manifest.notes
    with pytest.raises(PromptError, match="nothing says how a Llama3Transformer1D decodes: give decode="):
        track(models, port, reference, decode=None, steps=2)


def test_what_cannot_be_driven_or_compared_is_an_error_and_no_green_run(models, port, reference, tmp_path):
    with pytest.raises(PairingError, match="nothing says how to run a Llama3Transformer1D: give prefill="):
        td.track(port, reference, PROMPTS[:1])
    encoder = td.load_reference(random_model(transformers.BertConfig(**TINY_BERT), "BertModel", seed=3))
    with pytest.raises(PairingError, match=r"gives no logits, .* give the port a method encode"):
        track(models, port, encoder, pairs={"embed": ("embedding", "embeddings")})
    with pytest.raises(PromptError, match="there are no prompts"):
        track(models, port, reference, [])
    with pytest.raises(PromptError, match="no tokenizer; give the prompt as token ids"):
        track(models, port, reference, None)
    with pytest.raises(PairingError, match="decode= is given without prefill="):
        td.track(port, reference, PROMPTS[:1], decode=models["driven"].decode)
    with pytest.raises(PairingError, match=r"has no 'atention' .* nearest: attention"):
        track(models, port, reference, pairs={"x": ("layers.0.atention", "model.norm")})
    with pytest.raises(PairingError):
        track(models, port, reference, pairs={}, out=tmp_path / "run")
    with pytest.raises(PairingError):
        track(models, object(), reference, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
