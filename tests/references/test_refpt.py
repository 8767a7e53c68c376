# SPDX-License-Identifier: Apache-2.0
"""Token references in .refpt files: read as they are, refused when damaged, and never executed."""

import json
import pickle

import pytest
import torch
from tiny_llamas import tiny_llama
from typer.testing import CliRunner

import tttdebug as td
from tttdebug.cli import app
from tttdebug.errors import TokenReferenceError
from tttdebug.references.refpt import TokenReference, write_refpt

SHAPE = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 96}
TEXT = [3, 17, 40, 8, 90, 22, 61, 5, 33, 71, 12, 48, 66, 2, 19, 54]


@pytest.fixture(scope="module")
def model():
    return tiny_llama(7, **SHAPE)


@pytest.fixture(scope="module")
def refpt(model, tmp_path_factory):
    """A file as TT-Transformers' script makes it: the text, and the model's five likeliest tokens after each."""
    with torch.inference_mode():
        top5 = model(torch.tensor([TEXT]), use_cache=False).logits[0].topk(5).indices
    path = tmp_path_factory.mktemp("tokens") / "tiny.refpt"
    torch.save(
        {"reference_tokens": torch.tensor([TEXT]), "top5_tokens": top5, "library_versions": {"torch": "2"}}, path
    )
    return path


def test_a_file_is_read_as_it_is(refpt):
    reference = td.read_refpt(refpt)
    assert reference.token_ids == tuple(TEXT)
    assert len(reference.top5) == len(reference) == len(TEXT)
    assert {len(row) for row in reference.top5} == {5}
    assert reference.prompt(4) == TEXT[:4]
    assert reference.about == {"library_versions": "{'torch': '2'}"}


def test_what_is_written_is_read_again(refpt, tmp_path):
    reference = td.read_refpt(refpt)
    write_refpt(reference, tmp_path / "tiny.refpt")
    again = td.read_refpt(tmp_path / "tiny.refpt")
    assert (again.token_ids, again.top5) == (reference.token_ids, reference.top5)


def test_accuracy_counts_first_choices_and_the_five():
    reference = TokenReference("three", (1, 2, 3), ((5, 6, 7, 8, 9), (1, 2, 3, 4, 5), (9, 8, 7, 6, 5)))
    accuracy = reference.accuracy({0: 5, 1: 4, 2: 1})
    assert (accuracy.tokens, accuracy.top1, accuracy.top5) == (3, 1 / 3, 2 / 3)
    assert str(accuracy) == "top-1 33.3%, top-5 66.7% of 3 tokens"
    with pytest.raises(TokenReferenceError, match="of another text"):
        reference.accuracy({3: 1})
    with pytest.raises(TokenReferenceError, match="no predicted token"):
        reference.accuracy({})


def test_a_sound_port_agrees_with_its_own_models_reference(model, refpt):
    reference = td.load_reference(model)
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"))
    run = td.track(port, reference, [td.read_refpt(refpt).prompt(12)], decode_steps=2)
    accuracy = td.token_accuracy(run, td.read_refpt(refpt))
    assert (accuracy.top1, accuracy.top5) == (1.0, 1.0)
    assert accuracy.tokens >= 12


def test_a_broken_port_has_a_lower_accuracy(model, refpt):
    reference = td.load_reference(model)
    state = dict(model.state_dict())
    state["lm_head.weight"] = state["lm_head.weight"].flip(0)
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"), weights=state)
    run = td.track(port, reference, [TEXT])
    accuracy = td.token_accuracy(run, td.read_refpt(refpt))
    assert accuracy.tokens == len(TEXT)
    assert accuracy.top1 < 0.5


def test_decode_counts_only_while_it_follows_the_text(model, refpt):
    reference = td.load_reference(model)
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"))
    run = td.track(port, reference, [TEXT[:8]], decode_steps=4)
    follows = td.read_refpt(refpt).top5[7][0] == TEXT[8]
    assert td.token_accuracy(run, td.read_refpt(refpt)).tokens == (8 if not follows else 9)


def test_a_run_of_another_text_is_refused(model, refpt):
    reference = td.load_reference(model)
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"))
    run = td.track(port, reference, [[9, *TEXT[1:]]])
    with pytest.raises(TokenReferenceError, match=r"the run read token 9 at position 0, tiny.refpt has 3"):
        td.token_accuracy(run, td.read_refpt(refpt))


def saved(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"tokens": torch.tensor([1])}, "it holds tokens, not reference_tokens and top5_tokens"),
        ([1, 2], "it holds a list"),
        ({"reference_tokens": torch.tensor([[1, 2, 3]]), "top5_tokens": torch.ones(1, 5).long()}, "not fit together"),
        ({"reference_tokens": torch.tensor([[]]).long(), "top5_tokens": torch.ones(0, 5).long()}, "not fit together"),
        ({"reference_tokens": torch.tensor([[1.5]]), "top5_tokens": torch.ones(1, 5).long()}, "whole numbers"),
        ({"reference_tokens": [1, 2], "top5_tokens": torch.ones(2, 5).long()}, "reference_tokens is list"),
        ({"reference_tokens": torch.tensor([[-1]]), "top5_tokens": torch.ones(1, 5).long()}, "negative"),
    ],
)
def test_what_is_no_token_reference_is_refused(tmp_path, content, message):
    with pytest.raises(TokenReferenceError, match=message):
        td.read_refpt(saved(tmp_path / "some.refpt", content))


class Executes:
    """A pickle that would run a function when it is loaded."""

    def __reduce__(self):
        return (print, ("executed",))


def test_a_file_is_never_executed(tmp_path, capsys):
    path = saved(tmp_path / "evil.refpt", {"reference_tokens": Executes(), "top5_tokens": torch.ones(1, 5).long()})
    with pytest.raises(TokenReferenceError, match="is not executed"):
        td.read_refpt(path)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_named(refpt, tmp_path, share):
    whole = refpt.read_bytes()
    path = tmp_path / "cut.refpt"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(TokenReferenceError, match=r"cut\.refpt"):
        td.read_refpt(path)


def test_other_files_are_named(tmp_path):
    (tmp_path / "text.refpt").write_text("no tokens here")
    (tmp_path / "pickle.refpt").write_bytes(pickle.dumps([1, 2]))
    for name in ("text.refpt", "pickle.refpt", "absent.refpt", ""):
        with pytest.raises(TokenReferenceError, match=name or str(tmp_path)):
            td.read_refpt(tmp_path / name)


def test_the_command_reads_the_text_and_prints_the_accuracy(model, refpt, tmp_path):
    model.save_pretrained(tmp_path / "model")
    arguments = ["run", "--model", str(tmp_path / "model"), "--tokens-from", str(refpt), "--decode-steps", "0"]
    ran = CliRunner().invoke(app, [*arguments, "--engine", "ideal", "--out", str(tmp_path / "run")])
    assert ran.exit_code == 0, ran.output
    assert "top-1 100.0%, top-5 100.0% of 16 tokens" in " ".join(ran.output.split())
    as_json = CliRunner().invoke(app, [*arguments, "--json", "--out", str(tmp_path / "again")])
    assert json.loads(as_json.stdout)["token_accuracy"]["tokens"] == 16
