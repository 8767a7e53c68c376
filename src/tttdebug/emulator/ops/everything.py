# SPDX-License-Identifier: Apache-2.0
"""Imports every file of ops, so that `operation.OPS` knows them all."""

from __future__ import annotations

from tttdebug.emulator.ops import (  # noqa: F401
    arrangement,
    attention,
    attention_variants,
    binary,
    cache,
    collective,
    collective_async,
    creation,
    data_movement,
    distributed_norm,
    eltwise,
    embedding,
    filling,
    gated,
    heads,
    layout,
    matmul,
    matmul_variants,
    normalization,
    reduction,
    rotary,
    selection,
    softmax_forms,
    statistics,
    ternary,
    unary,
)
