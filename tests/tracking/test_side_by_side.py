# SPDX-License-Identifier: Apache-2.0
"""Tracking a port end to end on small random models: what it finds, what it must not disturb, what it never hides."""

import pytest
import torch
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.errors import PairingError, PromptError, RunError
from tttdebug.tracking.layout import align

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


@pytest.fixture(scope="module")
def reference():
    return td.load_reference(tiny_llama(7, **SHAPE))


def build(reference, precision="accuracy", weights=None, engine="fast"):
    return td.build_model(reference, td.open_device("emulated", engine=engine), precision, weights=weights)


def swapped(reference, first, second):
    """The reference's weights with two of them exchanged."""
    state = dict(reference.model.state_dict())
    state[first], state[second] = state[second], state[first]
    return state


@pytest.mark.parametrize("precision", ["accuracy", "performance", "bf16"])
def test_number_formats_alone_fail_no_gate(reference, precision):
    run = td.track(build(reference, precision), reference, PROMPTS, decode_steps=3)
    assert run.passed, [(str(record.key), record.note) for record in run.failed]
    assert run.first_divergence() is None
    boundaries = 3 * 7 + 3  # seven in a layer with its two caches; embed, final_norm, logits
    assert run.manifest.expected == run.manifest.compared == boundaries * len(PROMPTS) * 4
    assert set(run.frame["user"]) == {0, 1}


def test_gate_and_up_exchanged_in_one_layer_is_found_in_that_layers_mlp(reference, tmp_path):
    broken = swapped(reference, "model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight")
    run = td.track(build(reference, weights=broken), reference, PROMPTS, decode_steps=1, out=tmp_path / "run")
    assert not run.passed
    first = run.first_divergence()
    assert (first.boundary, first.phase, first.verdict) == ("L01.mlp", "prefill", "diverged")
    assert run.tensors(first.key) is not None
    assert str(td.Run.load(tmp_path / "run").first_divergence()) == str(first)


def test_keys_in_the_wrong_rotary_order_are_found_in_the_cache(reference):
    from tttdebug.modules.placement import interleave_heads

    state = dict(reference.model.state_dict())
    name = "model.layers.2.self_attn.k_proj.weight"
    state[name] = interleave_heads(state[name], 32, 32)
    run = td.track(build(reference, weights=state), reference, PROMPTS[:1])
    first = run.first_divergence()
    assert first.boundary == "L02.k_cache"
    heads = run.profile(first.key)["heads"]
    assert len(heads["rel_l2"]) == run.manifest.model["kv_heads"]
    assert min(first.rel_l2, heads["other_order_rel_l2"]) > 0.3  # wrong channels were turned: no order mends that


def test_tracking_changes_no_bit_of_the_ports_logits(reference):
    def logits(tracked):
        port = build(reference)
        if tracked:
            td.track(port, reference, PROMPTS[:1], decode_steps=1)
        port.allocate_cache(1, 64)
        prefilled = port.prefill(torch.tensor(PROMPTS[0]))
        decoded = port.decode(torch.tensor([5]), torch.tensor([len(PROMPTS[0])]))
        return torch.cat([td.backends.to_torch(prefilled)[0, 0], td.backends.to_torch(decoded)[0, 0, :1]])

    port = build(reference)
    heard = []
    from tttdebug.tracking.hooks import PortTap

    modules = {str(i): layer.attention for i, layer in enumerate(port.layers)}
    port.allocate_cache(1, 64)
    with PortTap(modules, lambda boundary, output, seconds: heard.append(td.backends.to_torch(output).clone())):
        under_observation = td.backends.to_torch(port.prefill(torch.tensor(PROMPTS[0])))[0, 0]
    plain = logits(tracked=False)
    assert len(heard) == 3
    assert torch.equal(plain[: len(under_observation)], under_observation)
    assert torch.equal(plain, logits(tracked=True))


def test_a_port_that_raises_leaves_a_run_that_loads_and_its_own_exception(reference, tmp_path):
    port = build(reference)

    def fail(x):
        raise ZeroDivisionError("in the port")

    port.layers[1].feed_forward.forward = fail
    with pytest.raises(ZeroDivisionError, match="in the port"):
        td.track(port, reference, PROMPTS[:1], out=tmp_path / "run")
    run = td.Run.load(tmp_path / "run")
    assert run.manifest.status == "failed: ZeroDivisionError: in the port"
    assert run.records[-1].boundary == "L01.post_attn_norm"
    assert not run.passed
    assert port.layers[1].feed_forward.forward is fail
    assert "forward" not in vars(port.layers[0].feed_forward)


