"""Attention and rotary embedding as exporters leave them."""

from __future__ import annotations

import onnx
import onnx.numpy_helper
import onnx.parser

HEADS = """
  qs = Reshape(q, split)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)
  ks = Reshape(k, split)  kh = Transpose<perm = [0, 2, 3, 1]>(ks)
  vs = Reshape(v, split)  vh = Transpose<perm = [0, 2, 1, 3]>(vs)
  raw = MatMul(qh, kh)  scores = Mul(raw, scale)
"""


MERGE = "m = MatMul(p, vh)  t = Transpose<perm = [0, 2, 1, 3]>(m)  y = Reshape(t, merge)"


CONSTANTS = "int64[4] split = {0, 0, 4, 8}, int64[3] merge = {0, 0, 32}, float scale = {0.35355338}, float zero = {0}"


def model(body: str, inputs: str = "", opset: int = 17, constants: str = CONSTANTS) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]>\n'
        f"g (float[b,s,32] q, float[b,s,32] k, float[b,s,32] v{inputs}) => (float[b,s,32] y) <{constants}> {{ {body} }}"
    )


PLAIN = model(HEADS + "p = Softmax<axis = -1>(scores)" + MERGE)


MASKED = model(HEADS + "sum = Add(scores, mask)  p = Softmax<axis = -1>(sum)" + MERGE, ", float[b,1,s,s] mask")


BROADCAST = model(HEADS + "sum = Add(scores, mask)  p = Softmax<axis = -1>(sum)" + MERGE, ", float[b,1,1,s] mask")


GUARDED = model(
    HEADS
    + "sum = Add(scores, mask)  soft = Softmax<axis = -1>(sum)  nan = IsNaN(soft)  p = Where(nan, zero, soft)"
    + MERGE,
    ", float[b,1,s,s] mask",
)


BIASED = model(
    HEADS + "sum = Add(scores, bias)  both = Add(sum, mask)  p = Softmax<axis = -1>(both)" + MERGE,
    ", float[1,4,s,s] bias, float[b,1,1,s] mask",
)


ROTARY = """
  twice = Concat<axis = -1>(angles, angles)
  c = Cos(twice)  cos = Unsqueeze(c, one)  s = Sin(twice)  sin = Unsqueeze(s, one)
  split = Reshape(x, dims)  h = Transpose<perm = [0, 2, 1, 3]>(split)
  first = Slice(h, zero, half, three)  second = Slice(h, half, end, three)
  n = Neg(second)  turned = Concat<axis = -1>(n, first)
  a = Mul(h, cos)  b = Mul(turned, sin)  y = Add(a, b)
"""


def rotary(batch: str = "b", start: int = 4) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]>\n'
        f"g (float[b,s,32] x, float[{batch},s,4] angles) => (float[b,4,s,8] y) <int64[4] dims = {{0, 0, 4, 8}}, "
        f"int64[1] one = {{1}}, int64[1] zero = {{0}}, int64[1] half = {{{start}}}, int64[1] three = {{3}}, "
        f"int64[1] end = {{9223372036854775807}}> {{ {ROTARY} }}"
    )
