"""Models of one operator at neighbouring versions of its definition, made from the standard's backend cases.

A backend case exists at one opset alone. `case_at` writes it for an older definition: what is an input now may be an
attribute there. `varied` then changes one thing at a time: attributes take every value that any case has, flags both,
axes all of the rank, optional inputs and outputs come and go, inputs become initializers, dims become symbols.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx.helper as oh
import onnx.parser
import onnx.reference
import onnx.shape_inference
import onnxruntime as ort
from optimize_graph import ir
from support.backend_cases import Case, Variant, cases

OLDEST = 7
NEWEST_RUN = 26
"""The newest opset that the installed ONNX Runtime loads."""


@dataclass(frozen=True)
class Step:
    """An operator whose definition changes between two neighbouring opsets."""

    op_type: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.op_type} {self.before} to {self.after}"


@cache
def definitions() -> Mapping[str, tuple[int, ...]]:
    """The versions of every operator of the standard, in order, up to the newest that are there."""
    found: dict[str, set[int]] = defaultdict(set)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            found[schema.name].add(schema.since_version)
    return {name: tuple(sorted(versions)) for name, versions in sorted(found.items())}


def steps() -> list[Step]:
    """Every change of a definition after opset 7, up and down."""
    return [
        step
        for name, versions in definitions().items()
        for version in versions[1:]
        if version > OLDEST
        for step in (Step(name, version - 1, version), Step(name, version, version - 1))
        if (name, step.before) != ("Upsample", 10)  # which has it no more
    ]


@cache
def _cases_of() -> Mapping[str, Sequence[Case]]:
    found: dict[str, list[Case]] = defaultdict(list)
    for case in cases():
        nodes = case.model.graph.node
        if case.is_plain and len(nodes) == 1 and not nodes[0].domain:
            found[nodes[0].op_type].append(case)
    return found


def _numbers(array: np.ndarray) -> Any:
    content = array.reshape(-1).tolist()
    return content if array.ndim else content[0]


def case_at(case: Case, op_type: str, opset: int) -> Case | None:
    """The case as `op_type` (of the same inputs, mostly the operator itself) at `opset` takes it; None if it cannot."""
    node = case.model.graph.node[0]
    own = {entry.domain: entry.version for entry in case.model.opset_import}.get("", 1)
    now, then = _schema(node.op_type, own), _schema(op_type, opset)
    if now is None or then is None or (then.deprecated and op_type == "Upsample"):
        return None
    formal_then = [each.name for each in then.inputs]
    inputs: dict[int, str] = {}
    attributes = {each.name: each for each in node.attribute if each.name in then.attributes}
    feeds = dict(case.feeds)
    for index, name in enumerate(node.input):
        formal = now.inputs[min(index, len(now.inputs) - 1)].name
        if not name:
            continue
        if formal in formal_then:
            inputs[index if index >= len(now.inputs) else formal_then.index(formal)] = name
        elif formal in then.attributes and isinstance(feeds.get(name), np.ndarray):
            value = _numbers(np.asarray(feeds.pop(name)))
            wanted = then.attributes[formal].type
            if wanted == onnx.defs.OpSchema.AttrType.INTS and not isinstance(value, list):
                value = [value]
            if wanted == onnx.defs.OpSchema.AttrType.FLOATS and not isinstance(value, list):
                value = [value]
            if wanted in (onnx.defs.OpSchema.AttrType.INT, onnx.defs.OpSchema.AttrType.FLOAT) and isinstance(
                value, list
            ):
                value = value[0]
            if value == []:
                continue
            if wanted == onnx.defs.OpSchema.AttrType.FLOAT:
                value = float(value)
            attributes[formal] = oh.make_attribute(formal, value)
        elif index < len(formal_then) and formal_then[index] not in {each.name for each in now.inputs}:
            inputs[index] = name
        else:
            feeds.pop(name, None)
    if "scales" in formal_then and "sizes" in feeds and "sizes" not in formal_then:
        return None
    names = [inputs.get(index, "") for index in range(max(inputs, default=-1) + 1)]
    outputs = list(node.output)[: then.max_output]
    written = oh.make_node(op_type, names, outputs, node.name)
    written.attribute.extend(attributes[name] for name in sorted(attributes))
    ports = [port for port in case.model.graph.input if port.name in names]
    results = [port for port in case.model.graph.output if port.name in outputs]
    made = _model(written, ports, results, {n: d for n, d in feeds.items() if n in names}, opset, case.name)
    made.model.graph.initializer.extend(each for each in case.model.graph.initializer if each.name in names)
    return made


def _model(node: onnx.NodeProto, ports: Any, results: Any, feeds: dict[str, Any], opset: int, name: str) -> Case:
    graph = oh.make_graph([node], "g", ports, results)
    model = oh.make_model(graph, opset_imports=[oh.make_opsetid("", opset)], ir_version=10)
    return Case(name, model, feeds)


def _schema(op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    return ir.schema(op_type, opset)


def _pool(op_type: str) -> Mapping[str, list[Any]]:
    """The values that attributes of the operator have in any case."""
    found: dict[str, list[Any]] = defaultdict(list)
    for case in _cases_of().get(op_type, ()):
        for attribute in case.model.graph.node[0].attribute:
            if attribute.type in (attribute.INT, attribute.STRING, attribute.FLOAT):
                value = oh.get_attribute_value(attribute)
                if value not in found[attribute.name]:
                    found[attribute.name].append(value)
    return found


def _with(case: Case, label: str) -> tuple[Case, onnx.NodeProto]:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    changed = Case(f"{case.name}, {label}", model, dict(case.feeds))
    return changed, model.graph.node[0]


def _set(node: onnx.NodeProto, name: str, value: Any) -> None:
    kept = [each for each in node.attribute if each.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if value is not None:
        node.attribute.append(oh.make_attribute(name, value))


_COUNTS = re.compile("group|num_|size|heads|width|height|ratio|order|^p$|^k$|lambd")
"""Attributes that count something: ONNX Runtime divides by some of them, and a 0 ends the process."""


def varied(case: Case, opset: int) -> Iterator[Case]:
    """The case, and what can be made of it by changing one thing (and by making constants of all inputs but one)."""
    node = case.model.graph.node[0]
    schema = _schema(node.op_type, opset)
    assert schema is not None
    made = [case]
    rank = (
        np.asarray(next(iter(case.feeds.values()))).ndim
        if case.feeds and not isinstance(next(iter(case.feeds.values())), list)
        else 0
    )
    present = {each.name: each for each in node.attribute}
    pool = _pool(node.op_type)
    for name, attribute in schema.attributes.items():
        values: list[Any] = [None] if name in present and not attribute.required else []
        if attribute.type == onnx.defs.OpSchema.AttrType.INT:
            flags = [1] if _COUNTS.search(name) else [0, 1]
            values += list(range(-rank, rank + 1)) if "axis" in name or name == "axes" else flags
        values += pool.get(name, [])
        for value in values:
            changed, inner = _with(case, f"{name}={value}")
            _set(inner, name, value)
            made.append(changed)
    for index, formal in enumerate(schema.inputs):
        if (
            formal.option == onnx.defs.OpSchema.FormalParameterOption.Optional
            and index < len(node.input)
            and node.input[index]
        ):
            changed, inner = _with(case, f"without {formal.name}")
            gone = inner.input[index]
            inner.input[index] = ""
            while inner.input and not inner.input[-1]:
                del inner.input[-1]
            changed.feeds.pop(gone, None)
            ports = [port for port in changed.model.graph.input if port.name != gone]
            del changed.model.graph.input[:]
            changed.model.graph.input.extend(ports)
            made.append(changed)
    if len(node.output) < len(schema.outputs) and len(node.output) == 1:
        changed, inner = _with(case, "one more output")
        inner.output.append("extra")
        changed.model.graph.output.append(oh.make_empty_tensor_value_info("extra"))
        made.append(changed)
    arrays = [name for name, datum in case.feeds.items() if isinstance(datum, np.ndarray)]
    for each in made:
        yield each
        rest = frozenset(name for name in arrays[1:] if name in each.feeds)
        if rest:
            yield Variant(rest).of(each)
    yield Variant(symbolic=True).of(case)
    if len(arrays) > 1:
        yield Variant(frozenset(arrays[1:]), symbolic=True).of(case)


_WRITTEN = {
    "GlobalLpPool": ("float[1,2,3,4] x", "x", "", "float[1,2,1,1] y"),
    "MaxRoiPool": ("float[1,1,6,6] x, float[1,5] r", "x, r", "<pooled_shape = [2, 2]>", "float[1,1,2,2] y"),
    "Multinomial": ("float[2,3] x", "x", "<sample_size = 2>", "int32[2,2] y"),
    "RandomNormal": ("", "", "<shape = [2, 3], mean = 1.0>", "float[2,3] y"),
    "RandomNormalLike": ("float[2,3] x", "x", "<scale = 2.0>", "float[2,3] y"),
    "RandomUniform": ("", "", "<shape = [2, 3], high = 2.0>", "float[2,3] y"),
    "RandomUniformLike": ("float[2,3] x", "x", "<dtype = 1>", "float[2,3] y"),
    "Scatter": ("float[3,3] x, int64[1,2] i, float[1,2] u", "x, i, u", "<axis = 1>", "float[3,3] y"),
}
"""Operators without backend cases: inputs, operands, attributes, outputs."""


def written_cases(op_type: str, opset: int) -> Iterator[Case]:
    inputs, operands, attributes, outputs = _WRITTEN[op_type]
    node = f"y = {op_type}{attributes}({operands})"
    text = f'<ir_version: 4, opset_import: ["": {opset}]> g ({inputs}) => ({outputs}) {{ {node} }}'
    model = onnx.parser.parse_model(text)
    random, feeds = np.random.default_rng(0), {}
    for port in model.graph.input:
        dims = [dim.dim_value for dim in port.type.tensor_type.shape.dim]
        feeds[port.name] = random.standard_normal(dims).astype(np.float32)
    if "i" in feeds:
        feeds["i"] = np.array([[1, 2]])
    if "r" in feeds:
        feeds["r"] = np.array([[0, 0, 0, 4, 4]], np.float32)
    yield Case(op_type, model, feeds)


def upsample_cases(opset: int) -> Iterator[Case]:
    """Upsample has no cases; Resize has none that its old versions took. Whole and other factors, up and down."""
    random = np.random.default_rng(0)
    for mode in ("nearest", "linear"):
        for shape, scales in (
            ((1, 1, 3, 4), (1, 1, 2, 3)),
            ((1, 2, 4, 4), (1, 1, 1.5, 2.25)),
            ((2, 1, 6, 6), (1, 1, 0.5, 0.5)),
            ((1, 1, 7, 5), (1, 1, 0.6, 0.8)),
            ((1, 1, 7, 5), (1, 1, 0.6, 1.4)),
            ((1, 1, 5, 5), (1, 1, 1, 1)),
        ):
            x = random.standard_normal(shape).astype(np.float32)
            op_type = "Upsample" if opset < 10 else "Resize"
            if op_type == "Upsample" and min(scales) < 1:
                continue
            given = np.asarray(scales, np.float32)
            ports = [oh.make_tensor_value_info("x", 1, list(shape)), oh.make_tensor_value_info("scales", 1, [4])]
            results = [oh.make_tensor_value_info("y", 1, None)]
            names = ["x"] if opset < 9 else ["x", "scales"] if opset == 10 or opset < 10 else ["x", "", "scales"]
            node = oh.make_node(op_type, names, ["y"], mode=mode)
            if opset < 9:
                node.attribute.append(oh.make_attribute("scales", [float(each) for each in scales]))
            feeds = {"x": x, "scales": given} if "scales" in names else {"x": x}
            case = _model(
                node, [p for p in ports if p.name in names], results, feeds, opset, f"{op_type} {mode} {scales}"
            )
            yield case


def _for_each_group(case: Case) -> Case:
    """GroupNormalization as it was until opset 20, with scale and bias for each group."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.opset_import[0].version = 20
    node = model.graph.node[0]
    groups = oh.get_node_attr_value(node, "num_groups")
    feeds = dict(case.feeds)
    for port in model.graph.input[1:]:
        port.type.tensor_type.shape.dim[0].dim_value = groups
        feeds[port.name] = np.asarray(feeds[port.name])[:groups]
    kept = [each for each in node.attribute if each.name != "stash_type"]
    del node.attribute[:]
    node.attribute.extend(kept)
    return Case(f"{case.name}, by group", model, feeds)


