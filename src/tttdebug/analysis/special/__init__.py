# SPDX-License-Identifier: Apache-2.0
"""Cases that no experiment on one module shows: values that are not finite, choices, outliers, state and chance."""

from tttdebug.analysis.special.caches import CacheReading as CacheReading
from tttdebug.analysis.special.caches import read_cache as read_cache
from tttdebug.analysis.special.decisions import Choices as Choices
from tttdebug.analysis.special.decisions import Decisions as Decisions
from tttdebug.analysis.special.decisions import Flip as Flip
from tttdebug.analysis.special.decisions import choice_flips as choice_flips
from tttdebug.analysis.special.decisions import decisions as decisions
from tttdebug.analysis.special.determinism import first_varying as first_varying
from tttdebug.analysis.special.nonfinite import first_nonfinite as first_nonfinite
from tttdebug.analysis.special.outliers import OutlierChannel as OutlierChannel
from tttdebug.analysis.special.outliers import outlier_channels as outlier_channels
from tttdebug.analysis.special.state import first_leak as first_leak
