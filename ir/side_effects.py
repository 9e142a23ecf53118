"""Effects: which nodes may be removed, merged, moved or evaluated ahead of time. Unknown means none of these."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as oir

from .schema import attribute, named_input, schema_of
from .traversal import nodes_within
from .values import scalar

CONTRIB = frozenset(
    """
    AttnLSTM Attention BiasAdd BiasGelu BiasSoftmax BiasSplitGelu BifurcationDetector BranchwiseRMSNorm CDist ComplexMul
    ComplexMulConj ConvTransposeWithDynamicPads CropAndResize DequantizeBFP DequantizeLinear DynamicQuantizeLSTM
    DynamicQuantizeMatMul DynamicTimeWarping EmbedLayerNormalization ExpandDims FastGelu FusedConv FusedGemm FusedMatMul
    FusedMatMulActivation GatedAdd GatedRMSNorm GatedRelativePositionBias GatherBlockQuantized GatherND Gelu
    GemmFastGelu GemmFloat8 GridSample GroupNorm GroupQueryAttention Inverse Irfft IsAllFinite LongformerAttention
    MatMulBnb4 MatMulFpQ4 MatMulInteger16 MatMulIntegerToFloat MatMulNBits MaxpoolWithMask MoE MulInteger
    MultiHeadAttention MurmurHash3 NGramRepeatBlock NhwcConv NhwcFusedConv NhwcMaxPool PackedAttention
    PackedMultiHeadAttention Pad QAttention QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool QLinearConcat
    QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax
    QLinearWhere QMoE QuantizeBFP QuantizeLinear QuickGelu Range ReduceSumInteger RelativePositionBias RemovePadding
    RestorePadding Rfft RotaryEmbedding ScaledSiLU SkipGroupNorm SkipLayerNormalization SkipSimplifiedLayerNormalization
    SparseToDenseMatMul Tokenizer TorchEmbedding TransposeMatMul Trilu UnfoldTensor Unique WordConvEmbedding
    """.split()
)
"""Operators of com.microsoft whose results depend on nothing but their inputs (ONNX Runtime, ContribOperators.md).

Not among them: dropouts and samplers, searches with bodies, and those that write into a cache that they are given.
"""

RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def is_random(node: oir.Node) -> bool:
    """Whether two runs of this one node on the same inputs may differ, seeds notwithstanding."""
    if node.domain != "":
        return False
    if node.op_type in RANDOM:
        return True
    if node.op_type == "Dropout":
        if (node.version or 0) >= 12:
            training = named_input(node, "training_mode")
            return training is not None and scalar(training) not in (False, 0)
        return attribute(node, "is_test") == 0
    return updates_statistics(node)


def updates_statistics(node: oir.Node) -> bool:
    """Whether a BatchNormalization trains. ONNX Runtime then writes the new mean and variance over the old ones.

    Those in initializers too (batch_norm.h: Alias(3, 1), Alias(4, 2)): a second run gives something else.
    """
    if node.domain != "" or node.op_type != "BatchNormalization":
        return False
    if (node.version or 0) < 14:  # whether it trains was told by its number of outputs
        return any(output.name for output in node.outputs[1:])
    return attribute(node, "training_mode") not in (None, 0)


def is_known(node: oir.Node, functions: Collection[oir.OperatorIdentifier] = ()) -> bool:
    """Whether the standard defines this operator at this version, or ONNX Runtime as one without state.

    Other domains and the model's functions are not known.
    """
    if node.op_identifier() in functions:
        return False
    if node.domain == "com.microsoft":
        return node.op_type in CONTRIB
    return node.domain in ("", "ai.onnx.ml") and schema_of(node) is not None


def is_deterministic(node: oir.Node, functions: Collection[oir.OperatorIdentifier] = ()) -> bool:
    """Whether the results depend on nothing but the inputs: known operators, none random, in this node and its bodies.

    `functions` are the identifiers of the model's own functions: a call is not known.
    """
    return all(is_known(each, functions) and not is_random(each) for each in (node, *nodes_within(node)))


def is_removable(node: oir.Node, functions: Collection[oir.OperatorIdentifier] = ()) -> bool:
    """Whether a node without users has no side effects. Random nodes have none: ONNX gives them no state."""
    return all(is_known(each, functions) for each in (node, *nodes_within(node)))
