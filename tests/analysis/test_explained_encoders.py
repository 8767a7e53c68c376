# SPDX-License-Identifier: Apache-2.0
"""Broken encoders are explained, the module and the cause first; sound ones have nothing to explain."""

import math

import pytest
import torch
import transformers

import tttdebug as td
from families.random_models import random_model
from tttdebug.analysis.bisection import bisect
from tttdebug.analysis.free_run import FreeRun
from tttdebug.analysis.output_metric import output_errors, output_metric
from tttdebug.analysis.swaps import damage, recover
from tttdebug.errors import AnalysisError
from tttdebug.faults import inject

SHAPE = {"num_hidden_layers": 3, "num_attention_heads": 3, "hidden_size": 96, "intermediate_size": 160}
LAYERS = SHAPE["num_hidden_layers"]


@pytest.fixture(scope="module", params=["bert", "vit"])
def reference(request):
    if request.param == "bert":
        config = transformers.BertConfig(**SHAPE, vocab_size=128, max_position_embeddings=64)
        return td.load_reference(random_model(config, "BertModel", 5))
    config = transformers.ViTConfig(**SHAPE, image_size=32, patch_size=4)
    return td.load_reference(random_model(config, "ViTForImageClassification", 5))


def inputs_for(reference):
    generator = torch.Generator().manual_seed(1)
    if reference.reads_images:
        return [torch.randn(3, 32, 32, generator=generator)]
    return [torch.randint(3, 128, (40,), generator=generator).tolist()]


def tracked(reference, *faults, engine="fast"):
    port = td.build_model(reference, td.open_device("emulated", engine=engine), "bf16")
    for fault in faults:
        inject(port, fault)
    return td.track(port, reference, inputs_for(reference))


@pytest.mark.parametrize(
    ("fault", "causes"),
    [
        ("module_stale@L01.mlp", {"weight_stale"}),
        ("activation@L01.mlp", {"activation"}),
        ("keys_values_exchanged@L02.self_attn", {"weights_exchanged"}),
        ("norm_bias_missing@L00.post_attn_norm", {"bias_missing"}),
        ("noise@L01.self_attn", {"nondeterministic"}),
    ],
)
def test_the_module_and_the_cause_come_first(reference, fault, causes):
    found = td.explain(tracked(reference, fault))
    assert (found[0].boundary, found[0].confirmed) == (fault.partition("@")[2], True)
    assert found[0].cause in causes
    assert not found.notes


def test_nothing_is_found_in_a_sound_encoder(reference):
    run = tracked(reference)
    found = td.explain(run)
    assert not found.detected
    assert not found.notes
    with pytest.raises(AnalysisError, match="nothing to bisect"):
        bisect(run.subject)


def test_a_fault_is_bisected_and_swapped(reference):
    run = FreeRun(tracked(reference, "weight_transposed@L01.self_attn").subject)
    found = bisect(run)
    assert (found.unit, found.boundary) == ("L01", "L01.self_attn")
    assert found.drop > 0.9
    assert recover(run, ["L01.self_attn"]).share > 0.9
    assert damage(run, ["L01.self_attn"]).share > 0.5
    assert abs(recover(run, ["L01.mlp"]).share) < 0.5


def test_without_number_formats_all_modules_swapped_leave_no_error(reference):
    run = FreeRun(tracked(reference, "weight_transposed@L01.self_attn", engine="ideal").subject)
    everything = list(run.layouts)
    assert recover(run, everything).after.rel_l2 < 1e-5
    assert damage(run, everything).after.rel_l2 == pytest.approx(run.metric.rel_l2, rel=1e-3)


def test_the_metric_of_an_encoder_is_the_distance_of_its_output():
    generator = torch.Generator().manual_seed(0)
    truth = [torch.randn(tokens, 8, generator=generator) for tokens in (3, 1)]
    port = [output + 0.1 * torch.randn(output.shape, generator=generator) for output in truth]
    metric = output_metric([output_errors(*sides) for sides in zip(truth, port, strict=True)])
    whole_truth, whole_port = torch.cat(truth), torch.cat(port)
    assert metric.rel_l2 == pytest.approx(float((whole_port - whole_truth).norm() / whole_truth.norm()), rel=1e-5)
    assert metric.worst >= metric.rel_l2
    assert metric.positions == 4
    assert metric.without_error().error == 0
    broken = port[0].clone()
    broken[0, 0] = math.nan
    assert math.isinf(output_metric([output_errors(truth[0], broken)]).error)
    with pytest.raises(ValueError, match=r"\(3, 8\) beside the reference's \(1, 8\)"):
        output_errors(truth[1], port[0])
    with pytest.raises(ValueError, match="nothing was encoded"):
        output_metric([])
