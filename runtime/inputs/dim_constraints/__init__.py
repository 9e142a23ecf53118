"""Constraints of a model on the dims of its inputs: symbolic propagation, with the rules of each operator family."""

from . import (
    attention,
    control_flow,
    convolution,
    detection,
    integer_tensors,
    linear_algebra,
    machine_learning,
    normalization,
    reshape,
    slicing,
)
from .collector import collect
from .infer_rank import infer_rank

__all__ = [
    "attention",
    "collect",
    "control_flow",
    "convolution",
    "detection",
    "infer_rank",
    "integer_tensors",
    "linear_algebra",
    "machine_learning",
    "normalization",
    "reshape",
    "slicing",
]
