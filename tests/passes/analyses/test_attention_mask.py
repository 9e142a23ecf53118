"""Rows of a mask that leave no key: attention gives what Softmax and a product give, whichever kernel computes it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx.defs
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.runtime import SessionOptions, open_session

LOWEST = float(np.finfo(np.float32).min)
CONSTANTS = "int64[4] split = {0, 0, 4, 8}, int64[3] merge = {0, 0, 32}, float scale = {0.35355338}, float zero = {0}"
HEAD = """
  qs = Reshape(q, split)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)
  ks = Reshape(k, split)  kh = Transpose<perm = [0, 2, 3, 1]>(ks)
  vs = Reshape(v, split)  vh = Transpose<perm = [0, 2, 1, 3]>(vs)
  raw = MatMul(qh, kh)  scores = Mul(raw, scale)
"""
SOFTMAX = "p = Softmax<axis = -1>(z)"
GUARDED = "soft = Softmax<axis = -1>(z)  nan = IsNaN(soft)  p = Where(nan, zero, soft)"
TAIL = "m = MatMul(p, vh)  t = Transpose<perm = [0, 2, 1, 3]>(m)  y = Reshape(t, merge)"

FORMS = {
    "one row for each query": (", float[2,1,3,3] mask", "z = Add(scores, mask)"),
    "one row for all queries": (", float[2,1,1,3] mask", "z = Add(scores, mask)"),
    "two masks": (", float[2,1,3,3] mask, float[2,1,1,3] other", "b = Add(scores, mask)  z = Add(b, other)"),
}

ROWS = {
    "lowest": [LOWEST] * 3,
    "near the lowest": [-3.3e38] * 3,
    "large": [-1e9] * 3,
    "small": [-1e4] * 3,
    "infinite": [-np.inf] * 3,
    "lowest and infinite": [LOWEST, -np.inf, LOWEST],
    "near the lowest and infinite": [-3.3e38, -np.inf, -3.3e38],
    "lowest and near": [LOWEST, -3.3e38, -3.3e38],
    "lowest and open": [LOWEST, 0, LOWEST],
    "infinite and open": [-np.inf, 0, 1.5],
    "next to the lowest": [float(np.nextafter(np.float32(LOWEST), np.float32(0)))] * 3,
    "positions": [-0.7, 3.2, 1.1],
}


def model(inputs: str, middle: str, softmax: str, constants: str = CONSTANTS) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]>\ng (float[2,3,32] q, float[2,3,32] k, float[2,3,32] v{inputs}) '
        f"=> (float[2,3,32] y) <{constants}> {{ {HEAD} {middle} {softmax} {TAIL} }}"
    )


def outputs(source: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(open_session(source, SessionOptions(optimize=False)).run(feeds)["y"])


def feeds_of(proto: onnx.ModelProto, row: list[float]) -> dict[str, np.ndarray]:
    """The first sample has `row` for each query and the second has an open first key."""
    generator = np.random.default_rng(7)
    found: dict[str, np.ndarray] = {}
    for each in proto.graph.input:
        dims = tuple(dim.dim_value for dim in each.type.tensor_type.shape.dim)
        if each.name in "qkv":
            found[each.name] = generator.standard_normal(dims).astype(np.float32)
        elif each.name == "keep":
            found[each.name] = np.zeros(dims, bool)
            found[each.name][1, ..., 0] = True
        else:
            found[each.name] = np.zeros(dims, np.float32)
            found[each.name][0] = np.array(row, np.float32)
            found[each.name][1, ..., 1:] = np.array(row, np.float32)[1:]
    return found


@pytest.mark.parametrize("softmax", [SOFTMAX, GUARDED], ids=["plain", "guarded"])
@pytest.mark.parametrize("form", FORMS)
def test_attention_computes_each_mask_as_softmax_does(form: str, softmax: str) -> None:
    proto = model(*FORMS[form], softmax)
    result = optimize(proto, options=Options(strict=True, verify_each=True, verify=False))
    assert Counter(node.op_type for node in ir.nodes(result.model))["Attention"] == 1
    for name, row in ROWS.items():
        feeds = feeds_of(proto, row)
        with np.errstate(all="ignore"):
            want = outputs(proto.SerializeToString(), feeds)
        grain = 4e-3 if name == "small" else 4e-6  # scores behind two masks of -1e4 are rounded to 2**-9
        np.testing.assert_allclose(outputs(ir.to_bytes(result.model), feeds), want, atol=grain, err_msg=name)


@pytest.mark.parametrize("softmax", [SOFTMAX, GUARDED], ids=["plain", "guarded"])
@pytest.mark.parametrize("low", [LOWEST, -np.inf, -3.3e38, -1e9, -1e4])
def test_attention_computes_a_mask_chosen_among_constants_as_softmax_does(low: float, softmax: str) -> None:
    constants = f"{CONSTANTS}, float low = {{{'-inf' if np.isinf(low) else repr(low)}}}"
    inputs, middle = ", bool[2,1,3,3] keep", "f = Where(keep, zero, low)  z = Add(scores, f)"
    proto = model(inputs, middle, softmax, constants)
    result = optimize(proto, options=Options(strict=True, verify_each=True, verify=False))
    found = Counter(node.op_type for node in ir.nodes(result.model))
    assert found["Attention"] == 1
    feeds = feeds_of(proto, [low] * 3)
    want = outputs(proto.SerializeToString(), feeds)
    np.testing.assert_allclose(outputs(ir.to_bytes(result.model), feeds), want, atol=4e-6)
    # What the kernel computes as Softmax does is left as it is.
    unchanged = low > LOWEST or (softmax == GUARDED and np.isinf(low))
    assert unchanged == (not found["Mul"] and not found["Sub"])


@pytest.mark.parametrize("low", [LOWEST, -np.inf, -1e9])
def test_a_constant_mask_in_which_each_query_sees_a_key_is_left_as_it_is(low: float) -> None:
    mask = np.where(np.tri(3, dtype=bool), 0, low).astype(np.float32)
    proto = model("", "z = Add(scores, mask)", SOFTMAX)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(mask, "mask"))
    result = optimize(proto, options=Options(strict=True, verify=False))
    assert Counter(node.op_type for node in ir.nodes(result.model)) == {"Attention": 1}


@pytest.mark.parametrize("low", [LOWEST, -np.inf])
def test_a_constant_mask_that_hides_all_keys_of_a_query_is_fit_for_the_kernel_beforehand(low: float) -> None:
    mask = np.where(np.tri(3, k=-1, dtype=bool), 0, low).astype(np.float32)
    proto = model("", "z = Add(scores, mask)", SOFTMAX)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(mask, "mask"))
    result = optimize(proto, options=Options(strict=True, verify=False))
    assert Counter(node.op_type for node in ir.nodes(result.model)) == {"Attention": 1}
    feeds = feeds_of(proto, [])
    want = outputs(proto.SerializeToString(), feeds)
    np.testing.assert_allclose(outputs(ir.to_bytes(result.model), feeds), want, atol=4e-6)


@pytest.mark.parametrize("causal", [0, 1])
def test_attention_that_is_written_out_keeps_its_masks(causal: int) -> None:
    """The standard's body gives 0 for a row of -inf, and the mean for a row of the lowest float."""
    call = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 23]>\ng (float[2,2,3,8] q, float[2,2,3,8] k, float[2,2,3,8] v, '
        f"float[3,3] mask) => (float[2,2,3,8] y) {{ y = Attention<is_causal = {causal}>(q, k, v, mask) }}"
    )
    proto = written_out(call)
    result = optimize(proto, options=Options(strict=True, verify=False))
    assert Counter(node.op_type for node in ir.nodes(result.model))["Attention"] == 1
    for name, row in ROWS.items():
        generator = np.random.default_rng(7)
        feeds = {each: generator.standard_normal((2, 2, 3, 8)).astype(np.float32) for each in "qkv"}
        feeds["mask"] = np.array([row] * 3, np.float32)
        want = outputs(proto.SerializeToString(), feeds)
        np.testing.assert_allclose(outputs(ir.to_bytes(result.model), feeds), want, atol=4e-6, err_msg=name)


