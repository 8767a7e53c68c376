# SPDX-License-Identifier: Apache-2.0
"""What a run says of how its layers are wired is what the reference's own numbers say."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tttdebug as td
from families.random_models import ARCHITECTURES, decoders, encoders, random_model
from tttdebug.tracking.record import Key
from tttdebug.tracking.wiring import Applied, Value, parts_of, steps_of


class Layer:
    """The reference's outputs in one layer of a run."""

    def __init__(self, run, place, values):
        self.run, self.place, self.values = run, place, values

    def output(self, kind):
        return self.run.tensors(Key(f"{self.place}.{kind}"))[0].double()

    def of(self, term):
        """What a term is; the reference's norms are applied to what the formula says goes into them."""
        if isinstance(term, Value):
            return self.values[term.name]
        if isinstance(term, Applied):
            comes_in = self.of(term.to)
            if (
                f"{self.place}.{term.part}" not in self.run.subject.reference_modules
            ):  # BERT's last norm gives layer_out
                return self.output("layer_out")
            given = self.output(term.part)
            if term.part.endswith("norm"):
                module = self.run.subject.reference_modules[f"{self.place}.{term.part}"]
                torch.testing.assert_close(module(comes_in.float()).double(), given, rtol=1e-3, atol=1e-4)
            return given
        return sum(self.of(each) for each in term.terms)


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi", "gpt_neox", "bert", "vit"])
@settings(max_examples=1, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_sums_and_norms_are_where_the_formula_says(family, data):
    encodes = family in ("bert", "vit")
    config = data.draw(encoders(family) if encodes else decoders(family))
    reference = td.load_reference(random_model(config, ARCHITECTURES[family][0], 0))
    port = td.build_model(reference, td.open_device("emulated", engine="ideal"))
    inputs = torch.randn(3, 24, 24) if family == "vit" else [5, 17, 3, 44, 8]
    run = td.track(port, reference, [inputs], save_tensors="all")
    formula = run.manifest.model["wiring"]
    layer = Layer(run, "L01", {"x": run.tensors(Key("L00.layer_out"))[0].double()})
    steps = steps_of(formula)
    assert {"self_attn", "mlp"} <= {part for step in steps for part in parts_of(step.term)}, formula
    for step in steps:
        layer.values[step.name] = layer.of(step.term)
    torch.testing.assert_close(layer.values[""], layer.output("layer_out"), rtol=1e-3, atol=1e-4)
