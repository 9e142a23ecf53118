"""Operators that do nothing, as small models."""

from __future__ import annotations

import onnx.parser

# What is dropped: operator call, declarations beside `float[N,3] x`, type of the result, opset.
HITS = [
    ("eliminate-nop-identity", "Identity(x)", "", "float[N,3]", 21),
    ("eliminate-nop-dropout", "Dropout(x)", "", "float[N,3]", 9),
    ("eliminate-nop-dropout", "Dropout(x)", "", "float[N,3]", 21),
    ("eliminate-nop-dropout", "Dropout(x, k, t)", "float k = {0.5}, bool t = {0}", "float[N,3]", 21),
    ("eliminate-nop-concat", "Concat <axis = -1> (x)", "", "float[N,3]", 21),
    ("eliminate-nop-max", "Max(x)", "", "float[N,3]", 21),
    ("eliminate-nop-min", "Min(x)", "", "float[N,3]", 21),
    ("eliminate-nop-sum", "Sum(x)", "", "float[N,3]", 21),
    ("eliminate-nop-mean", "Mean(x)", "", "float[N,3]", 21),
    ("eliminate-nop-reducesum", "ReduceSum <noop_with_empty_axes = 1> (x)", "", "float[N,3]", 13),
    ("eliminate-nop-reducemax", "ReduceMax <noop_with_empty_axes = 1> (x, a)", "int64[0] a = {}", "float[N,3]", 18),
    ("eliminate-nop-reducemin", "ReduceMin <noop_with_empty_axes = 1> (x)", "", "float[N,3]", 18),
    ("eliminate-nop-reduceprod", "ReduceProd <noop_with_empty_axes = 1> (x)", "", "float[N,3]", 18),
    ("eliminate-nop-reducemean", "ReduceMean <noop_with_empty_axes = 1> (x)", "", "float[N,3]", 18),
    ("eliminate-nop-cast", "Cast <to = 1> (x)", "", "float[N,3]", 21),
    ("eliminate-nop-castlike", "CastLike(x, x)", "", "float[N,3]", 21),
    ("eliminate-nop-reshape", "Reshape(x, s)", "int64[2] s = {0, 3}", "float[N,3]", 21),
    ("eliminate-nop-reshape", "Reshape(x, s)", "int64[2] s = {-1, 3}", "float[N,3]", 21),
    ("eliminate-nop-flatten", "Flatten <axis = 1> (x)", "", "float[N,3]", 21),
    ("eliminate-nop-squeeze", "Squeeze(s3, a)", "int64[0] a = {}", "float[3,3]", 21),
    ("eliminate-nop-unsqueeze", "Unsqueeze(x, a)", "int64[0] a = {}", "float[N,3]", 21),
    ("eliminate-nop-expand", "Expand(x, s)", "int64[1] s = {3}", "float[N,3]", 21),
    ("eliminate-nop-tile", "Tile(x, s)", "int64[2] s = {1, 1}", "float[N,3]", 21),
    ("eliminate-nop-split", "Split <num_outputs = 1> (x)", "", "float[N,3]", 21),
    (
        "eliminate-nop-slice",
        "Slice(x, z, e)",
        "int64[2] z = {0, 0}, int64[2] e = {9223372036854775807, 3}",
        "float[N,3]",
        21,
    ),
    ("eliminate-nop-slice", "Slice <starts = [0], ends = [3], axes = [1]> (x)", "", "float[N,3]", 9),
    ("eliminate-nop-transpose", "Transpose <perm = [0, 1]> (x)", "", "float[N,3]", 21),
    ("eliminate-nop-pad", "Pad(x, k)", "int64[4] k = {0, 0, 0, 0}", "float[N,3]", 21),
    ("eliminate-nop-pad", "Pad <pads = [0, 0, 0, 0]> (x)", "", "float[N,3]", 9),
    ("eliminate-nop-resize", 'Resize(x, "", s)', "float[2] s = {1, 1}", "float[N,3]", 21),
    ("eliminate-nop-mul", "Mul(x, c)", "float[1,3] c = {1, 1, 1}", "float[N,3]", 21),
    ("eliminate-nop-mul-lhs", "Mul(c, x)", "float c = {1}", "float[N,3]", 21),
    ("eliminate-nop-div", "Div(x, c)", "float[3] c = {1, 1, 1}", "float[N,3]", 21),
    ("eliminate-nop-pow", "Pow(x, c)", "float c = {1}", "float[N,3]", 21),
    ("eliminate-nop-sub", "Sub(x, c)", "float c = {0}", "float[N,3]", 21),
    ("eliminate-nop-add", "Add(x, c)", "float c = {-0.0}", "float[N,3]", 21),
    ("eliminate-nop-add-lhs", "Add(c, x)", "float c = {-0.0}", "float[N,3]", 21),
    ("eliminate-repeated-relu", "Relu(Relu(x))", "", "float[N,3]", 21),
    ("eliminate-repeated-abs", "Abs(Abs(x))", "", "float[N,3]", 21),
    ("eliminate-repeated-ceil", "Ceil(Ceil(x))", "", "float[N,3]", 21),
    ("eliminate-repeated-floor", "Floor(Floor(x))", "", "float[N,3]", 21),
    ("eliminate-repeated-round", "Round(Round(x))", "", "float[N,3]", 21),
    ("eliminate-repeated-sign", "Sign(Sign(x))", "", "float[N,3]", 21),
    ("eliminate-double-neg", "Neg(Neg(x))", "", "float[N,3]", 21),
    ("eliminate-nop-and", "And(p, c)", "bool[1] c = {1}", "bool[N,3]", 21),
    ("eliminate-nop-and-lhs", "And(c, p)", "bool c = {1}", "bool[N,3]", 21),
    ("eliminate-nop-or", "Or(p, c)", "bool c = {0}", "bool[N,3]", 21),
    ("eliminate-nop-or-lhs", "Or(c, p)", "bool c = {0}", "bool[N,3]", 21),
    ("eliminate-nop-xor", "Xor(p, c)", "bool c = {0}", "bool[N,3]", 21),
    ("eliminate-nop-xor-lhs", "Xor(c, p)", "bool c = {0}", "bool[N,3]", 21),
    ("eliminate-double-not", "Not(Not(p))", "", "bool[N,3]", 21),
    ("eliminate-nop-add", "Add(n, c)", "int64 c = {0}", "int64[N,3]", 21),
    ("eliminate-nop-bitwiseor", "BitwiseOr(n, c)", "int64 c = {0}", "int64[N,3]", 21),
    ("eliminate-nop-bitwiseor-lhs", "BitwiseOr(c, n)", "int64 c = {0}", "int64[N,3]", 21),
    ("eliminate-nop-bitwisexor", "BitwiseXor(n, c)", "int64 c = {0}", "int64[N,3]", 21),
    ("eliminate-nop-bitwisexor-lhs", "BitwiseXor(c, n)", "int64 c = {0}", "int64[N,3]", 21),
    ("eliminate-double-bitwisenot", "BitwiseNot(BitwiseNot(n))", "", "int64[N,3]", 21),
]