def written_out(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its only call as the nodes of the standard's function body."""
    (node,) = proto.graph.node
    types = [each.type.SerializeToString() for each in proto.graph.input]
    schema = onnx.defs.get_schema(node.op_type, 23)
    body = onnx.FunctionProto.FromString(
        schema.get_context_dependent_function_with_opset_version(23, node.SerializeToString(), types)
    )
    names = dict(zip(body.input, node.input, strict=False)) | dict(zip(body.output, node.output, strict=False))
    names |= dict.fromkeys(body.input[len(node.input) :], "")
    nodes = []
    for each in body.node:
        copied = onnx.NodeProto.FromString(each.SerializeToString())
        for place in (copied.input, copied.output):
            renamed = [names.get(name, name) for name in place]
            del place[:]
            place.extend(renamed)
        nodes.append(copied)
    graph = onnx.helper.make_graph(nodes, "g", list(proto.graph.input), list(proto.graph.output))
    return onnx.helper.make_model(graph, opset_imports=list(proto.opset_import), ir_version=10)


# --- boolean masks ----------------------------------------------------------------------------------------------------

SPELLINGS = {
    "kept keys added": "f = Where(keep, zero, low)  z = Add(scores, f)",
    "hidden keys added": "n = Not(keep)  f = Where(n, low, zero)  z = Add(scores, f)",
    "kept scores": "z = Where(keep, scores, low)",
    "hidden scores": "n = Not(keep)  z = Where(n, low, scores)",
    "one minus the mask, times the lowest": (
        "c = Cast<to = 1>(keep)  d = Sub(one, c)  f = Mul(d, low)  z = Add(scores, f)"
    ),
    "the mask as numbers, cast back": "c = Cast<to = 1>(keep)  b = Cast<to = 9>(c)  z = Where(b, scores, low)",
    "kept scores behind a mask of the lowest": (
        "c = Where(causal, zero, least)  s = Add(scores, c)  z = Where(keep, s, low)"
    ),
    "a mask of the lowest behind kept scores": (
        "c = Where(causal, zero, least)  s = Where(keep, scores, low)  z = Add(s, c)"
    ),
    "hidden by comparison": "c = Cast<to = 7>(keep)  e = Equal(c, none)  z = Where(e, low, scores)",
}
KEPT = {
    "wholly masked rows": np.array([[0, 0, 0], [1, 1, 1]], bool),
    "left padding": np.array([[0, 0, 1], [0, 1, 1]], bool),
    "right padding": np.array([[1, 0, 0], [1, 1, 0]], bool),
    "nothing masked": np.ones((2, 3), bool),
    "everything masked": np.zeros((2, 3), bool),
}
DIMS = {"one row for all queries": "2,1,1,3", "one row for each query": "2,1,3,3"}


def boolean(spelling: str, dims: str, softmax: str, low: float, opset: int) -> onnx.ModelProto:
    number = "-inf" if np.isinf(low) else repr(low)
    constants = f"{CONSTANTS}, float low = {{{number}}}, float one = {{1}}, int64 none = {{0}}, "
    constants += f"float least = {{{LOWEST!r}}}, bool[3,3] causal = {{1, 0, 0, 1, 1, 0, 1, 1, 1}}"
    proto = model(f", bool[{dims}] keep", SPELLINGS[spelling], softmax, constants)
    proto.opset_import[0].version = opset
    return proto


@pytest.mark.parametrize("options", [{}, {"opset": 17}], ids=["raised", "opset kept"])
@pytest.mark.parametrize("softmax", [SOFTMAX, GUARDED], ids=["plain", "guarded"])
@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_boolean_mask_gives_what_it_gives_in_the_original(
    spelling: str, dims: str, softmax: str, options: dict[str, object]
) -> None:
    for low in (LOWEST, -np.inf, *([-1e9] if "Add(" not in SPELLINGS[spelling] else [])):
        if np.isinf(low) and "Mul(d, low)" in SPELLINGS[spelling]:
            continue  # 0 * -inf is NaN for every key that is kept
        proto = boolean(spelling, DIMS[dims], softmax, low, 17)
        # Not strict: that runs all twice to see that it is deterministic, which the tests above do.
        result = optimize(proto, options=Options(verify=False, **options))  # type: ignore[arg-type]
        assert not result.isolated
        found = Counter(node.op_type for node in ir.nodes(result.model))
        # A guard against NaN stays as it is for MultiHeadAttention.
        is_guarded = np.isinf(low) or "Add(s, c)" in SPELLINGS[spelling]  # two masks add up to -inf
        is_fused = not (options and softmax == GUARDED and is_guarded)
        assert found["Attention"] + found["MultiHeadAttention"] == is_fused
        before, after = (
            open_session(each, SessionOptions(optimize=False))
            for each in (proto.SerializeToString(), ir.to_bytes(result.model))
        )
        feeds = feeds_of(proto, [0.0] * 3)
        feeds["q"] *= 30  # scores of some hundred, which -1e9 does not absorb
        for name, kept in KEPT.items():
            shape = tuple(int(each) for each in DIMS[dims].split(","))
            feeds["keep"] = np.array(np.broadcast_to(kept[:, None, None, :], shape))
            if shape[2] == 3:
                feeds["keep"] &= np.tri(3, dtype=bool)  # causal, too: with left padding the first rows keep no key
            want, got = (np.asarray(each.run(feeds)["y"]) for each in (before, after))
            np.testing.assert_allclose(got, want, atol=4e-5, err_msg=f"{name}, {low}")
