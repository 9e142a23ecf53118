"""Recognize GroupNormalization written as an InstanceNormalization between two Reshapes."""

from __future__ import annotations

import numpy as np

from ... import ir
from ..analyses.nonzero_dims import unless_empty
from ..pipeline.exactness import Exactness
from ..rewriting.builder import Builder
from ..rewriting.constraints import constant, require, structural
from ..rewriting.match import Match
from ..rewriting.pattern import Var, op, values
from ..rewriting.rule import rule

x, scale, bias, ones, zeros = values("x scale bias ones zeros")

_groups = op.Reshape(x, Var("groups_dims")).any_attributes("allowzero").named("groups")
_normalized = op.InstanceNormalization(_groups, ones, zeros).any_attributes("epsilon").named("normalized")
_whole = op.Reshape(_normalized, Var("whole_dims")).any_attributes("allowzero").named("whole")

SPELLED_OUT = op.Add(op.Mul(_whole, scale).any_order().named("scaled"), bias).any_order()
"""The form of torch's exporters at opsets below 21."""


def groups_channels(m: Match) -> bool:
    """Whether [N, C, …] is reshaped to [N, groups, rest] and back."""
    before, within, after = (
        None if dims is None else tuple(map(unless_empty, dims)) for dims in (m.x.dims, m.groups.dims, m.whole.dims)
    )
    if before is None or within is None or before != after or len(before) < 3 or len(within) != 3:
        return False
    channels, groups = before[1], within[1]
    return isinstance(channels, int) and isinstance(groups, int) and channels % groups == 0 and before[0] == within[0]


def is_per_channel(m: Match, name: str) -> bool:
    """Whether an operand is a per-channel constant: [C, 1, …] or [1, C, 1, …]."""
    operand = m.operand(name)
    dims, rank, channels = operand.static, m.x.rank or 0, (m.x.dims or (0, 0))[1]
    if dims is None or not rank - 1 <= len(dims) <= rank:
        return False
    return (1, *dims)[-rank:] == (1, channels, *(1,) * (rank - 2))


def is_plain_within(m: Match) -> bool:
    """Whether the scale and bias of the InstanceNormalization itself are ones and zeros."""
    return bool(np.all(m.ones.array == 1) and not np.any(m.zeros.array))


@rule(
    SPELLED_OUT,
    requires=[
        structural("opset 21", lambda m: (m.root.version or 0) >= 21),
        constant("scale", "bias", "ones", "zeros"),
        # ONNX Runtime's CPU provider has no kernel for it: it expands to some thirty nodes, twice as slow.
        require("another runtime than ONNX Runtime", lambda m: not m.context.settings.target.is_onnxruntime),
        require("float32", lambda m: m.x.dtype == ir.DataType.FLOAT, lambda m: str(m.x.dtype)),
        require("groups of channels", groups_channels, lambda m: m.shapes.show(m.groups.value)),
        require("no scale and no bias within", is_plain_within),
        require(
            "a scale and a bias for each channel",
            lambda m: is_per_channel(m, "scale") and is_per_channel(m, "bias"),
            lambda m: f"{m.shapes.show(m.scale.value)}, {m.shapes.show(m.bias.value)}",
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="Wu and He 2018 (arXiv:1803.08494), in the form of ONNX GroupNormalization-21",
)
def recognize_group_normalization(m: Match, op: Builder) -> ir.Value:
    """Recognize GroupNormalization.

    before:  y = Add(Mul(Reshape(InstanceNormalization(Reshape(x, g), %ones, %zeros), d), %scale), %bias)
    after:   y = GroupNormalization<num_groups = groups>(x, %scale, %bias)
    """
    return op.GroupNormalization(
        m.x,
        m.scale.array.reshape(-1),
        m.bias.array.reshape(-1),
        num_groups=(m.groups.dims or ())[1],
        epsilon=m.normalized.number("epsilon", 1e-5),
    )
