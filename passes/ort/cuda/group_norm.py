"""Group normalization as com.microsoft.GroupNorm, which has a CUDA kernel and SiLU built in."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...analyses import Dim
from ...pipeline.exactness import Exactness
from ...recognize.group_normalization import SPELLED_OUT, groups_channels, is_per_channel, is_plain_within
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, let, profitable, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...targets.kernel_table import CONTRIB

x, scale, bias, gamma, beta = values("x scale bias gamma beta")

_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})
_LARGEST_GROUP = 512  # channels: the capacity of one block of threads, two per thread

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


def _channels(m: Match) -> int | str:
    """The channels of an image [N, C, H, W]."""
    dims = m.x.dims
    channels = dims[1] if dims is not None and len(dims) == 4 else None
    return channels if isinstance(channels, int) and channels > 0 else m.shapes.show(m.x.value)


CHANNELS = let("a 4-D image with a known number of channels", _channels)


def _groups(m: Match) -> int | str:
    """The number of groups: one thread computes two channels of a group, and one block of threads all of them."""
    if m.has("standard"):
        groups: Dim = m.standard.integer("num_groups")
    else:
        groups = (m.groups.dims or (0, 0))[1] if groups_channels(m) else 0
    channels = m[CHANNELS]
    if isinstance(groups, int) and groups >= 1 and channels % groups == 0:
        size = channels // groups
        if size % 2 == 0 and size <= _LARGEST_GROUP:
            return groups
    return f"{channels} channels in {groups or 'no'} groups"


GROUPS = let(f"groups of an even number of channels, {_LARGEST_GROUP} at most", _groups)


def _has_parameters(m: Match) -> bool:
    """One element for each channel; for each group in the operator's first definition."""
    if not m.has("standard"):
        return is_per_channel(m, "scale") and is_per_channel(m, "bias")
    size = m[CHANNELS] if (m.root.version or 0) >= 21 else m[GROUPS]
    return m.scale.static == m.bias.static == (size,)


def _epsilon(m: Match) -> float:
    return (m.standard if m.has("standard") else m.normalized).number("epsilon", 1e-5)


def _users(m: Match) -> list[str]:
    return sorted(user.op_type for user in m.root.outputs[0].consumers())


def _is_expanded_or_gated(m: Match) -> bool:
    """Whether ONNX Runtime would expand the operator, or the only user is a SiLU, which the kernel computes, too."""
    return m.has("standard") or _users(m) in (["Mul", "Sigmoid"], ["QuickGelu"], ["Swish"])


@rule(
    _STANDARD | SPELLED_OUT,
    requires=[
        constant("scale", "bias", "ones", "zeros"),
        require("float32 or float16", lambda m: m.x.dtype in _TYPES, lambda m: str(m.x.dtype)),
        CHANNELS,
        GROUPS,
        require(
            "a scale and a bias for each channel, below opset 21 for each group",
            _has_parameters,
            lambda m: f"{m.shapes.show(m.scale.value)}, {m.shapes.show(m.bias.value)}",
        ),
        require(
            "no scale and no bias within",
            lambda m: m.has("standard") or is_plain_within(m),
            lambda m: f"{m.shapes.show(m.ones.value)}, {m.shapes.show(m.zeros.value)}",
        ),
        require(
            "statistics in float32",
            lambda m: not m.has("standard") or m.standard.integer("stash_type", 1) == 1,
            lambda m: f"stash_type {m.standard.integer('stash_type', 1)}",
        ),
        require("an epsilon that is not negative", lambda m: _epsilon(m) >= 0, lambda m: str(_epsilon(m))),
        profitable(
            "an operator without a kernel, or a SiLU after it",
            _is_expanded_or_gated,
            lambda m: f"users {', '.join(_users(m)) or 'none'}",
        ),
    ],
    exactness=Exactness.ROUNDING,
    source=(
        "com.microsoft.GroupNorm (ContribOperators.md; contrib_ops/cuda/diffusion/group_norm_impl.cu): channels last, "
        "parameters in float32, two launches on CUDA, where ONNX GroupNormalization has no kernel and is expanded to "
        "16 to 18 (counted, not timed). Of an InstanceNormalization between Reshapes it is estimated from passes over "
        "memory: 9 with scale, bias and SiLU, against 7 with two Transposes"
    ),
)
def fuse_group_norm_cuda(m: Match, op: Builder) -> ir.Value:
    """Normalize groups of channels in one operator, with the channels last.

    The kernel's variance is the mean of squares less the square of the mean, in float32: a group that hardly varies
    about a large mean loses digits. It takes no empty image.

    before:  y = GroupNormalization(x, scale, bias)      or Reshape, InstanceNormalization, Reshape, Mul, Add
    after:   y = Transpose(com.microsoft.GroupNorm(Transpose(x), gamma, beta))
    """
    normalized = op.GroupNorm(
        op.Transpose(m.x, perm=[0, 2, 3, 1]),
        *(_for_each_channel(m, content) for content in (m.scale.array, m.bias.array)),
        domain=CONTRIB,
        version=1,
        activation=0,
        channels_last=1,
        epsilon=_epsilon(m),
        groups=m[GROUPS],
    )
    return op.Transpose(normalized, perm=[0, 3, 1, 2])


def _for_each_channel(m: Match, content: ir.Array) -> ir.Array:
    return np.repeat(content.reshape(-1).astype(np.float32), m[CHANNELS] // content.size)


@rule(
    op.Mul(op.Sigmoid(_RESULT), _RESULT).any_order()
    | op.Swish(_RESULT)
    | op.domain(CONTRIB).QuickGelu(_RESULT, alpha=1.0),
    exactness=Exactness.ROUNDING,
    source="com.microsoft.GroupNorm with activation = 1, which is SiLU (ContribOperators.md): a launch less, not timed",
    benefit=1,
)
def fuse_group_norm_silu_cuda(m: Match, op: Builder) -> ir.Value:
    """Fuse SiLU into the normalization of which it is the only user.

    before:  s = com.microsoft.GroupNorm(x, gamma, beta); y = Mul(s, Sigmoid(s))      also where s is transposed first
    after:   y = com.microsoft.GroupNorm<activation = 1>(x, gamma, beta)
    """
    normalized = op.GroupNorm(
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
    return op.Transpose(normalized, perm=[0, 3, 1, 2]) if m.has("turned") else normalized
