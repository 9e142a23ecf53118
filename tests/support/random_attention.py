"""Random spellings of attention with normalization and rotary embedding, the same for a seed in every process.

A tensor knows its axes: letters, those of a merged axis together, the outermost first.

    b  batch    l  queries    s  keys             n  keys of this call    p  keys of earlier calls
    h  heads    g  heads of keys and values       r  heads of queries for each of those
    d  size of queries and keys    e  size of values    w  width before heads are split    c  queries, keys, values
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from optimize_graph import ir

Array = np.ndarray[Any, np.dtype[Any]]
Make = Callable[[np.random.Generator, tuple[int, ...]], Array]
Axes = tuple[str, ...]

SYMBOLS = ({"b": 2, "l": 5, "s": 7, "p": 3}, {"b": 1, "l": 3, "s": 2, "p": 1})
OPSETS = (13, 14, 17, 18, 20, 21, 23)
SLIPS = (
    "softmax over queries", "negative scale", "mask after softmax", "low that is seen", "guard that puts ones",
    "scores twice", "mask that multiplies", "keys in reverse", "unequal parts", "two angles", "other signs",
    "epsilon outside", "unbiased variance", "other mean", "softcap of one side",
)  # fmt: skip
"""Small changes after which it is no attention, rotation or normalization any more, or another one."""


@dataclass(frozen=True)
class Tensor:
    """A value, and what its axes are."""

    value: ir.Value
    axes: Axes


@dataclass(frozen=True)
class Drawn:
    """A model, what was drawn, and the operators that it becomes at least where these have kernels."""

    model: onnx.ModelProto
    features: frozenset[str]
    expected: Counter[str]
    inputs: dict[str, tuple[tuple[str, ...], Make]]

    def feeds(self, symbols: dict[str, int], seed: int) -> dict[str, Array]:
        """Contents of the inputs at these sizes."""
        random = np.random.default_rng(seed)
        return {
            name: make(random, tuple(sum(symbols.get(part, 0) or int(part) for part in dim.split("+")) for dim in dims))
            for name, (dims, make) in self.inputs.items()
        }


def draw(seed: int, *, half: bool = False) -> Drawn:
    """The attention of a seed, in float16 if `half`."""
    return Spelling(np.random.default_rng([seed, half]), half=half).attention()


class Spelling:
    """Draws one model. Methods named as operators add one: numbers become constants, axes what the opset has."""

    def __init__(self, random: np.random.Generator, *, half: bool) -> None:
        self.random, self.half = random, half
        self.dtype = np.dtype(np.float16 if half else np.float32)
        self.opset = int(random.choice(OPSETS))
        self.nodes: list[ir.Node] = []
        self.values: dict[str, ir.Value] = {}
        self.inputs: dict[str, tuple[tuple[str, ...], Make]] = {}
        self.outputs: list[Tensor] = []
        self.sizes: dict[str, int | str] = {"c": 3, "u": 1}
        self.measures: dict[str, tuple[ir.Value, int]] = {}
        self.features: set[str] = set()
        self.doubts: dict[str, str] = {}  # operators that it may not become, and why
        self.is_moved = False  # whether a Reshape computes a size in the place of another, of which it copies one of 0
        self.expected: Counter[str] = Counter()
        self.slip = str(random.choice(SLIPS)) if self.chance(0.12) else ""

    # --- drawing and building -------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def pick(self, what: str, *choices: Any) -> Any:
        """One of the choices, noted as a feature."""
        choice = choices[int(self.random.integers(len(choices)))]
        self.features.add(f"{what}: {choice}")
        return choice

    def slips(self, slip: str, op_type: str = "Attention") -> bool:
        """Whether this is the place of the one thing that is wrong with the model, which is no `op_type` then."""
        if is_here := self.slip == slip:
            self.features.add(f"slip: {slip}")
            self.doubts[op_type] = slip
        return is_here

    def node(self, op_type: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Sequence[ir.Value]:
        operands = [self.operand(each) for each in inputs]
        node = ir.new_node(op_type, operands, attributes, version=self.opset, outputs=outputs)
        self.nodes.append(node)
        return node.outputs

    def operand(self, content: Any) -> Any:
        """Values as they are, numbers in the element type that is current, lists as integers."""
        if isinstance(content, float):
            return np.array(content, self.dtype)
        return np.array(content) if isinstance(content, list) else getattr(content, "value", content)

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)
        return lambda *inputs, **attributes: self.node(op_type, *inputs, **attributes)[0]

    def either(self, op_type: str, a: Any, b: Any) -> ir.Value:
        """A commutative operator, its operands in either order."""
        return self.node(op_type, *((a, b) if self.chance(0.7) else (b, a)))[0]

    def on(self, t: Tensor, op_type: str, *others: Any, **attributes: Any) -> Tensor:
        """An operator that keeps the axes of its first operand."""
        return Tensor(self.node(op_type, t, *others, **attributes)[0], t.axes)

    def cast(self, t: Any, dtype: Any) -> Any:
        to = ir.DataType.from_numpy(np.dtype(dtype)).value
        return self.on(t, "Cast", to=to) if isinstance(t, Tensor) else self.Cast(t, to=to)

    def weights(self, *dims: int, scale: float | None = None) -> Array:
        scale = scale or 1 / np.sqrt(dims[-2] if len(dims) > 1 else 1)
        return (self.random.normal(size=dims) * scale).astype(self.dtype)

    def input(self, name: str, axes: Axes, make: Make, dtype: Any = None) -> Tensor:
        """An input of the graph, none of whose axes is merged; an axis "" has the size 1."""
        dims = tuple(self.sizes[axis] if axis else 1 for axis in axes)
        name = f"{name}{len(self.inputs)}"
        value = ir.Value(
            name=name, type=ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype or self.dtype))), shape=ir.Shape(dims)
        )
        self.inputs[name] = (tuple(map(str, dims)), make)
        self.values[name] = value
        for at, axis in enumerate(axes):
            self.measures.setdefault(axis, (value, at))
        return Tensor(value, axes)

    def normal(self, name: str, *axes: str) -> Tensor:
        dtype = self.dtype
        return self.input(name, axes, lambda random, dims: random.normal(size=dims).astype(dtype))

    def model(self) -> onnx.ModelProto:
        initializers: dict[ir.Value, None] = {}
        for at, node in enumerate(self.nodes):
            for index, value in enumerate(node.outputs):
                value.name = f"v{at}_{index}"
            known = self.values.values()
            initializers |= {each: None for each in node.inputs if each and not each.producer() and each not in known}
        for at, value in enumerate(initializers):
            value.name = f"c{at}"
        for at, output in enumerate(self.outputs):
            output.value.name = f"y{at}"
            output.value.type = ir.TensorType(ir.DataType.from_numpy(self.dtype))
            output.value.shape = ir.Shape([None] * len(output.axes))
        graph = ir.Graph(
            [*self.values.values()],
            [output.value for output in self.outputs],
            nodes=self.nodes,
            initializers=[*initializers],
            opset_imports={"": self.opset},
            name="attention",
        )
        proto = ir.to_proto(ir.Model(graph, ir_version=8 if self.opset < 20 else 10))
        onnx.checker.check_model(proto)
        return proto

    # --- axes -----------------------------------------------------------------------------------------------------

    def number(self, axis: str) -> int | None:
        """The size of an axis; None for a symbol."""
        sizes = [self.sizes[letter] for letter in axis]
        return prod(sizes) if all(isinstance(size, int) for size in sizes) else None  # type: ignore[arg-type]

    def measured(self, axis: str) -> ir.Value:
        """The size of an axis [1], as the model computes it."""
        known = prod(size for letter in axis if isinstance(size := self.sizes[letter], int))
        parts: list[Any] = [[known]] if known != 1 or self.number(axis) is not None else []
        for letter in axis:
            if isinstance(self.sizes[letter], int):
                continue
            value, at = self.measures[letter]
            if self.opset >= 15 and self.chance(0.4):
                parts.append(self.Shape(value, start=at, end=at + 1))
            elif self.chance(0.5):
                parts.append(self.Slice(self.Shape(value), [at], [at + 1], [0]))
            else:
                parts.append(self.Unsqueeze(self.Gather(self.Shape(value), np.array(at)), axes=[0]))
        for part in parts[1:]:
            parts[0] = self.Mul(parts[0], part)
        return parts[0] if isinstance(parts[0], ir.Value) else self.Identity(parts[0])

    def reshape(self, t: Tensor, axes: Axes) -> Tensor:
        """The same elements over other axes; a target says 0, -1, numbers and what is computed."""
        if t.axes == axes and self.chance(0.9):
            return t
        target: list[int | None] = []
        for at, axis in enumerate(axes):
            is_copied = t.axes[at : at + 1] == (axis,) and self.chance(0.6)
            target.append(0 if is_copied else self.number(axis))
        unknown = [at for at, size in enumerate(target) if size is None]
        candidates = unknown or [at for at in range(len(axes)) if self.chance(0.1)]
        if candidates and self.chance(0.85):
            target[int(self.random.choice(candidates))] = -1
        if None not in target and self.chance(0.95):
            return Tensor(self.Reshape(t, np.array(target)), axes)
        moved = (axis for at, axis in enumerate(axes) if target[at] is None and t.axes[at : at + 1] != (axis,))
        self.is_moved |= any(moved)
        sizes = [self.measured(axis) if size is None else [size] for axis, size in zip(axes, target, strict=True)]
        return Tensor(self.Reshape(t, self.Concat(*sizes, axis=0)), axes)

    def transpose(self, t: Tensor, axes: Axes) -> Tensor:
        perm = [t.axes.index(axis) for axis in axes]
        return t if perm == sorted(perm) and self.chance(0.9) else Tensor(self.Transpose(t, perm=perm), axes)

    def arrange(self, t: Tensor, *axes: str) -> Tensor:
        """The same elements by letters, over any other axes: Reshape, Transpose, Reshape, now and then by a detour.

        Letters of size 1 may come and go.
        """
        if len(t.axes) > 1 and self.chance(0.15):
            t = self.transpose(t, tuple(map(str, self.random.permutation(t.axes))))
        goal, letters = "".join(axes), "".join(t.axes)
        kept, here = (
            "".join(each for each in one if each in other) for one, other in ((goal, letters), (letters, goal))
        )
        assert all(self.sizes[letter] == 1 for letter in {*goal} ^ {*letters}), f"{t.axes} to {axes}"
        if kept != here:
            units = [here[0]]
            for letter in here[1:]:
                if units[-1] + letter in kept and self.chance(0.5):
                    units[-1] += letter
                else:
                    units.append(letter)
            t = self.reshape(t, tuple(units))
            t = self.transpose(t, tuple(sorted(units, key=lambda unit: kept.index(unit[0]))))
        return self.reshape(t, axes)

    def rename(self, t: Tensor, old: str, new: str) -> Tensor:
        return Tensor(t.value, tuple(axis.replace(old, new) for axis in t.axes))

    def taken(self, t: Tensor, axis: str, how: str) -> list[Tensor]:
        """Each element of an axis that has a number of them."""
        at, count = t.axes.index(axis), self.number(axis)
        assert count is not None
        rest = (*t.axes[:at], *t.axes[at + 1 :])
        if how == "Gather":
            return [Tensor(self.Gather(t, np.array(index), axis=at), rest) for index in range(count)]
        if how == "Split":
            parts = self.node("Split", t, np.ones(count, np.int64), axis=at, outputs=count)
        else:
            parts = [self.Slice(t, [index], [index + 1], [at]) for index in range(count)]
        return [Tensor(self.Squeeze(part, axes=[at]), rest) for part in parts]

    def parts(self, t: Tensor, sizes: Sequence[int], *, how: str) -> list[ir.Value]:
        """Consecutive parts of the last axis."""
        at, ends = len(t.axes) - 1, np.cumsum(sizes)
        if how == "Split":
            return list(self.node("Split", t, np.array(sizes), axis=self.pick("axis", at, -1), outputs=len(sizes)))
        last = np.iinfo(np.int64).max
        return [
            self.Slice(t, [int(end - size)], [int(end) if end < ends[-1] else last], [at])
            for size, end in zip(sizes, ends, strict=True)
        ]

    # --- projections ----------------------------------------------------------------------------------------------

    def projected(self, x: Tensor, out: str) -> Tensor:
        """[b, length, w] times weights."""
        width, size = self.number("w"), self.number(out)
        assert width is not None and size is not None
        batch, length, _ = x.axes
        how = self.pick("projection", "MatMul", "MatMul", "Gemm", "of each head")
        bias = self.weights(size, scale=0.3)
        if how == "of each head" and len(out) == 2:
            heads, inner = (self.number(letter) for letter in out)
            assert heads is not None and inner is not None
            wide = self.Unsqueeze(x, axes=[1])
            return Tensor(self.MatMul(wide, self.weights(1, heads, width, inner)), (batch, out[0], length, out[1]))
        if how == "Gemm":
            flat = self.reshape(x, (batch + length, "w"))
            is_swapped = self.chance(0.5)
            weights = self.weights(width, size)
            product = self.Gemm(flat, weights.T.copy() if is_swapped else weights, bias, transB=int(is_swapped))
            return self.reshape(Tensor(product, (batch + length, out)), (batch, length, out))
        product = self.MatMul(x, self.weights(width, size))
        return Tensor(self.either("Add", product, bias) if self.chance(0.5) else product, (batch, length, out))

    def packed(self, x: Tensor) -> list[Tensor]:
        """Queries, keys and values of one product: over one axis after the other, or over the letter c."""
        how = self.pick("unpacked by", "Split", "Slice", "Gather")
        if self.sizes["d"] != self.sizes["e"] or self.sizes["r"] != 1 or self.chance(0.4):
            self.features.add("packed: one after the other")
            widths = ["hd", "gd", "ge"]
            sizes = [self.number(width) or 0 for width in widths]
            self.sizes["o"] = sum(sizes)
            whole = self.projected(x, "o")
            parts = self.parts(whole, sizes, how="Split" if how == "Split" else "Slice")
            return [Tensor(part, (*x.axes[:2], width)) for part, width in zip(parts, widths, strict=True)]
        order = self.pick("packed", "chd", "hcd", "hdc")
        whole = self.projected(x, order)
        if order == "hcd" and how == "Split":
            split = self.reshape(whole, ("b", "l", "h", "cd"))
            parts = self.parts(split, [self.number("d") or 0] * 3, how="Split")
            return [Tensor(part, ("b", "l", "h", "d")) for part in parts]
        split = self.reshape(whole, ("b", "l", *order))
        if self.chance(0.5):
            rest = [str(axis) for axis in self.random.permutation([*"blhd"])] if self.chance(0.3) else [*"bhld"]
            at = int(self.random.integers(5)) if self.chance(0.3) else 0
            split = self.transpose(split, (*rest[:at], "c", *rest[at:]))
        return self.taken(split, "c", how)

    # --- normalization --------------------------------------------------------------------------------------------

    def normalized(self, x: Tensor) -> Tensor:
        """Layer or RMS normalization over the last axis."""
        kind = self.pick("norm", "LayerNormalization", "RMSNormalization")
        size, outer = self.number(x.axes[-1]), self.dtype
        assert size is not None
        scale, bias = (1 + self.weights(size, scale=0.3)), self.weights(size, scale=0.3)
        source = self.cast(x, np.float32) if self.half else x
        self.dtype = np.dtype(np.float32)
        d = source.value
        if kind == "LayerNormalization":
            other = self.slips("other mean", kind) and len(x.axes) == 4
            d = self.Sub(source, self.mean(source.value, size, axis=1 if other else -1))
        square = self.Mul(d, d) if self.chance(0.5) else self.Pow(d, 2.0)
        share = size - 1 if self.slips("unbiased variance", kind) and size > 1 else size
        variance = self.mean(square, share, plain=share == size)
        epsilon = float(self.pick("epsilon", 1e-5, 1e-6))
        if self.slips("epsilon outside", kind):
            result = self.Div(d, self.Add(self.Sqrt(variance), epsilon))
        else:
            result = self.over_root(d, self.either("Add", variance, epsilon), scale)
        if self.half:
            result = self.Cast(result, to=ir.DataType.FLOAT16.value)
        self.dtype = outer
        has_scale = self.chance(0.8)
        if has_scale:
            result = self.either("Mul", result, scale.astype(outer))
        if kind == "LayerNormalization" and has_scale and self.chance(0.8):
            result = self.either("Add", result, bias)
        self.expected[kind] += 1
        return Tensor(result, x.axes)

    def mean(self, x: ir.Value, size: int, *, axis: int = -1, plain: bool = True) -> ir.Value:
        if plain and (axis != -1 or self.chance(0.8)):
            return self.ReduceMean(x, axes=[axis], keepdims=1)
        total = self.ReduceSum(x, axes=[axis], keepdims=1)
        return self.Mul(total, 1 / size) if self.chance(0.5) else self.Div(total, float(size))

    def over_root(self, d: ir.Value, square: ir.Value, scale: Array) -> ir.Value:
        """`d` over the root of `square`."""
        match self.pick("root", "Div", "Reciprocal", "one over", "Pow"):
            case "Div":
                return self.Div(d, self.Sqrt(square))
            case "Reciprocal":
                return self.either("Mul", d, self.Reciprocal(self.Sqrt(square)))
            case "one over":
                return self.either("Mul", d, self.Div(1.0, self.Sqrt(square)))
            case _:
                return self.either("Mul", d, self.Pow(square, -0.5))

    # --- rotary embedding -----------------------------------------------------------------------------------------

    def rotated(self, x: Tensor, tables: list[Tensor], size: int, spelled: str) -> Tensor:
        """Pairs of a head turned by angles; all of it or the first part."""
        whole = self.number(x.axes[-1]) or 0
        rotated, passed = x, None
        if size < whole:
            first, passed = self.parts(x, [size, whole - size], how=self.pick("part by", "Split", "Slice"))
            rotated = Tensor(first, x.axes)
        cos, sin = (self.spread(table, (*x.axes[:-1], "k")) for table in tables)
        result = self.turned(rotated, cos, sin, size, spelled)
        if passed is not None:
            result = self.Concat(result, passed, axis=-1)
        self.expected["RotaryEmbedding"] += 1
        return Tensor(result, x.axes)

    def turned(self, x: Tensor, cos: Any, sin: Any, size: int, spelled: str) -> ir.Value:
        half, at = size // 2, len(x.axes)
        is_unequal = self.slips("unequal parts", "RotaryEmbedding") and half > 1
        if spelled == "parts":
            how = self.pick("parts by", "Split", "Slice")
            lengths = [half - 1, half + 1] if is_unequal else [half, half]
            one, two = self.parts(x, lengths, how=how)
            pair = (two, self.Neg(one)) if self.slips("other signs", "RotaryEmbedding") else (self.Neg(two), one)
            across = self.Concat(*pair, axis=-1)
        else:
            if self.chance(0.5):
                one, two = (self.Slice(x, [start], [np.iinfo(np.int64).max], [at - 1], [2]) for start in (0, 1))
                one, two = (self.Unsqueeze(each, axes=[at]) for each in (one, two))
            else:
                self.sizes |= {"i": half, "j": 2}
                one, two = self.parts(self.reshape(x, (*x.axes[:-1], "i", "j")), [1, 1], how="Split")
            self.sizes["k"] = size
            stacked = Tensor(self.Concat(self.Neg(two), one, axis=-1), (*x.axes[:-1], "i", "j"))
            across = self.reshape(stacked, (*x.axes[:-1], "k")).value
        straight, crossed = self.either("Mul", x, cos), self.either("Mul", across, sin)
        return self.either("Add", straight, crossed)

    def tables(self, size: int, spelled: str) -> list[Tensor]:
        """Cosines and sines [batch or nothing, length, size]."""
        half, length = size // 2, self.sizes["l"]
        source = self.pick("angles", "given", "of positions", "gathered", "sliced", "constant")
        if source == "constant" and not isinstance(length, int):
            source = "gathered"
        frequencies = (100.0 ** -(np.arange(half) / half)).astype(self.dtype)
        self.sizes |= {"i": half, "k": size}
        if source == "given":
            angles = self.normal("angles", self.pick("batch of angles", "b", "u"), "l", "i")
        elif source == "of positions":
            positions = self.Add(self.indices("l"), np.array(1))
            column = self.Unsqueeze(self.cast(positions, self.dtype), axes=[1])
            angles = Tensor(self.node(self.pick("outer", "Mul", "MatMul"), column, frequencies[None])[0], ("l", "i"))
        else:
            rows = 1 + np.arange(length if source == "constant" and isinstance(length, int) else 16)[:, None]
            both = (
                rows * frequencies,
                rows * (-frequencies if self.slips("two angles", "RotaryEmbedding") else frequencies),
            )
            every = np.concatenate(both, 1) if spelled == "parts" else np.stack(both, -1).reshape(-1, size)
            contents: list[Any] = [table(every).astype(self.dtype) for table in (np.cos, np.sin)]
            axes: Axes = ("l", "k")
            if source == "gathered":
                positions = self.input("at", ("b", "l"), lambda random, dims: random.integers(16, size=dims), np.int64)
                contents, axes = [self.Gather(each, positions, axis=0) for each in contents], ("b", *axes)
            elif source == "sliced":
                end = self.measured("l")
                contents = [self.Slice(each, [0], end, [0]) for each in contents]
            return [Tensor(each, axes) for each in contents]
        other = self.on(angles, "Neg") if self.slips("two angles", "RotaryEmbedding") else angles
        whole = (*angles.axes[:-1], "k")
        if spelled == "parts":
            every = Tensor(self.Concat(angles, other, axis=-1), whole)
        else:
            self.sizes["j"] = 2
            pairs = [self.Unsqueeze(each, axes=[len(whole)]) for each in (angles, other)]
            every = self.reshape(Tensor(self.Concat(*pairs, axis=-1), (*angles.axes, "j")), whole)
        every = self.rename(every, "u", "b")
        return [self.on(every, "Cos"), self.on(every, "Sin")]

    def indices(self, letter: str) -> ir.Value:
        """0, 1, … along an axis, as integers."""
        return self.Range(np.array(0), self.Squeeze(self.measured(letter), axes=[0]), np.array(1))

    def spread(self, t: Tensor, axes: Axes) -> Any:
        """What broadcasts to these axes, leading ones left out or not."""
        first = next(at for at, axis in enumerate(axes) if axis in t.axes)
        missing = [at for at, axis in enumerate(axes[first:]) if axis not in t.axes]
        if self.chance(0.5):
            missing = [*range(first), *(at + first for at in missing)]
        if not isinstance(t.value, ir.Value):
            return np.expand_dims(t.value, missing)
        return self.Unsqueeze(t, axes=missing) if missing else t.value

    # --- terms ----------------------------------------------------------------------------------------------------

    def low(self, *, whole: bool) -> float:
        """A number that hides a key; `whole`: though it be all keys of a query."""
        if self.slips("low that is seen"):
            return -3.0
        lowest = float(np.finfo(self.dtype).min)
        lows = [-np.inf, lowest] if self.dtype == np.float16 else [-np.inf, lowest, -1e9]
        return float(self.pick("low", *lows, *(() if whole else (-1e4,))))

    def hidden(self, low: float) -> Make:
        """A mask of `low` and 0: padding on the left, single keys, and queries without any where that is a number."""
        dtype, is_safe = self.dtype, low < -1e8 and not self.half

        def make(random: np.random.Generator, dims: tuple[int, ...]) -> Array:
            hides = seen_keys(random, dims, whole=is_safe)
            return np.where(hides, 0, low).astype(dtype)

        return make

    def term(self, scores: Tensor) -> Tensor:
        """The scores after something was added, or replaced by something low."""
        kind = self.pick(
            "term", "added", "added", "selected", "selected before", "padding", "causal", "causal", "slopes", "table"
        )
        dims = self.pick(
            "mask of", ("b", "", "", "s"), ("", "", "l", "s"), ("b", "h", "l", "s"), ("b", "", "l", "s"), ("l", "s"),
            ("", "s"), ("h", "l", "s"),
        )  # fmt: skip
        match kind:
            case "added":
                mask = self.input("mask", dims, self.hidden(self.low(whole=False)))
                return self.with_added(scores, mask.value)
            case "selected" | "selected before":
                is_whole = not self.half
                seen = self.input(
                    "seen", dims, lambda random, dims: seen_keys(random, dims, whole=is_whole), np.bool_
                ).value
                return self.selected(scores, seen, before=kind == "selected before")
            case "padding":
                seen = self.input(
                    "padding", ("b", "s"),
                    lambda random, dims: seen_keys(random, dims, whole=False).astype(np.int64), np.int64,
                ).value  # fmt: skip
                wide = self.Unsqueeze(seen, axes=[1, 2])
                if self.chance(0.5):
                    return self.selected(scores, self.Cast(wide, to=ir.DataType.BOOL.value), before=self.chance(0.5))
                low = max(self.low(whole=False), float(np.finfo(self.dtype).min))
                hides = self.Sub(1.0, self.cast(wide, self.dtype))
                return self.with_added(scores, self.either("Mul", hides, low))
            case "causal":
                return self.selected(scores, self.causal(), before=self.chance(0.5))
            case "slopes":
                slopes = (0.5 ** np.arange(1, (self.number("h") or 0) + 1)).astype(self.dtype)[:, None, None]
                return self.with_added(scores, self.either("Mul", self.cast(self.indices("s"), self.dtype), slopes))
            case _:
                distances = self.Add(self.between(), np.array(8))
                rows = self.Gather(self.weights(17, self.number("h") or 0), distances, axis=0)
                return self.with_added(scores, self.Unsqueeze(self.Transpose(rows, perm=[2, 0, 1]), axes=[0]))

    def between(self) -> ir.Value:
        """How far each key is behind each query [l, s], the last ones being at one place; at most 8."""
        row = self.Unsqueeze(self.indices("s"), axes=[0])
        behind = self.Sub(self.measured("s"), self.measured("l"))
        column = self.Unsqueeze(self.Add(self.indices("l"), behind), axes=[1])
        return self.Clip(self.Sub(column, row), np.array(-8), np.array(8))

    def causal(self) -> Any:
        """Whether a query sees a key [l, s]."""
        length, count = self.sizes["l"], self.sizes["s"]
        how = self.pick("causal by", "indices", "constant", "Trilu", "slice")
        if how == "constant" and isinstance(length, int) and isinstance(count, int):
            return self.Identity(np.tri(length, count, count - length, dtype=bool))
        if how == "Trilu" and self.opset >= 14 and length == count:
            ones = self.Expand(np.ones((1, 1), self.dtype), self.Concat(self.measured("l"), self.measured("s"), axis=0))
            return self.Cast(self.Trilu(ones, upper=0), to=ir.DataType.BOOL.value)
        if how == "slice":
            end = self.measured("s")
            ends, starts = self.Concat(end, end, axis=0), self.Concat(self.Sub(end, self.measured("l")), [0], axis=0)
            if length == count or "+" in str(count):
                return self.Slice(np.tri(32, 32, dtype=bool), starts, ends, [0, 1])
        return self.GreaterOrEqual(self.between(), np.array(0))

    def selected(self, scores: Tensor, seen: ir.Value, *, before: bool) -> Tensor:
        """Scores of keys that are seen; of others something low, or 0 and something low that is added `before`."""
        low = np.array(self.low(whole=True)).astype(self.dtype)
        if not before and low == np.float32(-1e9):
            self.features.add("scores replaced by what others may be as low as")
        kept: Any = np.array(0, self.dtype) if before else scores
        if self.chance(0.7):
            chosen = self.Where(seen, kept, low)
        else:
            chosen = self.Where(self.Not(seen), low, kept)
        return self.with_added(scores, chosen) if before else Tensor(chosen, scores.axes)

    def with_added(self, scores: Tensor, term: ir.Value) -> Tensor:
        if self.slips("mask that multiplies"):
            return self.on(scores, "Mul", term)
        return Tensor(self.either("Add", scores, term), scores.axes)

    # --- attention ------------------------------------------------------------------------------------------------

    def attention(self) -> Drawn:
        """Queries, keys and values, scores, terms, probabilities and their product with the values."""
        q, k, v = self.operands()
        lead, q, k, v = self.laid_out(q, k, v)
        scores = self.scores(q, k, lead)
        result = self.mixed(self.probabilities(self.with_terms(scores), lead), v, lead)
        merged = self.chance(0.85)
        if merged:
            result = self.arrange(result, "b", "l", "gre" if "r" in lead else "he")
        if merged and self.chance(0.3):
            result = Tensor(self.MatMul(result, self.weights(self.number("he") or 0, 8)), ("b", "l", "o"))
        self.outputs.insert(0, result)
        self.expected["Attention"] = 1
        inputs = {"term: added", "term: selected", "term: selected before", "term: padding"}
        if self.is_moved and self.features & {"cache", "rotated part: first"}:
            reason = "a Concat of dims that are equal unless one is 0"
            self.doubts |= {"Attention": reason, "RotaryEmbedding": reason}
        if self.is_moved and self.features & {"layout: 3-D", "layout: grouped", "layout: Einsum"}:
            self.doubts["Attention"] = "dims that are equal unless one is 0"
        if "+" in str(self.sizes["s"]) and self.features & inputs:
            self.doubts["Attention"] = "a mask of as many keys as no dims prove"
        if self.features >= {"cache", "causal by: slice"}:
            self.doubts["Attention"] = "a slice of a mask over as many keys as no dims prove"
        for op_type in self.doubts:
            self.expected.pop(op_type, None)
        return Drawn(self.model(), frozenset(self.features), self.expected, self.inputs)

    def operands(self) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [b, l, h, d], keys [b, s, g or h, d] and values in some order of their axes."""
        pick, sizes = self.pick, self.sizes
        source = pick("operands", "projected", "projected", "packed", "given", "crossed")
        groups, each = pick("kv heads", 1, 2, 2, 3, 4), pick("queries' heads for each", 1, 1, 1, 2, 3)
        size = pick("size", 4, 8)
        length = pick("length", "l", "l", 5, 1)
        sizes |= {"b": pick("batch", "b", "b", 1, 2), "l": length, "g": groups, "r": each, "h": groups * each}
        sizes |= {"d": size, "e": pick("size of values", size, size, size, 6), "w": 12, "n": length, "s": length}
        if source == "crossed":
            sizes |= {"s": pick("keys", "s", "s", 7, 1)}
        is_cached = source != "crossed" and self.chance(0.2)
        if is_cached:
            self.features.add("cache")
            sizes |= {"p": pick("past", "p", 3)}
            sizes["s"] = (
                length + sizes["p"]
                if isinstance(length, int) and isinstance(sizes["p"], int)
                else f"{length}+{sizes['p']}"
            )
        new = "n" if is_cached else "s"
        letter = "s" if source == "crossed" else "l"
        heads = "g" if each > 1 else "h"
        if source == "given":
            q = self.normal("q", *pick("q given", "blhd", "bhld"))
            k = self.normal("k", *pick("k given", f"bl{heads}d", f"b{heads}ld"))
            v = self.normal("v", *pick("v given", f"bl{heads}e", f"b{heads}le"))
        else:
            x = self.normal("x", "b", "l", "w")
            if self.chance(0.25):
                x = self.normalized(x)
            if source == "packed":
                q, k, v = (self.rename(t, "g", heads) for t in self.packed(x))
                v = self.rename(v, "d", "e")
            else:
                other = self.normal("x", "b", "s", "w") if source == "crossed" else x
                q, k, v = (
                    self.projected(x, "hd"),
                    self.projected(other, f"{heads}d"),
                    self.projected(other, f"{heads}e"),
                )
        if self.chance(0.25):
            q, k = (self.normalized(self.by_heads(t)) for t in (q, k))
        if source != "crossed" and self.chance(0.3):
            spelled = pick("rotated", "parts", "parts", "neighbours")
            part = 4 if size == 8 and pick("rotated part", "all", "all", "first") == "first" else size
            tables = self.tables(part, spelled)
            q, k = (self.rotated(self.by_heads(t), tables, part, spelled) for t in (q, k))
        if letter == "l":
            k, v = (self.rename(t, "l", new) for t in (k, v))
        self.measures.setdefault("n", self.measures["l"])
        if not is_cached:
            self.measures.setdefault("s", self.measures["l"])
        if self.slips("keys in reverse"):
            k = self.arrange(k, "b", heads, new, "d")
            k = self.on(k, "Slice", [-1], [np.iinfo(np.int64).min], [3], [-1])
        if is_cached:
            k, v = self.cached(k, heads, "d"), self.cached(v, heads, "e")
        return q, k, v

    def by_heads(self, t: Tensor) -> Tensor:
        """[batch, heads, length, size], or heads behind the length."""
        letters = "".join(t.axes)
        length, heads, size = (next(each for each in letters if each in some) for some in ("ls", "gh", "de"))
        return self.arrange(t, *self.pick("by heads", f"b{heads}{length}{size}", f"b{length}{heads}{size}"))

    def cached(self, t: Tensor, heads: str, size: str) -> Tensor:
        past = self.normal("past", "b", heads, "p", size)
        new = self.arrange(t, "b", heads, "n", size)
        whole = Tensor(self.Concat(past, new, axis=self.pick("cache axis", 2, -2)), ("b", heads, "s", size))
        self.measures["s"] = (whole.value, 2)
        if self.chance(0.8):
            self.outputs.append(whole)
        return whole

    def repeated(self, t: Tensor, how: str) -> Tensor:
        """Each head of keys or values as often as queries share it; axes [b, h, s, size] in some order."""
        times = self.number("r") or 0
        t = self.by_heads(t)
        at = t.axes.index("g")
        wanted = tuple("h" if axis == "g" else axis for axis in t.axes)
        if how == "Gather":
            return Tensor(self.Gather(t, np.repeat(np.arange(self.number("g") or 0), times), axis=at), wanted)
        wide = self.Unsqueeze(t, axes=[at + 1])
        axes = (*t.axes[: at + 1], "r", *t.axes[at + 1 :])
        if how == "Concat":
            many = self.Concat(*[wide] * times, axis=at + 1)
        elif how == "Tile":
            many = self.Tile(wide, [times if axis == "r" else 1 for axis in axes])
        elif self.chance(0.5):
            many = self.Expand(wide, [times if axis == "r" else 1 for axis in axes])
        else:
            many = self.Expand(wide, self.Concat(*map(self.measured, axes), axis=0))
        merged = tuple("gr" if axis == "g" else axis for axis in axes if axis != "r")
        return Tensor(self.reshape(Tensor(many, axes), merged).value, wanted)

    def laid_out(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Axes, Tensor, Tensor, Tensor]:
        """Queries [*lead, l, d], keys [*lead, d, s] and values [*lead, s, e], or as an Einsum takes them."""
        layout = self.pick("layout", "4-D", "4-D", "4-D", "3-D", "Einsum", "grouped")
        is_shared = self.sizes["r"] != 1
        if is_shared and layout == "4-D" and self.sizes["g"] == 1 and self.chance(0.5):
            self.features.add("one head broadcast")
            self.sizes["g"] = 1
            k, v = self.arrange(k, "b", "g", "d", "s"), self.arrange(v, "b", "g", "s", "e")
            return ("b", "h"), self.arrange(q, "b", "h", "l", "d"), k, v
        if is_shared and layout == "grouped":
            q = self.rename(q, "h", "gr")
            k, v = self.arrange(k, "b", "g", "d", "s"), self.arrange(v, "b", "g", "s", "e")
            k, v = (Tensor(self.Unsqueeze(t, axes=[2]), (*t.axes[:2], "", *t.axes[2:])) for t in (k, v))
            return ("b", "g", "r"), self.arrange(q, "b", "g", "r", "l", "d"), k, v
        if is_shared:
            how = self.pick("heads repeated by", "Expand", "Tile", "Concat", "Gather")
            k, v = self.repeated(k, how), self.repeated(v, how)
        lead = ("bh",) if layout == "3-D" else ("b", "h")
        if layout == "Einsum":
            return lead, *(self.by_heads(t) for t in (q, k, v))
        q, v = self.arrange(q, *lead, "l", "d"), self.arrange(v, *lead, "s", "e")
        if self.chance(0.5):
            return lead, q, self.arrange(k, *lead, "d", "s"), v
        return lead, q, self.transpose(self.arrange(k, *lead, "s", "d"), (*lead, "d", "s")), v

    def scores(self, q: Tensor, k: Tensor, lead: Axes) -> Tensor:
        """The products of queries and keys, scaled."""
        number = float(self.pick("scale", 1.0, 0.5, 0.35)) * (-1 if self.slips("negative scale") else 1)
        where = self.pick("scaled", "scores", "scores", "queries", "keys", "both", "heads")
        if where in ("queries", "both"):
            q = self.scaled(q, number if where == "queries" else number / abs(number) ** 0.5)
        if where in ("keys", "both"):
            k = self.scaled(k, number if where == "keys" else abs(number) ** 0.5)
        axes = (*lead, "l", "s")
        if {"d", "s"} <= {*k.axes} and k.axes[-2:] == ("d", "s") and k.axes[-1] == "s":
            scores = Tensor(self.MatMul(q, k), axes)
        else:
            equation = f"{''.join(q.axes)},{''.join(k.axes)}->bhls"
            scores = Tensor(self.Einsum(q, k, equation=equation), axes)
        if where == "scores":
            scores = self.scaled(scores, number)
        if where == "heads" and lead == ("b", "h"):
            factors = (1 + np.arange(self.number("h") or 0)).astype(self.dtype)[:, None, None] * self.dtype.type(0.2)
            scores = Tensor(self.either("Mul", scores, factors), axes)
        return scores

    def scaled(self, t: Tensor, number: float) -> Tensor:
        if number == 1 and self.chance(0.5):
            return t
        if self.chance(0.5):
            return Tensor(self.either("Mul", t, number), t.axes)
        return self.on(t, "Div", 1 / number)

    def with_terms(self, scores: Tensor) -> Tensor:
        """Scores in four axes while something is added to them."""
        if self.slips("scores twice"):
            self.outputs.append(self.on(scores, "Neg"))
        if self.chance(0.1):
            self.features.add("output: scores")
            self.doubts["Attention"] = "scores are an output"
            self.outputs.append(scores)
        if self.half and self.chance(0.5):
            self.features.add("scores upcast")
            scores, self.dtype = self.cast(scores, np.float32), np.dtype(np.float32)
        if self.chance(0.1):
            self.features.add("softcap")
            scores = self.scaled(self.on(self.scaled(scores, 1 / 5.0), "Tanh"), 5.0)
        lead = scores.axes[:-2]
        terms = self.pick("terms", 0, 1, 1, 2)
        if terms and self.sizes["s"] == 1:
            self.doubts["Attention"] = "a mask of one key may broadcast"
        for _ in range(terms):
            if scores.axes[:-2] != ("b", "h"):
                scores = Tensor(self.reshape(scores, ("b", "h", "l", "s")).value, ("b", "h", "l", "s"))
            scores = self.term(scores)
        if terms == 2 and "scores replaced by what others may be as low as" in self.features:
            self.doubts["Attention"] = "scores decide where two terms are as low"
        return self.reshape(scores, (*lead, "l", "s"))

    def probabilities(self, scores: Tensor, lead: Axes) -> Tensor:
        last = len(scores.axes) - 1
        axis = last - 1 if self.slips("softmax over queries") else self.pick("softmax over", -1, last)
        result = self.on(scores, "Softmax", axis=axis)
        if self.chance(0.15):
            self.features.add("guard")
            value = 1.0 if self.slips("guard that puts ones") else 0.0
            result = Tensor(self.Where(self.IsNaN(result), value, result), result.axes)
        if self.half and self.dtype == np.float32:
            self.dtype = np.dtype(np.float16)
            result = self.cast(result, self.dtype)
        if self.chance(0.1):
            self.features.add("dropout")
            result = Tensor(self.Dropout(result), result.axes)
        if self.slips("mask after softmax"):
            result = Tensor(self.Mul(result, self.normal("after", "l", "s").value), result.axes)
        if self.chance(0.1):
            self.features.add("output: probabilities")
            self.doubts["Attention"] = "probabilities are an output"
            self.outputs.append(result)
        return result

    def mixed(self, weights: Tensor, v: Tensor, lead: Axes) -> Tensor:
        if "layout: Einsum" not in self.features or v.axes[1] == "g" or v.axes[:3] == ("b", "h", "s"):
            return Tensor(self.MatMul(weights, v), (*lead, "l", "e"))
        order = self.pick("mixed into", "bhle", "blhe")
        return Tensor(self.Einsum(weights, v, equation=f"bhls,{''.join(v.axes)}->{order}"), tuple(order))


def seen_keys(random: np.random.Generator, dims: tuple[int, ...], *, whole: bool) -> Array:
    """Which keys are seen: padding on the left, single ones hidden, all of some query's if `whole`."""
    seen = random.random(dims) > 0.2
    seen[..., : int(random.integers(dims[-1] + 1))] = False
    rows = seen.reshape(-1, dims[-1])
    if not whole or random.random() < 0.5:
        rows[:, -1] = True
    return seen