def model_of(call: str, constants: str, result: str, opset: int) -> onnx.ModelProto:
    """Before an Exp, so that no name of the interface is at stake; `w` is overridable."""
    declared = f"float w = {{1}}{', ' if constants else ''}{constants}"
    inputs = (
        "float[N,3] x, float[1,1] o, float[3,3] s3, float[] u, bool[N,3] p, int64[N,3] n, bool b, int64[2] g, float w"
    )
    kind, _, dims = result.partition("[")
    last = {"bool": "Not(r)", "int64": "Abs(r)"}.get(kind, "Exp(r)")
    model = f"""<ir_version: 8, opset_import: ["": {opset}]>
    g ({inputs}) => ({kind}[{dims} y) <{declared}> {{ r = {call}  y = {last} }}"""
    return onnx.parser.parse_model(flat(model))


def flat(text: str) -> str:
    """ONNX text has no nested calls: `Relu(Relu(x))` becomes two lines."""
    head, _, body = text.rpartition("{ r = ")
    call, _, last = body.partition("  y = ")
    operator, _, rest = call.partition("(")
    inner = rest.rpartition(")")[0].strip()
    if ("(" in inner and "<" not in operator) or inner.startswith("Cast"):
        return f"{head}{{ q = {inner}  r = {operator}(q)  y = {last}"
    return text
