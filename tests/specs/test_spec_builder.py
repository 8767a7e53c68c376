# SPDX-License-Identifier: Apache-2.0
"""Builders: the same specs as the constructors, each value checked when it is set, typed by a stub that is in step."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from spec_strategies import any_spec_class_with_arguments

from tttdebug.specs import AttentionSpec, InvalidSpecError, ModuleSpec, NormSpec
from tttdebug.specs.builder_stubs import STUB, builder_stubs, exported_specs


@given(any_spec_class_with_arguments)
@settings(deadline=None)
def test_builder_equals_constructor(class_and_arguments):
    spec_class, arguments = class_and_arguments
    builder = spec_class.builder()
    for name, value in arguments.items():
        builder = getattr(builder, name)(value)
    assert builder.build() == spec_class(**arguments)


def test_the_builder_of_the_design():
    spec = AttentionSpec.builder().hidden_dim(4096).num_heads(32).build()
    assert spec == AttentionSpec(hidden_dim=4096, num_heads=32)


def test_a_value_is_checked_when_it_is_set():
    builder = AttentionSpec.builder().hidden_dim(4096)
    with pytest.raises(InvalidSpecError, match="num_heads=0 must be at least 1"):
        builder.num_heads(0)
    with pytest.raises(InvalidSpecError, match="write 32 without the quotes"):
        builder.num_heads("32")
    assert builder.num_heads(32).build() == AttentionSpec(4096, 32)


def test_rules_between_fields_are_checked_in_build():
    builder = AttentionSpec.builder().num_heads(32).num_kv_heads(5).hidden_dim(4096)
    with pytest.raises(InvalidSpecError, match="num_kv_heads=5 must divide num_heads"):
        builder.build()
    assert builder.num_kv_heads(4).build() == AttentionSpec(4096, 32, 4)


def test_build_lists_everything_that_is_missing():
    with pytest.raises(InvalidSpecError) as caught:
        AttentionSpec.builder().qkv_bias(True).build()
    assert [violation.field for violation in caught.value.violations] == ["hidden_dim", "num_heads"]


def test_a_computed_field_may_be_left_to_be_computed():
    assert AttentionSpec.builder().hidden_dim(4096).num_heads(32).head_dim(None).build().head_dim == 128


def test_an_unknown_field_is_named():
    with pytest.raises(InvalidSpecError, match="num_head is no field of AttentionSpec: did you mean num_heads"):
        AttentionSpec.builder().set("num_head", 32)
    assert not hasattr(AttentionSpec.builder(), "num_head")


def test_sessions_complete_the_fields():
    builder = NormSpec.builder()
    assert {"hidden_dim", "eps", "norm_type", "unit_offset", "bias", "build"} <= set(dir(builder))
    assert "a finite number" in builder.eps.__doc__


def test_a_builder_shows_what_was_set():
    assert repr(NormSpec.builder().hidden_dim(64)) == "NormSpec.builder().hidden_dim(64)"


def test_the_stub_is_what_the_fields_say():
    assert STUB.read_text(encoding="utf-8") == builder_stubs(exported_specs()), (
        "run python -m tttdebug.specs.builder_stubs"
    )


def test_every_spec_has_its_builder_in_the_stub():
    stub = STUB.read_text(encoding="utf-8")
    ours = [kind for kind in ModuleSpec.KINDS.values() if kind.__module__.startswith("tttdebug.")]
    assert all(f"owner: type[{kind.__name__}]" in stub for kind in ours)


@pytest.mark.slow
def test_type_checkers_know_the_builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from mypy import api

    script = tmp_path / "script.py"
    script.write_text(
        "from tttdebug.specs import AttentionSpec, NormSpec\n"
        "reveal_type(AttentionSpec.builder().hidden_dim(4096).num_heads(32).build())\n"
        "reveal_type(NormSpec.builder().norm_type('layernorm').build())\n"
        "AttentionSpec.builder().hidden_dim('4096')\n"
        "NormSpec.builder().norm_type('layer')\n"
        "NormSpec.builder().epsilon(1e-5)\n"
    )
    config = tmp_path / "mypy.ini"
    heavy = ",".join(f"mypy-{package}.*" for package in ("torch", "transformers", "numpy", "pandas", "loguru"))
    config.write_text(f"[mypy]\nfollow_imports = silent\n[{heavy}]\nfollow_imports = skip\n")
    monkeypatch.setenv("MYPYPATH", str(STUB.parents[2]))
    out, _, _ = api.run([str(script), f"--config-file={config}", f"--cache-dir={tmp_path}"])
    lines = [line.split(": ", 1)[1] for line in out.splitlines() if line.startswith(str(script))]
    assert lines[:2] == [
        'note: Revealed type is "tttdebug.specs.attention.AttentionSpec"',
        'note: Revealed type is "tttdebug.specs.norm.NormSpec"',
    ]
    assert [line.rsplit("[", 1)[1] for line in lines[2:]] == ["arg-type]", "arg-type]", "attr-defined]"]
