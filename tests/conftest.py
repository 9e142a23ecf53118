"""What all tests share."""

from __future__ import annotations

from optimize_graph.testing import differential
from support.cuda_operators import stand_in

pytest_plugins = ["optimize_graph.testing.pytest_plugin"]
differential.STAND_INS.append(stand_in)
