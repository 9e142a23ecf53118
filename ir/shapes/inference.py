"""Type, dims and (of small integer tensors) elements of values in every scope.

Facts follow from the declared inputs, from constants and from what operators do. What a file declares about inner
values and outputs is not looked at: exporters declare false ones. Equal symbols are equal sizes in every run.

Bodies of functions are unknown until they are inlined. A body of a Loop or Scan has the facts that hold in each turn.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from math import prod
from typing import Final

import numpy as np

from ... import ir
from ..standard.schema_inference import TensorFacts, infer_results, result_type
from . import compute, control_flow, elementwise, indexing, layout, ml
from .contrib import DOMAIN, contrib_facts
from .facts import DIMS, ELEMENTS, INTEGERS, MOST_ELEMENTS, UNKNOWN, Call, Dims, Elements, Fact, NothingKnownError
from .symbolic import Dim, Expr, fresh_dim, fresh_integer, named_dim

RULES: Final = (compute, elementwise, layout, indexing)
"""The modules whose import fills the tables."""

_BY_NUMBER: Final = {each.value: each for each in ir.DataType}
_RANGES: Final = {ir.DataType.INT64: 2**63, ir.DataType.INT32: 2**31, ir.DataType.BOOL: 2}
BROKEN: Final = (NothingKnownError, LookupError, ValueError, TypeError, ArithmeticError)
"""A node that breaks the rules of its operator (an axis out of range, …) never runs: nothing is known of it."""


class Inference:
    """Facts about the values of a model, inferred in the order of its nodes."""

    loop_depth: int = 0
    """In how many loops the body is that is being looked at."""

    def __init__(self, model: ir.Model) -> None:
        self._facts: MutableMapping[ir.Value, Fact] = {}
        self._functions = model.functions

    def fact(self, value: ir.Value) -> Fact:
        """All that is known about `value`."""
        found = self._facts.get(value)
        if found is None:
            found = _constant_fact(value)
            if found is None:
                return UNKNOWN
            self._facts[value] = found
        return found

    def infer_node(self, node: ir.Node) -> list[Fact]:
        """The facts about each output of `node`, which need not be in a graph yet, by those about its inputs."""
        if node.op_identifier() in self._functions:
            return [UNKNOWN] * len(node.outputs)
        if node.domain == "" and node.op_type in control_flow.RULES:
            try:
                return control_flow.RULES[node.op_type](self, node)
            except BROKEN:
                self._forget_bodies(node)
                return [UNKNOWN] * len(node.outputs)
        return infer(Call(node, [None if value is None else self.fact(value) for value in node.inputs]))

    def _forget_bodies(self, node: ir.Node) -> None:
        """Drop assumptions about a loop's body that are not proven."""
        inner = list(ir.nodes_within(node))
        values = [value for each in inner for value in each.outputs]
        bodies = [body for each in (node, *inner) for body in ir.subgraphs_of(each)]
        values += [value for body in bodies for value in body.inputs]
        self._facts.update(dict.fromkeys(values, UNKNOWN))

    def learn(self, node: ir.Node) -> None:
        """Infer and remember the facts about the outputs of `node`."""
        for value, fact in zip(node.outputs, self.infer_node(node), strict=True):
            self._facts[value] = fact

    def learn_all(self, nodes: Iterable[ir.Node]) -> None:
        """`learn` each of `nodes`, which come in the order of a graph."""
        for node in nodes:
            self.learn(node)

    def assume(self, value: ir.Value, fact: Fact) -> None:
        """Take `fact` as true of `value`."""
        self._facts[value] = fact


# --- one node ---------------------------------------------------------------------------------------------------------


def infer(call: Call) -> list[Fact]:
    """The facts about the outputs of one node that holds no graph."""
    node = call.node
    if node.domain == DOMAIN:
        return contrib_facts(call)
    if node.domain == ml.DOMAIN and node.op_type in ml.ML_RULES:
        return ml.ml_facts(call)
    if node.domain not in ("", ml.DOMAIN):
        return [UNKNOWN] * len(node.outputs)
    if node.op_type == "Constant":
        return [_constant_fact(node.outputs[0]) or _by_the_standard(call)[0]]
    types = [_type_of(call, index) for index in range(len(node.outputs))]
    rule = DIMS.get(node.op_type) if node.domain == "" else None
    if rule is None or None in types:
        facts = _by_the_standard(call)
        types = [dtype or fact.dtype for dtype, fact in zip(types, facts, strict=True)]
        dims: Sequence[Dims | None] = [fact.dims for fact in facts]
    if rule is not None:
        try:
            dims = rule(call)
        except BROKEN:
            dims = ()
    facts = [_settled(call, dtype, dims[i] if i < len(dims) else None) for i, dtype in enumerate(types)]
    return _with_elements(call, facts)


def _type_of(call: Call, index: int) -> ir.DataType | None:
    node = call.node
    if node.domain == "" and node.op_type == "Cast":
        to = ir.attribute(node, "to")
        return _BY_NUMBER.get(to) if isinstance(to, int) else None
    if node.domain == "" and node.op_type == "ConstantOfShape":
        given = node.attributes.get("value")
        return ir.DataType.FLOAT if given is None else given.as_tensor().dtype
    source = result_type(node, index)
    if source.fixed is not None:
        return source.fixed
    for place in source.inputs:
        fact = call.inputs[place] if place < len(call.inputs) else None
        if fact is not None and fact.dtype is not None:
            return fact.dtype
    return None


def _settled(call: Call, dtype: ir.DataType | None, dims: Dims | None) -> Fact:
    for fact in call.inputs[:2]:  # most results look like an input: one object serves both
        if fact is not None and fact.elements is None and fact.dtype is dtype and fact.dims is dims:
            return fact
    return Fact(dtype, dims)


