"""What `Shapes` claims about operators, and above all what it must not claim."""

import numpy as np
import onnx.parser
import onnx_ir
import pytest
from optimize_graph import ir
from optimize_graph.ir.shapes import symbolic as d
from optimize_graph.ir.shapes.evaluate import evaluate
from optimize_graph.passes.analyses import Shapes
from optimize_graph.passes.analyses.manager import AnalysisManager

N, M = d.named_dim("N"), d.named_dim("M")


def model_of(text: str, opset: int = 17) -> ir.Model:
    model = onnx_ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}'))
    ir.stamp_versions(model)
    return model


class Known:
    """The facts about a model, by the names of its values."""

    def __init__(self, text: str, opset: int = 17) -> None:
        self.model = model_of(text, opset)
        self.shapes = AnalysisManager(self.model).get(Shapes)
        self.values = {value.name: value for graph in ir.graphs(self.model) for value in graph.inputs}
        self.values |= {value.name: value for node in ir.nodes(self.model) for value in node.outputs}

    def dims(self, name: str) -> tuple[d.Dim, ...] | None:
        return self.shapes.dims(self.values[name])

    def elements(self, name: str) -> tuple[d.Dim, ...] | None:
        return self.shapes.shape_value(self.values[name])


# --- where facts come from --------------------------------------------------------------------------------------------


def test_declared_inputs_are_facts() -> None:
    known = Known("g (float[N, 3] x) => (float[a, b] y) { y = Relu(x) }")
    assert known.dims("y") == (N, 3)
    assert known.shapes.dtype(known.values["y"]) == ir.DataType.FLOAT


def test_declared_outputs_and_value_info_are_no_facts() -> None:
    known = Known("g (float[N, 3] x) => (float[7, 7] z) <float[9, 9] y> { y = Relu(x) z = Exp(y) }")
    assert known.dims("y") == known.dims("z") == (N, 3)


@pytest.mark.parametrize("name", ["?", "-1", "None"])
def test_names_that_mean_unknown_are_no_names(name: str) -> None:
    model = model_of("g (float[N, N] x) => (float[a, b] y) { y = Relu(x) }")
    model.graph.inputs[0].shape = ir.Shape([name, name])
    first, second = AnalysisManager(model).get(Shapes).dims(model.graph.outputs[0]) or ()
    assert first != second


def test_an_overridable_initializer_is_no_constant() -> None:
    known = Known("g (float[N] x, int64[1] t) => (float[a] y) <int64[1] t = {4}> { y = Reshape(x, t) }")
    assert known.elements("t") != (4,)
    (dim,) = known.dims("y") or ()
    assert isinstance(dim, d.Expr)


def test_a_constant_initializer_is_known() -> None:
    known = Known("g (float[N] x) => (float[a, b] y) <int64[2] t = {2, 2}> { y = Reshape(x, t) }")
    assert known.dims("y") == (2, 2)


def test_calls_of_functions_and_unknown_operators_are_unknown() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
    g (float[N] x) => (float[a] y) { f = my.relu(x) y = Relu(f) u = other.Op(x) }
    <domain: "my", opset_import: ["" : 17]> relu (a) => (b) { b = Relu(a) }"""
    model = onnx_ir.from_proto(onnx.parser.parse_model(text))
    ir.stamp_versions(model)
    shapes = AnalysisManager(model).get(Shapes)
    assert [shapes.rank(node.outputs[0]) for node in model.graph] == [None, None, None]


def test_a_function_that_shadows_a_standard_operator_is_a_function() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[a] y) { y = Relu(x) }
    <domain: "", opset_import: ["" : 17]> Relu (a) => (b) { b = Shape(a) }"""
    model = onnx_ir.from_proto(onnx.parser.parse_model(text))
    ir.stamp_versions(model)
    assert AnalysisManager(model).get(Shapes).dtype(model.graph.outputs[0]) is None


def test_a_node_that_breaks_its_operators_rules_is_unknown() -> None:
    known = Known("g (float[N, 3] x) => (float[a] y) { y = Concat<axis = 7>(x, x) z = Transpose<perm = [5, 6]>(x) }")
    assert known.dims("y") is None
    assert known.dims("z") is None


