# SPDX-License-Identifier: Apache-2.0
"""Where in a tensor an error sits: the token, head, block, tile or stretch of positions that holds it."""

from tttdebug.analysis.where.energy import Energy as Energy
from tttdebug.analysis.where.energy import Units as Units
from tttdebug.analysis.where.energy import energy_of as energy_of
from tttdebug.analysis.where.indices import Indices as Indices
from tttdebug.analysis.where.locate import locate as locate
from tttdebug.analysis.where.location import Location as Location
from tttdebug.analysis.where.location import Match as Match
from tttdebug.analysis.where.location import NotFinite as NotFinite
from tttdebug.analysis.where.location import Trend as Trend
