"""Small models that trigger one rule or more, over a grid of shapes, in ONNX text.

A subject is a function from dims to a model, named after the rule that it is for. Dims are numbers, or the name of a
symbolic dim (always the first). A constant without content gets random values. The grids: a last dim of 1 to 8 and
more, ranks 1 to 5, 1 to 10⁵ elements and more, known and unknown sizes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

Size = int | str
Dims = tuple[Size, ...]
HEADER = '<ir_version: 10, opset_import: ["": {opset}]>\n'


@dataclass(frozen=True)
class Case:
    """A model of one shape. `sizes`: what its symbolic dims are in the run."""

    subject: str
    shape: str
    text: str
    opset: int
    sizes: Mapping[str, int] = field(default_factory=dict)

    def model(self) -> onnx.ModelProto:
        """The model, with random constants of standard deviation 1/sqrt(fan in)."""
        proto = onnx.parser.parse_model(HEADER.format(opset=self.opset) + self.text)
        random = np.random.default_rng(0)
        produced = {name for node in proto.graph.node for name in node.output}
        for value in [each for each in proto.graph.value_info if each.name not in produced]:
            dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            content = random.normal(size=dims) / np.sqrt(max(1, int(np.prod(dims[1:]))))
            if value.name.startswith("var"):
                content = np.abs(content) + 0.5
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            proto.graph.initializer.append(numpy_helper.from_array(content.astype(dtype), value.name))
            proto.graph.value_info.remove(value)
        return proto


Template = Callable[..., str]
_SUBJECTS: list[tuple[str, Template, Sequence[Dims], int]] = []


def cases() -> Iterator[Case]:
    """Each subject at each of its shapes; a first dim `n*1000` is symbolic and 1000 in the run."""
    seen: Counter[str] = Counter()
    for rule, template, grid, opset in _SUBJECTS:
        seen[rule] += 1
        name = rule if seen[rule] == 1 else f"{rule} ({seen[rule]})"
        for dims in grid:
            first, *rest = dims
            shape = "x".join(map(str, dims))
            if isinstance(first, str):
                symbol, _, size = first.partition("*")
                yield Case(name, shape, template(symbol, *rest), opset, {symbol: int(size)})
            else:
                yield Case(name, shape, template(*dims), opset)


def subject(rule: str, grid: Sequence[Dims], opset: int = 21) -> Callable[[Template], Template]:
    """Register a function from dims to a model that triggers `rule`."""

    def registered(template: Template) -> Template:
        _SUBJECTS.append((rule, template, grid, opset))
        return template

    return registered


def _d(dims: Sequence[Size]) -> str:
    return ",".join(map(str, dims))


LASTS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 64)
ELEMENTWISE: list[Dims] = [
    *[(size,) for size in (1, 8, 1_000, 100_000)],
    *[(max(1, size // last), last) for last in LASTS for size in (64, 4_000, 100_000)],
    *[(2, 50, last) for last in (1, 3, 8, 64)],
    *[(1, 8, size, size) for size in (1, 2, 4, 32, 128)],
    *[(2, 3, 5, 8, last) for last in (1, 2, 7, 32)],
    *[(f"n*{size}", last) for last in (1, 3, 64) for size in (1, 100, 20_000)],
    *[(f"n*{size}", 16, last) for last in (1, 64) for size in (1, 200)],
]
"""Shapes for operators that treat each element for itself."""
ROWS: list[Dims] = [dims for dims in ELEMENTWISE if len(dims) > 1]
"""Shapes for operators along the last axis."""

_GELU = "<float root = {1.41421356}, float one = {1}, float half = {0.5}>"


def elementwise(rule: str, constants: str, body: str, grid: Sequence[Dims] = (), opset: int = 21) -> None:
    """Register a subject with one input x and one output y of the same shape."""

    @subject(rule, grid or ELEMENTWISE, opset)
    def _(*dims: Size) -> str:
        return f"g (float[{_d(dims)}] x) => (float[{_d(dims)}] y) {constants} {{ {body} }}"


elementwise("recognize-gelu", _GELU, "i = Div(x, root)  e = Erf(i)  a = Add(e, one)  g = Mul(x, a)  y = Mul(g, half)")
elementwise(
    "recognize-gelu-tanh",
    "<float c = {0.044715}, float s = {0.7978845608}, float one = {1}, float half = {0.5}, float three = {3}>",
    "p = Pow(x, three)  b = Mul(p, c)  q = Add(x, b)  i = Mul(q, s)  t = Tanh(i)  a = Add(t, one)  h = Mul(x, half)"
    "  y = Mul(h, a)",
)
_SIX = "<float three = {3}, float zero = {0}, float six = {6}>"
elementwise("recognize-hard-swish", _SIX, "a = Add(x, three)  c = Clip(a, zero, six)  m = Mul(x, c)  y = Div(m, six)")
elementwise("recognize-hard-sigmoid", _SIX, "a = Add(x, three)  c = Clip(a, zero, six)  y = Div(c, six)")
elementwise(
    "outline-functions",
    "<float a = {0.1}, float zero = {0}>",
    "t = Less(x, zero)  l = Mul(x, a)  y = Where(t, l, x)",
)
elementwise("decompose-elu", "", "y = Elu(x)")
elementwise("decompose-mish", "", "s = Softplus(x)  t = Tanh(s)  y = Mul(t, x)")
elementwise("pow2-to-mul", "<float two = {2}>", "y = Pow(x, two)")
elementwise("pow-half-to-sqrt", "<float half = {0.5}>", "a = Abs(x)  y = Pow(a, half)")
elementwise("merge-clips", "<float low = {-1}, float high = {6}>", "r = Relu(x)  y = Clip(r, low, high)")
elementwise("where-greater-to-max", "<float k = {0.5}>", "c = Greater(x, k)  y = Where(c, x, k)")
elementwise("max-zero-to-relu", "<float zero = {0}>", "y = Max(x, zero)")
elementwise("expand-scalar-rank", "<float half = {0.5}>", "y = Mul(x, half)")
elementwise("expand-scalar-rank", "<float low = {-0.5}>", "a = Max(x, low)  y = Div(low, a)")
elementwise("expand-scalar-rank", "<float k = {1.702}>", "a = Mul(x, k)  s = Sigmoid(a)  y = Mul(x, s)", opset=17)
elementwise(
    "expand-scalar-rank",
    _GELU,
    "i = Div(x, root)  e = Erf(i)  a = Add(e, one)  g = Mul(x, a)  y = Mul(g, half)",
    opset=17,
)
elementwise("mul-reciprocal-to-div", "", "a = Exp(x)  r = Reciprocal(a)  y = Mul(x, r)")
elementwise(
    "where-one-zero-to-cast",
    "<float one = {1}, float zero = {0}>",
    "c = Greater(x, zero)  w = Where(c, one, zero)  y = Exp(w)",
)
elementwise("factor-residual-gate", "", "g = Sigmoid(x)  m = Mul(x, g)  y = Add(x, m)")
elementwise(
    "scale-shift-to-batchnorm",
    "<float s = {2}, float t = {0.5}>",
    "r = Tanh(x)  a = Mul(s, r)  b = Add(a, t)  y = Tanh(b)",
)


@subject("factor-residual-gate", [(1, 8, 1, 1), (1, 64, 7, 7), (1, 64, 56, 56), (8, 16, 3, 1), (1, 100, 10, 1)])
def _gate(*dims: Size) -> str:
    image, gate = _d(dims), _d((*dims[:2], 1, 1))
    return f"g (float[{image}] x, float[{gate}] g) => (float[{image}] y) {{ m = Mul(x, g)  y = Add(x, m) }}"


@subject("recognize-layer-normalization", ROWS)
def _layer_normalization(*dims: Size) -> str:
    last, shape = dims[-1], _d(dims)
    constants = (
        f"<float[{last}] w, float[{last}] b, float two = {{2}}, float eps = {{0.00001}}, int64[1] axes = {{-1}}>"
    )
    return f"""g (float[{shape}] x) => (float[{shape}] y) {constants} {{
        m = ReduceMean(x, axes)  d = Sub(x, m)  p = Pow(d, two)  v = ReduceMean(p, axes)
        e = Add(v, eps)  s = Sqrt(e)  n = Div(d, s)  a = Mul(n, w)  y = Add(a, b) }}"""


@subject("recognize-rms-normalization", ROWS, opset=23)
def _rms_normalization(*dims: Size) -> str:
    last, shape = dims[-1], _d(dims)
    constants = f"<float[{last}] w, float two = {{2}}, float eps = {{0.00001}}, int64[1] axes = {{-1}}>"
    return f"""g (float[{shape}] x) => (float[{shape}] y) {constants} {{
        p = Pow(x, two)  v = ReduceMean(p, axes)  e = Add(v, eps)  s = Sqrt(e)  n = Div(x, s)  y = Mul(w, n) }}"""


@subject("add-to-sum-before-norm", ROWS)
def _sum_before_normalization(*dims: Size) -> str:
    last, shape = dims[-1], _d(dims)
    return f"""g (float[{shape}] x, float[{shape}] r) => (float[{shape}] y) <float[{last}] scale, float[{last}] bias> {{
        a = Add(x, r)  y = LayerNormalization(a, scale, bias) }}"""


@subject("upcast-fp16-functions", ROWS)
def _softmax_of_halves(*dims: Size) -> str:
    return f"g (float16[{_d(dims)}] x) => (float16[{_d(dims)}] y) {{ y = Softmax(x) }}"


@subject("upcast-fp16-functions", ELEMENTWISE)
def _gelu_of_halves(*dims: Size) -> str:
    return f"g (float16[{_d(dims)}] x) => (float16[{_d(dims)}] y) {{ y = Gelu(x) }}"


@subject("decompose-softmax-outer-axis", [(1, c, h, h) for c in (2, 5, 20, 81) for h in (1, 2, 8, 32, 128)])
def _softmax_outer(*dims: Size) -> str:
    return f"g (float[{_d(dims)}] x) => (float[{_d(dims)}] y) {{ y = Softmax<axis = 1>(x) }}"


PAIRS: list[Dims] = [
    (batch, rows, last) for batch in (1, 16, 2_000) for rows in (1, 8, 32, 128) for last in (1, 2, 3, 8, 32, 64)
] + [(f"n*{batch}", 64, last) for batch in (1, 2_000) for last in (1, 3, 32)]


@subject("outer-product-to-matmul", PAIRS)
def _outer_product(batch: Size, rows: Size, last: Size) -> str:
    return f"""g (float[{batch},{rows},1] u, float[{batch},1,{last}] v) => (float[{batch},{rows},{last}] y) {{
        y = Mul(v, u) }}"""


@subject("materialize-narrow-broadcast", PAIRS)
def _row_gates(batch: Size, rows: Size, last: Size) -> str:
    return f"""g (float[{batch},{rows},1] gate, float[{batch},{rows},{last}] v) => (float[{batch},{rows},{last}] y) {{
        y = Mul(v, gate) }}"""


@subject("eliminate-broadcast-expand", PAIRS)
def _expansion(batch: Size, rows: Size, last: Size) -> str:
    return f"""g (float[{batch},{rows},1] x, float[{batch},{rows},{last}] z) => (float[{batch},{rows},{last}] y) {{
        d = Shape(z)  a = Expand(x, d)  y = Add(a, z) }}"""


@subject("eliminate-broadcast-expand", PAIRS)
def _expansion_of_rows(batch: Size, rows: Size, last: Size) -> str:
    return f"""g (float[1,1,{last}] x, float[{batch},{rows},{last}] z) => (float[{batch},{rows},{last}] y) {{
        d = Shape(z)  a = Expand(x, d)  y = Add(a, z) }}"""


TABLES: list[Dims] = [(b, n, d) for b in (1, 64, 4_096) for n in (2, 4, 32, 256) for d in (1, 3, 16, 128)]


@subject("onehot-matmul-to-gather", TABLES)
def _one_hot(batch: Size, classes: Size, width: Size) -> str:
    return f"""g (float[{batch},{classes}] x) => (float[{batch},{width}] y)
        <float[{classes},{width}] w, int64 depth = {{{classes}}}, float[2] pair = {{0, 1}}> {{
        i = ArgMax<axis = 1, keepdims = 0>(x)  o = OneHot(i, depth, pair)  y = MatMul(o, w) }}"""


@subject("equal-matmul-to-gather", TABLES)
def _comparison(batch: Size, classes: Size, width: Size) -> str:
    numbers = ", ".join(map(str, range(int(classes))))
    return f"""g (float[{batch},{classes}] x) => (float[{batch},{width}] y)
        <int64[{classes}] n = {{{numbers}}}, float[{classes},{width}] w> {{
        i = ArgMax<axis = 1, keepdims = 1>(x)  e = Equal(i, n)  c = Cast<to = 1>(e)  y = MatMul(c, w) }}"""


EDGES: list[Dims] = [(e, n, d) for e in (1, 60, 24_000) for n in (4, 500) for d in (1, 2, 3, 8, 64)] + [
    (f"e*{e}", 100, d) for e in (1, 5_000) for d in (1, 16)
]


@subject("gather-elements-to-gather", EDGES)
def _gather_elements(edges: Size, nodes: Size, width: Size) -> str:
    return f"""g (float[{nodes},{width}] x, float[{edges},{nodes}] z) => (float[{edges},{width}] y)
        <int64[1] one = {{1}}, int64[1] width = {{{width}}}> {{
        i = ArgMax<axis = 1, keepdims = 0>(z)  u = Unsqueeze(i, one)  s = Shape<end = 1>(z)
        d = Concat<axis = 0>(s, width)  p = Expand(u, d)  y = GatherElements<axis = 0>(x, p) }}"""


@subject("flatten-scatter-elements", EDGES)
def _scatter_elements(edges: Size, nodes: Size, width: Size) -> str:
    return f"""g (float[{nodes},2,{width}] x, float[{edges},{nodes}] z, float[{edges},2,{width}] u)
        => (float[{nodes},2,{width}] y) <int64[2] ends = {{1, 2}}, int64[2] width = {{2, {width}}}> {{
        i = ArgMax<axis = 1, keepdims = 0>(z)  r = Unsqueeze(i, ends)  s = Shape<end = 1>(z)
        d = Concat<axis = 0>(s, width)  p = Expand(r, d)
        y = ScatterElements<axis = 0, reduction = "add">(x, p, u) }}"""


PRODUCTS: list[Dims] = [(1, 2, 3, 4), (1, 8, 1, 16), (1, 8, 64, 64), (4, 12, 128, 64), (1, 1, 1, 1), (64, 4, 8, 8)]


@subject("einsum-to-matmul", PRODUCTS)
def _einsum(batch: Size, heads: Size, rows: Size, size: Size) -> str:
    shape = f"{batch},{heads},{rows},{size}"
    return f"""g (float[{shape}] q, float[{shape}] k) => (float[{batch},{heads},{rows},{rows}] y) {{
        y = Einsum<equation = "bhid,bhjd->bhij">(q, k) }}"""


@subject("einsum-to-matmul", PRODUCTS)
def _einsum_of_inner_heads(batch: Size, heads: Size, rows: Size, size: Size) -> str:
    shape = f"{batch},{rows},{heads},{size}"
    return f"""g (float[{shape}] q, float[{shape}] k) => (float[{batch},{heads},{rows},{rows}] y) {{
        y = Einsum<equation = "bihd,bjhd->bhij">(q, k) }}"""


LINEAR: list[Dims] = [(rows, d, m) for rows in (1, 16, 512) for d in (1, 8, 128) for m in (1, 3, 64, 512)] + [
    (f"n*{rows}", 64, 64) for rows in (1, 512)
]


@subject("reassociate-constant-matmuls", LINEAR)
def _two_products(rows: Size, width: Size, out: Size) -> str:
    return f"""g (float[{rows},{width}] x) => (float[{rows},{out}] y) <float[{width},64] a, float[64,{out}] b> {{
        h = MatMul(x, a)  y = MatMul(h, b) }}"""


@subject("fold-output-scale", LINEAR)
def _scale_after(rows: Size, width: Size, out: Size) -> str:
    return f"""g (float[{rows},{width}] x) => (float[{rows},{out}] y) <float[{width},{out}] w, float[{out}] s> {{
        h = MatMul(x, w)  y = Mul(h, s) }}"""


@subject("fold-input-shift", LINEAR)
def _shift_before(rows: Size, width: Size, out: Size) -> str:
    return f"""g (float[{rows},{width}] x) => (float[{rows},{out}] y) <float[{width},{out}] w, float[{width}] s> {{
        h = Add(x, s)  y = MatMul(h, w) }}"""


@subject("fold-output-shift", LINEAR)
def _gemm(rows: Size, width: Size, out: Size) -> str:
    return f"""g (float[{rows},{width}] x) => (float[{rows},{out}] y) <float[{width},{out}] w, float[{out}] s> {{
        h = MatMul(x, w)  y = Add(h, s) }}"""


@subject("fold-batchnorm-into-next-linear", LINEAR)
def _batchnorm_before(rows: Size, width: Size, out: Size) -> str:
    weights = f"float[{width}] s, float[{width}] b, float[{width}] m, float[{width}] variance"
    return f"""g (float[{rows},{width}] x) => (float[{rows},{out}] y)
        <{weights.replace("variance", "var")}, float[{width},{out}] w> {{
        h = BatchNormalization(x, s, b, m, var)  y = MatMul(h, w) }}"""


@subject("merge-lora", LINEAR)
def _adapter(rows: Size, width: Size, out: Size) -> str:
    return f"""g (float[{rows},{width}] x) => (float[{rows},{out}] y)
        <float[{width},{out}] w, float[{width},4] a, float[4,{out}] b> {{
        p = MatMul(x, w)  h = MatMul(x, a)  q = MatMul(h, b)  y = Add(p, q) }}"""


@subject("merge-reductions", [(2, 3, 4), (1, 100, 1), (8, 16, 16), (64, 128, 64), (1, 1, 1), (16, 1_000, 3)])
def _two_means(*dims: Size) -> str:
    return f"""g (float[{_d(dims)}] x) => (float[{dims[0]}] y) <int64[1] last = {{-1}}> {{
        a = ReduceMean<keepdims = 0>(x, last)  y = ReduceMean<keepdims = 0>(a, last) }}"""


CONVS: list[Dims] = [
    (1, c, m, s)
    for c, m in ((1, 8), (3, 16), (3, 20), (8, 8), (10, 16), (16, 28), (28, 48), (64, 64), (32, 129))
    for s in (1, 4, 16, 56)
] + [(f"n*{n}", 16, 16, 24) for n in (1, 8)]


def convolution(rule: str, constants: str, body: str, grid: Sequence[Dims] = (), out: str = "{m},{s},{s}") -> None:
    """Register a subject over [n, c, s, s] with two 3x3 convolutions, of m channels, around `body` (from p to q)."""

    @subject(rule, grid or CONVS)
    def _(batch: Size, channels: Size, m: Size, size: Size) -> str:
        sizes = {"m": m, "s": size, "c": channels, "t": int(size) + 2}
        return f"""g (float[{batch},{channels},{size},{size}] x) => (float[{batch},{out.format(**sizes)}] y)
            <float[{m},{channels},3,3] w, float[{m}] b, float[{m},{m},3,3] v{constants.format(**sizes)}> {{
            p = Conv<pads = [1, 1, 1, 1]>(x, w, b)  {body.format(**sizes)}  y = Conv<pads = [1, 1, 1, 1]>(q, v) }}"""


convolution("pad-conv-channels", "", "q = Relu(p)")
convolution("pad-conv-channels", "", "q = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(p)")
convolution("decompose-prelu", ", float[{m},1,1] slope", "q = PRelu(p, slope)")
convolution(
    "decompose-lrn",
    "",
    "q = LRN<size = 5, alpha = 0.1, beta = 0.75, bias = 2.0>(p)",
    [(1, 3, m, s) for m in (4, 16, 96) for s in (8, 28, 56, 128)],
)
convolution(
    "scale-shift-to-batchnorm", ", float[1] s = {{2}}, float[1] t = {{0.5}}", "r = Relu(p) a = Mul(s, r) q = Add(a, t)"
)
convolution(
    "scale-shift-to-batchnorm", ", float[{m},1,1] s, float[{m},1,1] t", "r = Relu(p) a = Mul(r, s) q = Add(a, t)"
)
convolution("commute-scale-shift", ", float s = {{2}}, float t = {{0.5}}", "r = Tanh(p) a = Mul(r, s) q = Add(a, t)")
convolution(
    "fold-batchnorm-into-conv",
    ", float[{m}] s, float[{m}] t, float[{m}] mean, float[{m}] var",
    "r = BatchNormalization(p, s, t, mean, var)  q = Relu(r)",
)
convolution(
    "fold-pad-into-conv",
    ", int64[8] pads = {{0, 0, 1, 1, 0, 0, 1, 1}}",
    "r = Relu(p)  q = Pad(r, pads)",
    out="{m},{t},{t}",
)
convolution(
    "split-conv",
    ", int64[2] parts = {{{m}, {m}}}, float[{m},{m},1,1] u, float[{m},{m},1,1] t",
    "k = Concat<axis = 0>(u, t)  o = Conv(p, k)  r = Sigmoid(o)  a, e = Split<axis = 1>(r, parts)  q = Mul(a, e)",
)
convolution(
    "softmax2-to-sigmoid",
    ", float[2,{m},1,1] u, float[2] d, float[{m},2,1,1] t",
    "a = Conv(p, u, d)  e = Softmax<axis = 1>(a)  q = Conv(e, t)",
)
convolution(
    "merge-parallel-convs",
    ", float[{m},{m},3,3] k, float[{m},{m},1,1] u",
    "i = Conv<pads = [1, 1, 1, 1]>(p, k)  j = Conv(p, u)  q = Add(i, j)",
)
convolution(
    "merge-repvgg-identity",
    ", float[{m},{m},3,3] k, float[{m}] bias, float[{m}] s, float[{m}] t, float[{m}] mean, float[{m}] var",
    "i = Conv<pads = [1, 1, 1, 1]>(p, k, bias)  j = BatchNormalization(p, s, t, mean, var)  q = Add(i, j)",
)


@subject(
    "decompose-conv-winograd",
    [
        (n, c, m, s)
        for n in (1, "n*1", "n*8")
        for c, m in ((16, 16), (32, 64), (64, 64), (128, 128), (256, 256))
        for s in (4, 8, 14, 28, 56)
    ],
)
def _winograd(batch: Size, channels: Size, out: Size, size: Size) -> str:
    return f"""g (float[{batch},{channels},{size},{size}] x) => (float[{batch},{out},{size},{size}] y)
        <float[{out},{channels},3,3] w, float[{out}] b> {{ c = Conv<pads = [1, 1, 1, 1]>(x, w, b)  y = Relu(c) }}"""


SOUNDS: list[Dims] = [
    (n, c, length) for n in (1, "n*1", "n*8") for c in (1, 8, 16, 20, 64, 128) for length in (1, 8, 100, 1_000)
]


@subject("conv1d-to-conv2d", SOUNDS)
def _sounds(batch: Size, channels: Size, length: Size) -> str:
    return f"""g (float[{batch},{channels},{length}] x) => (float[{batch},{channels},{length}] y)
        <float[{channels},{channels},3] w, float[{channels},{channels},3] v> {{
        a = Conv<pads = [1, 1]>(x, w)  r = Relu(a)  y = Conv<pads = [1, 1]>(r, v) }}"""


IMAGES: list[Dims] = [(1, c, s) for c in (1, 3, 16, 64) for s in (1, 3, 16, 64)] + [("n*4", 8, 32)]


@subject("resize-nearest-to-asymmetric", IMAGES)
def _nearest(batch: Size, channels: Size, size: Size) -> str:
    s = int(size)
    return f"""g (float[{batch},{channels},{s},{s}] x) => (float[{batch},{channels},{2 * s},{2 * s}] y)
        <float[4] s = {{1, 1, 2, 2}}> {{ y = Resize<mode = "nearest",
        coordinate_transformation_mode = "half_pixel", nearest_mode = "round_prefer_floor">(x, , s) }}"""


def _cubic(dims: str, ratio: float, size: Size, attributes: str = "") -> str:
    to = max(1, round(ratio * int(size)))
    return f"""g (float[{dims},{size},{size}] x) => (float[{dims},{to},{to}] y)
        <int64[2] s = {{{to}, {to}}}> {{ y = Resize<mode = "cubic", axes = [2, 3]{attributes}>(x, , , s) }}"""


CUBIC: list[Dims] = [*IMAGES, (1, 1, 2), (1, 1, 8), (1, 64, 8), (1, 3, 224), (1, 3, 512), (1, 3, 1_024), (1, 768, 14)]


@subject("resize-cubic-to-matmul", CUBIC)
def _cubic_up(batch: Size, channels: Size, size: Size) -> str:
    return _cubic(f"{batch},{channels}", 1.5, size)


@subject("resize-cubic-to-matmul", CUBIC)
def _cubic_down(batch: Size, channels: Size, size: Size) -> str:
    return _cubic(f"{batch},{channels}", 0.5, size)


@subject("resize-cubic-to-matmul", CUBIC)
def _cubic_antialiased(batch: Size, channels: Size, size: Size) -> str:
    return _cubic(f"{batch},{channels}", 0.75, size, ", antialias = 1")


@subject("resize-cubic-to-matmul", [(1, c, s) for c in (64, 280, 300, 768) for s in (2, 14, 32)])
def _cubic_table(grid: Size, channels: Size, size: Size) -> str:
    return f"""g (int64[{grid}] rows, float[1,{channels},{size},{size}] table) => (float[1,{channels},h,w] y)
        <int64[2] lead = {{1, {channels}}}> {{ to = Concat<axis = 0>(lead, rows, rows)
        y = Resize<mode = "cubic">(table, , , to) }}"""


@subject("swap-resize-conv1x1", IMAGES)
def _resize(batch: Size, channels: Size, size: Size) -> str:
    return f"""g (float[{batch},{channels},{size},{size}] x) => (float[{batch},8,{2 * int(size)},{2 * int(size)}] y)
        <float[4] s = {{1, 1, 2, 2}}, float[8,{channels},1,1] w, float[8] b> {{
        r = Resize<mode = "linear">(x, , s)  y = Conv(r, w, b) }}"""


@subject("simplify-views", IMAGES)
def _depth_to_space(batch: Size, channels: Size, size: Size) -> str:
    c, s = int(channels), int(size)
    return f"""g (float[{batch},{4 * c},{s},{s}] x) => (float[{batch},{c},{2 * s},{2 * s}] y)
        <int64[6] s = {{0, {c}, 2, 2, {s}, {s}}}, int64[4] t = {{0, {c}, {2 * s}, {2 * s}}}> {{
        a = Reshape(x, s)  b = Transpose<perm = [0, 1, 4, 2, 5, 3]>(a)  c = Reshape(b, t)  y = Neg(c) }}"""


@subject("simplify-views", IMAGES)
def _space_to_depth(batch: Size, channels: Size, size: Size) -> str:
    c, s = int(channels), int(size)
    return f"""g (float[{batch},{c},{2 * s},{2 * s}] x) => (float[{batch},{4 * c},{s},{s}] y)
        <int64[6] s = {{0, {c}, {s}, 2, {s}, 2}}, int64[4] t = {{0, {4 * c}, {s}, {s}}}> {{
        a = Reshape(x, s)  b = Transpose<perm = [0, 3, 5, 1, 2, 4]>(a)  c = Reshape(b, t)  y = Neg(c) }}"""


@subject("simplify-views", IMAGES)
def _shuffle(batch: Size, channels: Size, size: Size) -> str:
    c, s = int(channels), int(size)
    return f"""g (float[{batch},{2 * c},{s},{s}] x) => (float[{batch},{2 * c},{s},{s}] y)
        <int64[5] s = {{0, 2, {c}, {s}, {s}}}, int64[4] t = {{0, {2 * c}, {s}, {s}}}> {{
        a = Reshape(x, s)  b = Transpose<perm = [0, 2, 1, 3, 4]>(a)  c = Reshape(b, t)  y = Neg(c) }}"""


@subject("recognize-group-normalization", IMAGES)
def _group_normalization(batch: Size, channels: Size, size: Size) -> str:
    c, s = 2 * int(channels), int(size)
    constants = f"""<int64[3] apart = {{0, 2, -1}}, int64[4] whole = {{0, {c}, {s}, {s}}}, float[2] one = {{1, 1}},
        float[2] none = {{0, 0}}, float[{c},1,1] w, float[1,{c},1,1] b>"""
    return f"""g (float[{batch},{c},{s},{s}] x) => (float[{batch},{c},{s},{s}] y) {constants} {{
        g = Reshape(x, apart)  n = InstanceNormalization(g, one, none)  r = Reshape(n, whole)  s = Mul(r, w)
        y = Add(s, b) }}"""


@subject("propagate-transposes", IMAGES)
def _channels_last(batch: Size, channels: Size, size: Size) -> str:
    c, s = int(channels), int(size)
    return f"""g (float[{batch},{s},{s},{c}] x) => (float[{batch},{s},{s},8] y)
        <float[8,{c},3,3] w, float[8,8,3,3] v, float k = {{0.5}}> {{
        a = Transpose<perm = [0, 3, 1, 2]>(x)  b = Conv<pads = [1, 1, 1, 1]>(a, w)
        d = Transpose<perm = [0, 2, 3, 1]>(b)
        e = Add(d, k)  f = Relu(e)  h = Transpose<perm = [0, 3, 1, 2]>(f)  i = Conv<pads = [1, 1, 1, 1]>(h, v)
        y = Transpose<perm = [0, 2, 3, 1]>(i) }}"""


ATTENTION: list[Dims] = [
    (b, s, h, d)
    for b in (1, "b*1", "b*8")
    for s in (1, 2, 16, 128, 1_024)
    for h, d in ((1, 8), (4, 32), (12, 64))
    if s != 1_024 or h != 12
]


@subject("fuse-sdpa", ATTENTION, opset=17)
def _attention(batch: Size, rows: Size, heads: Size, size: Size) -> str:
    width = int(heads) * int(size)
    heads_of = "Transpose<perm = [0, 2, 1, 3]>"
    return f"""g (float[{batch},{rows},{width}] x) => (float[{batch},{rows},{width}] y)
        <float[{width},{width}] wq, float[{width},{width}] wk, float[{width},{width}] wv, float c = {{0.25}},
        int64[4] apart = {{0, 0, {heads}, {size}}}, int64[3] whole = {{0, 0, {width}}}> {{
        q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)
        qa = Reshape(q, apart)  ka = Reshape(k, apart)  va = Reshape(v, apart)
        qh = {heads_of}(qa)  kt = Transpose<perm = [0, 2, 3, 1]>(ka)  vh = {heads_of}(va)
        p = MatMul(qh, kt)  d = Mul(p, c)  w = Softmax(d)  m = MatMul(w, vh)  o = {heads_of}(m)
        y = Reshape(o, whole) }}"""


@subject("fuse-rotary-embedding", ATTENTION, opset=23)
def _rotary(batch: Size, rows: Size, heads: Size, size: Size) -> str:
    half, width = int(size) // 2, int(heads) * int(size)
    return f"""g (float[{batch},{rows},{width}] v, float[1,{rows},{half}] angle)
        => (float[{batch},{heads},{rows},{size}] y)
        <int64[1] zero = {{0}}, int64[1] half = {{{half}}}, int64[1] end = {{{size}}},
        int64[1] axis = {{3}}, int64[1] one = {{1}}, int64[4] apart = {{0, 0, {heads}, {size}}}> {{
        both = Concat<axis = 2>(angle, angle)  c = Cos(both)  s = Sin(both)
        ch = Unsqueeze(c, one)  sh = Unsqueeze(s, one)  r = Reshape(v, apart)  x = Transpose<perm = [0, 2, 1, 3]>(r)
        i = Mul(x, ch)  a = Slice(x, zero, half, axis)  b = Slice(x, half, end, axis)  n = Neg(b)
        t = Concat<axis = 3>(n, a)  j = Mul(t, sh)  y = Add(i, j) }}"""


@subject(
    "attention-to-flash-mha", [(b, s, h) for b in (1, "b*4") for s in (512, 1_024, 2_048) for h in (1, 8)], opset=23
)
def _long_attention(batch: Size, rows: Size, heads: Size) -> str:
    shape = f"{batch},{rows},{int(heads) * 32}"
    return f"""g (float[{shape}] q, float[{shape}] k, float[{shape}] v) => (float[{shape}] y) {{
        y = Attention<q_num_heads = {heads}, kv_num_heads = {heads}>(q, k, v) }}"""


@subject("slices-to-split", [(1, 10, 8), (1, 1, 2), (4, 100, 64), (1, 1_000, 4), ("n*8", 16, 32)])
def _slices(batch: Size, rows: Size, width: Size) -> str:
    half = int(width) // 2
    return f"""g (float[{batch},{rows},{width}] x) => (float[{batch},{rows},{half}] y)
        <int64[1] zero = {{0}}, int64[1] half = {{{half}}}, int64[1] end = {{{width}}}, int64[1] axis = {{2}}> {{
        a = Slice(x, zero, half, axis)  b = Slice(x, half, end, axis)  s = Sigmoid(a)  y = Mul(s, b) }}"""


LOOPS: list[Dims] = [(b, t, w) for b in (1, 16) for t in (1, 8, 17, 100) for w in (1, 8, 64)] + [("b*1", 40, 16)]


def loop(rule: str, body: str) -> None:
    """Register a Loop over elements `e` of width w; `body` makes `n` from the state `h`."""

    @subject(rule, LOOPS)
    def _(batch: Size, steps: Size, width: Size) -> str:
        state = f"float[{batch},{width}]"
        return f"""g (float[{steps},{batch},{width}] x, {state} h0) => ({state} y)
            <int64 steps = {{{steps}}}, float[{width},{width}] w, float[{width},{width}] r, float[{width}] b,
            float half = {{0.5}}, bool go = {{1}}> {{
            y = Loop(steps, go, h0) <body = b (int64 i, bool c, {state} h) => (bool d, {state} n) {{
                d = Identity(c)  e = Gather(x, i)  {body} }}> }}"""


_CELL = "p = MatMul(h, r)  s = Add(a, p)  n = Tanh(s)"
loop("hoist-loop-invariants", f"k = Mul(b, half)  a = Add(e, k)  {_CELL}")
loop("hoist-loop-invariants", "k = Exp(r)  l = Mul(k, half)  p = MatMul(h, l)  s = Add(e, p)  n = Tanh(s)")
loop("hoist-loop-invariants", f"z = Shape(e)  k = Expand(b, z)  a = Add(e, k)  {_CELL}")
loop("hoist-loop-matmul", "a = MatMul(e, w)  p = MatMul(h, r)  q = Add(a, p)  s = Mul(q, b)  n = Sigmoid(s)")
loop("unroll-loops", "a = Mul(h, e)  n = Sigmoid(a)")
loop(
    "simplify-loop-states",
    "j = Cast<to = 1>(i)  n0 = Cast<to = 1>(steps)  v = Less(j, n0)  m = Cast<to = 1>(v)  a = Mul(e, m)  n = Add(h, a)",
)
loop("sink-initializers", f"a = MatMul(e, w)  g = Sigmoid(a)  k = Mul(g, e)  q = Tanh(k)  {_CELL.replace('a,', 'q,')}")


@subject("masked-sum-to-where", [(b, w) for b in (1, 16, "n*400") for w in (1, 8, 64, 1_000)])
def _mask(batch: Size, width: Size) -> str:
    shape = f"{batch},{width}"
    return f"""g (bool[{batch},1] m, float[{shape}] x, float[{shape}] y) => (float[{shape}] z) {{
        n = Not(m)  c = Cast<to = 1>(m)  d = Cast<to = 1>(n)  p = Mul(c, x)  q = Mul(d, y)  z = Add(p, q) }}"""


@subject("merge-slice-matmuls", [(t, b, w) for t in (3, 16) for b in (1, 4) for w in (128, 256)])
def _pieces(steps: Size, batch: Size, width: Size) -> str:
    pieces = ", ".join(f"e{step}" for step in range(int(steps)))
    cells = " ".join(
        f"s{step} = Squeeze(e{step}, k) p{step} = MatMul(s{step}, w) "
        f"q{step} = Add(p{step}, h{step}) h{step + 1} = Tanh(q{step})"
        for step in range(int(steps))
    )
    return f"""g (float[{steps},{batch},{width}] x, float[{batch},256] h0) => (float[{batch},256] h{steps})
        <float[{width},256] w, int64[1] k = {{0}}> {{ {pieces} = Split<axis = 0, num_outputs = {steps}>(x) {cells} }}"""
