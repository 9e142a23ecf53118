"""Unification of a function body with a part of a graph, from the result upward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from .... import ir
from ...analyses import Shapes

_CASTS = frozenset({"Cast", "CastLike"})
_OF_CONSTANTS: Mapping[str, Callable[[ir.Array], ir.Array]] = {"Sqrt": np.sqrt, "Neg": np.negative}


_LONGEST_CHAIN = 32  # no body has longer ones: a bound keeps the search linear


def through_identity(value: ir.Value) -> ir.Value:
    """The input of a chain of Identities."""
    for _ in range(_LONGEST_CHAIN):
        node = value.producer()
        if node is None or node.op_type != "Identity" or node.domain or node.inputs[0] is None:
            break
        value = node.inputs[0]
    return value


@dataclass
class Unification:
    """An attempt to unify `body` with the graph at `root`.

    `holes` are the unknown attributes with their placeholders in the body; `found` are their values in the graph.
    `matched` counts the nodes of the body that were matched before the first mismatch.
    """

    body: ir.Graph
    holes: Mapping[str, int | float]
    shapes: Shapes
    root: ir.Node
    values: dict[ir.Value, ir.Value] = field(default_factory=dict)
    nodes: dict[ir.Node, ir.Node] = field(default_factory=dict)
    found: dict[str, int | float] = field(default_factory=dict)
    matched: int = 0

    def fits(self) -> bool:
        """Whether the first output of the body unifies with that of the root."""
        return self._value(self.body.outputs[0], self.root.outputs[0])

    def fits_also(self, wanted: ir.Value) -> ir.Value | None:
        """The value of the graph that is another output of the body, found below what is bound already."""
        wanted = through_identity(wanted)
        if wanted in self.values or wanted.producer() is None:
            return self.values.get(wanted)
        node = wanted.producer()
        assert node is not None
        for source in filter(None, node.inputs):
            above = self.fits_also(source)
            if above is None:
                continue
            for user in above.consumers():
                attempt = Unification(
                    self.body, self.holes, self.shapes, self.root, {**self.values}, {**self.nodes}, {**self.found}
                )
                if user.graph is self.root.graph and attempt._value(wanted, user.outputs[0]):
                    self.values, self.nodes, self.found = attempt.values, attempt.nodes, attempt.found
                    return self.values[wanted]
        return None

    def _value(self, formal: ir.Value, actual: ir.Value) -> bool:
        formal, actual = through_identity(formal), through_identity(actual)
        if formal in self.values:
            return self.values[formal] is actual or self._same_content(formal, actual)
        expected = formal.producer()
        if expected is None:
            self.values[formal] = actual
            return True
        if self._same_content(formal, actual):
            self.values[formal] = actual
            self.matched += 1
            return True
        node = actual.producer()
        if node is None or formal.index() != actual.index() or not self._node(expected, node):
            return False
        self.values[formal] = actual
        return True

    def _node(self, expected: ir.Node, node: ir.Node) -> bool:
        if expected in self.nodes:
            return self.nodes[expected] is node
        if (
            expected.op_identifier() != node.op_identifier()
            or expected.op_type == "Constant"
            or node.graph is not self.root.graph
            or not self._same_attributes(expected, node)
        ):
            return False
        self.nodes[expected] = node
        self.matched += 1
        formals, actuals = list(expected.inputs), list(node.inputs)
        if len(formals) != len(actuals):
            return False
        if (
            expected.op_type in ir.COMMUTATIVE
            and not all(map(self._plausible, formals, actuals))
            and all(map(self._plausible, formals, reversed(actuals)))
        ):
            actuals.reverse()
        return all(
            formal is actual is None or (formal is not None and actual is not None and self._value(formal, actual))
            for formal, actual in zip(formals, actuals, strict=True)
        )

    def _plausible(self, formal: ir.Value | None, actual: ir.Value | None) -> bool:
        """Whether an operand is of the right kind: checked before operands of a commutative operator are swapped."""
        if formal is None or actual is None:
            return formal is actual
        formal, actual = through_identity(formal), through_identity(actual)
        if formal in self.values:
            return self.values[formal] is actual or is_number(formal)
        expected, node = formal.producer(), actual.producer()
        if expected is None:
            return not is_number(actual)
        if is_number(formal):
            return is_number(actual)
        return node is not None and node.op_type == expected.op_type

    def _same_attributes(self, expected: ir.Node, node: ir.Node) -> bool:
        if not expected.attributes and not node.attributes:
            return True
        wanted, given = ir.attributes(expected), ir.attributes(node)
        return wanted.keys() == given.keys() and all(self._agree(wanted[name], given[name]) for name in wanted)

    def _agree(self, wanted: object, given: object) -> bool:
        for name, stand_in in self.holes.items():
            if type(wanted) is type(stand_in) and wanted == stand_in:
                return isinstance(given, (int, float)) and self.found.setdefault(name, given) == given
        if isinstance(wanted, (list, tuple)) and isinstance(given, (list, tuple)):
            return tuple(wanted) == tuple(given)
        if wanted is None or isinstance(wanted, (int, float, str)):
            return type(wanted) is type(given) and wanted == given
        if isinstance(wanted, ir.TensorProtocol) and isinstance(given, ir.TensorProtocol):
            return _same_array(wanted.numpy(), given.numpy())
        return False

    def _same_content(self, formal: ir.Value, actual: ir.Value) -> bool:
        wanted = _content_in_body(formal)
        given = _content(actual, self.shapes.dtype) if wanted is not None else None
        if wanted is None or given is None or wanted.dtype != given.dtype:
            return False
        if wanted.size == 1:
            for name, stand_in in self.holes.items():
                if wanted.item() == stand_in:
                    number = given.item() if given.size == 1 else None
                    return isinstance(number, (int, float)) and self.found.setdefault(name, number) == number
        if wanted.dtype.kind == "f" and wanted.size == given.size == 1 and wanted.ndim <= 1 >= given.ndim:
            given = given.reshape(
                wanted.shape
            )  # a number is one with and without a dim: the result's rank is looked at
        return _same_array(wanted, given)


def _content(value: ir.Value, dtype_of: Callable[[ir.Value], ir.DataType | None]) -> ir.Array | None:
    """The content of a constant, or of a value that casts and a few functions compute from one."""
    steps = list(_up(value))
    content = ir.constant(steps.pop())
    for step in reversed(steps):
        node = step.producer()
        if node is None or content is None:
            return None
        if node.op_type in _OF_CONSTANTS:
            content = np.asarray(_OF_CONSTANTS[node.op_type](content))
        elif (dtype := _target(node, dtype_of)) is None:
            return None
        else:
            content = content.astype(dtype.numpy())
    return content


@lru_cache(maxsize=1 << 14)
def _content_in_body(formal: ir.Value) -> ir.Array | None:
    """The same of a value of a body, where only the inputs have types."""
    return _content(formal, ir.declared_dtype)


def _target(node: ir.Node, dtype_of: Callable[[ir.Value], ir.DataType | None]) -> ir.DataType | None:
    if node.op_type == "Cast":
        to = ir.attribute(node, "to")
        return ir.DataType(to) if isinstance(to, int) else None
    like = node.inputs[1]
    return None if like is None else dtype_of(like)


def is_number(value: ir.Value) -> bool:
    """Whether a value is constant, or computed from a constant by casts and a few functions."""
    *_, last = _up(value)
    return ir.is_constant(last)


def _up(value: ir.Value) -> Iterator[ir.Value]:
    """A value and its producers' first inputs, along casts and functions of one operand."""
    for _ in range(_LONGEST_CHAIN):
        yield value
        node = value.producer()
        if node is None or node.domain or node.op_type not in _CASTS | _OF_CONSTANTS.keys() or node.inputs[0] is None:
            return
        value = node.inputs[0]


def _same_array(a: ir.Array, b: ir.Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
