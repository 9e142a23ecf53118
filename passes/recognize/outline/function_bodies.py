"""The operators with function bodies, the shapes of these bodies, and guesses of the calls they were expanded from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from .... import ir
from .unify import is_number, through_identity

OPERATORS: Mapping[str, tuple[str, ...]] = {
    "Attention": (
        "MatMul(Where Equal, Reshape Expand Unsqueeze)",
        "Reshape(Transpose MatMul Where, Concat)",
    ),
    "Celu": ("Mul(, Elu Div)",),
    "Elu": ("Where(Less, Mul, )",),
    "Gelu": ("Mul(Mul, Sum)",),
    "GroupNormalization": (
        "Reshape(Add, Shape Cast)",
        "Reshape(Add, Shape)",
    ),
    "HardSigmoid": ("Max(Min, )",),
    "HardSwish": ("Mul(, HardSigmoid)",),
    "LayerNormalization": (
        "Reshape(Add, Shape)",
        "Reshape(Mul, Shape)",
    ),
    "LeakyRelu": ("Where(Less, Mul, )",),
    "LogSoftmax": ("Sub(Sub, Log ReduceSum Exp)",),
    "MeanVarianceNormalization": ("Div(Sub, Add)",),
    "Mish": ("Mul(, Tanh Softplus)",),
    "PRelu": ("Where(Less, Mul, )",),
    "RMSNormalization": ("Mul(Cast Div Cast, )",),
    "RotaryEmbedding": (
        "Reshape(Concat Concat Sub, Shape)",
        "Reshape(Concat Reshape Concat, Shape)",
        "Reshape(Transpose Concat Concat, Shape)",
        "Reshape(Transpose Concat Reshape, Shape)",
    ),
    "Selu": ("Where(Less, Mul, Mul)",),
    "Shrink": ("Where(Less, Add, Where Less)",),
    "Softmax": ("Div(Exp Sub, ReduceSum Exp Sub)",),
    "Softplus": ("Log(Add)",),
    "Softsign": ("Div(, Add)",),
    "Swish": ("Mul(, Sigmoid Mul)",),
    "ThresholdedRelu": ("Where(Less, , )",),
}
"""The outlined operators, with the operators at the roots of their bodies (`silhouettes`).