# --- traps by operator family -----------------------------------------------------------------------------------------


def test_adding_two_symbols_gives_neither() -> None:
    known = Known("g (float[N] x, float[M] y) => (float[a] z) { z = Add(x, y) w = Mul(y, x) }")
    assert known.dims("z") == known.dims("w")
    assert known.dims("z") not in ((N,), (M,))


def test_equal_symbols_broadcast_to_themselves() -> None:
    known = Known("g (float[N, 1, 4] x, float[N, M, 1] y) => (float[a, b, c] z) { z = Add(x, y) }")
    assert known.dims("z") == (N, M, 4)


def test_concat_adds_along_its_axis_and_lets_no_operand_speak_for_another() -> None:
    known = Known(
        """g (float[N, 4] x, float[M, 4] y, float[M, K] z) => (float[a, b] same) {
            same = Concat<axis = 0>(x, y) other = Concat<axis = 0>(x, z) }"""
    )
    assert known.dims("same") == (N + M, 4)
    (rows, columns) = known.dims("other") or ()
    assert rows == N + M
    assert columns not in (4, d.named_dim("K"))


def test_reshape_with_zero_and_minus_one() -> None:
    known = Known(
        """g (float[N, M, 12, 64] x) => (float[a, b, c] y) <int64[3] t = {0, 0, -1}, int64[2] s = {-1, 768}> {
            y = Reshape(x, t) z = Reshape(y, s) }"""
    )
    assert known.dims("y") == (N, M, 768)
    assert known.dims("z") == (N * M, 768)


def test_a_reshape_target_that_may_be_zero_may_copy_from_the_source() -> None:
    text = """g (float[K, 768] x, float[N, M] like) => (float[a, b, c] y) <int64[1] rest = {-1}> {
        s = Shape(like) t = Concat<axis = 0>(s, rest) y = Reshape%s(x, t) }"""
    zero_copies = Known(text % "")
    assert zero_copies.shapes.rank(zero_copies.values["y"]) == 3
    assert (zero_copies.dims("y") or ())[1] != M  # where M is 0 it is 768
    allowed = Known(text % "<allowzero = 1>")
    assert (allowed.dims("y") or ())[:2] == (N, M)


def test_a_reshape_target_computed_from_data_gives_only_the_rank() -> None:
    known = Known("g (float[N] x, int64[2] t) => (float[a, b] y) { y = Reshape(x, t) z = Reshape(x, t) }")
    assert len(known.dims("y") or ()) == 2
    assert set(known.dims("y") or ()).isdisjoint(known.dims("z") or ())


def test_slices_clamp() -> None:
    known = Known(
        """g (float[N] x, float[10] k) => (float[a] head)
        <int64[1] zero = {0}, int64[1] three = {3}, int64[1] last = {-1}, int64[1] far = {9223372036854775807},
         int64[1] two = {2}> {
            head = Slice(x, zero, three) all = Slice(x, zero, far) end = Slice(x, last, far)
            odd = Slice(k, zero, far, zero, two) back = Slice(k, last, far, zero, last) }"""
    )
    assert known.dims("all") == (N,)
    assert known.dims("odd") == (5,)
    (head,), (end,) = known.dims("head") or (), known.dims("end") or ()
    for size in range(5):
        assert evaluate(head, {"N": size}) == min(size, 3)
        assert evaluate(end, {"N": size}) == min(size, 1)
    assert not isinstance((known.dims("back") or ())[0], int)  # runtimes disagree about a huge end


def test_expand_keeps_a_size_that_the_target_does_not_stretch() -> None:
    known = Known(
        """g (float[N, 1] x) => (float[a, b] y) <int64[2] t = {1, 5}, int64[2] s = {7, 1}> {
            y = Expand(x, t) z = Expand(x, s) }"""
    )
    assert known.dims("y") == (N, 5)
    assert known.dims("z") == (7, 1)


