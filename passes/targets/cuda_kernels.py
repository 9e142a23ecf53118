"""Kernels of ONNX Runtime's CUDAExecutionProvider, 1.31: data, made by `tools/generate_kernel_table.py`.

A line: the operator, the versions of its definition that the kernel is for, and the element types that it takes: `0=`
as first input, `>0=` as first output (`SETS` in kernels.py names several at once). `from` and `to` name the first and
last release that has it, where they are not the oldest and the newest known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FIRST: Final = "1.31"
"""The oldest release of which the kernels are known."""

KERNELS: Final[Mapping[str, str]] = {
    "": """
Abs 6 0=f16,f32,f64,i16,i32,i64,i8,u16,u32,u64,u8
Abs 13 0=number
Add 7 0=f16,f32,f64,i32,i64,u32,u64
Add 13 0=half,f32,f64,i32,i64,u32,u64
Add 14 0=number
Affine 1 0=f16,f32,f64
And 7 0=b8 >0=b8
ArgMax 1-13 0=f16,f32,f64
ArgMin 1-13 0=f16,f32,f64
Attention 23-24 0=bf16 2=bf16 3=b8,bf16
Attention 23-24 0=f16 2=f16 3=b8,f16
Attention 23-24 0=f32 2=f32 3=b8,f32
AveragePool 7-19 0=f16,f32,f64
AveragePool 22 0=half,f32,f64
BatchNormalization 7-9 0=f16,f32,f64
BatchNormalization 14 0=f16 3=f16
BatchNormalization 14 0=f32 3=f32
BatchNormalization 14 0=f64 3=f64
BatchNormalization 15 0=f16 1=f16 3=f16
BatchNormalization 15 0=f32 1=f32 3=f32
BatchNormalization 15 0=f64 1=f64 3=f64
Cast 6-9 0=b8,f16,f32,f64,i16,i32,i64,i8,u16,u32,u64,u8 >0=fixed,f4e2m1,f8e4m3fn,f8e5m2
Cast 13 0=fixed >0=fixed,f4e2m1,f8e4m3fn,f8e5m2
Cast 19-21 0=fixed,f8e4m3fn,f8e5m2 >0=fixed,f4e2m1,f8e4m3fn,f8e5m2
Cast 23-25 0=fixed,f8e4m3fn,f8e5m2 >0=fixed,f4e2m1,f8e4m3fn,f8e5m2
Cast 23-25 0=f4e2m1 >0=f32
Ceil 6-13 0=f16,f32,f64
Clip 6-11 0=f32
Clip 12-13 0=f16,f32,f64,i64,i8,u64,u8
Compress 9-11 0=fixed 1=b8
Concat 4-13 0=fixed
ConcatFromSequence 11
ConstantOfShape 9-25 0=i64 >0=fixed
Conv 1-11 0=f16,f32,f64
Conv 22 0=half,f32,f64
ConvTranspose 1-22 0=f16,f32,f64
Cos 7 0=f16,f32,f64
Cos 22 0=half,f32,f64
Crop 1 0=f16,f32,f64
CumSum 11 0=f32,f64,i32,i64,u32,u64 1=i32,i64
CumSum 14 0=f16,f32,f64,i32,i64,u32,u64 1=i32,i64
DeformConv 19 0=f16,f32,f64
DeformConv 22 0=half,f32,f64
DepthToSpace 1-13 0=f16,f32,f64
DequantizeLinear 10-13 0=i8,u8
DequantizeLinear 19 0=f8e4m3fn,f8e5m2,i8,u8 1=f16,f32
DequantizeLinear 21 0=f8e4m3fn,f8e5m2,i4,i8,u4,u8 1=f16,f32
DequantizeLinear 23-25 0=f8e4m3fn,f8e5m2,i4,i8,u4,u8 1=f16 >0=f16
DequantizeLinear 23-25 0=f8e4m3fn,f8e5m2,i4,i8,u4,u8 1=f32 >0=f32
Div 7 0=f16,f32,f64,i32,i64,u32,u64
Div 13 0=half,f32,f64,i32,i64,u32,u64
Div 14 0=number
Dropout 7 0=f16,f32,f64
Dropout 10 0=f16,f32,f64 >1=b8
Dropout 12 0=f16,f32,f64 1=f16,f32,f64 2=b8
Dropout 13 0=half,f32,f64 1=half,f32,f64 2=b8
DynamicSlice 1 0=fixed 1=i32,i64
Einsum 12 0=f16,f32,f64
Elu 6 0=f16,f32,f64
Equal 7 0=b8,i32,i64
Equal 11 0=b8,f16,f32,f64,i32,i64,u32,u64
Equal 13-19 0=b8,f16,f32,f64,i32,i64,u32,u64 >0=b8
Erf 9 0=f16,f32,f64
Erf 13 0=half,f32,f64
Exp 6 0=f16,f32,f64
Exp 13 0=half,f32,f64
Expand 8-13 0=fixed
EyeLike 9 0=f32,f64,i32,i64,u64 >0=f32,f64,i32,i64,u64
Flatten 1-25 0=fixed
Floor 6-13 0=f16,f32,f64
GRU 7-22 0=f16,f32,f64 4=i32
Gather 1-13 0=fixed 1=i32,i64
GatherElements 11-13 0=fixed 1=i32,i64
GatherND 11-12 0=b8,f16,f32,f64,i64 1=i64
GatherND 13 0=half,b8,f32,f64,i64 1=i64
Gelu 20 0=half,f32,f64
Gemm 7-11 0=f16,f32,f64
Gemm 13 0=half,f32,f64
GlobalAveragePool 1-22 0=f16,f32,f64
GlobalMaxPool 1-22 0=f16,f32,f64
Greater 7 0=f16,f32,f64
Greater 9 0=f16,f32,f64,i32,i64,u32,u64
Greater 13 0=f16,f32,f64,i32,i64,u32,u64 >0=b8
GreaterOrEqual 12-16 0=f16,f32,f64,i32,i64,u32,u64 >0=b8
GridSample 16-22 0=f32 1=f32
HardSigmoid 6 0=f16,f32,f64
HardSigmoid 22 0=half,f32,f64
HardSwish 14 0=f16,f32,f64
HardSwish 22 0=half,f32,f64
Identity 1-16 0=fixed
Identity 19-25 0=fixed,float8
If 1-11 0=b8 >0=fixed
If 13-16 0=b8 >0=any
If 19-25 0=b8 >0=any,float8
ImageScaler 1 0=f16,f32,f64
InstanceNormalization 6 0=f16,f32,f64
IsInf 10 0=f32,f64 >0=b8
IsInf 20 0=half,float8,f32,f64 >0=b8
IsNaN 9 0=f16,f32,f64 >0=b8
IsNaN 13 0=half,f32,f64 >0=b8
IsNaN 20 0=half,float8,f32,f64 >0=b8
LRN 1-13 0=f16,f32,f64
LSTM 7-22 0=f16,f32,f64 4=i32
LayerNormalization 1 0=bf16 1=bf16 >1=f32
LayerNormalization 1 0=f16,f32 1=f16,f32 >1=f32
LayerNormalization 1 0=f64 1=f64 >1=f64
LayerNormalization 17 0=half,f32,f64 >1=f32
LeakyRelu 6-16 0=f16,f32,f64
Less 7 0=f16,f32,f64
Less 9 0=f16,f32,f64,i32,i64,u32,u64
Less 13 0=f16,f32,f64,i32,i64,u32,u64 >0=b8
LessOrEqual 12-16 0=f16,f32,f64,i32,i64,u32,u64 >0=b8
Log 6-13 0=f16,f32,f64
LogSoftmax 1-13 0=f16,f32,f64
Loop 1-11 0=i64 1=b8 2=fixed
Loop 13-16 0=i64 1=b8 2=any
Loop 19-25 0=i64 1=b8 2=any,float8
LpNormalization 1 0=f16,f32
LpNormalization 22 0=half,f32
MatMul 1-9 0=f16,f32,f64
MatMul 13 0=half,f32,f64
MatMulInteger 10 0=i8 1=i8 >0=i32
Max 6-8 0=half,f32,f64
Max 12-13 0=half,f32,f64,i32,i64,u32,u64
MaxPool 1 0=f16,f32,f64
MaxPool 8-11 0=f16,f32,f64 >1=i64
MaxPool 12 0=f16,f32,f64,i8,u8 >1=i64
MemcpyFromHost 1 0=fixed,float8
MemcpyToHost 1 0=fixed,float8
Min 6-8 0=half,f32,f64
Min 12-13 0=half,f32,f64,i32,i64,u32,u64
Mod 10 0=f16,f32,f64,i32,i64,u32,u64
Mod 13 0=half,f32,f64,i32,i64,u32,u64
Mul 7 0=f16,f32,f64,i32,i64,u32,u64
Mul 13 0=half,f32,f64,i32,i64,u32,u64
Mul 14 0=number
Neg 6 0=f16,f32,f64,i16,i32,i64,i8
Neg 13 0=half,f32,f64,i16,i32,i64,i8
NonMaxSuppression 10-11
NonZero 9-13 0=b8,f16,f32,i32,i64,u8
Not 1 0=b8
OneHot 11 0=i32 1=i32 2=f16,f32
OneHot 11 0=i64 1=i64 2=f16,f32,i64
Or 7 0=b8 >0=b8
PRelu 7-16 0=f16,f32,f64
Pad 2-11 0=f16,f32,f64
Pad 13-25 0=b8,f16,f32,f64
ParametricSoftplus 1 0=f16,f32,f64
Pow 7 0=f16,f32,f64
Pow 12 0=f16,f32,f64,i32,i64 1=f16,f32,f64,i32,i64
Pow 13 0=half,f32,f64,i32,i64 1=f16,f32,f64,i32,i64
Pow 15 0=half,f32,f64,i32,i64 1=half,f32,f64,i32,i64
QuantizeLinear 10-13 0=f32 >0=i8,u8
QuantizeLinear 19 0=f16,f32 >0=f8e4m3fn,f8e5m2,i8,u8
QuantizeLinear 21 0=f16,f32 >0=f8e4m3fn,f8e5m2,i4,i8,u4,u8
QuantizeLinear 23-25 0=f16 1=f16 >0=f8e4m3fn,f8e5m2,i4,i8,u4,u8
QuantizeLinear 23-25 0=f32 1=f32 >0=f8e4m3fn,f8e5m2,i4,i8,u4,u8
RMSNormalization 23 0=bf16 1=bf16
RMSNormalization 23 0=f16,f32 1=f16,f32
RMSNormalization 23 0=f64 1=f64
RNN 7-22 0=f16,f32,f64 4=i32
RandomNormal 1 >0=f16,f32,f64
RandomNormal 22 >0=half,f32,f64
RandomNormalLike 1 0=any >0=f16,f32,f64
RandomNormalLike 22 0=any >0=half,f32,f64
RandomUniform 1 >0=f16,f32,f64
RandomUniform 22 >0=half,f32,f64
RandomUniformLike 1 0=any >0=f16,f32,f64
RandomUniformLike 22 0=any >0=half,f32,f64
Range 11-27 0=f32,f64,i16,i32,i64
Reciprocal 6-13 0=f16,f32,f64
ReduceL1 1-18 0=f16,f32,f64,i32
ReduceL2 1-18 0=f16,f32,f64,i32
ReduceLogSum 1-18 0=f16,f32,f64
ReduceLogSumExp 1-18 0=f16,f32,f64
ReduceMax 1-20 0=f16,f32,f64,i32,i64,i8,u8
ReduceMean 1-18 0=half,f32,f64,i32
ReduceMin 1-20 0=f16,f32,f64,i32,i64,i8,u8
ReduceProd 1-18 0=f16,f32,f64,i32
ReduceSum 1-11 0=f16,f32,f64,i32,i64
ReduceSum 13 0=half,f32,f64,i32,i64
ReduceSumSquare 1-18 0=f16,f32,f64
Relu 6 0=f16,f32,f64
Relu 13-14 0=half,f32,f64
Reshape 1 0=fixed
Reshape 5-14 0=fixed 1=i64
Reshape 19-25 0=fixed,float8 1=i64
Resize 10-19 0=f16,f32,f64,i32,u8
ReverseSequence 10 0=fixed
RoiAlign 10 0=f32,f64 2=i64
RoiAlign 16 0=f16,f32,f64 2=i64
RoiAlign 22 0=half,f32,f64 2=i64
RotaryEmbedding 23 0=half,f32 3=i64
Round 11-22 0=f16,f32,f64
ScaledTanh 1 0=f16,f32,f64
Scan 8 0=i64 1=any
Scan 9-16 0=fixed
Scan 19-25 0=fixed,float8
Scatter 9 0=fixed 1=i32,i64
ScatterElements 11-18 0=fixed 1=i32,i64
ScatterND 11-18 0=fixed
Selu 6 0=f16,f32,f64
SequenceAt 11 1=i32,i64 >0=fixed
SequenceConstruct 11 0=fixed
SequenceEmpty 11
SequenceErase 11 1=i32,i64
SequenceInsert 11 2=i32,i64
SequenceLength 11 >0=i64
Shape 1-15 0=fixed >0=i64
Shape 19-25 0=fixed,float8 >0=i64
Shrink 9 0=f16,f32,f64,i16,i32,i64,i8,u16,u32,u64,u8
Sigmoid 6 0=f16,f32,f64
Sigmoid 13 0=half,f32,f64
Sign 13 0=number
SimplifiedLayerNormalization 1 0=bf16 1=bf16 >1=f32
SimplifiedLayerNormalization 1 0=f16,f32 1=f16,f32 >1=f32
SimplifiedLayerNormalization 1 0=f64 1=f64 >1=f64
Sin 7 0=f16,f32,f64
Sin 22 0=half,f32,f64
Size 1-25 0=any >0=i64
Slice 1 0=fixed
Slice 10-13 0=fixed 1=i32,i64
Softmax 1-11 0=f16,f32,f64
Softmax 13 0=half,f32,f64
Softplus 1 0=f16,f32,f64
Softplus 22 0=half,f32,f64
Softsign 1 0=f16,f32,f64
Softsign 22 0=half,f32,f64
SpaceToDepth 1-13 0=f16,f32,f64
Split 2-18 0=fixed
Sqrt 6 0=f16,f32,f64
Sqrt 13 0=half,f32,f64
Squeeze 1-25 0=fixed
Sub 7 0=f16,f32,f64,i32,i64,u32,u64
Sub 13 0=half,f32,f64,i32,i64,u32,u64
Sub 14 0=number
Sum 6-13 0=half,f32,f64
Tanh 6 0=f16,f32,f64
Tanh 13 0=half,f32,f64
TensorScatter 24 0=fixed
ThresholdedRelu 1-10 0=f16,f32,f64
Tile 6 0=f16,f32,f64,i32,i64 1=i64
Tile 13 0=half,f32,f64,i32,i64 1=i64
TopK 1 0=f16,f32,f64,i32,i64
TopK 10 0=f16,f32,f64,i32,i64 >1=i64
TopK 11 0=f16,f32,f64,i16,i32,i64,i8,u8 >1=i64
TopK 24 0=half,f32,f64,i16,i32,i64,i8,u8 >1=i64
Transpose 1-25 0=fixed
Trilu 14 0=fixed
Unsqueeze 1-25 0=fixed
Upsample 7-9 0=f16,f32,f64,i32,u8
Where 9 0=b8 1=f16,f32,f64,i32,i64,u8
Where 16 0=b8 1=half,f32,f64,i32,i64,u8
Xor 7 0=b8 >0=b8
""",
    "ai.onnx.ml": """
