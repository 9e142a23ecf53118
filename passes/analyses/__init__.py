"""Analyses of a model: types and dims, liveness, cost, value ranges."""

from ...ir.shapes.symbolic import Dim
from .cost import Cost
from .liveness import Liveness
from .model_stats import ModelStats, model_stats
from .shapes import Shapes

__all__ = ["Cost", "Dim", "Liveness", "ModelStats", "Shapes", "model_stats"]
