# SPDX-License-Identifier: Apache-2.0
"""Isolated errors of sound encoders: on the ideal engine every module gives what the reference does for its input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tttdebug as td
from analysis.test_isolated import CHECKED, SEEDS
from families.random_models import ARCHITECTURES, encoders, random_model
from tttdebug.analysis.anatomy import Anatomy, formats_of
from tttdebug.analysis.cache_watch import CacheWatch
from tttdebug.analysis.examination import Examiner
from tttdebug.analysis.inherited import inherited_errors
from tttdebug.analysis.isolated import NotAlone, isolated_outputs
from tttdebug.analysis.own_error import own_error
from tttdebug.modules import HardwareConfig
from tttdebug.tracking.reopening import ReopenedRun

KINDS = [(family, name) for family in ("bert", "vit") for name in ARCHITECTURES[family]]


def drawn_run(data, family, architecture, engine, hw_config):
    config, seed = data.draw(encoders(family)), data.draw(SEEDS)
    print(f"{architecture}: seed {seed}, {config.to_diff_dict()}")
    reference = td.load_reference(random_model(config, architecture, seed))
    port = td.build_model(reference, td.open_device("emulated", engine=engine), hw_config=hw_config)
    generator = torch.Generator().manual_seed(seed)
    lengths = (data.draw(st.integers(2, 50)), 33)
    if family == "bert":
        inputs = [torch.randint(3, 61, (length,), generator=generator).tolist() for length in lengths]
    else:
        inputs = [torch.randn(3, config.image_size, config.image_size, generator=generator) for _ in lengths]
    return td.track(port, reference, inputs)


@pytest.mark.parametrize(("family", "architecture"), KINDS)
@CHECKED
@given(st.data())
def test_every_module_of_an_encoder_alone_is_exact(family, architecture, data):
    run = drawn_run(data, family, architecture, "ideal", HardwareConfig.preset("bf16"))
    outputs = []
    isolated_outputs(run.subject, outputs.append)
    assert not [output for output in outputs if isinstance(output, NotAlone)]
    for output in outputs:
        error = own_error(output.aligned.reference_TC, output.aligned.port_TC, output.floor_TC)
        assert error.comparison.rel_l2 < 1e-5, f"{output.boundary} of {output.user.user}: {error.comparison.rel_l2}"
    assert {(o.boundary, o.user.user) for o in outputs} == {(r.boundary, r.user) for r in run.records}


@pytest.mark.parametrize(("family", "architecture"), KINDS)
@CHECKED
@given(st.data())
def test_an_encoder_without_error_passes_none_on(family, architecture, data):
    run = drawn_run(data, family, architecture, "ideal", HardwareConfig.preset("bf16"))
    inherited = []
    inherited_errors(run.subject, inherited.append, CacheWatch(run.subject))
    told = {error.boundary for error in inherited}
    assert told == {record.boundary for record in run.records} - {"embed"}  # which reads what both sides read
    for error in inherited:
        assert error.input_rel_l2 < 1e-5, f"{error.boundary} of {error.user.user}: {error.input_rel_l2} in"
        assert error.comparison.rel_l2 < 1e-5, f"{error.boundary} of {error.user.user}: {error.comparison.rel_l2} out"


@pytest.mark.parametrize("precision", ["accuracy", "performance", "bf16"])
@pytest.mark.parametrize(("family", "architecture"), KINDS)
@settings(CHECKED, max_examples=1)
@given(st.data())
def test_sound_modules_of_an_encoder_are_not_at_fault(family, architecture, precision, data):
    run = drawn_run(data, family, architecture, "fast", HardwareConfig.preset(precision))
    anatomy = Anatomy(run.subject.reference, formats_of(run.subject.port))
    found = Examiner(run.subject, anatomy, ReopenedRun(run)).examine((), lambda message, fraction: None)
    assert not found.not_alone
    assert not found.at_fault, [
        f"{key}: {found.errors[key].unexplained} > {found.errors[key].limit}, floor {found.errors[key].floor}"
        for keys in found.at_fault.values()
        for key in keys
    ]