def test_convolutions_round_down() -> None:
    known = Known(
        """g (float[N, 3, H, 224] x, float[8, 3, 3, 3] w) => (float[a, b, c, e] y) {
            y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) z = Conv<auto_pad = "SAME_UPPER">(x, w) }"""
    )
    batch, channels, height, width = known.dims("y") or ()
    assert (batch, channels, width) == (N, 8, 112)
    for size in (1, 2, 7, 8):
        assert evaluate(height, {"H": size}) == (size - 1) // 2 + 1
    assert known.dims("z") == (N, 8, d.named_dim("H"), 224)


def test_a_pool_whose_last_window_starts_in_the_padding_is_left_open() -> None:
    text = """g (float[1, 1, 5] x) => (float[a, b, c] y) {
        y = MaxPool<kernel_shape = [2], strides = [%s], ceil_mode = 1>(x) }"""
    assert Known(text % "2").dims("y") == (1, 1, 3)
    assert Known(text % "4").dims("y") == (1, 1, 2)
    assert not isinstance((Known(text % "5").dims("y") or ())[2], int)


def test_squeeze_without_axes_needs_every_size() -> None:
    known = Known("g (float[N, 1] x, float[1, 5, 1] y) => (float[a] z) { z = Squeeze(x) w = Squeeze(y) }")
    assert known.dims("z") is None
    assert known.dims("w") == (5,)


def test_matmul_broadcasts_batches_and_drops_vectors() -> None:
    known = Known(
        """g (float[N, 1, 4, 8] x, float[M, 8, 2] y, float[8] v) => (float[a, b, c, e] z) {
            z = MatMul(x, y) u = MatMul(x, v) w = MatMul(v, y) }"""
    )
    assert known.dims("z") == (N, M, 4, 2)
    assert known.dims("u") == (N, 1, 4)
    assert known.dims("w") == (M, 2)


def test_data_dependent_sizes_are_unknown_and_unequal() -> None:
    known = Known("g (float[N, M] x) => (int64[a, b] i) { i = NonZero(x) j = NonZero(x) }")
    assert (known.dims("i") or ())[0] == 2
    assert (known.dims("i") or ())[1] != (known.dims("j") or ())[1]


def test_reductions_read_axes_of_either_form() -> None:
    text = "g (float[N, 4, 5] x) => (float[a] y) <int64[1] axes = {-1}> { y = %s }"
    assert Known(text % "ReduceMean<axes = [-1]>(x)").dims("y") == (N, 4, 1)
    assert Known(text % "ReduceMean<keepdims = 0>(x, axes)", 18).dims("y") == (N, 4)
    assert Known(text % "ReduceMean<noop_with_empty_axes = 1>(x)", 18).dims("y") == (N, 4, 5)
    assert Known(text % "ReduceSum<keepdims = 0>(x)").dims("y") == ()


def test_operators_without_a_rule_go_through_the_standards_inference() -> None:
    known = Known("g (float[N, 3, 3] x, bool[3] c) => (float[a] y) { y = Det(x) k = Compress<axis = 1>(x, c) }")
    assert known.dims("y") == (N,)
    first, kept, last = known.dims("k") or ()
    assert (first, last) == (N, 3)
    assert isinstance(kept, d.Expr)


# --- values of shape tensors ------------------------------------------------------------------------------------------


def test_values_are_tracked_through_shape_arithmetic() -> None:
    known = Known(
        """g (float[N, M, 64] x) => (int64[a] t)
        <int64 zero = {0}, int64 one = {1}, int64[1] front = {0}, int64[1] heads = {8}, int64[1] two = {2}> {
            s = Shape(x) n = Gather(s, zero) m = Gather(s, one) half = Div(m, two) twice = Mul(n, two)
            rest = Sub(m, half) u = Unsqueeze(n, front) t = Concat<axis = 0>(u, heads, half, rest)
            size = Size(x) back = Neg(twice) same = Equal(n, n) never = Equal(n, back) part = Shape<start = 1>(x) }"""
    )
    half = d.floordiv(M, 2)
    assert known.elements("t") == (N, 8, half, M - half)
    assert known.elements("size") == (64 * N * M,)
    assert known.elements("same") == (1,)
    assert known.elements("never") != (0,)  # where N is 0 they are equal
    assert known.elements("part") == (M, 64)


