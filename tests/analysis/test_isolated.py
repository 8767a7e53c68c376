# SPDX-License-Identifier: Apache-2.0
"""Isolated errors of sound ports: on the ideal engine every module of every family gives what the reference's does."""

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tttdebug as td
from families.random_models import ARCHITECTURES, DECODERS, decoders, random_model
from tttdebug.analysis.anatomy import Anatomy, formats_of
from tttdebug.analysis.cache_watch import CacheWatch
from tttdebug.analysis.examination import Examiner
from tttdebug.analysis.inherited import inherited_errors
from tttdebug.analysis.isolated import NotAlone, isolated_outputs
from tttdebug.analysis.own_error import own_error
from tttdebug.modules import HardwareConfig
from tttdebug.tracking.reopening import ReopenedRun

SEEDS = st.integers(0, 2**16)
CHECKED = settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def drawn_run(data, family, engine, hw_config):
    config, seed = data.draw(decoders(family)), data.draw(SEEDS)
    length = data.draw(st.integers(2, 50))
    print(f"{family}: seed {seed}, length {length}, {config.to_diff_dict()}")
    reference = td.load_reference(random_model(config, ARCHITECTURES[family][0], seed))
    port = td.build_model(reference, td.open_device("emulated", engine=engine), hw_config=hw_config)
    generator = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(3, 61, (size,), generator=generator).tolist() for size in (length, 33)]
    return td.track(port, reference, prompts, decode_steps=2)


@pytest.mark.parametrize("family", DECODERS)
@CHECKED
@given(st.data())
def test_every_module_alone_is_exact(family, data):
    run = drawn_run(data, family, "ideal", HardwareConfig.preset("bf16"))
    outputs = []
    isolated_outputs(run.subject, outputs.append)
    assert not [output for output in outputs if isinstance(output, NotAlone)]
    for output in outputs:
        error = own_error(output.aligned.reference_TC, output.aligned.port_TC, output.floor_TC)
        where = f"{output.boundary} in {output.turn.phase} {output.turn.step} of user {output.user.user}"
        assert error.comparison.rel_l2 < 1e-5, f"{where}: {error.comparison.rel_l2}"
    told = {(o.boundary, o.turn.phase, o.turn.step, o.user.user) for o in outputs}
    assert told == {(r.boundary, r.phase, r.step, r.user) for r in run.records}


@pytest.mark.parametrize("family", DECODERS)
@CHECKED
@given(st.data())
def test_a_port_without_error_passes_none_on(family, data):
    run = drawn_run(data, family, "ideal", HardwareConfig.preset("bf16"))
    inherited, watch = [], CacheWatch(run.subject)
    inherited_errors(run.subject, inherited.append, watch)
    assert not watch.findings()
    assert inherited
    for error in inherited:
        where = f"{error.boundary} in {error.turn.phase} {error.turn.step} of user {error.user.user}"
        assert error.input_rel_l2 < 1e-5, f"{where}: {error.input_rel_l2} in"
        assert error.comparison.rel_l2 < 1e-5, f"{where}: {error.comparison.rel_l2} out"


@pytest.mark.parametrize("precision", ["accuracy", "performance", "bf16"])
@pytest.mark.parametrize("family", DECODERS)
@settings(CHECKED, max_examples=1)
@given(st.data())
def test_sound_modules_are_not_at_fault(family, precision, data):
    run = drawn_run(data, family, "fast", HardwareConfig.preset(precision))
    anatomy = Anatomy(run.subject.reference, formats_of(run.subject.port))
    found = Examiner(run.subject, anatomy, ReopenedRun(run)).examine((), lambda message, fraction: None)
    assert not found.not_alone
    assert not found.at_fault, [
        f"{key}: {found.errors[key].unexplained} > {found.errors[key].limit}, floor {found.errors[key].floor}"
        for keys in found.at_fault.values()
        for key in keys
    ]