Not among them: those that ONNX Runtime computes differently for NaN, or at random (Clip, Bernoulli).
"""

HOLE = "any number"
NEGATIVE = "any negative number"

# How a body depends on an attribute otherwise than by a number in it; the first alternative is tried first.
_STRUCTURAL: Mapping[str, tuple[int | str | None, ...]] = {
    "approximate": ("none", "tanh"),
    "axis": (HOLE, NEGATIVE),
    "interleaved": (0, 1),
    "is_causal": (0, 1),
    "left_window_size": (None, HOLE),
    "qk_matmul_output_mode": (0, 1, 2, 3),
    "right_window_size": (None, HOLE),
    "rotary_embedding_dim": (None, HOLE),
    "scale": (None, HOLE),
    "softcap": (None, HOLE),
    "softmax_precision": (None, 1, 10, 11, 16),
    "stash_type": (1, 10, 11, 16),
}
# Optional inputs that are given together or not at all.
_TOGETHER = {"past_key": "past_value"}
# Placeholders for unknown numbers: exact in every floating-point type, and in no body of the standard.
_INTEGERS = (7919, 7901, 7883, 7879, 7873, 7867)
_FLOATS = (1.609375, 1.640625, 1.671875, 1.703125)

Choice = int | float | str | ir.DataType | None


@cache
def alternatives_of(op_type: str, opset: int, dtype: ir.DataType, rank: int) -> Mapping[str, tuple[Choice, ...]]:
    """The alternatives for each input and attribute of a call; `dtype` and `rank` are those of its first output."""
    signature = ir.function_signature(op_type, opset)
    if signature is None:
        return {}
    found: dict[str, tuple[Choice, ...]] = {}
    for formal in signature.inputs:
        types = tuple(each for each in (dtype, ir.DataType.BOOL, ir.DataType.INT64) if each in formal.types)
        alone = formal.name not in _TOGETHER.values()
        found[formal.name] = (None, *(types if alone else ())) if formal.is_optional else types[:1]
    for name in signature.attributes:
        if name.endswith("num_heads"):  # what splits the last of three dims; four are split already
            found[name] = (HOLE,) if rank == 3 else (None,)
        elif name in _STRUCTURAL:
            found[name] = _STRUCTURAL[name]
        elif name in signature.numbers:
            found[name] = (HOLE,)
    return found


@dataclass(frozen=True)
class Guess:
    """A possible call: for each input its type (None: absent), for each attribute its value or a hole."""

    op_type: str
    opset: int
    rank: int
    choices: tuple[tuple[str, Choice], ...]

    def but(self, name: str, choice: Choice) -> Guess:
        """The same with another choice for one input or attribute, and for those that go together with it."""
        changed = (name, _TOGETHER.get(name))
        return dataclasses.replace(self, choices=tuple((n, choice if n in changed else c) for n, c in self.choices))

    @cached_property
    def holes(self) -> dict[str, int | float]:
        """The unknown attributes, with their placeholders in the body."""
        numbers = self.signature.numbers
        sought = [(name, choice) for name, choice in self.choices if choice in (HOLE, NEGATIVE)]
        stand_ins = {int: iter(_INTEGERS), float: iter(_FLOATS)}
        return {
            name: -next(stand_ins[numbers[name]]) if choice == NEGATIVE else next(stand_ins[numbers[name]])
            for name, choice in sought
        }

    @cached_property
    def attributes(self) -> dict[str, int | float | str]:
        """The attributes that are chosen."""
        inputs = {formal.name for formal in self.signature.inputs}
        return {
            name: choice
            for name, choice in self.choices
            if name not in inputs and choice not in (None, HOLE, NEGATIVE) and not isinstance(choice, ir.DataType)
        }

    @cached_property
    def body(self) -> ir.Graph | None:
        """The function body of the call; None where it has none."""
        given = dict(self.choices)
        types = [given[formal.name] for formal in self.signature.inputs]
        inputs = [(each, self.rank) if isinstance(each, ir.DataType) else None for each in types]
        return ir.function_body(self.op_type, self.opset, {**self.attributes, **self.holes}, inputs)

    @property
    def signature(self) -> ir.Signature:
        """The inputs and attributes of the operator."""
        signature = ir.function_signature(self.op_type, self.opset)
        assert signature is not None
        return signature


@cache
def first_guesses(op_type: str, opset: int, dtype: ir.DataType, rank: int) -> tuple[Guess, ...]:
    """The guess of all first alternatives, and those that differ from it in one choice."""
    alternatives = alternatives_of(op_type, opset, dtype, rank)
    if not alternatives or () in alternatives.values():
        return ()
    first = Guess(op_type, opset, rank, tuple((name, each[0]) for name, each in alternatives.items()))
    return (first, *(first.but(name, other) for name, each in alternatives.items() for other in each[1:]))


def silhouettes(op_type: str, opset: int, dtype: ir.DataType) -> frozenset[str]:
    """The operators at the roots of the bodies of an operator, as precomputed in `OPERATORS`."""
    bodies = (guess.body for rank in (3, 4) for guess in first_guesses(op_type, opset, dtype, rank))
    roots = [through_identity(body.outputs[0]).producer() for body in bodies if body is not None]
    return frozenset(
        f"{root.op_type}({', '.join(' '.join(_ancestry(each)) for each in root.inputs)})"
        for root in roots
        if root is not None
    )


def _ancestry(value: ir.Value | None) -> Iterator[str]:
    """The producers of a value along first operands: at most three, none above a commutative one."""
    for _ in range(3):
        if value is None or is_number(value := through_identity(value)) or (node := value.producer()) is None:
            return
        yield node.op_type
        if node.op_type in ir.COMMUTATIVE or not node.inputs:
            return
        value = node.inputs[0]


def candidates(node: ir.Node) -> Iterator[str]:
    """The operators whose body may end in this node, by the operators that stand there."""
    by_root = _BY_ROOT.get(node.op_type)
    if by_root is None:
        return
    given = [tuple(_ancestry(each)) for each in node.inputs]
    orders = (given, given[::-1]) if node.op_type in ir.COMMUTATIVE else (given,)
    for op_type, wanted in by_root:
        if len(wanted) == len(given) and any(_agree(wanted, order) for order in orders):
            yield op_type


def _agree(wanted: Sequence[tuple[str, ...]], given: Sequence[tuple[str, ...]]) -> bool:
    return all(a == b[: len(a)] for a, b in zip(wanted, given, strict=True))


def _by_root() -> Mapping[str, list[tuple[str, tuple[tuple[str, ...], ...]]]]:
    index: dict[str, list[tuple[str, tuple[tuple[str, ...], ...]]]] = {}
    for op_type, forms in OPERATORS.items():
        for form in forms:
            root, _, operands = form.rstrip(")").partition("(")
            wanted = tuple(tuple(each.split()) for each in operands.split(","))
            index.setdefault(root, []).append((op_type, wanted))
    return index


_BY_ROOT = _by_root()


def neighbours(guess: Guess, alternatives: Mapping[str, tuple[Choice, ...]]) -> Iterator[Guess]:
    """The guesses that differ from `guess` in one choice."""
    return (guess.but(name, other) for name, each in alternatives.items() for other in each)
