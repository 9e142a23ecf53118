"""Constraints of a model on the dims of its inputs: what each operator requires, over the facts of shape inference."""

from . import arithmetic, attention, features, layout
from .collector import collect
from .infer_rank import infer_rank

__all__ = ["arithmetic", "attention", "collect", "features", "infer_rank", "layout"]
