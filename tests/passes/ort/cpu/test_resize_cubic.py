"""Cubic Resize as matrix products: the same pixels in every convention that the standard has for coordinates."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.runtime import SessionOptions, open_session

CONVENTIONS = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric")
GIVEN = {
    "scales": "s = Constant<value = float[4] {1.0, 1.0, 1.7, 0.7}>()  y = Resize<ATTRIBUTES>(x, , s)",
    "sizes": "s = Constant<value_ints = [2, 16, 13, 4]>()  y = Resize<ATTRIBUTES>(x, , , s)",
    "sizes of axes": "s = Constant<value_ints = [13, 4]>()  y = Resize<axes = [-2, 3], ATTRIBUTES>(x, , , s)",
}


@pytest.mark.parametrize(("convention", "given"), product(CONVENTIONS, GIVEN))
def test_the_products_give_the_pixels_of_the_resize(convention: str, given: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 16, 11, 9)).astype(np.float32)
    for more in ("cubic_coeff_a = -0.5", "exclude_outside = 1", "antialias = 1"):
        attributes = f'mode = "cubic", coordinate_transformation_mode = "{convention}", {more}'
        text = f"g (float[2,16,11,9] x) => (float[n,16,p,q] y) {{ {GIVEN[given]} }}".replace("ATTRIBUTES", attributes)
        original = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}').SerializeToString()
        result = optimize(original, options=Options(verify=False)).model
        assert isinstance(result, ir.Model)
        assert [node.op_type for node in result.graph] == ["Transpose", "MatMul"] * 2
        plain = SessionOptions(optimize=False)
        want, got = (open_session(model, plain).run({"x": x})["y"] for model in (original, ir.to_bytes(result)))
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
