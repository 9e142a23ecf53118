"""If, Loop and Scan: constraints of their bodies."""

from __future__ import annotations

from .... import ir
from ..symbolic_size import Size
from .call import Call, Results, SymbolicTensor, infers


@infers("If")
def _if(call: Call) -> Results | None:
    condition = call.constant(0)
    branches = dict(zip(call.node.attributes, ir.subgraphs_of(call.node), strict=False))
    if condition:  # a test of ranks, as exporters write it: the other branch does not accept this rank
        branches = {name: body for name, body in branches.items() if (name == "then_branch") == bool(condition[0])}
    results: list[SymbolicTensor] = []
    for body in branches.values():
        call.collector.walk(body)
        outputs = [call.collector.tensor_of(value) for value in body.outputs]
        results = [_joined(call, one, two) for one, two in zip(results, outputs, strict=True)] if results else outputs
    return results


def _joined(call: Call, one: SymbolicTensor, two: SymbolicTensor) -> SymbolicTensor:
    """The facts that two tensors share (the join of the lattice)."""
    dtype = one.dtype if one.dtype == two.dtype else None
    if one.dims is None or two.dims is None or len(one.dims) != len(two.dims):
        return SymbolicTensor(dtype)
    pairs = zip(one.dims, two.dims, strict=True)
    return SymbolicTensor(dtype, tuple(left if left == right else call.unknown() for left, right in pairs))


@infers("Loop")
def _loop(call: Call) -> Results | None:
    tensors, tensor_of = call.collector.tensors, call.collector.tensor_of
    (body,) = ir.subgraphs_of(call.node)
    states = call.inputs[2:]
    tensors[body.inputs[0]] = SymbolicTensor(ir.DataType.INT64, ())
    tensors[body.inputs[1]] = SymbolicTensor(ir.DataType.BOOL, ())
    for value, state in zip(body.inputs[2:], states, strict=True):
        tensors[value] = _without_elements(state)
    call.collector.walk(body)
    results: list[SymbolicTensor | None] = []
    for value, state in zip(body.outputs[1 : 1 + len(states)], states, strict=False):
        after = tensor_of(value)
        is_invariant = state is not None and after.dims is not None and after.dims == state.dims
        results.append(SymbolicTensor(after.dtype, after.dims if is_invariant else None))
    for value in body.outputs[1 + len(states) :]:  # scan outputs: one element per iteration
        result = tensor_of(value)
        results.append(SymbolicTensor(result.dtype, None if result.dims is None else (call.unknown(), *result.dims)))
    return results


def _without_elements(tensor: SymbolicTensor | None) -> SymbolicTensor:
    return SymbolicTensor() if tensor is None else SymbolicTensor(tensor.dtype, tensor.dims)


@infers("Scan")
def _scan(call: Call) -> Results | None:
    if (call.node.version or 9) < 9:
        return []
    tensors = call.collector.tensors
    (body,) = ir.subgraphs_of(call.node)
    count = call.integer("num_scan_inputs")
    states = len(call.inputs) - count
    for value, state in zip(body.inputs[:states], call.inputs[:states], strict=True):
        tensors[value] = _without_elements(state)
    axes = call.integers("scan_input_axes", [0] * count)
    length: Size | None = None
    for value, tensor, axis in zip(body.inputs[states:], call.inputs[states:], axes, strict=True):
        if tensor is None or tensor.dims is None:
            tensors[value] = _without_elements(tensor)
            continue
        axis %= len(tensor.dims)
        if length is not None:
            call.equal(length, tensor.dims[axis])
        length = length or tensor.dims[axis]
        tensors[value] = SymbolicTensor(tensor.dtype, tensor.dims[:axis] + tensor.dims[axis + 1 :])
    call.collector.walk(body)
    return _scan_results(call, body, states, length)


def _scan_results(call: Call, body: ir.Graph, states: int, length: Size | None) -> Results:
    results: list[SymbolicTensor | None] = []
    for index, value in enumerate(body.outputs):
        after = call.collector.tensor_of(value)
        if index >= states:
            trip_count = length or call.unknown()
            results.append(SymbolicTensor(after.dtype, None if after.dims is None else (trip_count, *after.dims)))
            continue
        before = call.dims(index)
        if before is not None and after.dims is not None:
            for one, two in zip(before, after.dims, strict=False):
                call.equal(one, two)
        results.append(after)
    return results
