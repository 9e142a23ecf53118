"""Sizes for the dims that a model leaves open: one number for each symbol, however many inputs share it."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ... import ir
from ...ir.shapes.evaluate import evaluate
from ...ir.shapes.symbolic import Dim, floordiv, mod
from .dim_constraints import collect, infer_rank
from .dim_solver import Equations, size_of

_OPERATORS: Final[Mapping[type[ast.operator], Callable[[Dim, Dim], Dim]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: floordiv,
    ast.Div: floordiv,
    ast.Mod: mod,
}
_NO_NAME = re.compile(r"(|\?|-1|None|none|unk__\d+|unk)")
_BATCH = re.compile(r"batch|^(b|n|bs|s\d+)$|unk|dynamic|dim|axis|axes|none", re.IGNORECASE)
_PAST = re.compile(r"past|cache", re.IGNORECASE)
_TOTAL = re.compile(r"total|past.*(\+|plus)|kv_len", re.IGNORECASE)


@dataclass(frozen=True)
class Sizing:
    """The size of each kind of open dim. `image` is a height (widths are 32 more), `samples` the length of a wave.

    `apart` gives different symbols of one kind different sizes: it finds more, but fewer models accept it.
    """

    batch: int = 1
    length: int = 32
    past: int = 8
    image: int = 64
    samples: int = 4000
    apart: bool = True


@dataclass(frozen=True)
class OpenInput:
    """An input's declared dims: a number, an expression of symbols, or a name made up where the file has none."""

    name: str
    is_float: bool
    dims: tuple[int | str, ...]
    rank_is_known: bool = True

    @classmethod
    def of(cls, value: ir.Value, rank: int | None = None) -> OpenInput:
        """`rank`: that of an input without a declared shape whose operators do not tell it."""
        dtype = value.dtype
        declared: Sequence[int | ir.SymbolicDim | None]
        is_tensor = value.type is None or isinstance(value.type, ir.TensorType)
        known: int | None = 0
        if value.shape is not None:
            declared = value.shape.dims
        else:
            known = infer_rank(value) if is_tensor else None
            declared = [None] * ((known if known is not None else rank or 0) if is_tensor else 1)
        dims = [_dim(value.name or "", axis, dim) for axis, dim in enumerate(declared)]
        is_float = dtype is not None and dtype.is_floating_point()
        return cls(value.name or "", is_float, tuple(dims), known is not None)


def _dim(name: str, axis: int, dim: int | ir.SymbolicDim | None) -> int | str:
    if isinstance(dim, int):
        return dim if dim >= 0 else f"{name}@{axis}"
    text = "" if dim is None or dim.value is None else str(dim.value)
    return f"{name}@{axis}" if _NO_NAME.fullmatch(text) else text


@dataclass
class Binding:
    """The size of every symbol; `shape` evaluates declared dims with them."""

    sizes: dict[str, int] = field(default_factory=dict)

    def size(self, dim: int | str) -> int:
        """Raises KeyError for a symbol that no input has."""
        number = self.sizes[dim] if dim in self.sizes else evaluate(_parsed(dim), self.sizes)
        if number is None:
            raise KeyError(dim)
        return number

    def shape(self, dims: Sequence[int | str]) -> tuple[int, ...]:
        """The dims as numbers. Raises KeyError for a symbol that no input has."""
        return tuple(max(self.size(dim), 0) for dim in dims)


def symbols(dim: int | str) -> tuple[str, ...]:
    """The symbols of a dim, in order: `past + seq` has two, `dims.0` is one by itself."""
    if isinstance(dim, int):
        return ()
    tree = _parse(dim)
    if tree is None:
        return (dim,)
    return tuple(dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))


def _parse(dim: str) -> ast.expr | None:
    """The expression in a dim, or None when it is a name (of any characters) or beyond sums and products."""
    if len(dim) > 200 or dim.isidentifier():
        return None
    try:
        tree = ast.parse(dim.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None
    known = (ast.BinOp, ast.Name, ast.Constant, ast.operator, ast.expr_context)
    nodes = list(ast.walk(tree))
    fits = all(isinstance(node, known) for node in nodes) and isinstance(tree, ast.BinOp)
    whole = all(isinstance(node.value, int) for node in nodes if isinstance(node, ast.Constant))
    possible = all(type(node.op) in _OPERATORS for node in nodes if isinstance(node, ast.BinOp))
    return tree if fits and whole and possible else None


def _parsed(dim: int | str) -> Dim:
    """A declared dim over the symbols in it."""
    tree = None if isinstance(dim, int) else _parse(dim)
    return size_of(dim) if tree is None else _value(tree)


def _value(tree: ast.expr) -> Dim:
    match tree:
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left), _value(right))
        case ast.Name(id=name):
            return size_of(name)
        case ast.Constant(value=int(number)):
            return number
        case _:
            raise KeyError(ast.dump(tree))


