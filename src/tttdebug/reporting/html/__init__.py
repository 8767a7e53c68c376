# SPDX-License-Identifier: Apache-2.0
"""The HTML report: one file a part of the page, all of which read a run and give markup."""
