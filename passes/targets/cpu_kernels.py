"""Kernels of ONNX Runtime's CPUExecutionProvider, 1.16 to 1.32: data, made by `tools/generate_kernel_table.py`.

A line: the operator, the versions of its definition that the kernel is for, and the element types that it takes: `0=`
as first input, `>0=` as first output (`SETS` in kernels.py names several at once). `from` and `to` name the first and
last release that has it, where they are not the oldest and the newest known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

FIRST: Final = "1.16"
"""The oldest release of which the kernels are known."""

KERNELS: Final[Mapping[str, str]] = {
    "": """
Abs 6-13 0=f32,f64,i16,i32,i64,i8,u16,u32,u64,u8
Acos 7 0=f32
Acos 22 0=f32 from 1.21
Acosh 9 0=f32
Acosh 22 0=f32 from 1.21
Add 7-13 0=f32,f64,i32,i64
Add 7-13 0=u32,u64 from 1.21
Add 14 0=f32,f64,i32,i64
Add 14 0=i16,i8,u16,u32,u64,u8 from 1.21
Affine 1 0=f32
AffineGrid 20 0=f32,f64 1=i64 from 1.17
And 7 0=b8 >0=b8
ArgMax 1 0=f32,i32,i8,u8
ArgMax 1 0=f64,i64 from 1.20
ArgMax 11-13 0=f32,f64,i32,i8,u8
ArgMax 11-13 0=i64 from 1.20
ArgMin 1 0=f32,i32
ArgMin 1 0=f64,i64,i8,u8 from 1.20
ArgMin 11-13 0=f32,f64,i32
ArgMin 11-13 0=i64,i8,u8 from 1.20
Asin 7 0=f32
Asin 22 0=f32 from 1.21
Asinh 9 0=f32
Asinh 22 0=f32 from 1.21
Atan 7 0=f32
Atan 22 0=f32 from 1.21
Atanh 9 0=f32
Atanh 22 0=f32 from 1.21
Attention 23 0=f16 2=f16 3=b8,f16 from 1.23
Attention 23 0=f32 2=f32 3=b8,f32 from 1.23
Attention 24 0=f16 2=f16 3=b8,f16 from 1.24
Attention 24 0=f32 2=f32 3=b8,f32 from 1.24
AveragePool 7-19 0=f32
AveragePool 22 0=f32 from 1.21
BatchNormalization 7-9 0=f32,f64
BatchNormalization 14 0=f32 3=f32
BatchNormalization 14 0=f64 3=f64
BatchNormalization 15 0=f32 1=f32 3=f32
BatchNormalization 15 0=f64 1=f64 3=f64
BitCast 26 0=number >0=number from 1.25
BitShift 11 0=u32,u64,u8
BitShift 11 0=u16 from 1.32
BitShift 28 0=i16,i32,i64,i8,u16,u32,u64,u8 from 1.32
BitwiseAnd 18 0=i16,i32,i64,i8,u16,u32,u64,u8
BitwiseNot 18 0=i16,i32,i64,i8,u16,u32,u64,u8
BitwiseOr 18 0=i16,i32,i64,i8,u16,u32,u64,u8
BitwiseXor 18 0=i16,i32,i64,i8,u16,u32,u64,u8
BlackmanWindow 17 0=i32,i64 >0=f32,f64,i16,i32,i64,i8,u16,u32,u64,u8
Cast 6-19 0=any,float8 >0=any,float8
Cast 6-19 0=any,float8 >0=i4,u4 from 1.23
Cast 6-19 0=i4,u4 >0=any,float8,i4,u4 from 1.23
Cast 6-19 0=any,float8,i4,u4 >0=i2,u2 from 1.24
Cast 6-19 0=i2,u2 >0=any,float8,i2,i4,u2,u4 from 1.24
Cast 21 0=any,float8 >0=any,float8 from 1.18
Cast 21 0=any,float8 >0=i4,u4 from 1.23
Cast 21 0=i4,u4 >0=any,float8,i4,u4 from 1.23
Cast 21 0=any,float8,i4,u4 >0=i2,u2 from 1.24
Cast 21 0=i2,u2 >0=any,float8,i2,i4,u2,u4 from 1.24
Cast 23 0=any,float8,i4,u4 >0=any,float8,i4,u4 from 1.23
Cast 23 0=any,float8,i4,u4 >0=i2,u2 from 1.24
Cast 23 0=i2,u2 >0=any,float8,i2,i4,u2,u4 from 1.24
Cast 24-25 0=any,float8,i2,i4,u2,u4 >0=any,float8,i2,i4,u2,u4 from 1.24
Cast 24-25 0=any,float8,i2,i4,u2,u4 >0=f8e8m0 from 1.27
Cast 24-25 0=f8e8m0 >0=any,float8,f8e8m0,i2,i4,u2,u4 from 1.27
Cast 28 0=any,float8,f8e8m0,i2,i4,u2,u4 >0=any,float8,f8e8m0,i2,i4,u2,u4 from 1.32
Ceil 6-13 0=f32,f64
Celu 12 0=f32
Celu 28 0=half,f32,f64 from 1.32
Clip 6-11 0=f32
Clip 12-13 0=f32,f64,i32,i64,i8,u32,u64,u8
Clip 12-13 0=f16 from 1.19
Col2Im 18 0=f32
Compress 9-11 0=any 1=b8
Compress 28 0=any 1=b8 from 1.32
Concat 4-13 0=any
ConcatFromSequence 11
ConstantOfShape 9 0=i64 >0=b8,f16,f32,f64,i16,i32,i64,i8,u16,u32,u64,u8
ConstantOfShape 9 0=i64 >0=bf16 from 1.18
ConstantOfShape 20 0=i64 >0=fixed,float8 from 1.17
ConstantOfShape 21 0=i64 >0=fixed,float8 from 1.18
ConstantOfShape 23 0=i64 >0=fixed,float8 from 1.23
ConstantOfShape 24-25 0=i64 >0=fixed,float8 from 1.24
Conv 1-11 0=f32
Conv 22 0=f32 from 1.21
ConvInteger 10 0=u8 1=u8 >0=i32
ConvInteger 10 0=i8 1=i8,u8 >0=i32 from 1.24
ConvInteger 10 0=u8 1=i8 >0=i32 from 1.24
ConvTranspose 1-11 0=f32
ConvTranspose 22 0=f32 from 1.21
Cos 7 0=f32
Cos 7 0=f64 from 1.29
Cos 22 0=f32 from 1.21
Cos 22 0=f64 from 1.29
Cosh 9 0=f32
Cosh 22 0=f32 from 1.21
Crop 1 0=f32
CumProd 26 0=f32,f64,i32,i64,u32,u64 1=i32,i64 from 1.25
CumSum 11-14 0=f32,f64,i32,i64 1=i32,i64
DFT 17 0=f32,f64 1=i32,i64
DFT 20 0=f32,f64 1=i32,i64 from 1.17
DeformConv 19-22 0=f32,f64 from 1.25
DepthToSpace 1 0=f32,f64
DepthToSpace 11-13 0=f32,f64
DepthToSpace 11-13 0=u8 from 1.21
DepthToSpace 11-13 0=i8 from 1.28
DepthToSpace 28 0=f32,f64,i8,u8 from 1.32
DequantizeLinear 10-13 0=i32,i8,u8
DequantizeLinear 19 0=float8,i32,i8,u8 1=f16,f32
DequantizeLinear 21 0=float8,i16,i32,i8,u16,u8 1=f16,f32 from 1.18
DequantizeLinear 21 0=i4,u4 1=f16,f32 from 1.19
DequantizeLinear 23 0=float8,i16,i32,i4,i8,u16,u4,u8 1=f16,f32 from 1.23 to 1.30
DequantizeLinear 23 0=float8,i16,i32,i4,i8,u16,u4,u8 1=f16,f32 >0=f16,f32 from 1.31
DequantizeLinear 24 0=float8,i16,i32,i4,i8,u16,u4,u8 1=f16,f32 from 1.24 to 1.30
DequantizeLinear 24 0=float8,i16,i32,i4,i8,u16,u4,u8 1=f16,f32 >0=f16,f32 from 1.31
DequantizeLinear 25 0=float8,i16,i2,i32,i4,i8,u16,u2,u4,u8 1=f16,f32 from 1.24 to 1.30
DequantizeLinear 25 0=float8,i16,i2,i32,i4,i8,u16,u2,u4,u8 1=f16,f32 >0=f16,f32 from 1.31
Det 11 0=f32
Det 22 0=f32 from 1.21
Div 7-13 0=f32,f64,i32,i64
Div 7-13 0=u32,u64 from 1.21
Div 14 0=f32,f64,i32,i64
Div 14 0=i16,i8,u16,u32,u64,u8 from 1.21
Dropout 7 0=f16,f32,f64
Dropout 10 0=f16,f32,f64 >1=b8
Dropout 12-13 0=f32,f64 1=f32,f64 2=b8
Dropout 22 0=f32,f64 1=f32,f64 2=b8 from 1.21
DynamicQuantizeLinear 11 >0=u8
DynamicSlice 1 0=any 1=i32,i64
Einsum 12 0=f32,f64,i32,i64
Einsum 28 0=bf16,f32,f64,i32,i64 from 1.32
Elu 6 0=f32
Elu 22 0=f32 from 1.21
Equal 7 0=b8,f32,f64,i32,i64 >0=b8
Equal 11-13 0=b8,f32,f64,i32,i64 >0=b8
Equal 11-13 0=i16,i8,u16,u32,u64,u8 >0=b8 from 1.21
Equal 19 0=b8,f32,f64,i32,i64,s >0=b8
Equal 19 0=i16,i8,u16,u32,u64,u8 >0=b8 from 1.21
Erf 9-13 0=f32
Exp 6-13 0=f32,f64
Expand 8-13 0=b8,f16,f32,f64,i16,i32,i64,i8,s,u16,u32,u64,u8
EyeLike 9 0=f32,f64,i32,i64,u64 >0=f32,f64,i32,i64,u64
EyeLike 22 0=f32,f64,i32,i64,u64 >0=f32,f64,i32,i64,u64 from 1.21
Flatten 1-13 0=any
Flatten 21 0=any from 1.18
Flatten 23 0=any from 1.23
Flatten 24-25 0=any from 1.24
Floor 6-13 0=f32,f64
GRU 7-14 0=f32,f64 4=i32
GRU 22 0=f32,f64 4=i32 from 1.21
Gather 1-13 0=any 1=i32,i64
GatherElements 11-13 0=any 1=i32,i64
GatherND 11-13 0=any 1=i64
Gelu 20 0=f32 from 1.18
Gemm 7-13 0=f32,f64
Gemm 7-13 0=f16 from 1.29 to 1.29
GlobalAveragePool 1 0=f32
GlobalAveragePool 22 0=f32 from 1.21
GlobalLpPool 2 0=f32
GlobalMaxPool 1 0=f32
GlobalMaxPool 22 0=f32 from 1.21
Greater 7 0=f32,f64 >0=b8
Greater 9-13 0=f32,f64,i32,i64 >0=b8
Greater 9-13 0=i16,i8,u16,u32,u64,u8 >0=b8 from 1.21
GreaterOrEqual 12-16 0=f32,f64,i32,i64 >0=b8
GreaterOrEqual 12-16 0=i16,i8,u16,u32,u64,u8 >0=b8 from 1.21
GridSample 16 0=f32 1=f32
GridSample 20 0=f32 1=f32 from 1.17
GridSample 20 0=f64 1=f64 from 1.17
GridSample 22 0=f32 1=f32 from 1.21
GridSample 22 0=f64 1=f64 from 1.21
HammingWindow 17 0=i32,i64 >0=f32,f64,i16,i32,i64,i8,u16,u32,u64,u8
HannWindow 17 0=i32,i64 >0=f32,f64,i16,i32,i64,i8,u16,u32,u64,u8
HardSigmoid 6 0=f32
HardSigmoid 22 0=f32 from 1.21
Hardmax 1-13 0=f32
Identity 1-16 0=any
Identity 19 0=any,float8
Identity 21 0=any,float8 from 1.18
Identity 23 0=any,float8 from 1.23
Identity 24-25 0=any,float8 from 1.24
If 1-16 0=b8 >0=any
If 19 0=b8 >0=any,float8
If 21 0=b8 >0=any,float8 from 1.18
If 23 0=b8 >0=any,float8 from 1.23
If 24-25 0=b8 >0=any,float8 from 1.24
ImageScaler 1 0=f32
InstanceNormalization 6 0=f32
InstanceNormalization 22 0=f32 from 1.21
IsInf 10 0=f32,f64 >0=b8
IsInf 20 0=float8,f32,f64 >0=b8 from 1.17
IsInf 20 0=half >0=b8 from 1.18
IsNaN 9-13 0=f16,f32,f64 >0=b8
IsNaN 20 0=float8,f16,f32,f64 >0=b8 from 1.17
IsNaN 20 0=bf16 >0=b8 from 1.18
LRN 1-13 0=f32
LSTM 7-14 0=f32,f64 4=i32
LSTM 22 0=f32,f64 4=i32 from 1.21
LayerNormalization 1 0=f64 1=f64 >1=f64 to 1.29
LayerNormalization 1 0=f32 1=f32 >1=f32
LayerNormalization 1 0=f16 1=f16 >1=f16 from 1.20 to 1.29
LayerNormalization 1 0=bf16 1=bf16 >1=f32 from 1.30
LayerNormalization 1 0=f16 1=f16 >1=f32 from 1.30
LayerNormalization 1 0=f64 1=f64 >1=f32 from 1.30
LayerNormalization 17 0=f32,f64 >1=f32
LayerNormalization 17 0=f16 >1=f32 from 1.20
LayerNormalization 17 0=bf16 >1=f32 from 1.30
LeakyRelu 6-16 0=f32
Less 7 0=f32,f64 >0=b8
Less 9-13 0=f32,f64,i32,i64 >0=b8
Less 9-13 0=i16,i8,u16,u32,u64,u8 >0=b8 from 1.21
LessOrEqual 12-16 0=f32,f64,i32,i64 >0=b8
LessOrEqual 12-16 0=i16,i8,u16,u32,u64,u8 >0=b8 from 1.21
Log 6-13 0=f32,f64
LogSoftmax 1-13 0=f32,f64
Loop 1-16 0=i64 1=b8 2=any
Loop 19 0=i64 1=b8 2=any,float8
Loop 21 0=i64 1=b8 2=any,float8 from 1.18
Loop 23 0=i64 1=b8 2=any,float8 from 1.23
Loop 24-25 0=i64 1=b8 2=any,float8 from 1.24
LpNormalization 1 0=f32,f64
LpNormalization 22 0=f32,f64 from 1.25
LpPool 2-18 0=f32
LpPool 22 0=f32 from 1.21
MatMul 1 0=f32,f64
MatMul 1 0=f16 from 1.29 to 1.29
MatMul 9-13 0=f32,f64,i32,i64,u32,u64
MatMul 9-13 0=f16 from 1.29 to 1.29
MatMulInteger 10 0=i8 1=i8 >0=i32
MatMulInteger 10 0=u8 1=i8,u8 >0=i32
MatMulInteger 10 0=i8 1=u8 >0=i32 from 1.24
Max 6 0=f32
Max 8 0=f32,f64
Max 12-13 0=f16,f32,f64,i32,i64,u32,u64
Max 12-13 0=i8,u8 from 1.24
MaxPool 1 0=f32
MaxPool 8-11 0=f32,f64 >1=i64
MaxPool 12 0=f32,f64,i8,u8 >1=i64
MaxPool 22 0=f32,f64,i8,u8 >1=i64 from 1.21
MaxRoiPool 1 0=f32
MaxUnpool 9-11 0=f32 1=i64
MaxUnpool 22 0=f32 1=i64 from 1.21
Mean 6-13 0=f32
MeanVarianceNormalization 1-13 0=f32
MelWeightMatrix 17 0=i32,i64 3=f32 >0=f32,f64,i16,i32,i64,i8,u16,u32,u64,u8
MemcpyFromHost 1 0=fixed,float8 from 1.24
MemcpyToHost 1 0=fixed,float8 from 1.24
Min 6 0=f32
Min 8 0=f32,f64
Min 12-13 0=f16,f32,f64,i32,i64,u32,u64
Min 12-13 0=i8,u8 from 1.24
Mod 10-13 0=f16,f32,f64,i16,i32,i64,i8,u16,u32,u64,u8
Mod 28 0=f16,f32,f64,i16,i32,i64,i8,u16,u32,u64,u8 from 1.32
Mul 7-13 0=f32,f64,i32,i64
Mul 7-13 0=u32,u64 from 1.21
Mul 14 0=f32,f64,i32,i64
Mul 14 0=i16,i8,u16,u32,u64,u8 from 1.21
Multinomial 7 0=f32 >0=i32,i64
Neg 6-13 0=f32,f64,i32,i64,i8
Neg 6-13 0=i16 from 1.21
NonMaxSuppression 10-11
NonZero 9-13 0=b8,f32,i32,i64,u8
Not 1 0=b8
OneHot 9-11 0=f32 1=f32 2=f32
OneHot 9-11 0=f32 1=i64 2=i64,s
OneHot 9-11 0=i32 1=f32,i32 2=f32
OneHot 9-11 0=i64 1=f32 2=f32,i32
OneHot 9-11 0=i64 1=i32 2=f32
OneHot 9-11 0=i64 1=i64 2=f32,i64,s
OneHot 28 0=f32 1=i64 2=i64,s from 1.32
OneHot 28 0=f32,i32 1=f32 2=f32 from 1.32
OneHot 28 0=i32 1=i32 2=bf16,f32 from 1.32
OneHot 28 0=i64 1=f32 2=f32,i32 from 1.32
OneHot 28 0=i64 1=i32 2=f32 from 1.32
OneHot 28 0=i64 1=i64 2=bf16,f32,i64,s from 1.32
Optional 15 0=any
OptionalGetElement 15 >0=any
OptionalGetElement 18 0=any >0=any
OptionalHasElement 15 >0=b8
OptionalHasElement 18 0=any >0=b8
Or 7 0=b8 >0=b8
PRelu 7-16 0=f32
Pad 2 0=f32,f64
Pad 11 0=f32,f64,i32,i64,i8,u32,u64,u8
Pad 13-19 0=b8,f32,f64,i32,i64,i8,u32,u64,u8
Pad 21 0=b8,f32,f64,i32,i64,i8,u32,u64,u8 from 1.18
Pad 21 0=bf16 from 1.32
Pad 23 0=b8,f32,f64,i32,i64,i8,u32,u64,u8 from 1.23
Pad 23 0=bf16 from 1.32
Pad 24-25 0=b8,f32,f64,i32,i64,i8,u32,u64,u8 from 1.24
Pad 24-25 0=bf16 from 1.32
ParametricSoftplus 1 0=f32
Pow 7 0=f32,f64
Pow 12-15 0=f32,f64,i32,i64 1=f32,f64,i32,i64
QLinearConv 10 0=i8 3=i8 7=i8 8=i32
QLinearConv 10 0=u8 3=i8,u8 7=u8 8=i32
QLinearMatMul 10 0=i8 3=i8 7=i8
QLinearMatMul 10 0=u8 3=i8,u8 7=u8
QLinearMatMul 21 0=i8 1=f32 3=i8 7=i8 from 1.20
QLinearMatMul 21 0=u8 1=f32 3=i8,u8 7=u8 from 1.20
QuantizeLinear 10-13 0=f32 >0=i8,u8
QuantizeLinear 19 0=f16,f32 >0=float8,i8,u8
QuantizeLinear 21 0=f16,f32 >0=float8,i16,i8,u16,u8 from 1.18
QuantizeLinear 21 0=f16,f32 >0=i4,u4 from 1.19
QuantizeLinear 23 0=f16,f32 1=float8,i16,i4,i8,u16,u4,u8 from 1.23 to 1.23
QuantizeLinear 23 0=f16,f32 1=f16,f32 >0=float8,i16,i4,i8,u16,u4,u8 from 1.24
QuantizeLinear 24 0=f16,f32 1=f16,f32 >0=float8,i16,i4,i8,u16,u4,u8 from 1.24
QuantizeLinear 25 0=f16,f32 1=f16,f32 >0=float8,i16,i2,i4,i8,u16,u2,u4,u8 from 1.24
RMSNormalization 23 0=f16 1=f16 from 1.23
RMSNormalization 23 0=f32 1=f32 from 1.23
RMSNormalization 23 0=f64 1=f64 from 1.23
RNN 7-14 0=f32 4=i32
RNN 22 0=f32 4=i32 from 1.21
RandomNormal 1 >0=f32,f64
RandomNormalLike 1 0=any >0=f32,f64
RandomUniform 1 >0=f32,f64
RandomUniformLike 1 0=any >0=f32,f64
Range 11 0=f32,f64,i16,i32,i64
Range 27 0=f32,f64,i16,i32,i64 from 1.28
Reciprocal 6-13 0=f32,f64
ReduceL1 1-18 0=f32,i32,i64
ReduceL1 1-18 0=f64 from 1.20
ReduceL2 1-18 0=f32,i32,i64
ReduceL2 1-18 0=f64 from 1.20
ReduceLogSum 1-18 0=f32,i32,i64
ReduceLogSum 1-18 0=f64 from 1.20
ReduceLogSumExp 1-18 0=f32,f64,i32,i64
ReduceMax 1-11 0=f32,f64,i32,i64
ReduceMax 12-18 0=f32,f64,i32,i64,i8,u8
ReduceMax 20 0=b8,f32,f64,i32,i64,i8,u8 from 1.17
ReduceMean 1-18 0=f32,f64,i32
ReduceMean 1-18 0=i64 from 1.20
ReduceMin 1-11 0=f32,f64,i32,i64
ReduceMin 12-18 0=f32,f64,i32,i64,i8,u8
ReduceMin 20 0=b8,f32,f64,i32,i64,i8,u8 from 1.17
ReduceProd 1-18 0=f32,i32,i64
ReduceProd 1-18 0=f64 from 1.20
ReduceSum 1-13 0=f32,f64,i32,i64
ReduceSumSquare 1-18 0=f32,f64,i32,i64
RegexFullMatch 20 0=s >0=b8 from 1.17
Relu 6-13 0=f32,f64
Relu 14 0=f32,f64,i32,i8
Reshape 1 0=any
Reshape 5-14 0=any 1=i64
Reshape 19 0=float8 1=i64 to 1.17
Reshape 19 0=any 1=i64
Reshape 21 0=any,float8 1=i64 from 1.18
Reshape 23 0=any,float8 1=i64 from 1.23
Reshape 24-25 0=any,float8 1=i64 from 1.24
Resize 10-19 0=f32,i32,i8,u8
ReverseSequence 10 0=any
ReverseSequence 28 0=any from 1.32
RoiAlign 10-16 0=f32,f64 2=i64
RotaryEmbedding 23 0=f16,f32 3=i64 from 1.23
Round 11 0=f16,f32,f64
Round 22 0=f16,f32,f64 from 1.21
STFT 17 0=f32,f64 1=i32,i64
Scale 1 0=f32
ScaledTanh 1 0=f32
Scan 8 0=i64 1=any
Scan 9-16 0=any
Scan 19 0=any,float8
Scan 21 0=any,float8 from 1.18
Scan 23 0=any,float8 from 1.23
Scan 24-25 0=any,float8 from 1.24
Scatter 9 0=any 1=i32,i64
ScatterElements 11-18 0=any 1=i32,i64
ScatterND 11-18 0=any
Selu 6 0=f32
Selu 22 0=f32 from 1.21
SequenceAt 11 1=i32,i64 >0=any
SequenceConstruct 11 0=any
SequenceEmpty 11
SequenceErase 11 1=i32,i64
SequenceInsert 11 2=i32,i64
SequenceLength 11 >0=i64
Shape 1-15 0=any >0=i64
Shape 19 0=float8 >0=i64 to 1.17
Shape 19 0=any >0=i64
Shape 21 0=any,float8 >0=i64 from 1.18
Shape 23 0=any,float8 >0=i64 from 1.23
Shape 24-25 0=any,float8 >0=i64 from 1.24
Shrink 9 0=number
Sigmoid 6-13 0=f32,f64
Sign 9-13 0=number
SimplifiedLayerNormalization 1 0=f64 1=f64 >1=f64 to 1.29
SimplifiedLayerNormalization 1 0=f32 1=f32 >1=f32
SimplifiedLayerNormalization 1 0=f16 1=f16 >1=f16 from 1.20 to 1.29
SimplifiedLayerNormalization 1 0=bf16 1=bf16 >1=f32 from 1.30
SimplifiedLayerNormalization 1 0=f16 1=f16 >1=f32 from 1.30
SimplifiedLayerNormalization 1 0=f64 1=f64 >1=f32 from 1.30
Sin 7 0=f32,f64
Sin 22 0=f32,f64 from 1.21
Sinh 9 0=f32
Sinh 22 0=f32 from 1.21
Size 1-19 0=b8,f32,f64,i16,i32,i64,i8,s,u16,u32,u64,u8 >0=i64
Size 21 0=b8,f32,f64,i16,i32,i64,i8,s,u16,u32,u64,u8 >0=i64 from 1.18
Size 23 0=b8,f32,f64,i16,i32,i64,i8,s,u16,u32,u64,u8 >0=i64 from 1.23
Size 24-25 0=b8,f32,f64,i16,i32,i64,i8,s,u16,u32,u64,u8 >0=i64 from 1.24
Slice 1 0=any
Slice 10-13 0=any 1=i32,i64
Softmax 1-13 0=f32,f64
Softplus 1 0=f32
Softplus 22 0=f32 from 1.21
Softsign 1 0=f32
Softsign 22 0=f32 from 1.21
SpaceToDepth 1-13 0=f32,f64
SpaceToDepth 1-13 0=i8,u8 from 1.28
SpaceToDepth 28 0=f32,f64,i8,u8 from 1.32
Split 2-18 0=any
SplitToSequence 11 0=f32,f64,i32,i64,s 1=i32,i64
SplitToSequence 11 0=f16 1=i32,i64 from 1.17
SplitToSequence 11 0=b8 1=i32,i64 from 1.23
SplitToSequence 24 0=b8,f16,f32,f64,i32,i64,s 1=i32,i64 from 1.24
Sqrt 6-13 0=f32,f64
Squeeze 1-13 0=any
Squeeze 21 0=any from 1.18
Squeeze 23 0=any from 1.23
Squeeze 24-25 0=any from 1.24
StringConcat 20 0=s from 1.17
StringNormalizer 10 0=s
StringSplit 20 0=s >0=s >1=i64 from 1.17
Sub 7-13 0=f32,f64,i32,i64
Sub 7-13 0=u32,u64 from 1.21
Sub 14 0=f32,f64,i32,i64
Sub 14 0=i16,i8,u16,u32,u64,u8 from 1.21
Sum 6-13 0=f32,f64
Tan 7 0=f32
Tan 22 0=f32 from 1.21
Tanh 6-13 0=f32,f64
TensorScatter 24 0=s from 1.25 to 1.28
TensorScatter 24 0=fixed from 1.25
TfIdfVectorizer 9 0=i32,i64,s >0=f32
ThresholdedRelu 1-10 0=f32
ThresholdedRelu 22 0=f32 from 1.21
Tile 6-13 0=b8,f32,f64,i16,i32,i64,i8,s,u16,u32,u64,u8 1=i64
TopK 1-10 0=f32,f64 >1=i64
TopK 11 0=f32,f64,i32,i64 >1=i64
TopK 11 0=i16,i8,u8 >1=i64 from 1.26
TopK 24 0=f32,f64,i32,i64 >1=i64 from 1.24
TopK 24 0=i16,i8,u8 >1=i64 from 1.26
Transpose 1-13 0=any
Transpose 21 0=any from 1.18
Transpose 21 0=float8,i4,u4 from 1.19
Transpose 23 0=any,float8,i4,u4 from 1.23
Transpose 24 0=any,float8,i4,u4 from 1.24
Transpose 25 0=any,float8,i2,i4,u2,u4 from 1.24
Trilu 14 0=f32,f64,i64
Trilu 14 0=b8 from 1.19
Trilu 14 0=i32 from 1.29
Unique 11 0=f32,f64,i64,i8,s
Unique 28 0=bf16,f32,f64,i64,i8,s from 1.32
Unsqueeze 1-13 0=any
Unsqueeze 21 0=any from 1.18
Unsqueeze 23 0=any from 1.23
Unsqueeze 24-25 0=any from 1.24
Upsample 7-9 0=f32,i32,i8,u8
Where 9-16 1=f32,f64,i32,i64,s,u8
Where 9-16 1=i8,u32 from 1.31
Xor 7 0=b8 >0=b8
""",
    "ai.onnx.ml": """
