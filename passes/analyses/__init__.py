"""Analyses of a model: types and dims, liveness, cost, value ranges."""

from .cost import Cost
from .liveness import Liveness
from .model_stats import ModelStats, model_stats
from .shapes import Shapes
from .symbolic import Dim

__all__ = ["Cost", "Dim", "Liveness", "ModelStats", "Shapes", "model_stats"]
