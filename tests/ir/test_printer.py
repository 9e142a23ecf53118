"""The textual form: readable, deterministic, weights elided."""

from __future__ import annotations

import numpy as np
import onnx.parser
from optimize_graph import ir

MODEL = """<ir_version: 10, opset_import: ["f": 1, "": 21]>
g (float[N,3] x, bool c) => (float[N,3] y) <float[3] shift = {0.1, 2, -3}, int64[1] "unused/one" = {7}> {
  a = Add (x, shift)
  b = If (c) <else_branch = e () => (float[N,3] q) { q = Elu<alpha = 0.2> (x) },
              then_branch = t () => (float[N,3] p) <float[1] k = {2}> { p = Mul (a, k) }>
  d, mask = Dropout (b)
  y = f.twice <by = 2.0, axes = [1, 2], how = "so"> (d)
}
<domain: "f", opset_import: ["": 21]>
twice <by> (v) => (r) { r = LeakyRelu <alpha: float = @by> (v) }"""

PRINTED = """\
<ir_version: 10, opset_import: ["": 21, "f": 1]>
g (float[N,3] x, bool c) => (float[N,3] y) {
  %shift: float[3] = {0.1, 2.0, -3.0}
  %unused/one: int64[1] = {7}
  a = Add (x, shift)
  b = If (c) <
    else_branch () => (float[N,3] q) {
      q = Elu <alpha = 0.2> (x)
    }
    then_branch () => (float[N,3] p) {
      %k: float[1] = {2.0}
      p = Mul (a, k)
    }
  >
  d, mask = Dropout (b)
  y = f.twice <axes = [1, 2], by = 2.0, how = "so"> (d)
}

<domain: 'f', opset_import: ["": 21]>
twice <by> (v) => (r) {
  r = LeakyRelu <alpha = @by> (v)
}
"""

CANONICAL = """\
<ir_version: 10, opset_import: ["": 21, "f": 1]>
main (float[N,3] x, bool c) => (float[N,3] y) {
  %c0: float[3] = {0.1, 2.0, -3.0}
  %c1: int64[1] = {7}
  v0 = Add (x, c0)
  v1 = If (c) <
    else_branch () => (float[N,3] v4) {
      v4 = Elu <alpha = 0.2> (x)
    }
    then_branch () => (float[N,3] v5) {
      %c2: float[1] = {2.0}
      v5 = Mul (v0, c2)
    }
  >
  v2, v3 = Dropout (v1)
  y = f.twice <axes = [1, 2], by = 2.0, how = "so"> (v2)
}

<domain: 'f', opset_import: ["": 21]>
twice <by> (i0) => (v0) {
  v0 = LeakyRelu <alpha = @by> (i0)
}
"""


def parse(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(text))


def test_a_model_reads_like_onnx_text() -> None:
    assert ir.text(parse(MODEL)) == PRINTED


def test_canonical_names_follow_the_order() -> None:
    assert ir.text(parse(MODEL), canonical=True) == CANONICAL


def test_inner_names_and_the_order_of_constants_do_not_matter_in_canonical_form() -> None:
    one = parse(
        '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y)'
        " <float[2] w = {1, 2}, float[2] b = {3, 4}> { a = Mul (x, w)  y = Add (a, b) }"
    )
    other = parse(
        '<ir_version: 8, opset_import: ["": 17]> h (float[2] x) => (float[2] y)'
        " <float[2] k = {3, 4}, float[2] s = {1, 2}> { y0 = Mul (x, s)  y = Add (y0, k) }"
    )
    assert ir.text(one, canonical=True) == ir.text(other, canonical=True)
    assert ir.text(one) != ir.text(other)


def test_a_canonical_name_never_collides_with_an_interface_name() -> None:
    model = parse('<ir_version: 8, opset_import: ["": 17]> g (float v0) => (float c0) { a = Neg (v0)  c0 = Abs (a) }')
    assert "v1 = Neg (v0)" in ir.text(model, canonical=True)


def test_large_constants_are_digests_that_depend_on_type_and_content() -> None:
    model = parse('<ir_version: 8, opset_import: ["": 17]> g (float[9] x) => (float[9] y) { y = Add (x, x) }')
    lines = set()
    for content in (np.zeros(9, np.float32), np.ones(9, np.float32), np.zeros(9, np.int32), -np.zeros(9, np.float32)):
        copy = model.clone()
        copy.graph.initializers.add(ir.pending_constant(content, name="w"))
        lines.add(next(line for line in ir.text(copy).splitlines() if "%w" in line))
        assert "w: " in ir.text(copy, digests=False)
        assert "#" not in ir.text(copy, digests=False)
    assert len(lines) == 4


def test_types_of_every_kind_are_printed() -> None:
    model = parse(
        '<ir_version: 8, opset_import: ["": 17]>'
        " g (float a, float[] b, float[?,N,3] c, seq(float[N]) d, optional(int64[1]) e) => (float y) { y = Neg (a) }"
    )
    assert "(float a, float[] b, float[?,N,3] c, seq(float[N]) d, optional(int64[1]) e)" in ir.text(model)


def test_left_out_inputs_and_outputs_are_empty_names() -> None:
    model = parse(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1] x, float hi) => (float[1] y) { y = Clip (x, , hi) }'
    )
    assert 'y = Clip (x, "", hi)' in ir.text(model)