ArrayFeatureExtractor 1 0=f32,f64,i32,i64,s
Binarizer 1 0=f32
CastMap 1 >0=f32,i64,s
CategoryMapper 1 0=i64,s >0=i64,s
DictVectorizer 1 >0=f32,f64,i64,s
FeatureVectorizer 1 0=f32,f64,i32,i64
Imputer 1 0=f32,i64
LabelEncoder 1 0=i64,s >0=i64,s
LabelEncoder 2 0=f32,i64,s >0=f32,i64,s
LabelEncoder 4 0=f32 >0=f32,i64,s from 1.17
LabelEncoder 4 0=f64 >0=f64,i64,s from 1.17
LabelEncoder 4 0=i64 >0=f32,f64,i64,s from 1.17
LabelEncoder 4 0=s >0=f32,f64,i16,i64,s from 1.17
LinearClassifier 1 0=f32,f64,i32,i64 >0=i64,s
LinearRegressor 1 0=f32
Normalizer 1 0=f32,f64,i32,i64
OneHotEncoder 1 0=f32,f64,i64,s
SVMClassifier 1 0=f32,f64,i32,i64 >0=i64,s
SVMRegressor 1 0=f32
Scaler 1 0=f32,f64,i32,i64
TreeEnsemble 5 0=f32,f64 from 1.21
TreeEnsembleClassifier 1-3 0=f32,f64,i32,i64 >0=i64,s
TreeEnsembleRegressor 1-3 0=f32,f64
ZipMap 1
""",
    "com.microsoft": """
