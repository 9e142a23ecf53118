"""Constant folding's arithmetic: ONNX Runtime's own kernels, so that folding changes no value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .. import ir
from ..ir.subgraph import extract
from .ort.session import open_session
from .ort.session_options import SessionOptions

_CARRIED_KINDS = "biufc"
_STRING_KINDS = "OUS"


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
        stand_ins = _StandIns(constants)
        if not stand_ins.follow(nodes):
            if any(not _is_carried(array) and array.dtype.kind not in _STRING_KINDS for array in constants.values()):
                return None
            stand_ins = _StandIns({})
        contents = {value: stand_ins.indices(value, array) for value, array in constants.items()}
        types = {value: (_element_type(array), array.shape) for value, array in contents.items()}
        try:
            model = extract(nodes, list(contents), results, opset_imports, types)
            session = open_session(model, self._options)
            outputs = session.run({value.name or "": array for value, array in contents.items()})
        except (ir.ModelError, ValueError):
            return None
        found = {value: outputs[value.name or ""] for value in results}
        carried = {
            value: stand_ins.elements(value, array)
            for value, array in found.items()
            if isinstance(array, np.ndarray) and _is_carried(array)
        }
        return carried if len(carried) == len(results) else None


class _StandIns:
    """Integers in the place of elements that kernels do not take: moving them tells where each element goes."""

    def __init__(self, constants: Mapping[ir.Value, ir.Array]) -> None:
        self._dtypes: dict[ir.Value, np.dtype[np.generic]] = {}
        self._pools: dict[np.dtype[np.generic], list[ir.Array]] = {}
        self._starts: dict[ir.Value, int] = {}
        for value, array in constants.items():
            if _is_carried(array):
                continue
            self._dtypes[value] = array.dtype
            pool = self._pools.setdefault(array.dtype, [])
            self._starts[value] = sum(each.size for each in pool)
            pool.append(array.reshape(-1))

    def follow(self, nodes: Sequence[ir.Node]) -> bool:
        """Note which results are stand-ins, too; False where a node does more than move them."""
        for node in nodes:
            given = [value for value in node.inputs if value in self._dtypes]
            if not given:
                continue
            dtype = self._dtypes[given[0]]
            is_data = node.inputs[0] is given[0] and (len(given) == 1 or node.op_type == "Concat")
            is_moved = node.op_type in ir.MOVEMENT or (node.op_type == "Concat" and len(given) == len(node.inputs))
            if node.domain != "" or not is_moved or not is_data:
                return False
            if any(self._dtypes[value] != dtype for value in given):
                return False
            self._dtypes.update(dict.fromkeys(node.outputs, dtype))
        return True

    def indices(self, value: ir.Value, array: ir.Array) -> ir.Array:
        """The feed for a constant: itself, or the indices of its elements in the pool of its type."""
        if value not in self._starts:
            return array
        return np.arange(array.size, dtype=np.int64).reshape(array.shape) + self._starts[value]

    def elements(self, value: ir.Value, array: ir.Array) -> ir.Array:
        """The content of a result."""
        dtype = self._dtypes.get(value)
        return array if dtype is None else np.concatenate(self._pools[dtype])[array]


def _is_carried(array: ir.Array) -> bool:
    """Whether the dtype is one of NumPy's own: few kernels take bfloat16, float8, 4-bit values and strings."""
    return array.dtype.kind in _CARRIED_KINDS and array.dtype.isbuiltin != 2


def _element_type(array: ir.Array) -> ir.DataType:
    if array.dtype.kind in _STRING_KINDS:
        return ir.DataType.STRING
    return ir.DataType.from_numpy(array.dtype)
