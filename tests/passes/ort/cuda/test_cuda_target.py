"""What is built for target ort-cuda has CUDA kernels, and no operator of a model loses its own."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.defs
import onnx.parser
import pytest
from optimize_graph import Options, Result, ir, optimize
from optimize_graph.cli import main
from optimize_graph.passes.targets.cuda import AttentionCall, has_fp16_kernel, kernels_lost
from optimize_graph.passes.targets.kernel_table import definition, has_kernel, kernels_of
from optimize_graph.passes.targets.target import Target
from optimize_graph.runtime import make_feeds, open_session
from support.cuda_operators import evaluator

ROOT = Path(__file__).parents[4]
HALF, SINGLE = ir.DataType.FLOAT16, ir.DataType.FLOAT

ATTENTION = """
  qs = Reshape(q, split)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)
  ks = Reshape(q, split)  kh = Transpose<perm = [0, 2, 3, 1]>(ks)
  vs = Reshape(q, split)  vh = Transpose<perm = [0, 2, 1, 3]>(vs)
  p = MatMul(qh, kh)  d = Mul(p, c)  w = Softmax(d)
  m = MatMul(w, vh)  t = Transpose<perm = [0, 2, 1, 3]>(m)  y = Reshape(t, merge)
"""
CONSTANTS = "int64[4] split = {0, 0, 2, 8}, int64[3] merge = {0, 0, 16}, float c = {0.35}"


def parsed(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')


def optimized(proto: onnx.ModelProto, **options: object) -> Result:
    given = {"target": "ort-cuda", "strict": True, "verify_each": True, **options}
    return optimize(proto, options=Options(**given))  # type: ignore[arg-type]


def operators(result: Result) -> Counter[str]:
    return Counter(node.op_type for node in ir.nodes(result.model))


ALONE = parsed(f"g (float[b,s,16] q) => (float[b,s,16] y) <{CONSTANTS}> {{ {ATTENTION} }}")
BESIDE_POOLING = parsed(
    f"g (float[b,s,16] q, float[1,2,4,4] x) => (float[b,s,16] y, float[1,2,4,4] z) <{CONSTANTS}> "
    f"{{ {ATTENTION} z = MaxPool<kernel_shape = [1, 1]>(x) }}"
)


OTHER_TARGETS = ('"another runtime than ONNX Runtime"', "not context.settings.target.is_cpu")


def built_operators(folder: Path) -> set[tuple[str, str]]:
    """The (domain, operator) that passes may build for target ort-cuda, as their sources spell them."""
    found: set[tuple[str, str]] = set()
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        parts = path.relative_to(folder).parts
        catalogue = parts[0] in ("cleanup", "recognize", "simplify", "ort") and parts[:2] != ("ort", "cpu")
        if catalogue and not any(mark in text for mark in OTHER_TARGETS):
            found |= set(_built_in(ast.parse(text)))
    return found


def _built_in(module: ast.Module) -> Iterator[tuple[str, str]]:
    standard = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    for function in ast.walk(module):
        if not isinstance(function, ast.FunctionDef):
            continue
        builders = {each.arg for each in function.args.args if _is_builder(each.annotation)}
        for call in (each for statement in function.body for each in ast.walk(statement)):
            if not isinstance(call, ast.Call):
                continue
            domain = _domain(call)
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            owner = getattr(getattr(call.func, "value", None), "id", "")
            if owner in builders and name[0].isupper():
                yield domain, name
            if name in ("node", "new_node", "insert", "_insert") and call.args:
                for word in ast.walk(call.args[0]):  # a name, or a choice of names
                    if isinstance(word, ast.Constant) and (domain or word.value in standard):
                        yield domain, str(word.value)


def _is_builder(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Name) and annotation.id == "Builder"


def _domain(call: ast.Call) -> str:
    for keyword in call.keywords:
        if keyword.arg == "domain" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
        if keyword.arg == "domain" and isinstance(keyword.value, ast.Name):
            return "com.microsoft"  # the one other domain that rules build in, by its constant
    return ""


def test_every_operator_that_rules_build_has_a_kernel_at_every_opset_they_may_meet() -> None:
    built = built_operators(ROOT / "passes")
    assert ("", "Attention") in built and ("com.microsoft", "SkipLayerNormalization") in built
    missing = []
    for domain, op_type in sorted(built):
        kernels = kernels_of(Target("ort-cuda").file, domain, op_type)
        for opset in range(13, 24):
            version = definition(domain, op_type, opset)
            if version is not None and not any(kernel.first <= version <= kernel.last for kernel in kernels):
                missing.append((domain, op_type, opset))
    assert not missing


@pytest.mark.parametrize("fp16", [False, True])
@pytest.mark.parametrize("proto", [ALONE, BESIDE_POOLING], ids=["alone", "beside pooling"])
def test_what_a_run_builds_has_a_kernel_for_its_type(proto: onnx.ModelProto, fp16: bool) -> None:
    result = optimized(proto, fp16=fp16)
    made = [node for node in ir.nodes(result.model) if "optimize_graph.rule" in node.metadata_props]
    assert made
    for node in made:
        inputs = [None if value is None else ir.declared_dtype(value) for value in node.inputs]
        assert has_kernel(Target("ort-cuda"), node.domain, node.op_type, node.version or 0, inputs) is not False


def test_the_opset_is_raised_where_every_operator_keeps_its_kernel() -> None:
    result = optimized(ALONE)
    assert operators(result) == {"Attention": 1}
    assert result.model.opset_imports[""] == 23


def test_the_opset_stays_where_an_operator_would_lose_its_kernel() -> None:
    result = optimized(BESIDE_POOLING)
    assert operators(result) == {"MultiHeadAttention": 1, "MaxPool": 1}
    assert result.model.opset_imports[""] == 17
    assert result.verification is not None and result.verification.ok
    assert "none for MaxPool" in {each.because for each in result.missed}


def test_the_opset_that_was_asked_for_gets_the_operator_of_onnxruntime() -> None:
    result = optimized(ALONE, opset=18)
    assert operators(result) == {"MultiHeadAttention": 1}
    assert result.model.opset_imports == {"": 18, "com.microsoft": 1}


def test_the_cpu_gets_attention_of_the_standard_beside_pooling_too() -> None:
    assert operators(optimized(BESIDE_POOLING, target="ort-cpu"))["Attention"] == 1


@pytest.mark.parametrize("op_type", ["MaxPool", "InstanceNormalization", "Elu", "Selu", "ThresholdedRelu"])
def test_the_operators_of_opset_22_without_kernels_are_known(op_type: str) -> None:
    inputs = [SINGLE] * 3 if op_type == "InstanceNormalization" else [SINGLE]
    assert [has_kernel(Target("ort-cuda"), "", op_type, opset, inputs) for opset in (21, 22)] == [True, False]


def test_a_kernel_is_lost_at_the_opset_that_defines_its_operator_anew() -> None:
    model = ir.from_proto(parsed("g (float[2] x) => (float[2] z) { y = Elu(x)  z = Relu(y) }"))
    assert [kernels_lost(model, opset) for opset in (17, 21, 22, 23)] == [[], [], ["Elu"], ["Elu"]]


POOLING = "g (float[1,2,4,4] x) => (float[1,2,4,4] y) { p = MaxPool<kernel_shape = [1, 1]>(x)  y = %s(p) }"


def test_an_opset_without_kernels_is_lowered_to_the_last_that_has_them() -> None:
    result = optimized(parsed(POOLING % "Elu", opset=22))
    assert result.model.opset_imports[""] == 21
    assert result.verification is not None and result.verification.ok


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (POOLING % "Swish", {}),  # an operator of opset 24
        (POOLING.replace("float[", "bfloat16[") % "Elu", {"verify": False}),
        (POOLING % "Elu", {"opset": 24}),
        (POOLING % "Elu", {"target": "ort-cpu"}),
        ("g (float[2] x) => (float[2] y) { y = Exp(x) }", {}),
    ],
    ids=["newer operator", "bfloat16", "asked for", "another target", "nothing lost"],
)
def test_an_opset_stays_where_lowering_is_not_possible_or_not_wanted(text: str, options: dict[str, object]) -> None:
    assert optimized(parsed(text, opset=24), **options).model.opset_imports[""] == 24


def test_an_opset_stays_where_an_operator_takes_its_type_only_there() -> None:
    body = "b = Cast<to = 16>(x)  c = Softplus(b)  d = Cast<to = 1>(c)  y = Elu(d)"  # bfloat16 inside alone
    result = optimized(parsed(f"g (float[2] x) => (float[2] y) {{ {body} }}", opset=22), verify=False)
    assert result.model.opset_imports[""] == 22
    (miss,) = [each for each in result.missed if each.rule == "lower-opset-for-cuda"]
    assert "Softplus" in miss.because


@pytest.mark.parametrize(
    ("call", "attention", "contrib"),
    [
        (AttentionCall(SINGLE, 64, 64), True, True),
        (AttentionCall(SINGLE, 64, 64, queries=128), True, False),
        (AttentionCall(HALF, 64, 64, queries=128), True, True),
        (AttentionCall(SINGLE, 64, 64, queries=512), True, True),
        (AttentionCall(SINGLE, 36, 36), False, False),
        (AttentionCall(SINGLE, 64, 128), True, False),
        (AttentionCall(HALF, 64, 64, masked=True, keys=127), False, False),
        (AttentionCall(HALF, 64, 64, masked=True, keys=128), True, True),
        (AttentionCall(HALF, 64, 64, masked=True), True, True),
        (AttentionCall(SINGLE, 64, 64, grouped=True), False, False),
        (AttentionCall(HALF, 64, 64, grouped=True), True, False),
        (AttentionCall(HALF, 64, 64, grouped=True, masked=True), False, False),
    ],
)
def test_which_calls_are_fused(call: AttentionCall, attention: bool, contrib: bool) -> None:
    assert (not call.why_not_fused()) == attention
    assert (not call.why_not_fused_as_contrib()) == contrib


def test_float16_kernels_are_known_by_version() -> None:
    model = ir.from_proto(
        parsed("g (float[2,2] x) => (float[2,2] z, int64[n,2] i) { z = MatMul(x, x)  i = NonMaxSuppression(x, x) }")
    )
    assert [has_fp16_kernel(node) for node in ir.nodes(model)] == [True, False]


# --- group normalization: a kernel on CUDA alone ----------------------------------------------------------------------

SILU = "s = Sigmoid(n)  y = Mul(n, s)"


def normalizing(dtype: str, opset: int, channels: int = 8, groups: int = 2, after: str = SILU) -> onnx.ModelProto:
    """A GroupNormalization, and what comes after it; below opset 21 its parameters are one for each group."""
    count = channels if opset >= 21 else groups
    proto = parsed(
        f"g ({dtype}[2,{channels},5,7] x) => ({dtype}[2,{channels},5,7] y) "
        f"<{dtype}[{count}] scale, {dtype}[{count}] bias> "
        f"{{ n = GroupNormalization<num_groups = {groups}, epsilon = 0.001>(x, scale, bias)  {after} }}",
        opset,
    )
    random = np.random.default_rng(0)
    for value in proto.graph.value_info:
        kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        content = random.normal(1.0, 0.5, size=count).astype(kind)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(content, value.name))
    del proto.graph.value_info[:]
    return proto


@pytest.mark.parametrize("after", [SILU, "y = Identity(n)", "y = com.microsoft.QuickGelu<alpha = 1.0>(n)"])
@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("dtype", ["float", "float16"])
def test_group_normalization_on_cuda_computes_what_the_model_says(dtype: str, opset: int, after: str) -> None:
    proto = normalizing(dtype, opset, after=after)
    if "com.microsoft" in after:
        proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    result = optimized(proto, verify=False)
    assert operators(result) == {"Transpose": 2, "GroupNorm": 1}
    (made,) = [node for node in ir.nodes(result.model) if node.op_type == "GroupNorm"]
    assert made.attributes["activation"].value == int("Identity" not in after)
    feeds = make_feeds(ir.from_proto(proto), seed=1)
    wanted = open_session(proto.SerializeToString()).run(feeds)["y"]
    given = evaluator(ir.to_proto(result.model)).run(None, dict(feeds))[0]
    assert isinstance(wanted, np.ndarray) and wanted.dtype == given.dtype
    eps = float(np.finfo(wanted.dtype).eps)
    assert np.abs(wanted.astype(np.float64) - given).max() <= 16 * eps * np.abs(wanted).max()


@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (8, 8), (1028, 2)])
def test_groups_that_the_kernel_refuses_stay(channels: int, groups: int) -> None:
    result = optimized(normalizing("float", 21, channels, groups), verify=False)
    assert operators(result)["GroupNorm"] == 0


def test_parameters_of_group_normalization_stay_float32_in_a_float16_model() -> None:
    model = optimized(normalizing("float", 21), verify=False, fp16=True).model
    (made,) = [node for node in ir.nodes(model) if node.op_type == "GroupNorm"]
    kinds = [ir.declared_dtype(value) for value in made.inputs[1:] if value is not None]
    assert kinds == [SINGLE, SINGLE]
    assert "Cast" in {node.op_type for node in ir.nodes(model)}


def test_rewrites_that_cannot_be_verified_here_are_missed_and_reported() -> None:
    result = optimized(normalizing("float", 21))
    assert operators(result) == {"GroupNormalization": 1, "Sigmoid": 1, "Mul": 1}
    assert result.verification is not None and result.verification.ok
    assert [each.code for each in result.remarks] == ["not-verifiable-here"]
    assert {each.rule for each in result.missed if each.condition == "a kernel where the result is verified"} == {
        "fuse-group-norm-cuda"
    }


def test_what_only_cuda_runs_is_not_written_unverified(tmp_path: Path) -> None:
    """A model that has such an operator already cannot be verified here, whatever is done to it."""
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    proto = ir.to_proto(optimized(normalizing("float", 21), verify=False).model)
    proto.graph.node.add(op_type="Identity", input=["inner"], output=[proto.graph.output[0].name])
    for node in proto.graph.node[:-1]:
        node.output[:] = ["inner" if name == proto.graph.output[0].name else name for name in node.output]
    before.write_bytes(proto.SerializeToString())
    command = [str(before), str(after), "--target", "ort-cuda"]
    assert main(command) == 3 and not after.exists()
    assert main([*command, "--no-verify"]) == 0 and after.exists()


# --- causal attention -------------------------------------------------------------------------------------------------


def test_causal_attention_of_grouped_heads_is_verified_here() -> None:
    """As torch's exporter writes is_causal=True over repeated heads in float16, at a length that is known."""
    proto = parsed(
        "g (float16[2,4,32] q, float16[2,4,16] k, float16[2,4,16] v) => (float16[2,4,32] y) "
        "<int64[4] qs = {0, 0, 4, 8}, int64[4] ks = {0, 0, 2, 8}, int64[3] merge = {0, 0, 32}, "
        "int64[1] two = {2}, int64[5] twice = {1, 1, 2, 1, 1}, int64[4] all = {2, 4, 4, 8}, "
        "float16 c = {13312}, float16 none = {0}, float16 low = {64512}, float16 one = {15360}, int64[2] nn = {4, 4}> {"
        "  e = Expand(one, nn)  t = Trilu<upper = 0>(e)  eq = Equal(t, none)  mask = Where(eq, low, none)"
        "  qp = Reshape(q, qs)  qh = Transpose<perm = [0, 2, 1, 3]>(qp)"
        "  kp = Reshape(k, ks)  kh = Transpose<perm = [0, 2, 1, 3]>(kp)"
        "  vp = Reshape(v, ks)  vh = Transpose<perm = [0, 2, 1, 3]>(vp)"
        "  ku = Unsqueeze(kh, two)  ke = Expand(ku, twice)  kr = Reshape(ke, all)"
        "  vu = Unsqueeze(vh, two)  ve = Expand(vu, twice)  vr = Reshape(ve, all)"
        "  kt = Transpose<perm = [0, 1, 3, 2]>(kr)  p = MatMul(qh, kt)  d = Mul(p, c)  m = Add(d, mask)"
        "  w = Softmax(m)  mixed = MatMul(w, vr)  o = Transpose<perm = [0, 2, 1, 3]>(mixed)  y = Reshape(o, merge)"
        "}"
    )
    result = optimized(proto)
    assert operators(result) == {"GroupQueryAttention": 1}
    assert result.model.opset_imports == {"": 17, "com.microsoft": 1}
    assert result.verification is not None and result.verification.ok
    assert operators(optimized(proto, target="ort-cpu"))["GroupQueryAttention"] == 0


