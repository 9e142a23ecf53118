"""Propagate symbolic dims forward through a model, and collect the constraints that its operators put on them.

Operators whose onnx inference loses sums and products of symbols have a rule (see `call.infers`); all others go through
onnx's own inference, where every expression stands for one name, so that equal dims stay equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .... import ir
from ....ir.standard.schema_inference import TensorFacts, infer_results, result_type
from ..dim_solver import Equations
from ..symbolic_size import Size
from .call import MAX_ELEMENTS, RULES, Call, Dims, Results, SymbolicTensor

MAX_NODES = 200_000
_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


class Collector:
    """A forward walk over a model with symbolic dims; `equations` holds the constraints that it collects.

    `declared_symbols`: the symbols that inner values may declare.
    """

    def __init__(self, model: ir.Model, equations: Equations, declared_symbols: Mapping[str, Size]) -> None:
        self.model = model
        self.equations = equations
        self.tensors: dict[ir.Value, SymbolicTensor] = {}
        self._declared = declared_symbols
        self._inference_names: dict[Size, str] = {}
        self._by_inference_name: dict[str, Size] = {}
        self._budget = MAX_NODES

    def run(self, inputs: Mapping[ir.Value, SymbolicTensor]) -> Equations:
        """Collect the constraints of the main graph, with the facts about its inputs."""
        self.tensors.update(inputs)
        self.walk(self.model.graph)
        return self.equations

    def walk(self, graph: ir.Graph) -> None:
        """Infer the values of a graph in its order, until the node budget is spent."""
        for node in graph:
            self._budget -= 1
            if self._budget < 0:
                return
            inputs = [None if value is None else self.tensor_of(value) for value in node.inputs]
            results = self._results(node, inputs)
            for index, value in enumerate(node.outputs):
                result = results[index] if index < len(results) else None
                self.tensors[value] = self._completed(node, index, inputs, result or SymbolicTensor())

    def _results(self, node: ir.Node, inputs: Results) -> Results:
        function = self.model.functions.get(node.op_identifier())
        if function is not None:
            for value, tensor in zip(function.inputs, inputs, strict=False):
                self.tensors[value] = tensor or SymbolicTensor()
            self.walk(function.graph)
            return [self.tensors.get(value) for value in function.outputs]
        rule = RULES.get((node.domain, node.op_type))
        results = None
        if rule is not None:
            try:
                results = rule(Call(self, node, inputs))
            except (IndexError, ValueError, TypeError, ZeroDivisionError, AssertionError, OverflowError):
                results = None  # the node violates its operator's definition: other sizes would not help
        return self._inferred(node, inputs) if results is None else results

    def _completed(self, node: ir.Node, index: int, inputs: Results, result: SymbolicTensor) -> SymbolicTensor:
        """`result` with the declared element type and dims where inference found none."""
        value = node.outputs[index]
        dtype, dims = result.dtype, result.dims
        if dtype is None:
            dtype = value.dtype or self._result_type(node, index, inputs)
        if dims is None and value.shape is not None and not value.is_graph_output():
            dims = self._declared_dims(value.shape.dims)
        if dims is not None:
            dims = tuple(map(self.equations.bounded, dims))
        below = result.below
        if below is None and node.op_type in ir.MOVEMENT | {"Cast"} and inputs and inputs[0] is not None:
            below = inputs[0].below
        return SymbolicTensor(dtype, dims, result.elements, below)

    def _result_type(self, node: ir.Node, index: int, inputs: Results) -> ir.DataType | None:
        source = result_type(node, index)
        if source.fixed is not None:
            return source.fixed
        operands = (inputs[i] for i in source.inputs if i < len(inputs))
        return next((tensor.dtype for tensor in operands if tensor is not None and tensor.dtype is not None), None)

    def _declared_dims(self, dims: Sequence[int | ir.SymbolicDim]) -> Dims:
        """Declared dims of inner values: numbers hold, and so do symbols that the inputs have."""
        sizes = []
        for dim in dims:
            if isinstance(dim, int):
                sizes.append(Size.number(dim) if dim >= 0 else self.equations.unknown())
            else:
                sizes.append(self._declared.get(str(dim.value)) or self.equations.unknown())
        return tuple(sizes)

    def tensor_of(self, value: ir.Value) -> SymbolicTensor:
        """The facts about a value; of a constant or an undeclared value when it is first used."""
        if value not in self.tensors:
            self.tensors[value] = self.constant_of(value)
        return self.tensors[value]

    def constant_of(self, value: ir.Value) -> SymbolicTensor:
        """The facts about a constant, with its elements when it is a small integer tensor; else the declared ones."""
        tensor = ir.constant_tensor(value)
        if tensor is None and value.is_initializer():
            tensor = value.const_value  # an overridable initializer: feeds leave it as it is
        if tensor is None:
            dims = None if value.shape is None else self._declared_dims(value.shape.dims)
            return SymbolicTensor(value.dtype, dims)
        dims = tuple(Size.number(int(dim)) for dim in tensor.shape.numpy())
        elements = None
        if tensor.size <= MAX_ELEMENTS and tensor.dtype in _INTEGERS:
            elements = tuple(Size.number(int(element)) for element in np.asarray(tensor.numpy()).reshape(-1))
        return SymbolicTensor(tensor.dtype, dims, elements)

    # --- onnx's own inference -----------------------------------------------------------------------------------------

    def _inferred(self, node: ir.Node, inputs: Results) -> Results:
        if any(tensor is not None and tensor.dtype is None for tensor in inputs):
            return []
        facts = [
            None
            if tensor is None or tensor.dtype is None
            else TensorFacts(tensor.dtype, None if tensor.dims is None else tuple(map(self._to_onnx, tensor.dims)))
            for tensor in inputs
        ]
        contents = {index: array for index, tensor in enumerate(inputs) if (array := _content(tensor)) is not None}
        return [
            None
            if result is None
            else SymbolicTensor(result.dtype, None if result.dims is None else tuple(map(self._from_onnx, result.dims)))
            for result in infer_results(node, facts, contents)
        ]

    def _to_onnx(self, size: Size) -> int | str | None:
        number = size.constant
        if number is not None:
            return number if number >= 0 else None
        if size not in self._inference_names:
            self._inference_names[size] = f"s{len(self._inference_names)}"
            self._by_inference_name[self._inference_names[size]] = size
        return self._inference_names[size]

    def _from_onnx(self, dim: int | str | None) -> Size:
        if isinstance(dim, int):
            return Size.number(dim)
        return self._by_inference_name.get(str(dim)) or self.equations.unknown()


def _content(tensor: SymbolicTensor | None) -> ir.Array | None:
    if tensor is None or tensor.elements is None or tensor.dims is None or tensor.dtype is None:
        return None
    values = [None if element is None else element.constant for element in tensor.elements]
    dims = [dim.constant for dim in tensor.dims]
    if None in values or None in dims:
        return None
    return np.array(values, dtype=tensor.dtype.numpy()).reshape([dim or 0 for dim in dims])


def collect(
    model: ir.Model, inputs: Mapping[ir.Value, Sequence[Size]], symbols: Mapping[str, Size], equations: Equations
) -> Equations:
    """Add the constraints of `model` on the dims of its `inputs` to `equations`.

    `symbols`: those of the inputs, which inner values may declare, too.
    """
    tensors = {
        value: SymbolicTensor(
            value.dtype, tuple(dims) if isinstance(value.type, ir.TensorType) or value.type is None else None
        )
        for value, dims in inputs.items()
    }
    return Collector(model, equations, symbols).run(tensors)
