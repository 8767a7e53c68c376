# SPDX-License-Identifier: Apache-2.0
"""The ops of the namespace, a file per kind: check the arguments, decide as ttnn's host code does, call the engine."""