def test_rotary_embedding_goes_before_the_heads_of_causal_attention() -> None:
    """As transformers' Llama is exported in float16 at a length that is known and without a padding mask."""
    bits = ", ".join(str(int(np.float16(0 if j <= i else -65504).view(np.uint16))) for i in range(4) for j in range(4))
    turn = (
        "{0}p = Reshape({0}, s)  {0}h = Transpose<perm = [0, 2, 1, 3]>({0}p)"
        "  {0}f = Slice({0}h, zero, half, three)  {0}l = Slice({0}h, half, end, three)  {0}n = Neg({0}l)"
        "  {0}t = Concat<axis = -1>({0}n, {0}f)  {0}a = Mul({0}h, cos)  {0}b = Mul({0}t, sin)  {0}r = Add({0}a, {0}b)"
    )
    proto = parsed(
        "g (float16[2,4,16] q, float16[2,4,16] k, float16[2,4,16] v) => (float16[2,4,16] y) "
        "<int64[4] s = {0, 0, 2, 8}, int64[3] merge = {0, 0, 16}, int64[1] zero = {0}, int64[1] half = {4}, "
        "int64[1] end = {8}, int64[1] three = {3}, float16 c = {13312}, "
        f"float16[4,4] mask = {{{bits}}}, float16[1,1,4,8] cos = {{{', '.join(['14336'] * 32)}}}, "
        f"float16[1,1,4,8] sin = {{{', '.join(['13312'] * 32)}}}> {{ {turn.format('q')}  {turn.format('k')}"
        "  vp = Reshape(v, s)  vh = Transpose<perm = [0, 2, 1, 3]>(vp)"
        "  across = Transpose<perm = [0, 1, 3, 2]>(kr)  p = MatMul(qr, across)  d = Mul(p, c)  m = Add(d, mask)"
        "  w = Softmax(m)  mixed = MatMul(w, vh)  o = Transpose<perm = [0, 2, 1, 3]>(mixed)  y = Reshape(o, merge) }"
    )
    result = optimized(proto)
    found = operators(result)
    assert (found["RotaryEmbedding"], found["GroupQueryAttention"], found["Softmax"]) == (2, 1, 0)
    assert result.verification is not None and result.verification.ok