Attention 1 0=f32
AttnLSTM 1 0=f32,f64 4=i32
BeamSearch 1 5=f32
BiasGelu 1 0=f32
BifurcationDetector 1 0=i64
BranchwiseRMSNorm 1 0=half,f32 1=half,f32 from 1.31
CDist 1 0=f32,f64
CausalConvWithState 1 0=f32 from 1.26
ConvTransposeWithDynamicPads 1 0=f32
CropAndResize 1 0=f32 2=i32
DecoderMaskedMultiHeadAttention 1 0=f32 from 1.20
DequantizeLinear 1 0=i8,u8 1=f32
DequantizeLinear 1 0=i16,i32,u16 1=f32 from 1.17
DequantizeLinear 1 0=i4,u4 1=f32 from 1.19
DynamicQuantizeLSTM 1 0=f32 1=i8,u8 4=i32
DynamicQuantizeMatMul 1 0=f32 1=i8,u8
DynamicTimeWarping 1 0=f32 >0=i32 from 1.20
EmbedLayerNormalization 1 2=f32
EngramGate 1 0=f16,f32 from 1.30
ExpandDims 1 0=any 1=i32
FastGelu 1 0=f32
FusedConv 1 0=f32
FusedGemm 1 0=f32
FusedMatMul 1 0=f32
FusedMatMul 1 0=f64 from 1.26
GatedAdd 1 0=f16,f32 from 1.30
GatedDeltaNet 1 0=half,f32 3=i32 4=half,f32 6=f32 from 1.32
GatedRMSNorm 1 0=f16,f32 from 1.30
GatedRMSNorm 1 0=bf16 from 1.32
GatherBlockQuantized 1 0=i4,u4 1=i32,i64 2=f16,f32 from 1.20
GatherBlockQuantized 1 0=u8 1=i32,i64 2=f16,f32 from 1.22
GatherBlockQuantized 1 0=float8,f4e2m1 1=i32,i64 2=f16,f32 from 1.31
GatherND 1 0=any 1=i32,i64
GatherPacked 1 0=u8 1=i32,i64 >0=half,f32 from 1.32
Gelu 1 0=f32
GreedySearch 1 3=f32
GridSample 1 0=f32 >0=f32
GroupQueryAttention 1 0=f32 5=i32 from 1.18 to 1.26
GroupQueryAttention 1 0=f16 5=i32 from 1.20 to 1.26
GroupQueryAttention 1 0=f16 12=f32 3=f16,i8,u8 5=i32 from 1.27
GroupQueryAttention 1 0=f32 12=f32 3=f32,i8,u8 5=i32 from 1.27
HyperConnectionPostMix 1 0=half,f32 2=half,f32 from 1.31
HyperConnectionPreMix 1 0=half,f32 1=half,f32 from 1.31
Inverse 1 0=f16,f32,f64
LinearAttention 1 0=f32 from 1.26
LinearAttentionGate 1 0=f16,f32 1=f32 from 1.30
LinearAttentionGate 1 0=bf16 1=f32 from 1.32
MRotaryEmbedding 1 0=f16,f32 1=i64 from 1.29
MatMulBnb4 1 0=f32 1=u8 from 1.17
MatMulFpQ4 1 0=f32 1=u8 2=i64
MatMulInteger16 1 0=i16 1=i16 >0=i32
MatMulIntegerToFloat 1 0=i8 1=i8 2=f32
MatMulIntegerToFloat 1 0=u8 1=i8,u8 2=f32
MatMulNBits 1 0=f32 1=u8 from 1.17 to 1.17
MatMulNBits 1 0=f32 1=u8 3=f32,u8 4=i32 from 1.18
MatMulNBits 1 0=f16 1=u8 3=f32 4=i32 from 1.20 to 1.22
MatMulNBits 1 0=f32 1=u8 3=f16 4=i32 from 1.20 to 1.22
MatMulNBits 1 0=f16 1=u8 3=f16,u8 4=i32 from 1.20
MaxpoolWithMask 1 0=f32
MoE 1 0=f32 from 1.24
MoEGroupRouter 1 0=half,f32 1=f32 from 1.32
MultiHeadAttention 1 0=f32
MurmurHash3 1 0=f32,f64,i32,i64,s,u32,u64 >0=i32,u32
NGramHashMapping 1 0=i32,i64 from 1.30
NGramRepeatBlock 1 0=i64 1=f32
NhwcMaxPool 1 0=i8,u8
Pad 1 0=f32
QAttention 1 0=u8 1=i8,u8 2=f32 5=i32
QEmbedLayerNormalization 1 8=f32
QGemm 1 0=i8 1=f32 3=i8 6=i32 8=i8 >0=f32,i8
QGemm 1 0=u8 1=f32 3=i8,u8 6=i32 8=u8 >0=f32,u8
QLinearAdd 1 0=i8,u8
QLinearAveragePool 1
QLinearConcat 1
QLinearConv 1 0=i8 3=i8 7=i8 8=i32
QLinearConv 1 0=u8 3=i8,u8 7=u8 8=i32
QLinearGlobalAveragePool 1
QLinearLeakyRelu 1 0=i8,u8
QLinearMul 1 0=i8,u8
QLinearSigmoid 1 0=i8,u8
QLinearSoftmax 1 0=i8,u8
QLinearWhere 1 1=i8,u8
QMoE 1 0=f16 2=u8 3=f16 from 1.23 to 1.31
QMoE 1 0=f32 2=u8 3=f32 from 1.23 to 1.31
QMoE 1 0=bf16 15=f32 2=u8 3=bf16,f8e4m3fn,f8e8m0 from 1.32
QMoE 1 0=f16 15=f32 2=u8 3=f16,f8e4m3fn,f8e8m0 from 1.32
QMoE 1 0=f32 15=f32 2=u8 3=f32,f8e4m3fn,f8e8m0 from 1.32
QuantizeLinear 1 0=f32 >0=i8,u8
QuantizeLinear 1 0=f32 >0=i16,u16 from 1.17
QuantizeLinear 1 0=f32 >0=i4,u4 from 1.19
QuickGelu 1 0=f32
Range 1 0=f32,f64,i16,i32,i64
RotaryEmbedding 1 0=f32 1=i64 from 1.17
RotaryEmbedding 1 0=f16 1=i64 from 1.20
SampleOp 1 0=f32
Sampling 1 3=f32
ScaledSiLU 1 0=half,f32 1=half,f32 from 1.31
SkipLayerNormalization 1 0=f32,f64
SkipLayerNormalization 1 0=f16 from 1.20
SkipLayerNormalization 1 0=bf16 from 1.30
SkipSimplifiedLayerNormalization 1 0=f32,f64 from 1.17
SkipSimplifiedLayerNormalization 1 0=f16 from 1.20
SkipSimplifiedLayerNormalization 1 0=bf16 from 1.30
SparseAttention 1 0=f32 5=i32 from 1.19
SparseAttention 1 0=f16 5=i32 from 1.22
SparseToDenseMatMul 1 1=f32,f64,i32,i64,u32,u64
Tokenizer 1 0=s
TransposeMatMul 1 0=f32
Trilu 1 0=f32,f64,i64
UnfoldTensor 1 0=any from 1.20
Unique 1 0=f32
VarlenCausalConvWithState 1 0=half,f32 2=i32 from 1.32
VarlenNGramHashMapping 1 0=i32,i64 3=i32 from 1.31
WhisperBeamSearch 1 5=f32 from 1.17
WordConvEmbedding 1 0=i32 1=f32
""",
}
"""The kernels of each domain, a line each."""