def test_the_expand_idiom_of_the_torchscript_exporter_is_decided() -> None:
    known = Known(
        """g (float[N, 1] x, float[N, M] like) => (float[a, b] y)
        <int64[1] two = {2}, int64 minus = {-1}> {
            s = Shape(like) ones = ConstantOfShape<value = int64[1] {1}>(two) wild = Mul(ones, minus)
            is_wild = Equal(s, wild) t = Where(is_wild, ones, s) y = Expand(x, t) }"""
    )
    assert known.elements("t") == (N, M)
    assert known.dims("y") == (N, M)


def test_pads_as_the_torchscript_exporter_computes_them_are_followed() -> None:
    known = Known(
        """g (float[N, 8] x) => (float[a, b] y)
        <int64[4] p = {1, 2, 0, 0}, int64[2] s = {-1, 2}, int64[1] zero = {0}, int64[1] last = {-1},
         int64[1] far = {-9223372036854775807}, int64[1] flat = {-1}> {
            r = Reshape(p, s) b = Slice(r, last, far, zero, last) t = Transpose<perm = [1, 0]>(b)
            q = Reshape(t, flat) c = Cast<to = 7>(q) y = Pad(x, c) }"""
    )
    assert known.elements("c") == (0, 1, 0, 2)
    assert known.dims("y") == (N, 11)


def test_division_truncates_and_the_remainder_has_the_sign_of_its_operator() -> None:
    known = Known(
        """g (float[N] x) => (int64[a] q) <int64[2] a = {-7, 7}, int64[2] b = {2, -2}> {
            q = Div(a, b) p = Mod(a, b) c = Mod<fmod = 1>(a, b) }"""
    )
    assert known.elements("q") == (-3, -3)
    assert known.elements("p") == (1, -1)
    assert known.elements("c") == (-1, 1)


def test_elements_that_do_not_fit_their_type_are_unknown() -> None:
    known = Known("g (float[N] x) => (int64[a] y) <int32[1] big = {2147483647}> { y = Add(big, big) }")
    (element,) = known.elements("y") or ()
    assert isinstance(element, d.Expr)


def test_unknown_elements_have_no_sign() -> None:
    known = Known("g (int64[2] t, float[N] x) => (float[a, b] y) { y = ConstantOfShape(t) n = Neg(t) }")
    assert all(not d.nonnegative(each) for each in known.elements("t") or ())
    assert all(map(d.nonnegative, known.dims("y") or ()))


# --- control flow -----------------------------------------------------------------------------------------------------


def test_branches_that_disagree_leave_the_size_open() -> None:
    known = Known(
        """g (bool c, float[N, 4] x, float[M, 4] z) => (float[a, b] y) {
            y = If(c) <then_branch = t () => (float[p, q] u) { u = Relu(x) },
                       else_branch = e () => (float[r, s] v) { v = Relu(z) }> }"""
    )
    rows, columns = known.dims("y") or ()
    assert columns == 4
    assert rows not in (N, M)
    assert known.dims("u") == (N, 4)


def test_a_growing_loop_does_not_keep_its_first_size() -> None:
    known = Known(
        """g (int64 n, bool c, float[1, 4] x, float[N, 4] z) => (float[a, b] y) {
            y, kept = Loop(n, c, x, z) <body = b (int64 i, bool go, float[1, 4] u, float[N, 4] w)
                => (bool on, float[1, 4] v, float[N, 4] k) {
                on = Identity(go) v = Concat<axis = 0>(u, u) k = Relu(w) }> }"""
    )
    assert (known.dims("y") or ())[1] == 4
    assert not isinstance((known.dims("y") or ())[0], int)
    assert (known.dims("u") or ())[0] != 1
    assert known.dims("kept") == (N, 4)
    assert (known.dims("y") or ())[0] != (known.dims("u") or ())[0]


def test_a_loop_that_changes_the_rank_is_unknown() -> None:
    known = Known(
        """g (int64 n, bool c, float[4] x) => (float[a] y) <int64[1] zero = {0}> {
            y = Loop(n, c, x) <body = b (int64 i, bool go, float[4] u) => (bool on, float[1, 4] v) {
                on = Identity(go) v = Unsqueeze(u, zero) }> }"""
    )
    assert known.dims("y") is None
    assert known.dims("u") is None