LabelEncoder 2 0=f32,i64 >0=f32,i64
LabelEncoder 4 0=f32 >0=f32,i64
LabelEncoder 4 0=f64 >0=f64,i64
LabelEncoder 4 0=i64 >0=f32,f64,i64
""",
    "com.microsoft": """
Attention 1 0=half,f32
BeamSearch 1 5=f16,f32
BiasAdd 1 0=f16,f32
BiasDropout 1 0=half,f32,f64 3=half,f32,f64 4=b8
BiasGelu 1 0=half,f32,f64
BiasSoftmax 1 0=f16,f32,f64
BiasSplitGelu 1 0=f16,f32
BitmaskBiasDropout 1 0=half,f32,f64 3=half,f32,f64 4=b8 >1=u32
BitmaskDropout 1 0=half,f32,f64 1=half,f32,f64 2=b8 >1=u32
BranchwiseRMSNorm 1 0=half,f32 1=half,f32
CausalConvWithState 1 0=half,f32
ComplexMul 1 0=f16,f32
ComplexMulConj 1 0=f16,f32
ConvTransposeWithDynamicPads 1 0=f32
DecoderAttention 1 0=f16,f32
DecoderMaskedMultiHeadAttention 1 0=f16,f32 >3=f16,f32
DecoderMaskedSelfAttention 1 0=f16,f32
DequantizeLinear 1 0=i8,u8 1=f16
DequantizeWithOrder 1 0=i8 1=f32 >0=f16,f32
DynamicSparseAttention 1 0=half,f32 7=i32
DynamicTimeWarping 1 0=f32 >0=i32
EmbedLayerNormalization 1 2=f16,f32
EngramGate 1 0=half,f32
FastGelu 1 0=half,f32,f64
FusedConv 1 0=f32
FusedMatMul 1 0=half,f32,f64
GatedAdd 1 0=half,f32
GatedDeltaNet 1 0=half,f32 3=i32 4=f32
GatedRMSNorm 1 0=half,f32
GatedRelativePositionBias 1 0=f16,f32
GatherBlockQuantized 1 0=float8,f4e2m1,i4,u4,u8 1=i32,i64 2=half,f32
Gelu 1 0=half,f32,f64
GemmFloat8 1 0=half,f32,f8e4m3fn,f8e5m2 1=half,f32,f8e4m3fn,f8e5m2 2=half,f32 3=f32 >0=half,f32,f8e4m3fn,f8e5m2
GemmaRotaryEmbedding 1 0=f32 1=f16
GreedySearch 1 3=f16,f32
GridSample 1 0=f32 >0=f32
GroupNorm 1 0=f16,f32
GroupQueryAttention 1 0=bf16 12=f32 3=bf16,f8e4m3fn,i8,u8 5=i32
GroupQueryAttention 1 0=f16 12=f32 3=f16,f8e4m3fn,i8,u8 5=i32
HyperConnectionPostMix 1 0=half,f32 2=half,f32
HyperConnectionPreMix 1 0=half,f32 1=half,f32
Inverse 1 0=f16,f32,f64
Irfft 1 0=f16,f32,f64
LinearAttention 1 0=half,f32
LinearAttentionGate 1 0=half,f32 1=f32
LongformerAttention 1 0=f16,f32
MRotaryEmbedding 1 0=half,f32 1=i64
MatMulBlockQuantizedFp4Weight 1 0=half 1=u8 2=u8 3=f32
MatMulBlockQuantizedFp8Weight 1 0=half 1=f8e4m3fn 2=f32
MatMulBnb4 1 0=half,f32 1=u8
MatMulNBits 1 0=bf16 1=u8 3=bf16,u8
MatMulNBits 1 0=f16 1=u8 3=f16,u8
MatMulNBits 1 0=f32 1=u8 3=f32,u8
MoE 1 0=half,f32
MultiHeadAttention 1 0=bf16 >3=bf16,f32
MultiHeadAttention 1 0=f16 >3=f16,f32
MultiHeadAttention 1 0=f32 >3=half,f32
NGramHashMapping 1 0=i32,i64
NGramRepeatBlock 1 0=i64 1=f32
NhwcConv 1 0=f16,f32
PackedAttention 1 0=f16,f32
PackedMultiHeadAttention 1 0=f16,f32
PackedSparseAttentionIndexer 1 0=half,f32 11=i64 6=i32
PagedAttention 1 0=bf16 14=f32 3=bf16,f8e4m3fn,i8,u8 5=i32
PagedAttention 1 0=f16 14=f32 3=f16,f8e4m3fn,i8,u8 5=i32
QAttention 1 0=i8 1=i8 2=f16,f32 5=i32
QMoE 1 0=half 15=f32 2=f8e4m3fn,u8 3=half,f32,f8e4m3fn,f8e8m0
QOrderedAttention 1 0=i8 1=f32 17=i32
QOrderedGelu 1 0=i8 1=f32
QOrderedLayerNormalization 1 0=i8 1=f32 2=f16,f32
QOrderedLongformerAttention 1 0=i8 1=f32 12=i32 7=f16
QOrderedMatMul 1 0=i8 1=f32
QuantizeLinear 1 0=f16 >0=i8,u8
QuantizeWithOrder 1 0=f16,f32 1=f32 >0=i8
QuickGelu 1 0=half,f32,f64
RelativePositionBias 1 0=f16,f32
RemovePadding 1 0=f16,f32
RestorePadding 1 0=f16,f32
Rfft 1 0=f16,f32,f64
RotaryEmbedding 1 0=half,f32 1=i64
Sampling 1 3=f16,f32
ScaledSiLU 1 0=half,f32 1=half,f32
SkipGroupNorm 1 0=f16,f32
SkipLayerNormalization 1 0=half,f32
SkipSimplifiedLayerNormalization 1 0=half,f32
SparseAttention 1 0=half 5=i32
SparseAttentionIndexer 1 0=half,f32 11=i64 6=i64 >0=i32
SparsePagedAttention 1 0=bf16 19=f32 3=bf16,i8 5=i32
SparsePagedAttention 1 0=f16 19=f32 3=f16,i8 5=i32
TransposeMatMul 1 0=half,f32,f64
Trilu 1 0=fixed
UnfoldTensor 1 0=any
VarlenCausalConvWithState 1 0=half,f32 2=i32
VarlenNGramHashMapping 1 0=i32,i64 3=i32
WhisperBeamSearch 1 5=f16,f32
""",
}
"""The kernels of each domain, a line each."""