def test_a_module_that_the_port_never_calls_is_skipped_and_fails_the_run(reference):
    port = build(reference)
    port.layers[0].unused = build(reference).norm
    pairs = {"final_norm": ("norm", "model.norm"), "unused": ("layers.0.unused", "model.norm")}
    run = td.track(port, reference, PROMPTS[:1], pairs=pairs)
    skipped = {entry.boundary: entry.reason for entry in run.manifest.skipped}
    assert skipped["unused"] == "the port did not use layers.0.unused in this call"
    assert not run.failed
    assert not run.passed


def test_an_output_of_another_shape_is_recorded_with_both_shapes(reference):
    run = td.track(build(reference), reference, PROMPTS[:1], pairs={"odd": ("lm_head", "model.norm")})
    odd = run.first_divergence()
    assert (odd.boundary, odd.verdict) == ("odd", "shape_mismatch")
    assert "(1, 1, 64, 128)" in odd.note
    assert "(1, 37, 96)" in odd.note


def test_a_nonfinite_value_of_the_port_is_never_masked_away(reference):
    state = dict(reference.model.state_dict())
    state["model.layers.0.self_attn.o_proj.weight"] = torch.full_like(
        state["model.layers.0.self_attn.o_proj.weight"], torch.inf
    )
    run = td.track(build(reference, "bf16", state), reference, PROMPTS[:1])
    assert run.first_divergence().verdict == "nonfinite"
    assert run.first_divergence().boundary == "L00.self_attn"


def test_where_the_texts_part_the_port_goes_on_from_its_own_choice(reference):
    broken = swapped(reference, "model.layers.0.self_attn.v_proj.weight", "model.layers.2.self_attn.v_proj.weight")
    port = build(reference, "bf16", broken)
    run = td.track(port, reference, PROMPTS[:1], decode_steps=4)
    written = [int(token) for token in run.manifest.continuations[0]["port"].split()]
    port.allocate_cache(1, 64)
    ids, logits = list(PROMPTS[0]), port.prefill(torch.tensor(PROMPTS[0]))
    expected = [int(align(torch.zeros(1, len(ids), 128), td.backends.to_torch(logits)).port_TC[-1].argmax())]
    for step in range(4):
        logits = port.decode(torch.tensor(expected[-1:]), torch.tensor([len(ids) + step]))
        expected.append(int(td.backends.to_torch(logits)[0, 0, 0].argmax()))
    assert written == expected
    assert run.manifest.continuations[0]["reference"] != run.manifest.continuations[0]["port"]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[]], "no tokens"),
        ([[1] * 127], "context"),
        ([[999]], "vocabulary"),
        (["text"], "no tokenizer"),
        ([""], "empty"),
    ],
)
def test_bad_prompts_are_refused_before_anything_runs(reference, tmp_path, prompts, message):
    with pytest.raises(PromptError, match=message):
        td.track(build(reference), reference, prompts, decode_steps=2, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_pairs_and_folders_that_cannot_be_used_are_refused(reference, tmp_path):
    port = build(reference)
    with pytest.raises(PairingError, match=r"nearest: model\.norm"):
        td.track(port, reference, PROMPTS[:1], pairs={"x": ("norm", "model.nrm")})
    (tmp_path / "there").write_text("")
    with pytest.raises(RunError, match="another folder"):
        td.track(port, reference, PROMPTS[:1], out=tmp_path / "there")


def test_a_spec_with_its_reference_compares_one_module(reference):
    port = build(reference)
    ours, truth = {}, {}
    from tttdebug.tracking.hooks import PortTap, ReferenceTap

    port.allocate_cache(1, 64)
    with PortTap({"a": port.layers[1].attention}, lambda _, output, __: ours.update(a=td.backends.to_torch(output))):
        port.prefill(torch.tensor(PROMPTS[0]))
    module = reference.model.get_submodule("model.layers.1.self_attn")
    with torch.no_grad(), ReferenceTap({"a": module}) as tap:
        reference.model(torch.tensor(PROMPTS[:1]))
        truth = tap.outputs()
    tracked = td.ModuleSpecWithReference(port.spec.layers[1].attention, "model.layers.1.self_attn")
    comparison = tracked.compare_with_reference((truth["a"], None), ours["a"])
    assert comparison.passed(pcc=0.99)
    assert comparison.shape == (len(PROMPTS[0]), 96)
