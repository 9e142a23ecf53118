"""Weights that callers may override, and results that are measured to be slower."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.jobs.measure import Measurement, Subject
from optimize_graph.jobs.optimization import evaluation
from optimize_graph.runtime import Ratio, open_session

pytestmark = pytest.mark.slow


def overridable() -> onnx.ModelProto:
    """What torch leaves with keep_initializers_as_inputs: weights that are inputs too."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        g (float[1,3,8,8] x, float[4,3,3,3] w, float[4] s) => (float[1,4,6,6] y) {
            c = Conv(x, w)  t = Constant<value_ints = [1, 4, 1, 1]>()  r = Reshape(s, t)  y = Mul(c, r) }""")
    random = np.random.default_rng(0)
    for name, shape in (("w", (4, 3, 3, 3)), ("s", (4,))):
        array = random.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def test_weights_that_are_inputs_are_told_with_their_price_and_stay() -> None:
    result = optimize(overridable())
    (warning,) = [each for each in result.remarks if each.code == "overridable-weights"]
    assert "2 weights (448 bytes) are also inputs" in warning.message and "--freeze all" in warning.hint
    assert [value.name for value in result.model.graph.inputs] == ["x", "w", "s"]
    assert result.after.nodes >= 2


def test_frozen_weights_are_constants_and_out_of_the_interface(tmp_path: Path) -> None:
    result = optimize(overridable(), tmp_path / "out.onnx", Options(freeze=("all",)))
    assert not [each for each in result.remarks if each.code == "overridable-weights"]
    assert [value.name for value in result.model.graph.inputs] == ["x"]
    assert [node.op_type for node in result.model.graph] == ["Conv"]
    assert result.verification is not None and result.verification.ok
    assert [port.name for port in open_session(tmp_path / "out.onnx").inputs] == ["x"]


def test_one_weight_can_be_frozen_by_name() -> None:
    result = optimize(overridable(), options=Options(freeze=("s",)))
    assert [value.name for value in result.model.graph.inputs] == ["x", "w"]


def test_a_name_that_no_weight_has_is_an_error_that_lists_them() -> None:
    with pytest.raises(ir.ModelError, match=r"no input with a default is called 'x' \(such inputs are: w, s\)"):
        optimize(overridable(), options=Options(freeze=("x",)))


@pytest.mark.parametrize(("speeds", "original"), [((0.8, 0.85), True), ((0.8, 1.2), False)])
@pytest.mark.parametrize("keep", [True, False])
def test_the_original_is_delivered_where_the_result_is_slower_with_confidence(
    speeds: tuple[float, float], original: bool, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = evaluation.measure_on

    def slowed(sets: list, subjects: list[Subject], *given: object, **named: object) -> Measurement:  # type: ignore[type-arg]
        found = measured(sets, subjects, *given, **named)  # type: ignore[arg-type]
        if len(list(subjects[1].model.graph)) == 3:  # the original again
            return found
        before, after = found.points[0].standings
        points = [
            replace(
                found.points[0],
                standings=(
                    before,
                    replace(after, timing=replace(after.timing, speed=Ratio(low, low - 0.05, low + 0.05, 9))),
                ),
            )
            for low in speeds
        ]
        return replace(found, points=tuple(points))

    monkeypatch.setattr(evaluation, "measure_on", slowed)
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        g (float[2,3] x) => (float[2,3] y) { a = Identity(x)  b = Identity(a)  y = Exp(b) }""")
    result = optimize(model, options=Options(measure=True, measure_seconds=0.1, keep_slower=keep))
    told = [each for each in result.remarks if each.code == "slower"]
    if original and not keep:
        assert len(list(result.model.graph)) == 3 and not result.rewrites
        assert "the result is slower here, x0.80 [0.75, 0.85]: the original is delivered" in told[0].message
        assert result.verification is not None and result.verification.ok
    else:
        assert len(list(result.model.graph)) == 1 and not told
