# SPDX-License-Identifier: Apache-2.0
"""The commands of `tttdebug`, each with its options: parse, call one function, print."""