def made(step: Step) -> Iterator[Case]:
    """All cases of the operator at the opset from which the step goes."""
    if step.op_type == "Upsample" or (step.op_type == "Resize" and step.before == 10):
        for case in upsample_cases(step.before):
            yield case
            if "scales" in case.feeds:
                yield Variant(frozenset({"scales"})).of(case)
        return
    if step.op_type == "GroupNormalization" and step.before < 21:
        for case in map(_for_each_group, _cases_of()["GroupNormalization"]):
            yield from varied(case, step.before)
        return
    if step.op_type in _WRITTEN:
        for case in written_cases(step.op_type, step.before):
            yield from varied(case, step.before)
        return
    for case in _cases_of().get(step.op_type, ()):
        written = case_at(case, step.op_type, step.before)
        if written is not None:
            yield from varied(written, step.before)


# --- running ----------------------------------------------------------------------------------------------------------

Results = list[Any]
_ROUNDED = tuple(np.dtype(name) for name in ("float16", "float32", "float64", "complex64", "complex128"))
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Operators of which types and dims are compared alone."""


def run(proto: onnx.ModelProto, feeds: Mapping[str, Any], *, reference: bool = False) -> Results | str:
    """The outputs; in words why there are none."""
    try:
        if reference:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                return list(onnx.reference.ReferenceEvaluator(proto).run(None, dict(feeds)))
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        ort.set_seed(1)
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return list(session.run(None, dict(feeds)))
    except Exception as error:  # whatever either makes of a model that it cannot run
        return str(error)


def differ(one: Any, other: Any) -> str:
    """How two results differ, beyond rounding; "" where they do not."""
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return f"{len(one)} and {len(other)} elements"
        return next((said for a, b in zip(one, other, strict=True) if (said := differ(a, b))), "")
    if one is None or other is None:
        return "" if one is other else "nothing and something"
    a, b = np.asarray(one), np.asarray(other)
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"
    if a.dtype.kind == "V" or a.dtype not in _ROUNDED:  # float8, int4, … among them
        same = a.tolist() == b.tolist() if a.dtype.kind in "OUS" else a.tobytes() == b.tobytes()
        return "" if same else "other elements"
    eps = float(np.finfo(a.dtype).eps)
    if np.allclose(a, b, rtol=16 * eps, atol=16 * eps * max(1.0, _largest(a)), equal_nan=True):
        return ""
    return f"off by {np.nanmax(np.abs(a.astype(np.float64) - b.astype(np.float64)))}"


def _largest(array: np.ndarray) -> float:
    finite = array[np.isfinite(array)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def allows_types(case: Case, opset: int) -> bool:
    """Whether the definition takes the types of the inputs: the reference evaluator takes any."""
    node = case.model.graph.node[0]
    schema = _schema(node.op_type, opset)
    assert schema is not None
    limits = {each.type_param_str: set(each.allowed_type_strs) for each in schema.type_constraints}
    types = {port.name: port.type for port in case.model.graph.input}
    for index, name in enumerate(node.input):
        if name in types and types[name].HasField("tensor_type"):
            formal = schema.inputs[min(index, len(schema.inputs) - 1)]
            element = onnx.TensorProto.DataType.Name(types[name].tensor_type.elem_type).lower()
            if f"tensor({element})" not in limits.get(formal.type_str, {formal.type_str}):
                return False
    return True


@dataclass(frozen=True)
class Outcome:
    """`kind`: same, refused, differs, or skipped where nothing runs the original or what came of it."""

    kind: str
    detail: str = ""
    rewritten: bool = False


def outcome(case: Case, step: Step) -> Outcome:
    """Convert the case by one step and compare: with ONNX Runtime, else with the reference evaluator."""
    if not allows_types(case, step.before):
        return Outcome("skipped", "types that the definition does not take")
    on_reference = max(step.before, step.after) > NEWEST_RUN
    want = "newer" if on_reference else run(case.model, case.feeds)
    if isinstance(want, str):
        want, on_reference = run(case.model, case.feeds, reference=True), True
    if isinstance(want, str):
        return Outcome("skipped", want[:200])
    try:
        model = ir.from_proto(case.model)
    except ir.ModelError as error:
        return Outcome("skipped", str(error)[:200])
    try:
        converted = ir.convert_opset(model, step.after)
    except ir.ModelError as error:
        return Outcome("refused", str(error))
    proto = ir.to_proto(converted)
    got = run(proto, case.feeds, reference=on_reference)
    if isinstance(got, str) and not on_reference:
        if "Could not find an implementation" not in got and "NOT_IMPLEMENTED" not in got:
            return Outcome("differs", f"does not run: {got[:200]}")
        want, got = (run(each, case.feeds, reference=True) for each in (case.model, proto))
    if isinstance(want, str) or isinstance(got, str):
        return Outcome("skipped", f"{want if isinstance(want, str) else got}"[:200])
    said = differ(
        *([np.zeros_like(array) for array in each] if step.op_type in RANDOM else each for each in (want, got))
    )
    before, after = case.model.graph.node[0], list(proto.graph.node)
    rewritten = (
        len(after) != 1 or after[0].op_type != before.op_type or list(after[0].attribute) != list(before.attribute)
    )
    return Outcome("differs" if said else "same", said, rewritten)


FEW, ATTEMPTS = 3, 16
"""How many models of a step are run where not all are, and how many are tried where nothing runs them."""


def few(step: Step) -> list[tuple[Case, Outcome]]:
    """A few models of the step, the first among them and others apart from each other, and what comes of them."""
    models = list(islice(made(step), 80))
    found: list[tuple[Case, Outcome]] = []
    for index in range(min(ATTEMPTS, len(models))):
        case = models[index * 7919 % len(models)]
        got = outcome(case, step)
        if got.kind != "skipped":
            found.append((case, got))
        if len(found) == FEW:
            break
    return found


def verdict(outcomes: Sequence[Outcome]) -> str:
    """What the table of the documentation says about a step."""
    kinds = {each.kind for each in outcomes}
    if not kinds:
        return "not run"
    if kinds == {"same"}:
        return "rewritten" if any(each.rewritten for each in outcomes) else "unchanged"
    reason = min(each.detail for each in outcomes if each.kind == "refused")
    reason = re.sub(r" \(.*$", "", reason.partition(": ")[2] or reason).strip()
    return f"{'refused' if kinds == {'refused'} else 'conditional'}: {reason.replace('|', '/')}"
