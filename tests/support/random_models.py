"""Random small models, the same for a seed in every process: what a rule's author did not think of.

They hold what the catalogue touches (operators that do nothing, linear operators with affine steps around them, shape
arithmetic, constants to fold, equal nodes, equal initializers, fragments of the golden files), over several opsets and
element types, with symbolic dims, bodies that capture, functions, values that several read, inner values as outputs,
overridable initializers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from optimize_graph.testing.differential import RANDOM
from optimize_graph.testing.variation_feeds import SPECIAL, may_be_empty
from support import fragments

Dim = int | str
OPSETS = (9, 11, 13, 17, 18, 21, 21, 21)  # the last is the golden files'
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
INTEGERS = (TensorProto.INT64, TensorProto.INT32)


@dataclass(frozen=True)
class Value:
    """A value that nodes may read. `rough`: computed by what rounds, so that nothing may jump on it."""

    name: str
    dtype: int
    dims: tuple[Dim, ...]
    rough: bool = False

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS


@dataclass
class Scope:
    """One graph that is being made; `values` begins with what it may capture."""

    values: list[Value]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    own: list[Value] = field(default_factory=list)


class ModelGenerator:
    """Makes one model. `smooth`: nothing that would magnify rounding, so that inexact rules may be compared."""

    def __init__(self, seed: int, *, smooth: bool) -> None:
        self.random = np.random.default_rng([seed, smooth])
        self.smooth = smooth
        self.opset = int(self.random.choice(OPSETS))
        self.count = 0
        self.inputs: list[Value] = []
        self.overridable: list[Value] = []
        self.random_outputs: list[Value] = []
        self.functions: list[onnx.FunctionProto] = []
        self.domains: dict[str, int] = {}
        self.scope = Scope([])
        self.depth = 0
        self.rank_of_images = int(self.random.integers(3, 5))

    # --- choosing ---------------------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def one_of(self, choices: Sequence[object]) -> object:
        return choices[int(self.random.integers(len(choices)))]

    def pick(self, test: Callable[[Value], bool] = lambda value: True) -> Value | None:
        """A value that fits, the newest more likely."""
        fitting = [value for value in self.scope.values if test(value)]
        if not fitting:
            return None
        return fitting[-1] if self.chance(0.5) else fitting[int(self.random.integers(len(fitting)))]

    def name(self, prefix: str = "v") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    # --- writing ----------------------------------------------------------------------------------------------------

    def emit(
        self,
        op_type: str,
        inputs: Sequence[str],
        dtype: int,
        dims: Sequence[Dim],
        *,
        rough: bool = False,
        keep: bool = True,
        domain: str = "",
        **attributes: object,
    ) -> Value:
        value = Value(self.name(), dtype, tuple(dims), rough)
        self.scope.nodes.append(
            helper.make_node(op_type, list(inputs), [value.name], domain=domain, name=self.name("n"), **attributes)
        )
        if keep:
            self.scope.values.append(value)
            self.scope.own.append(value)
        return value

    def like(self, op_type: str, value: Value, *more: str, **attributes: object) -> Value:
        """A node whose result has the type and dims of `value`."""
        return self.emit(op_type, [value.name, *more], value.dtype, value.dims, rough=value.rough, **attributes)

    def constant(self, content: object, dtype: int = TensorProto.INT64) -> str:
        """A constant as initializer or Constant node, sometimes computed from others."""
        array = np.asarray(content).astype(helper.tensor_dtype_to_np_dtype(dtype))
        name = self.name("c")
        tensor = numpy_helper.from_array(array, name)
        style = self.random.random()
        if style < 0.6:
            self.scope.initializers.append(tensor)
        elif style < 0.8:
            self.scope.nodes.append(helper.make_node("Constant", [], [name], value=tensor, name=self.name("n")))
        else:
            self.scope.initializers.append(numpy_helper.from_array(array, f"{name}_raw"))
            self.scope.nodes.append(helper.make_node("Identity", [f"{name}_raw"], [name], name=self.name("n")))
        return name

    def numbers(self, dims: Sequence[int], dtype: int) -> np.ndarray:
        """Contents: special values where everything must be exact, moderate ones where rounding is allowed."""
        if dtype == TensorProto.BOOL:
            return self.random.integers(0, 2, dims).astype(bool)
        if dtype in INTEGERS:
            return self.random.integers(-3, 4, dims)
        if self.smooth or dtype == TensorProto.FLOAT16:
            return self.random.uniform(0.5, 2.0, dims) * self.random.choice([-1, 1], dims)
        return np.where(
            self.random.random(dims) < 0.5, self.random.choice(SPECIAL, dims), self.random.normal(size=dims)
        )

    def broadcastable(self, value: Value) -> list[int]:
        """Dims of a constant that (mostly) broadcasts against `value` without changing its dims."""
        rank = len(value.dims)
        kept = [dim if isinstance(dim, int) and self.chance(0.4) else 1 for dim in value.dims]
        kept = kept[int(self.random.integers(rank + 1)) :]
        if self.chance(0.08):  # raises the rank, or stretches a dim that may be 1
            kept = [1] * (rank + 1 - len(kept)) + kept
        if kept and self.chance(0.05):
            kept[0] = 2 if kept[0] == 1 else kept[0]
        return kept

    def joined(self, value: Value, dims: Sequence[int]) -> tuple[Dim, ...]:
        """The dims of `value` broadcast against a constant of `dims`."""
        rank = max(len(value.dims), len(dims))
        left = (1,) * (rank - len(value.dims)) + value.dims
        right = (1,) * (rank - len(dims)) + tuple(dims)
        return tuple(a if b == 1 else b for a, b in zip(left, right, strict=True))

    # --- families ---------------------------------------------------------------------------------------------------

    def nothing(self) -> None:
        """An operator that does nothing, or nearly."""
        value = self.pick()
        if value is None:
            return
        rank = len(value.dims)
        axes = list(range(rank))
        static = all(isinstance(dim, int) for dim in value.dims)
        match int(self.random.integers(19)):
            case 0:
                self.like("Identity", value)
            case 1 if value.is_float:
                self.like("Dropout", value, *([] if self.opset < 12 or self.chance(0.5) else self._dropout_inputs()))
            case 2 if value.is_float and self.opset >= 11:
                bounds = [[], [self.constant(-1.0, value.dtype)], ["", self.constant(1.0, value.dtype)]]
                self.like("Clip", value, *bounds[int(self.random.integers(3))])
            case 3:
                self.like("Concat", value, axis=int(self.random.integers(-rank, rank))) if rank else None
            case 4 if value.is_float:
                self.like(str(self.one_of(["Max", "Min", "Sum", "Mean"])), value)
            case 5:
                self.like("Cast", value, to=value.dtype)
            case 6 if rank:
                self.like("Reshape", value, self.constant([0] * rank))
            case 7 if static:
                self.like("Reshape", value, self.constant([int(dim) for dim in value.dims]))
            case 8 | 16 | 17 | 18 if rank:
                order = axes if self.chance(0.6) else list(self.random.permutation(axes))
                dims = [value.dims[axis] for axis in order]
                self.emit("Transpose", [value.name], value.dtype, dims, rough=value.rough, perm=[int(a) for a in order])
            case 9 if rank and value.dtype != TensorProto.BOOL:
                self._pad(value)
            case 10 if rank:
                self._slice(value)
            case 11 if value.dtype != TensorProto.BOOL:
                self.like("Expand", value, self.constant(self.broadcastable(value) if self.chance(0.7) else [1]))
            case 12 if rank:
                self.like("Tile", value, self.constant([1] * rank))
            case 13 if rank:
                axis = int(self.random.integers(-rank, rank))
                self.like("Split", value, axis=axis, **({"num_outputs": 1} if self.opset >= 18 else {}))
            case 14 if self.opset >= 15:
                self.like("CastLike", value, value.name)
            case 15 if rank == 4 and value.dtype == TensorProto.FLOAT and self.opset >= 11:
                modes = {"mode": str(self.one_of(["nearest", "linear"]))}
                scales = self.constant([1, 1, 1, 1 if self.chance(0.7) else 2], TensorProto.FLOAT)
                dims = (*value.dims[:3], self.name("?"))
                self.emit("Resize", [value.name, "", scales], value.dtype, dims, rough=True, **modes)
            case _:
                self.like("Identity", value)

    def _dropout_inputs(self) -> list[str]:
        return [self.constant(0.5, TensorProto.FLOAT), self.constant(False, TensorProto.BOOL)]

    def _pad(self, value: Value) -> None:
        rank = len(value.dims)
        pads = [0] * (2 * rank)
        dims = list(value.dims)
        if self.chance(0.3) and isinstance(dims[0], int):
            pads[0], dims[0] = 1, dims[0] + 1
        if self.opset < 11:
            if value.is_float:
                self.emit("Pad", [value.name], value.dtype, dims, rough=value.rough, pads=pads)
        else:
            self.emit("Pad", [value.name, self.constant(pads)], value.dtype, dims, rough=value.rough)

    def _slice(self, value: Value) -> None:
        axis = int(self.random.integers(len(value.dims)))
        start, dims = (1 if self.chance(0.3) else 0), list(value.dims)
        if start:
            dims[axis] = max(0, dims[axis] - 1) if isinstance(dims[axis], int) else self.name("?")
        end = 2**31 - 1
        if self.opset < 10:
            more: dict[str, object] = {"axes": [axis], "starts": [start], "ends": [end]}
            self.emit("Slice", [value.name], value.dtype, dims, rough=value.rough, **more)
            return
        steps = [self.constant([1])] if self.chance(0.5) else []
        parts = [self.constant([start]), self.constant([end]), self.constant([axis - len(dims)]), *steps]
        self.emit("Slice", [value.name, *parts], value.dtype, dims, rough=value.rough)

    def unit(self) -> None:
        """Arithmetic with a constant that is often neutral."""
        value = self.pick(lambda each: each.dtype != TensorProto.BOOL)
        if value is None:
            return
        dims = self.broadcastable(value)
        bitwise = ["BitwiseOr", "BitwiseXor"] if self.opset >= 18 else []
        integral = ["Mul", "Sub", "Add", *bitwise]
        op_type = str(self.one_of(["Mul", "Div", "Sub", "Add", "Pow"] if value.is_float else integral))
        neutral = {"Mul": 1.0, "Div": 1.0, "Add": -0.0, "Pow": 1.0}.get(op_type, 0.0)
        content: object = np.full(dims, neutral if op_type == "Pow" or self.chance(0.7) else -neutral)
        if op_type != "Pow" and self.chance(0.3):
            content = self.numbers(dims, value.dtype)
        other = self.constant(content, value.dtype)
        left = op_type in ("Mul", "Add", *bitwise) and self.chance(0.4)
        inputs = [other, value.name] if left else [value.name, other]
        self.emit(op_type, inputs, value.dtype, self.joined(value, dims), rough=value.rough)

    def binary(self) -> None:
        """Two values of equal dims (or of one that may be 1), twice the same sometimes."""
        a = self.pick()
        b = self.pick(lambda each: a is not None and each.dtype == a.dtype and each.dims == a.dims)
        if a is None or b is None:
            return
        if a.dtype == TensorProto.BOOL:
            op_type = str(self.one_of(["And", "Or", "Xor"]))
        elif a.dtype in INTEGERS and self.opset >= 18:
            op_type = str(self.one_of(["Add", "BitwiseAnd", "BitwiseOr", "BitwiseXor"]))
        elif a.is_float:
            op_type = str(self.one_of(["Add", "Mul", "Sub", "Max", "Min"]))
        else:
            op_type = str(self.one_of(["Add", "Mul", "Sub"]))
        rough = a.rough or b.rough
        self.emit(op_type, [a.name, b.name], a.dtype, a.dims, rough=rough)
        if self.chance(0.4):
            self.emit(op_type, self.one_of([[a.name, b.name], [b.name, a.name]]), a.dtype, a.dims, rough=rough)

    def logic(self) -> None:
        value = self.pick(lambda each: each.dtype == TensorProto.BOOL)
        if value is None:
            return
        if self.chance(0.3):
            self.like("Not", self.like("Not", value))
            return
        dims = self.broadcastable(value)
        other = self.constant(np.full(dims, self.chance(0.5)), TensorProto.BOOL)
        op_type = str(self.one_of(["And", "Or", "Xor"]))
        inputs = [value.name, other] if self.chance(0.5) else [other, value.name]
        self.emit(op_type, inputs, value.dtype, self.joined(value, dims))

    def where(self) -> None:
        a = self.pick(lambda each: each.dtype != TensorProto.BOOL or self.opset >= 16)
        b = self.pick(lambda each: a is not None and each.dtype == a.dtype and each.dims == a.dims)
        if a is None or b is None:
            return
        dims = self.broadcastable(a)
        condition = self.constant(np.full(dims, self.chance(0.5)), TensorProto.BOOL)
        self.emit("Where", [condition, a.name, b.name], a.dtype, self.joined(a, dims), rough=a.rough or b.rough)

    def unary(self) -> None:
        value = self.pick(lambda each: each.is_float)
        if value is None:
            return
        smooth = ["Relu", "Abs", "Neg", "Identity"]
        names = smooth if value.rough else [*smooth, "Ceil", "Floor", "Sign", "Tanh"]
        op_type = str(self.one_of(names))
        for _ in range(2 if self.chance(0.5) else 1):
            value = self.like(op_type, value)

    def views(self) -> None:
        value = self.pick(lambda each: len(each.dims) < 4)
        if value is None:
            return
        rank = len(value.dims)
        axis = int(self.random.integers(rank + 1))
        dims = (*value.dims[:axis], 1, *value.dims[axis:])
        signed = axis if self.opset < 11 or self.chance(0.5) else axis - rank - 1
        made = self._axes("Unsqueeze", value, signed, dims, since=13)
        if self.chance(0.5):
            self._axes("Squeeze", made, signed, value.dims, since=13)
        elif self.chance(0.5):
            self.emit("Flatten", [made.name], made.dtype, [self.name("?"), self.name("?")], rough=made.rough, axis=1)

    def _axes(self, op_type: str, value: Value, axis: int, dims: Sequence[Dim], *, since: int) -> Value:
        if self.opset < since:
            return self.emit(op_type, [value.name], value.dtype, dims, rough=value.rough, axes=[axis])
        return self.emit(op_type, [value.name, self.constant([axis])], value.dtype, dims, rough=value.rough)

    def reduction(self) -> None:
        value = self.pick(lambda each: each.is_float and len(each.dims) > 0)
        if value is None:
            return
        op_type = str(self.one_of(["ReduceSum", "ReduceMax", "ReduceMean"]))
        since = 13 if op_type == "ReduceSum" else 18
        if self.opset >= since and self.chance(0.5):
            empty = [self.constant(np.zeros(0, np.int64))] if self.chance(0.5) else []
            self.like(op_type, value, *empty, noop_with_empty_axes=1)
            return
        axis = int(self.random.integers(len(value.dims)))
        dims = (*value.dims[:axis], 1, *value.dims[axis + 1 :])
        # ONNX Runtime leaves the dims of an empty input as they are when an axis is negative.
        plain = self.opset < 11 or any(isinstance(dim, str) for dim in value.dims) or self.chance(0.5)
        signed = axis if plain else axis - len(value.dims)
        self._axes(op_type, value, signed, dims, since=since)

    def shapes(self) -> None:
        """Arithmetic on a shape, back into a view of the value."""
        value = self.pick(lambda each: 0 < len(each.dims) < 4)
        if value is None:
            return
        rank = len(value.dims)
        shape = self.emit("Shape", [value.name], TensorProto.INT64, [rank])
        if self.chance(0.3):
            self.emit("ConstantOfShape", [shape.name], TensorProto.FLOAT, value.dims)
        if self.chance(0.4):
            self.emit("Expand", [self.constant(1.0, TensorProto.FLOAT), shape.name], TensorProto.FLOAT, value.dims)
        parts = []
        for axis in range(rank):
            index = self.constant([axis if self.chance(0.5) else axis - rank])
            parts.append(self.emit("Gather", [shape.name, index], TensorProto.INT64, [1], axis=0).name)
        if self.chance(0.5):
            parts[int(self.random.integers(rank))] = self.constant([-1])
        target = self.emit("Concat", parts, TensorProto.INT64, [rank], axis=0)
        self.emit("Reshape", [value.name, target.name], value.dtype, value.dims, rough=value.rough)

    def folding(self) -> None:
        """Operators on constants alone, several outputs read in different places."""
        content = self.numbers([4, 3], TensorProto.FLOAT)
        whole = self.constant(content, TensorProto.FLOAT)
        first, second = self.name(), self.name()
        extra = {"num_outputs": 2} if self.opset >= 18 else {}
        self.scope.nodes.append(
            helper.make_node("Split", [whole], [first, second], axis=0, name=self.name("n"), **extra)
        )
        total = self.emit("Add", [first, second], TensorProto.FLOAT, [2, 3])
        kept = Value(first, TensorProto.FLOAT, (2, 3))
        self.scope.values.append(kept)
        self.scope.own.append(kept)
        self.emit("Mul", [total.name, first], TensorProto.FLOAT, [2, 3])
        if self.chance(0.3):
            self.emit("ConstantOfShape", [self.constant([300, 300])], TensorProto.FLOAT, [300, 300])

    def chance_operators(self) -> None:
        """Random operators, twice the same: each stays. What they give is compared by type and dims alone."""
        value = self.pick(lambda each: each.dtype == TensorProto.FLOAT and not each.rough)
        if value is None or self.depth or self.smooth:
            return
        op_type = str(self.one_of(RANDOM if self.opset >= 15 else RANDOM[:2]))
        source = self.like("Tanh", value) if op_type != "Bernoulli" else self.like("Abs", self.like("Tanh", value))
        for _ in range(2):
            made = self.emit(op_type, [source.name], value.dtype, value.dims, keep=False, seed=1.0)
            self.random_outputs.append(made)

    # --- linear operators -------------------------------------------------------------------------------------------

    def linear(self) -> None:
        """A linear operator with affine steps on either side."""
        kind = str(self.one_of(["Conv", "ConvTranspose", "Gemm", "MatMul"]))
        rank = 2 if kind == "Gemm" else int(self.random.integers(2, 4)) if kind == "MatMul" else self.rank_of_images
        dtype = TensorProto.FLOAT
        value = self.pick(
            lambda each: each.dtype == dtype and len(each.dims) == rank and self._has_channels(each, kind)
        )
        if value is None:
            return
        value = self._affine(value, kind)
        if len(value.dims) != rank or not self._has_channels(value, kind):
            return
        made = getattr(self, f"_{kind.lower()}")(value)
        if self.chance(0.6):
            made = self._affine(made, kind)
        if self.chance(0.4) and isinstance(made.dims[1] if len(made.dims) > 1 else None, int):
            self._batchnorm(made)

    @staticmethod
    def _has_channels(value: Value, kind: str) -> bool:
        dim = value.dims[1 if kind.startswith("Conv") else -1]
        return isinstance(dim, int) and 0 < dim <= 6

    def _affine(self, value: Value, kind: str) -> Value:
        for _ in range(int(self.random.integers(1, 3)) if self.chance(0.7) else 0):
            rank, axis = len(value.dims), 1 if kind.startswith("Conv") else len(value.dims) - 1
            if self.chance(0.2):  # the same number of elements, along another axis
                axis = int(self.random.integers(rank))
            size = value.dims[axis]
            dims = [size if i == axis else 1 for i in range(rank)] if isinstance(size, int) and rank else [1]
            while dims and dims[0] == 1 and self.chance(0.6):
                dims = dims[1:]
            other = self.constant(self.numbers(dims, value.dtype), value.dtype)
            op_type = str(self.one_of(["Mul", "Add", "Sub", "Div"]))
            left = op_type in ("Mul", "Add") and self.chance(0.3)
            inputs = [other, value.name] if left else [value.name, other]
            value = self.emit(op_type, inputs, value.dtype, self.joined(value, dims), rough=value.rough)
        return value

    def _weight(self, dims: Sequence[int]) -> str:
        content = self.numbers(dims, TensorProto.FLOAT)
        if self.chance(0.1) and not self.depth:
            name = self.name("w")
            self.scope.initializers.append(numpy_helper.from_array(content.astype(np.float32), name))
            self.overridable.append(Value(name, TensorProto.FLOAT, tuple(dims)))
            return name
        return self.constant(content, TensorProto.FLOAT)

    def _conv(self, value: Value) -> Value:
        channels = int(value.dims[1])
        group = channels if self.chance(0.3) else 1
        outputs = group * int(self.random.integers(1, 3))
        space = len(value.dims) - 2
        weight = self._weight([outputs, channels // group, *[1 if self.chance(0.5) else 2] * space])
        bias = [self._weight([outputs])] if self.chance(0.5) else []
        pads = [1 if self.chance(0.3) else 0] * (2 * space)
        dims = [value.dims[0], outputs, *(self.name("?") for _ in range(space))]
        inputs = [value.name, weight, *bias]
        return self.emit("Conv", inputs, value.dtype, dims, rough=True, group=group, pads=pads)

    def _convtranspose(self, value: Value) -> Value:
        channels = int(value.dims[1])
        group = channels if self.chance(0.4) else 1
        each = int(self.random.integers(1, 3))
        space = len(value.dims) - 2
        weight = self._weight([channels, each, *[2] * space])
        bias = [self._weight([each * group])] if self.chance(0.5) else []
        dims = [value.dims[0], each * group, *(self.name("?") for _ in range(space))]
        return self.emit("ConvTranspose", [value.name, weight, *bias], value.dtype, dims, rough=True, group=group)

    def _gemm(self, value: Value) -> Value:
        rows, columns = value.dims
        outputs, turned = int(self.random.integers(1, 5)), self.chance(0.5)
        weight = self._weight([outputs, int(columns)] if turned else [int(columns), outputs])
        form = self.one_of([[outputs], [1, outputs], [1], [1, 1], []])
        bias = [self._weight(list(form))] if self.opset < 11 or self.chance(0.7) else []  # type: ignore[call-overload]
        factors = {"alpha": 0.5, "beta": 2.0} if self.chance(0.3) else {}
        inputs = [value.name, weight, *bias]
        dims = [rows, outputs]
        return self.emit("Gemm", inputs, value.dtype, dims, rough=True, transB=int(turned), **factors)

    def _matmul(self, value: Value) -> Value:
        outputs = int(self.random.integers(1, 5))
        weight = self._weight([int(value.dims[-1]), outputs])
        return self.emit("MatMul", [value.name, weight], value.dtype, [*value.dims[:-1], outputs], rough=True)

    def _batchnorm(self, value: Value) -> None:
        size = [int(value.dims[1])]
        statistics = [self._weight(size) for _ in range(3)]
        variance = self.constant(np.abs(self.numbers(size, value.dtype)) + 0.5, value.dtype)
        training = {"training_mode": 0} if self.opset >= 14 and self.chance(0.5) else {}
        self.like(
            "BatchNormalization", Value(value.name, value.dtype, value.dims, True), *statistics, variance, **training
        )

    # --- fragments of the golden files ------------------------------------------------------------------------------

    def idiom(self) -> None:
        """What a rule looks for, or nearly, spliced in: it reads values that are there, or inputs of its own."""
        known = fragments.of_opset(self.opset)
        if not known:
            return
        fragment = known[int(self.random.integers(len(known)))]
        bound: dict[str, Dim] = {}
        names: dict[str, str] = {}
        for name, dtype, dims in fragment.inputs:
            fitting = [v for v in self.scope.values if v.dtype == dtype and not v.rough and _unify(dims, v.dims, bound)]
            if fitting and self.chance(0.7):
                value = fitting[-1] if self.chance(0.5) else fitting[int(self.random.integers(len(fitting)))]
            else:
                sizes: list[Dim] = ["N", "M", 1, 2, 3]
                known_sizes = {name: size for name, size in bound.items() if not str(size).startswith("?")}
                pick = [sizes[int(self.random.integers(5))] for _ in dims]
                chosen = [
                    known_sizes.get(d, size) if isinstance(d, str) else d for d, size in zip(dims, pick, strict=True)
                ]
                value = Value(self.name("x"), dtype, tuple(chosen))
                self.inputs.append(value)
                self.scope.values.append(value)
            bound.update(_unify(dims, value.dims, bound) or {})
            names[name] = value.name
        nodes, initializers = fragment.renamed(names, lambda: self.name())
        self.scope.nodes.extend(nodes)
        self.scope.initializers.extend(initializers)
        self.domains |= fragment.domains
        for name, dtype, dims in fragment.outputs:
            known_dims = [bound.get(dim, self.name("?")) if isinstance(dim, str) else dim for dim in dims]
            value = Value(names[name], dtype, tuple(known_dims), rough=True)
            self.scope.values.append(value)
            self.scope.own.append(value)

    # --- bodies and functions ---------------------------------------------------------------------------------------

    def body(self, name: str, result: Value, inputs: Sequence[Value] = ()) -> onnx.GraphProto:
        """A body that reads what is around it and gives a value of the type and dims of `result`."""
        outer, self.scope = self.scope, Scope([*self.scope.values, *inputs])
        self.depth += 1
        for _ in range(int(self.random.integers(1, 4))):
            self.step()
        fitting = [v for v in self.scope.own if (v.dtype, v.dims) == (result.dtype, result.dims) and not v.rough]
        last = fitting[-1] if fitting else self.like("Identity", Value(result.name, result.dtype, result.dims))
        inner, self.scope = self.scope, outer
        self.depth -= 1
        return helper.make_graph(
            inner.nodes,
            name,
            [helper.make_tensor_value_info(v.name, v.dtype, self._declared(v.dims)) for v in inputs],
            [helper.make_tensor_value_info(last.name, last.dtype, self._declared(last.dims))],
            inner.initializers,
        )

    def branch(self) -> None:
        value = self.pick(lambda each: not each.rough)
        if value is None or self.depth > 1:
            return
        flags = [each for each in self.scope.values if each.dtype == TensorProto.BOOL and each.dims == ()]
        style = self.random.random()
        if style < 0.5 or not flags:
            condition = self.constant(np.asarray(self.chance(0.5)), TensorProto.BOOL)
        else:
            condition = flags[0].name
        then, other = self.body(self.name("then"), value), self.body(self.name("else"), value)
        self.emit("If", [condition], value.dtype, value.dims, then_branch=then, else_branch=other)

    def loop(self) -> None:
        value = self.pick(lambda each: not each.rough)
        if value is None or self.depth > 1 or self.opset < 11:
            return
        turn = Value(self.name("i"), TensorProto.INT64, ())
        go = Value(self.name("go"), TensorProto.BOOL, ())
        carried = Value(self.name("carried"), value.dtype, value.dims)
        body = self.body(self.name("body"), carried, [turn, go, carried])
        again = self.name("again")
        body.node.append(helper.make_node("Identity", [go.name], [again], name=self.name("n")))
        result = body.output[0]
        del body.output[:]
        body.output.extend([helper.make_tensor_value_info(again, TensorProto.BOOL, []), result])
        trips = self.constant(np.asarray(int(self.random.integers(3))))
        # ONNX Runtime looks at a constant condition when it loads the model, so that an empty one is plain.
        self.emit("Loop", [trips, "", value.name], value.dtype, value.dims, body=body)

    def function(self) -> None:
        value = self.pick(lambda each: each.dtype == TensorProto.FLOAT and not each.rough)
        if value is None or self.opset < 13:
            return
        if not self.functions:
            self.functions.append(_function(self.opset))
        slope = {"slope": 0.25} if self.chance(0.5) else {}
        self.like("Leak", value, *([value.name] if self.chance(0.5) else []), domain="local", **slope)

    # --- the whole --------------------------------------------------------------------------------------------------

    def step(self) -> None:
        exact = [self.reduction, self.folding, self.chance_operators, self.branch, self.loop, self.function]
        both = [self.nothing, self.unit, self.binary, self.logic, self.where, self.unary, self.views, self.shapes]
        choices = [*both, self.nothing, self.unit, *([] if self.smooth else exact)]
        if not self.depth:
            choices += [self.linear] * (8 if self.smooth else 1)
            choices += [self.idiom] * (8 if self.opset in OPSETS[-1:] else 2)
        choice = choices[int(self.random.integers(len(choices)))]
        choice()

    def make(self) -> onnx.ModelProto:
        kinds = [TensorProto.FLOAT, TensorProto.FLOAT, *self.random.choice([*FLOATS, *INTEGERS, TensorProto.BOOL], 2)]
        for kind in kinds:
            rank = int(self.random.integers(4)) if kind != TensorProto.FLOAT else int(self.random.integers(2, 5))
            rank = self.rank_of_images if kind == TensorProto.FLOAT and self.chance(0.5) else rank
            sizes: list[Dim] = ["N", "M", 1, 2, 3, 4]
            dims = tuple(sizes[int(self.random.integers(6))] for _ in range(rank))
            if kind == TensorProto.FLOAT and self.chance(0.8):
                dims = (*dims[:1], int(self.random.integers(1, 5)), *dims[2:])
            # ONNX Runtime runs float16 in float32 or not, depending on what stands around it.
            self.inputs.append(Value(self.name("x"), int(kind), dims, rough=kind == TensorProto.FLOAT16))
        self.inputs.append(Value("flag", TensorProto.BOOL, ()))
        if self.chance(0.3):
            self.overridable.append(Value("given", TensorProto.FLOAT, (2,)))
            self.scope.initializers.append(numpy_helper.from_array(np.array([1, 1], np.float32), "given"))
        self.scope.values = [*self.inputs, *self.overridable]
        for _ in range(int(self.random.integers(6, 18))):
            self.step()
        return self._finish()

    def _finish(self) -> onnx.ModelProto:
        read = {name for node in self.scope.nodes for name in node.input}
        ends = [value for value in self.scope.own if value.name not in read]
        inner = [value for value in self.scope.own if value.name in read and self.chance(0.15)]
        outputs = [*ends, *inner, *self.random_outputs] or [self.like("Identity", self.inputs[0])]
        graph = helper.make_graph(
            self.scope.nodes,
            "random",
            [self._info(value) for value in (*self.inputs, *self.overridable)],
            [self._info(value) for value in outputs],
            self.scope.initializers,
        )
        imports = [helper.make_opsetid("", self.opset)]
        imports += [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        if self.functions:
            imports.append(helper.make_opsetid("local", 1))
        version = 8 if self.functions else 7 if self.opset < 19 else 9
        if self.opset >= 21:
            version = 10
        model = helper.make_model(graph, opset_imports=imports, ir_version=version, functions=self.functions)
        model.producer_name = "random_models"
        return model

    def _info(self, value: Value) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(value.name, value.dtype, self._declared(value.dims))

    @staticmethod
    def _declared(dims: Sequence[Dim]) -> list[Dim | None]:
        return [None if isinstance(dim, str) and dim.startswith("?") else dim for dim in dims]


def _unify(wanted: Sequence[Dim], given: Sequence[Dim], bound: dict[str, Dim]) -> dict[str, Dim] | None:
    """What the symbols in `wanted` must stand for, besides what is `bound`, so that it is `given`; None: never."""
    if len(wanted) != len(given):
        return None
    found = dict(bound)
    for dim, is_now in zip(wanted, given, strict=True):
        if (found.setdefault(dim, is_now) if isinstance(dim, str) else dim) != is_now:
            return None
    return found


def _function(opset: int) -> onnx.FunctionProto:
    """Leak<slope = 0.5>(x, y?): a reference to an attribute, and one in a node that a body could hide."""
    leaky = helper.make_node("LeakyRelu", ["x"], ["r"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    nodes = [leaky, helper.make_node("Identity", ["r"], ["k"]), helper.make_node("Neg", ["k"], ["out"])]
    return helper.make_function(
        "local",
        "Leak",
        ["x", "y"],
        ["out"],
        nodes,
        [helper.make_opsetid("", opset)],
        attribute_protos=[helper.make_attribute("slope", 0.5)],
    )


def sizes_of(model: onnx.ModelProto, random: np.random.Generator) -> list[dict[str, int]]:
    """Sizes for the symbolic dims: nothing, one, several."""
    empty = [{"N": 0, "M": 2}] if may_be_empty(model) else []
    return [*empty, {"N": 1, "M": 1}, {"N": 3, "M": int(random.integers(1, 4))}]


def feeds_of(
    model: onnx.ModelProto, sizes: dict[str, int], random: np.random.Generator, *, smooth: bool, override: bool
) -> dict[str, np.ndarray]:
    """Inputs with special values among them (or moderate ones), and contents for overridable initializers."""
    defaults = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name in defaults and not override:
            continue
        tensor = value.type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else sizes[dim.dim_param] for dim in tensor.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if dtype == np.dtype(bool):
            content = random.integers(0, 2, dims)
        elif dtype.kind == "i":
            content = random.integers(-5, 6, dims)
        elif smooth or dtype == np.dtype(np.float16):
            content = random.uniform(-2, 2, dims)
        else:
            content = np.where(random.random(dims) < 0.5, random.choice(SPECIAL, dims), random.normal(size=dims))
        with np.errstate(over="ignore"):
            feeds[value.name] = np.asarray(content).astype(dtype)
    return feeds
