"""Operators of com.microsoft that only CUDA computes, as its kernels do it, for onnx's reference evaluator.

After group_norm_impl_kernel.cuh: sums of the channels of a group and of their squares, in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

DOMAIN = "com.microsoft"
Array = np.ndarray[Any, np.dtype[Any]]


class GroupNorm(OpRun):  # type: ignore[misc]
    op_domain = DOMAIN

    @np.errstate(all="ignore")
    def _run(
        self, x: Array, gamma: Array, beta: Array, *, activation: int, channels_last: int, epsilon: float, groups: int
    ) -> tuple[Array]:
        batch, height, width, channels = x.shape
        assert channels_last == 1 and gamma.dtype == beta.dtype == np.float32
        assert gamma.shape == beta.shape == (channels,)
        assert channels % groups == 0 and (channels // groups) % 2 == 0 and channels // groups <= 512
        parted = x.astype(np.float32).reshape(batch, height * width, groups, channels // groups)
        mean = parted.mean(axis=(1, 3), keepdims=True)
        variance = (parted * parted).mean(axis=(1, 3), keepdims=True) - mean * mean
        normal = ((parted - mean) / np.sqrt(variance + np.float32(epsilon))).reshape(x.shape)
        result = gamma * normal + beta
        if activation == 1:
            result = result / (1 + np.exp(-result))
        return (result.astype(x.dtype),)


class QuickGelu(OpRun):  # type: ignore[misc]
    op_domain = DOMAIN

    def _run(self, x: Array, *, alpha: float) -> tuple[Array]:
        return ((x / (1 + np.exp(-np.float32(alpha) * x.astype(np.float32)))).astype(x.dtype),)


def runs_on_cuda_alone(model: onnx.ModelProto) -> bool:
    return any(node.domain == DOMAIN and node.op_type == "GroupNorm" for node in model.graph.node)


def stand_in(model: onnx.ModelProto) -> ReferenceEvaluator | None:
    """The evaluator, for models that only CUDA runs."""
    return evaluator(model) if runs_on_cuda_alone(model) else None


def evaluator(model: onnx.ModelProto) -> ReferenceEvaluator:
    """A stand-in for a session with CUDA."""
    return ReferenceEvaluator(model, new_ops=[GroupNorm, QuickGelu])
