# SPDX-License-Identifier: Apache-2.0
"""How many bytes of tensors a run keeps unless more are asked for."""

MIB = 2**20
DEFAULT_TENSOR_BUDGET = 512 * MIB  # bytes
