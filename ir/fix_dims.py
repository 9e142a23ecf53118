"""Fixing the dims of a model's inputs, as the user asked: the only way in which an interface is narrowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as oir

from .diagnostics import Diagnostic, Location, ModelError
from .traversal import graphs


def fix_dims(model: oir.Model, sizes: Mapping[str, int]) -> None:
    """Give symbolic dims of the inputs their size everywhere. Raises ModelError for a name that no input has."""
    known = {
        dim.value
        for value in model.graph.inputs
        for dim in (value.shape or ())
        if isinstance(dim, oir.SymbolicDim) and dim.value is not None
    }
    for name in sizes:
        if name not in known:
            hint = f"its symbolic dims are: {', '.join(sorted(known)) or 'none'}"
            raise ModelError(Diagnostic("unknown-dim", f"no input of the model has a dim {name!r}", hint=hint))
    if sizes:
        _bind(model, sizes)


ALL = "all"


def freeze_inputs(model: oir.Model, names: Sequence[str]) -> None:
    """Take inputs that have an initializer out of the interface, so that they are constants; `all` for all of them.

    Raises ModelError for a name that no such input has.
    """
    weights = {value.name or "": value for value in model.graph.inputs if value.is_initializer()}
    for name in names:
        if name not in weights and name != ALL:
            known = ", ".join(list(weights)[:8]) + (", …" if len(weights) > 8 else "")
            hint = f"such inputs are: {known}" if weights else "no input of the model has a default"
            raise _misfit("unknown-input", f"no input with a default is called {name!r}", name, hint)
    frozen = set(weights) if ALL in names else set(names)
    if frozen:
        kept = [value for value in model.graph.inputs if value.name not in frozen]
        model.graph.inputs.clear()
        model.graph.inputs.extend(kept)


def fix_input_dims(model: oir.Model, wanted: Mapping[str, Sequence[int | str]]) -> None:
    """Give inputs the dims that `wanted` names. A symbol that becomes a number becomes that number everywhere.

    Raises ModelError for an unknown input, another rank, or a dim that the model declares otherwise.
    """
    inputs = {value.name: value for value in model.graph.inputs}
    bound: dict[str, int] = {}
    for name, dims in wanted.items():
        value = inputs.get(name)
        if value is None:
            known = ", ".join(str(each) for each in inputs)
            raise _misfit("unknown-input", f"the model has no input {name!r}", name, f"its inputs are: {known}")
        declared = value.shape
        if declared is not None and len(declared) != len(dims):
            raise _misfit("input-rank", f"{name!r} has {len(declared)} dims, not {len(dims)}", name)
        for index, dim in enumerate(dims):
            old = declared[index] if declared is not None else None
            if isinstance(old, int) and isinstance(dim, int) and old != dim:
                raise _misfit("input-dim", f"dim {index} of {name!r} is {old} in the model, not {dim}", name)
            symbol = old.value if isinstance(old, oir.SymbolicDim) else None
            if symbol is not None and isinstance(dim, int) and bound.setdefault(symbol, dim) != dim:
                raise _misfit("input-dim", f"{symbol!r} would have to be {bound[symbol]} and {dim} at once", name)
        value.shape = oir.Shape(list(dims))
    if bound:
        _bind(model, bound)


def _bind(model: oir.Model, bound: Mapping[str, int]) -> None:
    for graph in graphs(model):
        values = [*graph.inputs, *graph.outputs, *(value for node in graph for value in node.outputs)]
        for value in values:
            if value.shape is not None and any(isinstance(dim, oir.SymbolicDim) for dim in value.shape):
                value.shape = value.shape.evaluate(bound)


def _misfit(code: str, message: str, name: str, hint: str = "") -> ModelError:
    return ModelError(Diagnostic(code, message, Location(value=name), hint))