def test_scan_outputs_of_a_loop_may_be_of_no_turn() -> None:
    known = Known(
        """g (int64 n, bool c, float[N] x) => (float[a] y, float[b, e] all) {
            y, all = Loop(n, c, x) <body = b (int64 i, bool go, float[N] u) => (bool on, float[N] v, float[N] s) {
                on = Identity(go) v = Relu(u) s = Exp(u) }> }"""
    )
    assert known.dims("y") == (N,)
    assert len(known.dims("all") or ()) == 2
    assert N not in (known.dims("all") or ())  # ONNX Runtime says 0 when there was no turn


def test_a_broken_loop_leaves_no_assumptions_behind() -> None:
    known = Known(
        """g (int64 n, bool c, float[4] x) => (float[a] y) {
            y = Loop(n, c, x) <body = b (int64 i, bool go, float[4] u) => (bool on) {
                on = Identity(go) r = Relu(u) }> }"""
    )
    assert known.dims("y") is None
    assert known.dims("r") is None


# --- outliving rewrites -----------------------------------------------------------------------------------------------


def test_a_new_value_adopts_what_was_known_of_the_old_one() -> None:
    known = Known("g (float[N, 3] x) => (float[a, b] y) { y = Relu(x) }")
    new = ir.new_node("Custom", [known.values["x"]], domain="my", version=1)
    known.shapes.replaced(known.values["y"], new.outputs[0])
    assert known.shapes.dims(new.outputs[0]) == (N, 3)
    assert known.shapes.same_type_and_shape(new.outputs[0], known.values["x"])


def test_a_node_in_no_graph_can_be_asked_about() -> None:
    known = Known("g (float[N, 3] x) => (float[a, b] y) { y = Relu(x) }")
    node = ir.new_node("Transpose", [known.values["x"]], {"perm": [1, 0]}, version=17)
    assert known.shapes.infer_node(node)[0].dims == (3, N)
    assert known.shapes.rank(node.outputs[0]) is None
    known.shapes.learn(node)
    assert known.shapes.dims(node.outputs[0]) == (3, N)
    assert not known.shapes.may_be_same(node.outputs[0], ir.pending_constant(np.zeros((4, 2), np.float32)))


def test_a_constant_that_belongs_to_no_graph_yet_is_known() -> None:
    known = Known("g (float[N] x) => (float[a] y) { y = Relu(x) }")
    constant = ir.pending_constant(np.array([2, 3], np.int64))
    assert known.shapes.shape_value(constant) == (2, 3)
    assert known.shapes.static(constant) == (2,)


def test_refresh_learns_of_new_nodes_and_passes_on_what_became_known() -> None:
    known = Known("g (float[N, 12] x, int64[2] t) => (float[a, b] z) { y = Reshape(x, t) z = Relu(y) }")
    reshape = known.values["y"].producer()
    assert reshape is not None
    rewriter = ir.Rewriter(known.model)
    node = ir.new_node("Reshape", [known.values["x"], ir.pending_constant(np.array([-1, 4], np.int64))], version=17)
    rewriter.insert(node, before=reshape)
    known.shapes.learn(node)
    known.shapes.replaced(known.values["y"], node.outputs[0])
    rewriter.replace(reshape, [node.outputs[0]])
    known.shapes.refresh(known.model)
    assert known.dims("z") == (3 * N, 4)


def test_same_type_and_shape_needs_proof() -> None:
    known = Known("g (float[N] x, float[M] y, float[N] z, int64[N] i) => (float[a] w) { w = Relu(x) }")
    x, y, z, i = (known.values[name] for name in "xyzi")
    assert known.shapes.same_type_and_shape(x, z)
    assert not known.shapes.same_type_and_shape(x, y)
    assert not known.shapes.same_type_and_shape(x, i)
    assert known.shapes.may_be_same(x, y)
    assert not known.shapes.may_be_same(x, i)


def test_facts_are_shown_in_words() -> None:
    known = Known("g (float[N, 3] x) => (float[a, b] y) { y = Relu(x) u = other.Op(x) }")
    assert known.shapes.show(known.values["y"]) == "FLOAT[N, 3]"
    assert known.shapes.show(known.values["u"]) == "?[?]"
