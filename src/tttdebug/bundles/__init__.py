# SPDX-License-Identifier: Apache-2.0
"""Bug bundles: one call of one module as a test that stands by itself, recorded, cut down and written out."""