def _with_elements(call: Call, facts: list[Fact]) -> list[Fact]:
    if not any(fact.dtype in INTEGERS and _is_small(fact) for fact in facts):
        return facts
    rule = ELEMENTS.get(call.node.op_type) if call.node.domain == "" else None
    found: Sequence[Elements | None] = [None] * len(facts)
    if rule is not None:
        try:
            result = rule(call)
            found = [result] if isinstance(result, np.ndarray) else list(result)
        except BROKEN:
            pass
    return [_tracked(fact, each) for fact, each in zip(facts, found, strict=False)] + facts[len(found) :]


def _is_small(fact: Fact) -> bool:
    size = 1
    for dim in fact.dims or ():
        if not isinstance(dim, int):
            return False
        size *= dim
    return fact.dims is not None and size <= MOST_ELEMENTS


def _tracked(fact: Fact, elements: Elements | None) -> Fact:
    """With elements that fit its type; each that is not known gets a symbol of its own."""
    if fact.dtype not in INTEGERS or not _is_small(fact):
        return fact
    size = prod(fact.static or ())
    if elements is None or elements.size != size:
        return Fact(fact.dtype, fact.dims, tuple(fresh_integer() for _ in range(size)))
    limit = _RANGES[fact.dtype]
    fitting = (e if isinstance(e, Expr) or -limit <= e < limit else fresh_integer() for e in elements.ravel())
    return Fact(fact.dtype, fact.dims, tuple(fitting))


def _by_the_standard(call: Call) -> list[Fact]:
    """The result of onnx's own inference, for operators without a rule here."""
    names: dict[str, Dim] = {}
    inputs: list[TensorFacts | None] = []
    for fact in call.inputs:
        if fact is not None and fact.dtype is None:
            return [UNKNOWN] * len(call.node.outputs)
        inputs.append(None if fact is None or fact.dtype is None else TensorFacts(fact.dtype, _sizes(fact.dims, names)))
    found = infer_results(call.node, inputs, _contents(call))
    if len(found) != len(call.node.outputs):
        return [UNKNOWN] * len(call.node.outputs)
    return [UNKNOWN if each is None else Fact(each.dtype, _dims(each.dims, names)) for each in found]


def _sizes(dims: Dims | None, names: dict[str, Dim]) -> tuple[int | str | None, ...] | None:
    if dims is None:
        return None
    names.update((dim.text, dim) for dim in dims if isinstance(dim, Expr))
    return tuple(dim.text if isinstance(dim, Expr) else dim for dim in dims)


def _dims(sizes: tuple[int | str | None, ...] | None, names: dict[str, Dim]) -> Dims | None:
    if sizes is None:
        return None
    return tuple(size if isinstance(size, int) and size >= 0 else names.get(str(size)) or fresh_dim() for size in sizes)


def _contents(call: Call) -> dict[int, ir.Array]:
    contents: dict[int, ir.Array] = {}
    for index, value in enumerate(call.node.inputs):
        tensor = ir.constant_tensor(value)
        if tensor is not None and tensor.size <= MOST_ELEMENTS and tensor.dtype != ir.DataType.STRING:
            contents[index] = np.asarray(tensor.numpy())
    return contents


# --- where facts start ------------------------------------------------------------------------------------------------


def declared_fact(value: ir.Value) -> Fact:
    """The declared facts about an input of the model; ONNX Runtime rejects inputs that contradict them."""
    if not isinstance(value.type, ir.TensorType):
        return UNKNOWN
    dims: Dims | None = None
    if value.shape is not None:
        dims = tuple(_declared_dim(dim) for dim in value.shape)
    return _tracked(Fact(value.type.dtype, dims), None)


def _declared_dim(dim: int | ir.SymbolicDim) -> Dim:
    if isinstance(dim, int):
        return dim if dim >= 0 else fresh_dim()
    name = dim.value or ""
    # Paddle and others call every dim that they do not know "?", "-1" or "None": no name, though it looks like one.
    return named_dim(name) if any(map(str.isalpha, name)) and name != "None" else fresh_dim()


def _constant_fact(value: ir.Value) -> Fact | None:
    tensor = ir.constant_tensor(value)
    if tensor is None and value.graph is None and value.producer() is None:
        tensor = value.const_value  # made for a rewrite, in no graph yet
    return None if tensor is None else tensor_fact(tensor)


def tensor_fact(tensor: ir.TensorProtocol) -> Fact:
    """All that there is to know about a constant."""
    fact = Fact(tensor.dtype, tuple(tensor.shape.numpy()))
    if fact.dtype not in INTEGERS or not _is_small(fact):
        return fact
    return Fact(fact.dtype, fact.dims, tuple(int(each) for each in np.asarray(tensor.numpy()).ravel()))


# --- two facts about one value ----------------------------------------------------------------------------------------


def merge(a: Fact, b: Fact) -> Fact:
    """The more telling of two true facts about one value, place by place."""
    return Fact(a.dtype or b.dtype, _merge_dims(a.dims, b.dims), _merge_dims(a.elements, b.elements))


def _merge_dims(a: Dims | None, b: Dims | None) -> Dims | None:
    if a is None or b is None or a == b or len(a) != len(b):
        return b if a is None else a
    return tuple(y if _tells_more(y, x) else x for x, y in zip(a, b, strict=True))


def _tells_more(a: Dim, b: Dim) -> bool:
    """Whether `a` is a number where `b` is none, of older symbols, or the shorter of two expressions."""
    if isinstance(a, int) or isinstance(b, int):
        return not isinstance(b, int)
    return (a.born, len(a.text)) < (b.born, len(b.text))
