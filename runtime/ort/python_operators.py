"""Sessions of models that call operators whose meaning is a Python function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ... import ir
from ...ir.standard.custom_operators import (
    Interpreted,
    Stage,
    call_attributes,
    ports_of,
    stage_model,
    stages,
    weights_of,
)
from .session import Port, Session, open_session
from .session_options import Array, Datum, Feeds, SessionOptions

if TYPE_CHECKING:
    import onnxruntime


class InterpretedSession(Session):
    """Stages of the main graph run in ONNX Runtime, and the Python functions between them.

    `weights` take the place of initializers. A stage is loaded for the element types and ranks that it first sees.
    """

    def __init__(self, model: Interpreted, options: SessionOptions, file: str, weights: Mapping[str, Array]) -> None:
        self._model, self._file, self.options = model, file, options
        self._constants: Mapping[str, Datum] = {**weights_of(model), **weights}
        self._stages = stages(model)
        self._loaded: dict[object, Session] = {}
        graph = model.proto.graph
        given = [each for each in graph.input if each.name not in self._constants]
        self.inputs = tuple(Port(*each) for each in ports_of(given))
        self.outputs = tuple(Port(*each) for each in ports_of(graph.output))

    def _call(self, feeds: Feeds, run_options: onnxruntime.RunOptions | None = None) -> Callable[[], list[Datum]]:
        self._check_names(feeds)
        return lambda: self._computed(feeds, run_options)

    def _computed(self, feeds: Feeds, run_options: onnxruntime.RunOptions | None) -> list[Datum]:
        known: dict[str, Datum] = {**self._constants, **feeds}
        for nth, stage in enumerate(self._stages):
            if stage.call is not None:
                results = self._results(stage, [known[name] if name else None for name in stage.inputs])
            else:
                read = {name: known[name] for name in stage.inputs if name in known and name not in self._constants}
                session = self._stage(nth, stage, read)
                results = session._call(read, run_options)()
            known.update(zip(stage.outputs, results, strict=True))
        return [known[port.name] for port in self.outputs]

    def _results(self, stage: Stage, given: list[Datum]) -> list[Datum]:
        node, name = stage.nodes[0], f"{stage.nodes[0].domain}.{stage.nodes[0].op_type}"
        assert stage.call is not None
        try:
            result = stage.call(*given, **call_attributes(node))
        except Exception as error:  # user code may raise anything
            message = f"the reference of {name} raised {type(error).__name__}: {error}"
            raise ir.ModelError(ir.Diagnostic("run-failed", message, self._where)) from error
        results = list(result) if isinstance(result, tuple) else [result]
        if len(results) != len(stage.outputs):
            message = f"the reference of {name} gives {len(results)} results, expected {len(stage.outputs)}"
            raise ir.ModelError(ir.Diagnostic("run-failed", message, self._where))
        return [np.asarray(each) for each in results]

    def _stage(self, nth: int, stage: Stage, read: Feeds) -> Session:
        arrays = {name: np.asarray(datum) for name, datum in read.items()}
        types = {name: (int(ir.DataType.from_numpy(each.dtype)), each.ndim) for name, each in arrays.items()}
        key = nth, tuple(types.items())
        if key not in self._loaded:
            constants = {name: np.asarray(datum) for name, datum in self._constants.items() if name in stage.inputs}
            data = stage_model(self._model, stage, types)
            self._loaded[key] = open_session(data, replace(self.options, interpret=False), constants)
        return self._loaded[key]
