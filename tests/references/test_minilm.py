# SPDX-License-Identifier: Apache-2.0
"""MiniLM with its real weights: downloaded once, it knows which sentences are alike, its port holds its gates."""

import pytest
import torch

import tttdebug as td
from tttdebug.references import check_reference
from tttdebug.references.minilm import WEIGHTS_SHA256

SENTENCES = ("A cat sits on the mat.", "A kitten rests on a rug.", "Interest rates rose again in May.")


@pytest.fixture(scope="module")
def reference():
    return td.load_reference("bert")


def test_it_is_the_published_model_and_trained(reference):
    assert reference.weights_digest == WEIGHTS_SHA256
    checks = check_reference(reference, reference.tokenizer.encode(SENTENCES[0]))
    assert checks.parameters == 22_713_216


def test_sentences_that_mean_the_same_are_near_one_another(reference):
    def meaning(sentence):
        inputs = reference.tokenizer(sentence, return_tensors="pt")
        with torch.no_grad():
            return reference.model(**inputs).last_hidden_state[0].mean(0)

    cat, kitten, rates = map(meaning, SENTENCES)
    assert torch.cosine_similarity(cat, kitten, 0) > 0.5
    assert torch.cosine_similarity(cat, rates, 0) < 0.3


@pytest.mark.parametrize("precision", ["bf16", "accuracy", "performance"])
def test_its_port_holds_every_gate_in_every_precision(reference, precision):
    port = td.build_model(reference, td.open_device("emulated"), precision)
    run = td.track(port, reference, list(SENTENCES[:2]))
    assert run.passed, [str(record.key) for record in run.failed]
    assert {record.boundary for record in run.records} >= {"embed", "L05.self_attn", "L05.layer_out", "pooler"}
