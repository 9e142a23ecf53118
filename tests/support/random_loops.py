"""Random loops over sequences, the same for a seed in every process: recurrent networks, and what is nearly one.

Each is a cell (RNN, GRU, LSTM) in one of the spellings of exporters, in a Loop or Scan, with slips here and there that
make something else of it: another activation, swapped operands, gates in another order, a peephole, a bias too many, a
number of turns that is not the length, states that are swapped or only handed on, results that no operator gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSETS = (11, 13, 17, 18, 21, 23)
FEATURES = 2
SIZE = 3
STATE = ("b", SIZE)


class LoopGenerator:
    """Makes one model. `slips`: which of the places where it might do otherwise it does; most models have one."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.opset = int(self.random.choice(OPSETS))
        self.dtype = TensorProto.DOUBLE if self.chance(0.05) else TensorProto.FLOAT
        self.slips = set(self.random.integers(0, 40, int(self.random.choice([0, 1, 1, 1, 2]))).tolist())
        self.places = 0
        self.outer: list[onnx.NodeProto] = []
        self.body: list[onnx.NodeProto] = []
        self.own: list[onnx.TensorProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.overridable: list[onnx.ValueInfoProto] = []
        self.count = 0

    # --- choosing and writing ---------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def slip(self) -> bool:
        self.places += 1
        return self.places in self.slips

    def one_of(self, *choices: str) -> str:
        return choices[int(self.random.integers(len(choices)))]

    def name(self, prefix: str = "v") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def emit(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [self.name() for _ in range(outputs)]
        self.body.append(helper.make_node(op_type, inputs, names, **attributes))
        return names[0]

    def ahead(self, op_type: str, *inputs: str, **attributes: object) -> str:
        """A node in front of the loop."""
        name = self.name()
        self.outer.append(helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def whole(self, number: int) -> str:
        name = self.name("k")
        self.initializers.append(numpy_helper.from_array(np.array(number), name))
        return name

    def constant(self, content: object) -> str:
        """A constant of the loop's type: outside, in the body, of a node, or one that the caller may override."""
        name = self.name("c")
        tensor = numpy_helper.from_array(np.asarray(content, helper.tensor_dtype_to_np_dtype(self.dtype)), name)
        match int(self.random.integers(20)):
            case 0 | 1 | 2:
                self.body.append(helper.make_node("Constant", [], [name], value=tensor))
            case 3 | 4 | 5:
                self.own.append(tensor)
            case 6 if self.slip():
                self.initializers.append(tensor)
                self.overridable.append(helper.make_tensor_value_info(name, self.dtype, list(tensor.dims)))
            case _:
                self.initializers.append(tensor)
        return name

    def weights(self, rows: int, columns: int) -> str:
        return self.constant(self.random.uniform(-1, 1, (rows, columns)))

    def number(self, value: float) -> str:
        """A single number; a slip gives it more axes than a matrix has."""
        return self.constant(np.full((1,) * (3 if self.slip() else int(self.random.integers(3))), value))

    def both(self, op_type: str, a: str, b: str) -> str:
        """Two operands in either order; a slip takes another operator, or one operand twice."""
        if self.slip():
            return self.emit(self.one_of("Add", "Sub", "Mul", "Max"), a, b)
        if self.slip():
            return self.emit(op_type, a, a)
        return self.emit(op_type, *((b, a) if self.chance(0.3) else (a, b)))

    # --- cells --------------------------------------------------------------------------------------------------------

    def product(self, value: str, rows: int, columns: int) -> str:
        if self.slip():
            columns = 1  # is broadcast
        if self.chance(0.3):
            attributes: dict[str, object] = {"alpha": 0.5} if self.chance(0.3) else {}
            if self.chance(0.3):
                return self.emit("Gemm", value, self.weights(columns, rows), transB=1, **attributes)
            return self.emit("Gemm", value, self.weights(rows, columns), **attributes)
        return self.emit("MatMul", value, self.weights(rows, columns))

    def shifted(self, value: str, columns: int) -> str:
        """A bias, or none, or what looks like one."""
        shapes = [(columns,), (1, columns), (1,), (), (1, 1)]
        if self.slip():
            shapes = [(1, 1, columns)]
        if self.chance(0.7):
            bias = self.random.uniform(-1, 1, shapes[int(self.random.integers(len(shapes)))])
            value = self.emit(
                "Add", *((value, self.constant(bias)) if self.chance(0.8) else (self.constant(bias), value))
            )
        return self.emit("Mul", value, self.number(0.75)) if self.chance(0.1) else value

    def fed(self, x: str, h: str, columns: int) -> str:
        """What an activation is fed, before it is cut into gates."""
        if self.slip():
            x, h = h, x
        wide = {x: FEATURES, h: SIZE} if x == "x" else {x: SIZE, h: FEATURES}
        if self.chance(0.2):
            joined = self.emit("Concat", *((x, h) if self.chance(0.7) else (h, x)), axis=1)
            return self.shifted(self.product(joined, FEATURES + SIZE, columns), columns)
        parts = [self.product(value, wide[value], columns) for value in (x, h)]
        place = int(self.random.integers(2))
        parts[place] = self.shifted(parts[place], columns)
        total = self.both("Add", *parts)
        return self.shifted(total, columns) if self.chance(0.3) else total

    def gates(self, x: str, h: str, count: int) -> list[str]:
        if self.chance(0.5):
            return [self.fed(x, h, SIZE) for _ in range(count)]
        whole = self.fed(x, h, count * SIZE)
        first = self.count + 1
        attributes = {"num_outputs": count} if self.opset >= 18 else {}
        self.emit("Split", whole, outputs=count, axis=int(self.random.choice([1, -1])), **attributes)
        found = [f"v{first + index}" for index in range(count)]
        return found[::-1] if self.chance(0.3) else found

    def activated(self, value: str, activation: str) -> str:
        if self.slip():
            activation = self.one_of("Relu", "Sigmoid", "Tanh", "Softsign", "Clipped")
        if activation != "Clipped":
            return self.emit(activation, value)
        match int(self.random.integers(3)):
            case 0:
                return self.emit("HardSigmoid", value, alpha=0.3)
            case 1:
                bounds = [self.number(0.0), self.number(1.0)]
                return self.emit("Max", self.emit("Min", value, bounds[1]), bounds[0])
            case _:
                return self.emit("Clip", value, self.constant(0.0), self.constant(1.0))

    def rnn(self) -> list[str]:
        return [self.activated(self.fed("x", "h", SIZE), self.one_of("Tanh", "Relu", "Sigmoid", "Clipped"))]

    def gru(self) -> list[str]:
        gate, inner = self.one_of("Sigmoid", "Clipped"), self.one_of("Tanh", "Relu")
        z, r = (self.activated(each, gate) for each in self.gates("x", "h", 2))
        outer = self.shifted(self.product("x", FEATURES, SIZE), SIZE)
        if self.chance(0.5):
            fed = self.both("Mul", r, self.shifted(self.product("h", SIZE, SIZE), SIZE))
        else:
            fed = self.product(self.both("Mul", r, "h"), SIZE, SIZE)
        n = self.activated(self.both("Add", outer, fed), inner)
        rest = self.emit("Sub", self.number(0.5 if self.slip() else 1.0), r if self.slip() else z)
        old = self.both("Mul", z, n if self.slip() else "h")
        return [self.both("Add", old, self.both("Mul", rest, n))]

    def lstm(self) -> list[str]:
        gate, inner = self.one_of("Sigmoid", "Clipped"), self.one_of("Tanh", "Relu")
        fed = self.gates("x", "h", 4)
        if self.slip():  # a peephole
            fed[0] = self.emit("Add", fed[0], self.emit("Mul", "c", self.constant(np.ones(SIZE))))
        i, f, o = (self.activated(each, gate) for each in fed[:3])
        new = self.both("Mul", i, self.activated(fed[3], inner))
        c = self.both("Add", self.both("Mul", f, "h" if self.slip() else "c"), new)
        return [self.both("Mul", o, self.activated("c" if self.slip() else c, inner)), c]

    # --- loops --------------------------------------------------------------------------------------------------------

    def make(self) -> onnx.ModelProto:
        cell = (self.rnn, self.gru, self.lstm)[int(self.random.integers(3))]
        states = ["h", "c"] if cell == self.lstm else ["h"]
        ends = cell()
        rows = [ends[0] if self.chance(0.8) else self.one_of(*ends, "x", "h") for _ in range(1 + self.chance(0.2))]
        starts = [f"{name}0" for name in states]
        if self.chance(0.2):  # a state that is handed on, read by the body or not
            states, starts, ends = [*states, "kept"], [*starts, "given"], [*ends, "kept"]
            if self.slip():
                ends[-1], ends[0] = ends[0], ends[-1]
            if self.chance(0.5):
                rows.append(self.emit("Add", "kept", self.emit("Exp", "given")))
        if self.chance(0.3):  # a state that is another one's twin, or nearly
            twin = int(self.random.integers(len(states)))
            states, starts = [*states, "twin"], [*starts, starts[twin]]
            ends = [*ends, self.emit("Neg", ends[twin]) if self.slip() else ends[twin]]
            if self.chance(0.5):
                rows.append(self.emit("Sub", "twin", states[twin]))
        # What a body hands on as it came, ONNX Runtime's Scan makes up; and each result is one of its own.
        ends, rows = ([self.emit("Identity", each) for each in group] for group in (ends, rows))
        return self._looped(states, starts, ends, rows)

    def _looped(self, states: list[str], starts: list[str], ends: list[str], rows: list[str]) -> onnx.ModelProto:
        dims = None if self.slips else STATE  # a slip may change them
        formal = [self._info(name, dims) for name in states]
        handed = [self._info(name, dims) for name in (*ends, *rows)]
        results = [*(f"{name}_last" for name in states), *(f"all{index}" for index in range(len(rows)))]
        if self.chance(0.4):
            body = helper.make_graph(self.body, "body", [*formal, self._info("x", ("b", FEATURES))], handed, self.own)
            attributes: dict[str, object] = {"num_scan_inputs": 1}
            if self.chance(0.4):
                attributes["scan_input_directions"] = [1]
            if self.chance(0.4):
                attributes["scan_output_directions"] = [int(not self.slip())] * len(rows)
            self.outer.append(helper.make_node("Scan", [*starts, "xs"], results, body=body, **attributes))
            return self._model(states, rows)
        length = self.ahead("Gather", self.ahead("Shape", "xs"), self.whole(0))
        count = "turns" if self.slip() else length
        counter = self.one_of("turn", "turn", "at")
        formals = [helper.make_tensor_value_info("turn", TensorProto.INT64, ())]
        formals.append(helper.make_tensor_value_info("go", TensorProto.BOOL, ()))
        condition, first, going = "", [], "go"
        if counter == "at":
            kind = TensorProto.INT64 if not self.slip() else TensorProto.INT32
            first = [self.ahead("Cast", self.whole(0), to=kind)] if kind != TensorProto.INT64 else [self.whole(0)]
            step = self.ahead("Cast", self.whole(2 if self.slip() else 1), to=kind)
            after = self.emit("Add", "at", step)
            formal.insert(0, helper.make_tensor_value_info("at", kind, ()))
            handed.insert(0, helper.make_tensor_value_info(after, kind, ()))
            results.insert(0, "at_last")
            if self.chance(0.6):
                limit = self.ahead("Cast", length, to=TensorProto.FLOAT)
                going = self.emit("Less", self.emit("Cast", after, to=TensorProto.FLOAT), limit)
                if self.chance(0.5):  # tf2onnx 1.17 compares both counters, beside the trip count
                    turn = self.emit("Cast", "turn", to=TensorProto.FLOAT)
                    other = self.ahead("Cast", "turns", to=TensorProto.FLOAT) if self.slip() else limit
                    going = self.emit("And", self.emit("Less", turn, other), going)
                condition = self.ahead("Less", self.ahead("Cast", self.whole(0), to=TensorProto.FLOAT), limit)
                count = "" if self.chance(0.5) else count
        ahead = [helper.make_node("Gather", ["xs", counter], ["x"], axis=0)]
        ahead += [helper.make_node("Identity", [going], ["goes"])] if going == "go" else []
        handed.insert(0, helper.make_tensor_value_info("goes" if going == "go" else going, TensorProto.BOOL, ()))
        body = helper.make_graph([*ahead, *self.body], "body", [*formals, *formal], handed, self.own)
        inputs = [count, condition, *first, *starts]
        self.outer.append(helper.make_node("Loop", inputs, results, body=body))
        return self._model(states, rows)

    def _model(self, states: Sequence[str], rows: Sequence[str]) -> onnx.ModelProto:
        length = int(self.random.integers(1, 4)) if self.chance(0.4) else "s"
        inputs = [self._info("xs", (length, "b", FEATURES)), *map(self._start, ("h0", "c0", "given"))]
        inputs.append(helper.make_tensor_value_info("turns", TensorProto.INT64, ()))
        outputs = [self._info(f"all{index}", (None, None, None)) for index in range(len(rows))]
        outputs += [self._info(f"{name}_last", (None, None)) for name in states if self.chance(0.3)]
        graph = helper.make_graph(self.outer, "random", [*inputs, *self.overridable], outputs, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def _start(self, name: str) -> onnx.ValueInfoProto:
        return self._info(name, (1, SIZE) if self.slip() else STATE)

    def _info(self, name: str, dims: Sequence[int | str | None] | None) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, self.dtype, dims)


def feeds_of(
    model: onnx.ModelProto, sizes: Mapping[str, int], turns: int, random: np.random.Generator
) -> dict[str, np.ndarray]:
    defaults = {tensor.name for tensor in model.graph.initializer}
    feeds: dict[str, np.ndarray] = {"turns": np.array(turns)}
    for value in model.graph.input:
        if value.name in defaults or value.name in feeds:
            continue
        tensor = value.type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else sizes[dim.dim_param] for dim in tensor.shape.dim]
        feeds[value.name] = random.uniform(-2, 2, dims).astype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return feeds
