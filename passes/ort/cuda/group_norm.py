"""Group normalization as the operator for which ONNX Runtime's CUDA provider has a kernel, with SiLU built in."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...recognize.group_normalization import SPELLED_OUT, groups_channels, is_per_channel, is_plain_within
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, profitable, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...targets.kernel_table import CONTRIB
from .cuda_target import ON_CUDA

x, scale, bias, gamma, beta = values("x scale bias gamma beta")

_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})
_LARGEST_GROUP = 512  # channels: as many as one block of threads takes, two a thread

_STANDARD = (
    op.GroupNormalization(x, scale, bias).any_attributes("num_groups", "epsilon", "stash_type").named("standard")
)

_NORMALIZED = (
    op.domain(CONTRIB)
    .GroupNorm(x, gamma, beta, activation=0, channels_last=1)
    .any_attributes("groups", "epsilon")
    .named("normalized")
)
_RESULT = op.Transpose(_NORMALIZED, perm=(0, 3, 1, 2)).named("turned") | _NORMALIZED


def _channels(m: Match) -> int | None:
    """The second of four dims, where it is known."""
    dims = m.x.dims
    return dims[1] if dims is not None and len(dims) == 4 and isinstance(dims[1], int) and dims[1] > 0 else None


def _groups(m: Match) -> int:
    """As many as the operator says; 0 where what is spelled out has none."""
    if m.has("standard"):
        return m.standard.integer("num_groups")
    groups = (m.groups.dims or (0, 0))[1] if groups_channels(m) else 0
    return groups if isinstance(groups, int) else 0


def _has_groups(m: Match) -> bool:
    """Two channels of a group are computed by one thread, and all of them by one block."""
    channels, groups = _channels(m) or 0, _groups(m)
    if groups < 1 or channels % groups:
        return False
    return (channels // groups) % 2 == 0 and channels // groups <= _LARGEST_GROUP


def _has_parameters(m: Match) -> bool:
    """One number for each channel; for each group in the operator's first definition."""
    if not m.has("standard"):
        return is_per_channel(m, "scale") and is_per_channel(m, "bias")
    size = _channels(m) if (m.root.version or 0) >= 21 else _groups(m)
    return m.scale.static == m.bias.static == (size,)


def _epsilon(m: Match) -> float:
    return (m.standard if m.has("standard") else m.normalized).number("epsilon", 1e-5)


def _is_worth_it(m: Match) -> bool:
    """Whether it would be written out in many operators, or takes in the SiLU that alone reads it."""
    readers = sorted(reader.op_type for reader in m.root.outputs[0].consumers())
    return m.has("standard") or readers in (["Mul", "Sigmoid"], ["QuickGelu"], ["Swish"])


@rule(
    _STANDARD | SPELLED_OUT,
    requires=[
        ON_CUDA,
        constant("scale", "bias", "ones", "zeros"),
        require("float32 or float16", lambda m: m.x.dtype in _TYPES, lambda m: str(m.x.dtype)),
        require(
            "images of a known number of channels",
            lambda m: _channels(m) is not None,
            lambda m: m.shapes.show(m.x.value),
        ),
        require(
            "groups of an even number of channels, 512 at most",
            _has_groups,
            lambda m: f"{_channels(m)} channels in {_groups(m) or 'no'} groups",
        ),
        require(
            "a scale and a bias for each channel, below opset 21 for each group",
            _has_parameters,
            lambda m: f"{m.shapes.show(m.scale.value)}, {m.shapes.show(m.bias.value)}",
        ),
        require("no scale and no bias within", lambda m: m.has("standard") or is_plain_within(m)),
        require("statistics in float32", lambda m: not m.has("standard") or m.standard.integer("stash_type", 1) == 1),
        require("an epsilon that is not negative", lambda m: _epsilon(m) >= 0, lambda m: str(_epsilon(m))),
        profitable("an operator without a kernel, or SiLU behind it", _is_worth_it),
    ],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source=(
        "com.microsoft.GroupNorm (ContribOperators.md; contrib_ops/cuda/diffusion/group_norm_impl.cu): channels last, "
        "parameters in float32, two launches on CUDA, where ONNX GroupNormalization has no kernel and is expanded to "
        "16 to 18 (counted, not timed). Of an InstanceNormalization between Reshapes it is taken from passes over "
        "memory: 9 with scale, bias and SiLU, against 7 with two Transposes"
    ),
)
def fuse_group_norm_cuda(m: Match, op: Builder) -> ir.Value:
    """Normalize groups of channels in one operator, with the channels last.

    The kernel's variance is the mean of squares less the square of the mean, in float32: a group that hardly varies
    about a large mean loses digits. It takes no empty image.

    before:  GroupNormalization(x, scale, bias) -> y      or Reshape, InstanceNormalization, Reshape, Mul, Add
    after:   x -> Transpose -> com.microsoft.GroupNorm(·, gamma, beta) -> Transpose -> y
    """
    made = op.GroupNorm(
        op.Transpose(m.x, perm=[0, 2, 3, 1]),
        *(op.constant(_for_each_channel(m, each)) for each in (m.scale.array, m.bias.array)),
        domain=CONTRIB,
        version=1,
        activation=0,
        channels_last=1,
        epsilon=_epsilon(m),
        groups=_groups(m),
    )
    return op.Transpose(made, perm=[0, 3, 1, 2])


def _for_each_channel(m: Match, content: ir.Array) -> ir.Array:
    return np.repeat(content.reshape(-1).astype(np.float32), (_channels(m) or 0) // content.size)


@rule(
    op.Mul(op.Sigmoid(_RESULT), _RESULT).any_order()
    | op.Swish(_RESULT)
    | op.domain(CONTRIB).QuickGelu(_RESULT, alpha=1.0),
    requires=[ON_CUDA],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source="com.microsoft.GroupNorm with activation = 1, which is SiLU (ContribOperators.md): a launch less, not timed",
    benefit=1,
)
def fuse_group_norm_silu_cuda(m: Match, op: Builder) -> ir.Value:
    """SiLU within the normalization that it alone reads.

    before:  s = com.microsoft.GroupNorm(x, gamma, beta); s * Sigmoid(s) -> y      also where s is transposed first
    after:   com.microsoft.GroupNorm<activation = 1>(x, gamma, beta) -> y
    """
    made = op.GroupNorm(
        m.x,
        m.gamma,
        m.beta,
        domain=CONTRIB,
        version=1,
        activation=1,
        channels_last=1,
        epsilon=m.normalized.number("epsilon", 1e-5),
        groups=m.normalized.integer("groups"),
    )
    return op.Transpose(made, perm=[0, 3, 1, 2]) if m.has("turned") else made
