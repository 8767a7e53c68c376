# SPDX-License-Identifier: Apache-2.0
"""What may have made a module give what it gave, and the search among all of it."""

from tttdebug.analysis.hypotheses.bench import Bench, Trial
from tttdebug.analysis.hypotheses.hypothesis import NOTHING, Change, Hypothesis, rel_l2
from tttdebug.analysis.hypotheses.search import Diagnosis, search

__all__ = ["NOTHING", "Bench", "Change", "Diagnosis", "Hypothesis", "Trial", "rel_l2", "search"]
