# SPDX-License-Identifier: Apache-2.0
"""Reading a configuration: which dialect it is, which architecture it describes, and what each of its keys states."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Mapping
from typing import Any

from loguru import logger

from tttdebug.errors import SpecError
from tttdebug.specs.architectures import ARCHITECTURES, UNNAMED
from tttdebug.specs.dialects import DIALECTS
from tttdebug.specs.facts import Architecture, Dialect, Facts

# Words that make a key nobody knows suspect of changing what is computed, unless its value switches it off.
MATHEMATICAL = re.compile(
    "act|alibi|attn|attention|bias|bidirection|cap|causal|clip|cross|dim|expert|head|layer|mask|mlp|moe|multiplier|norm|"
    "parallel|position|qk|quant|residual|rope|rotary|route|scal|shared|size|sparse|theta|tie|topk|top_k|window"
)
OFF: tuple[object, ...] = (None, False, [], {}, ())


def read_config(config: Any, architecture: Architecture | None = None) -> Facts:
    """The facts that `config`, a dict or an object with `to_dict()`, states about a model.

    `architecture` says what the model computes beyond that; by default it is looked up by the configuration's name for
    it, and one without a name is read as the specs' own defaults.

    Raises:
        SpecError: when the dialect or the architecture is unknown, two keys contradict each other, or a key is unknown
            and may change the mathematics. Other unknown keys are listed in a warning.
    """
    raw = _as_mapping(config)
    dialect = _dialect_of(raw)
    prepared = dialect.prepare(raw)
    if architecture is None:
        architecture = _architecture_of(prepared, dialect)
    return Facts(_translate(prepared, dialect), dialect, architecture)


def _as_mapping(config: Any) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    if callable(getattr(config, "to_dict", None)):
        return dict(config.to_dict())
    raise SpecError(f"config is of type {type(config).__name__}: give a dict, or an object with to_dict()")


def _dialect_of(config: Mapping[str, Any]) -> Dialect:
    """The dialect that knows most of the keys."""
    known = {dialect.name: sum(key in dialect.keys for key in dialect.prepare(config)) for dialect in DIALECTS}
    best = [dialect for dialect in DIALECTS if known[dialect.name] == max(known.values())]
    if len(best) > 1:
        examples = "; ".join(f"{dialect.name}: {', '.join(list(dialect.keys)[:3])}" for dialect in DIALECTS)
        raise SpecError(
            f"cannot tell what kind of config this is from the keys {', '.join(config) or '(none)'}; "
            f"the kinds and some of their keys are: {examples}"
        )
    return best[0]


def _architecture_of(config: Mapping[str, Any], dialect: Dialect) -> Architecture:
    name = dialect.model_type(config)
    if name is None:
        logger.warning("config has no model_type: what it does not say keeps the specs' defaults")
        return UNNAMED
    for architecture in ARCHITECTURES:
        if str(name) in architecture.model_types:
            return architecture
    known = [model_type for architecture in ARCHITECTURES for model_type in architecture.model_types]
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.3)
    raise SpecError(
        f"model_type {name!r} is unknown{f', the nearest known one is {near[0]!r}' if near else ''}; "
        f"known are {', '.join(known)}; for another pass architecture=Architecture(…)"
    )


def _translate(config: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """The facts that the keys of a configuration state."""
    stated: dict[str, Any] = {}
    said_by: dict[str, str] = {}
    suspect: list[str] = []
    unread: list[str] = []
    for key, value in config.items():
        if key in dialect.keys:
            fact, converted = _state(key, value, dialect)
            if stated.get(fact) is None:
                stated[fact], said_by[fact] = converted, key
            elif converted is not None and converted != stated[fact]:
                first = said_by[fact]
                raise SpecError(
                    f"config says {first}={config[first]!r} and {key}={value!r}, which mean the same: remove one"
                )
        elif key in dialect.neutral:
            if not any(_same(value, neutral) for neutral in dialect.neutral[key]):
                suspect.append(key)
        elif not any(fnmatch.fnmatchcase(key, pattern) for pattern in dialect.bookkeeping):
            is_on = not any(_same(value, off) for off in OFF)
            (suspect if is_on and MATHEMATICAL.search(key) else unread).append(key)
    if suspect:
        listed = ", ".join(f"{key}={config[key]!r}" for key in suspect)
        raise SpecError(
            f"config has keys that may change the mathematics and that no spec can express: {listed}; "
            "leave out those that change nothing"
        )
    if unread:
        logger.warning("config keys that were not read: {}", ", ".join(unread))
    return stated


def _state(key: str, value: Any, dialect: Dialect) -> tuple[str, Any]:
    meaning = dialect.keys[key]
    if isinstance(meaning, str):
        return meaning, value
    fact, convert = meaning
    try:
        return fact, None if value is None else convert(value)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise SpecError(f"config says {key}={value!r}, which cannot be read: {error}") from error


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and bool(value == other)
