"""Constant folding's arithmetic: ONNX Runtime's own kernels, so that folding changes no value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .. import ir
from ..ir.extract import extract
from .options import SessionOptions
from .session import open_session

# bfloat16, float8 and 4-bit values stay in the graph: few kernels take them, and they are no dtypes of NumPy's own.
_CARRIED_KINDS = "biufc"


class OrtEvaluator:
    """Evaluates closed regions of nodes with one thread, ONNX Runtime's optimizations and prepacking off.

    Matches, structurally, the evaluator that constant folding is given. A session for a small region takes 0.1 ms, so
    hand over whole regions and go node by node only where a region gives None.
    """

    _options = SessionOptions(optimize=False, prepacking=False, threads=1)

    def evaluate(
        self,
        nodes: Sequence[ir.Node],
        constants: Mapping[ir.Value, np.ndarray[tuple[int, ...], np.dtype[np.generic]]],
        results: Sequence[ir.Value],
        opset_imports: Mapping[str, int],
    ) -> dict[ir.Value, ir.Array] | None:
        """The values of `results`, or None when ONNX Runtime cannot compute them or NumPy cannot carry them.

        `nodes` are in an order that can run; every value they (and the bodies in them) read is in `constants` or made
        by one of them. Constants are fed, not serialized: 64 MB cost 37 ms so, and 372 ms in the model.
        """
        if not all(array.dtype.kind in _CARRIED_KINDS + "OU" for array in constants.values()):
            return None
        types = {value: (_element_type(array), array.shape) for value, array in constants.items()}
        inputs = list(constants)
        try:
            model = extract(nodes, inputs, results, opset_imports, types)
            session = open_session(model, self._options)
            outputs = session.run({value.name or "": array for value, array in constants.items()})
        except (ir.ModelError, ValueError):
            return None
        found = {value: outputs[value.name or ""] for value in results}
        carried = {
            value: array
            for value, array in found.items()
            if isinstance(array, np.ndarray) and array.dtype.kind in _CARRIED_KINDS
        }
        return carried if len(carried) == len(results) else None


def _element_type(array: ir.Array) -> ir.DataType:
    if array.dtype.kind in "OU":
        return ir.DataType.STRING
    return ir.DataType.from_numpy(array.dtype)