def equations_of(model: ir.Model, inputs: Mapping[ir.Value, OpenInput]) -> Equations | None:
    """The constraints of `model` on the symbols of `inputs`; None when there are no symbols."""
    names = {symbol for each in inputs.values() for dim in each.dims for symbol in symbols(dim)}
    if not names:
        return None
    return collect(model, {value: tuple(map(_parsed, each.dims)) for value, each in inputs.items()}, names, Equations())


def bind(
    inputs: Sequence[OpenInput],
    sizing: Sizing,
    equations: Equations | None = None,
    chosen: Mapping[str, int] | None = None,
) -> Binding:
    """Give every symbol of `inputs` a size. What a symbol means is read off its name and where it stands.

    `equations`: what the sizes must satisfy, as far as that is possible. `chosen`: sizes that are not looked up.
    """
    kinds: dict[str, str] = {}
    for each in inputs:
        for axis, dim in enumerate(each.dims):
            for symbol in symbols(dim):
                kinds.setdefault(symbol, _kind(symbol, each, axis))
    if "past" in kinds.values():
        kinds.update(dict.fromkeys(_totals(inputs, kinds), "total"))
    sizes: dict[str, int] = {}
    counts: dict[str, int] = {}
    for symbol, kind in kinds.items():
        nth = counts[kind] = counts.get(kind, -1) + 1
        sizes[symbol] = _size(kind, nth, sizing)
    sizes |= {name: size for name, size in (chosen or {}).items() if name in sizes}
    if equations is not None:
        kept = frozenset(name for name, kind in kinds.items() if kind == "batch" or name in (chosen or {}))
        sizes = equations.solve(sizes, kept)
    return Binding(sizes)


def _totals(inputs: Sequence[OpenInput], kinds: Mapping[str, str]) -> list[str]:
    """The symbols that stand for past + new positions: of masks, and of nothing else."""
    elsewhere = {symbol for each in inputs if "mask" not in each.name for dim in each.dims for symbol in symbols(dim)}
    masks = {symbol for each in inputs if "mask" in each.name for dim in each.dims[1:] for symbol in symbols(dim)}
    return [symbol for symbol in kinds if symbol in masks - elsewhere or (_TOTAL.search(symbol) and symbol in masks)]


def _kind(symbol: str, each: OpenInput, axis: int) -> str:
    rank = len(each.dims)
    named = "@" not in symbol
    if "batch" in symbol.lower():
        return "batch"
    if named and _PAST.search(symbol):
        return "past"
    if _PAST.search(each.name) and rank >= 3:
        return "past" if axis == rank - 2 else "batch" if axis == 0 else "length"
    if axis == 0:
        return "batch" if not named or rank == 1 or _BATCH.search(symbol) or len(symbol) < 3 else "length"
    if rank == 3 and axis == 1 and isinstance(each.dims[0], int) and isinstance(each.dims[2], int):
        return "batch"  # the state of a recurrent layer: [layers, batch, hidden]
    if rank == 4 and "mask" not in each.name:
        return _image_kind(each, axis)
    if (
        each.is_float
        and "mask" not in each.name
        and all(isinstance(dim, int) and dim == 1 for dim in each.dims[1:axis] + each.dims[axis + 1 :])
    ):
        return "samples"
    return "length"


def _image_kind(each: OpenInput, axis: int) -> str:
    channels_last = each.dims[3] in (1, 3, 4) and each.dims[1] not in (1, 3, 4)
    if axis == (3 if channels_last else 1):
        return "channels"
    return "width" if axis == (2 if channels_last else 3) else "image"


def _size(kind: str, nth: int, sizing: Sizing) -> int:
    match kind:
        case "batch":
            return sizing.batch
        case "past":
            return sizing.past
        case "total":
            return sizing.past + sizing.length
        case "channels":
            return 3
        case "image":
            return sizing.image
        case "width":
            return sizing.image + 32 * sizing.apart
        case "samples":
            return sizing.samples
        case _:
            return sizing.length + 3 * nth * sizing.apart
