"""The attention blocks, norms, rotary embeddings and activations that models have, and those that the tool fuses.

    python benchmarks/coverage.py MODEL.onnx FOLDER … --output benchmarks/results/coverage.md

Counted from the models: what the operators compute in the original and in the result, not what anything is called. For
each kind that is left, the nearest miss of the tool's rules: a condition, and what was found instead.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from optimize_graph import Options, ir, optimize

THROUGH = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile", "Cast", "Identity", "Dropout"}
"""Operators behind which a value counts as the same."""

PARTS = {*THROUGH, "Slice", "Split", "Gather", "Concat"}


def _node(value: ir.Value | None) -> ir.Node | None:
    """The producer of a value, behind movement and casts."""
    node = None if value is None else value.producer()
    while node is not None and node.op_type in THROUGH and node.inputs[0] is not None:
        if (before := node.inputs[0].producer()) is None:
            return None
        node = before
    return node


def _source(value: ir.Value | None, through: set[str] = THROUGH) -> ir.Value | None:
    """The value behind movement and casts."""
    while value is not None and (node := value.producer()) is not None and node.op_type in through:
        value = node.inputs[0]
    return value


def _pairs(node: ir.Node, operators: tuple[str, ...]) -> Iterator[tuple[ir.Value | None, ir.Value | None]]:
    """The operands of a binary operator, in either order where it commutes."""
    if node.op_type in operators and len(node.inputs) == 2:
        yield node.inputs[0], node.inputs[1]
        if node.op_type in ("Mul", "Add"):
            yield node.inputs[1], node.inputs[0]


# --- what operators compute -------------------------------------------------------------------------------------------


def is_attention(node: ir.Node) -> bool:
    """Whether a Softmax's result, or a part of it, scaled or masked, is an operand of a product."""
    if node.op_type != "Softmax":
        return False
    pending, through = list(node.outputs), {*THROUGH, "Where", "Mul", "Slice"}
    for value in pending:
        for user in value.consumers():
            if user.op_type in ("MatMul", "Einsum", "Gemm"):
                return True
            if user.op_type in through and len(pending) < 12:
                pending.extend(user.outputs)
    return False


def is_norm(node: ir.Node) -> bool:
    """Whether a value is divided by the root of the mean of its own squares (of those of what its mean is taken of)."""
    return any(_is_deviation_of(x, factor) for x, factor in _pairs(node, ("Mul", "Div")))


def _is_deviation_of(x: ir.Value | None, factor: ir.Value | None) -> bool:
    has_root, operator = False, _node(factor)
    for _ in range(8):
        if operator is None or operator.domain:
            return False
        match operator.op_type:
            case "Sqrt" | "Pow":
                has_root = True
                operator = _node(operator.inputs[0])
            case "Reciprocal" | "Neg" | "Clip":
                operator = _node(operator.inputs[0])
            case "Add" | "Max" | "Mul" | "Div":
                operands = [each for each in operator.inputs if ir.scalar(_source(each)) is None]
                operator = _node(operands[0]) if len(operands) == 1 else None
            case "ReduceMean" | "ReduceSum" | "GlobalAveragePool" | "ReduceSumSquare" if has_root:
                return _is_square_of(x, operator)
            case _:
                return False
    return False


def _is_square_of(x: ir.Value | None, reduction: ir.Node) -> bool:
    value = _source(reduction.inputs[0])
    if reduction.op_type != "ReduceSumSquare":
        square = None if value is None else value.producer()
        if square is None or square.op_type not in ("Mul", "Pow"):
            return False
        value = _source(square.inputs[0])
        if square.op_type == "Mul" and _source(square.inputs[1]) is not value:
            return False
    return _centered(value) == _centered(x)


def _centered(value: ir.Value | None) -> tuple[ir.Value | None, ...]:
    """What a value is: itself, or the operands of the difference that it is."""
    value = _source(value)
    node = None if value is None else value.producer()
    return (value,) if node is None or node.op_type != "Sub" else tuple(map(_source, node.inputs))


def is_rotary(node: ir.Node) -> bool:
    """Whether pairs are rotated: x * cos + turned(x) * sin, or a * cos - b * sin beside b * cos + a * sin."""
    products = [_factors(each) for each in node.inputs]
    if len(products) != 2 or not all(products) or node.op_type not in ("Add", "Sub"):
        return False
    if node.op_type == "Add":
        return any(_is_turned(value) for product in products for value in product)
    (a, cos), (b, sin) = products
    others = {frozenset((b, cos)), frozenset((a, sin))}
    sums = [add for value in (a, b) if value is not None for mul in _readers(value) for add in _readers(mul.outputs[0])]
    return any(add.op_type == "Add" and {frozenset(_factors(each)) for each in add.inputs} == others for add in sums)


def _factors(value: ir.Value | None) -> tuple[ir.Value | None, ...]:
    """The two factors of a product; nothing of anything else."""
    node = _node(value)
    return () if node is None or node.op_type != "Mul" else tuple(map(_source, node.inputs))


def _is_turned(value: ir.Value | None) -> bool:
    """Whether parts of one value are joined, one of them negated."""
    joined = _node(value)
    if joined is None or joined.op_type != "Concat":
        return False
    producers = [_node(each) for each in joined.inputs]
    negated = [each for each in producers if each is not None and each.op_type == "Neg"]
    parts = [
        node.inputs[0] if node in negated and node is not None else each
        for node, each in zip(producers, joined.inputs, strict=True)
    ]
    return bool(negated) and len({_source(each, PARTS) for each in parts}) == 1


def _readers(value: ir.Value) -> Iterator[ir.Node]:
    """The users of a value, behind movement and casts."""
    for user in value.consumers():
        if user.op_type in THROUGH:
            yield from _readers(user.outputs[0])
        else:
            yield user


def is_activation(node: ir.Node) -> bool:
    """Whether a value is gated by its own Erf, Tanh, or clipped self: Gelu, Mish, HardSwish, HardSigmoid."""
    if node.op_type == "Erf":
        return any(user.op_type == "Add" for user in _readers(node.outputs[0]))
    if node.op_type == "Tanh":
        before = _node(node.inputs[0])
        return before is not None and (before.op_type == "Softplus" or _has_constant(before, 0.044715, 5))
    if node.op_type == "Clip":
        shifted = _node(node.inputs[0])
        bounds = [ir.scalar(each) for each in node.inputs[1:]]
        return bounds == [0, 6] and shifted is not None and shifted.op_type == "Add" and _has_constant(shifted, 3.0, 0)
    return False


def _has_constant(node: ir.Node, number: float, depth: int) -> bool:
    for value in node.inputs:
        content = ir.scalar(_source(value))
        if isinstance(content, (int, float)) and abs(content - number) < 1e-3 * number:
            return True
        before = _node(value)
        if depth and before is not None and _has_constant(before, number, depth - 1):
            return True
    return False


def is_gate(node: ir.Node) -> bool:
    """Whether a value is multiplied by its own Sigmoid, scaled or not: Swish, which ONNX Runtime fuses itself."""
    for x, gate in _pairs(node, ("Mul",)):
        sigmoid = _node(gate)
        if sigmoid is None or sigmoid.op_type != "Sigmoid":
            continue
        inner, before = _source(sigmoid.inputs[0]), _node(sigmoid.inputs[0])
        operands = [] if before is None or before.op_type != "Mul" else [_source(each) for each in before.inputs]
        if _source(x) in (inner, *operands):
            return True
    return False


@dataclass(frozen=True)
class Kind:
    """A kind of what is fused: the operators that compute it in one, how it is spelled otherwise, and rules for it."""

    name: str
    operators: frozenset[str]
    is_spelled: Callable[[ir.Node], bool]
    rules: tuple[str, ...]


KINDS = (
    Kind(
        "attention",
        frozenset("Attention MultiHeadAttention GroupQueryAttention".split()),
        is_attention,
        ("sdpa", "mha", "gqa", "attention"),
    ),
    Kind(
        "norms",
        frozenset(
            "LayerNormalization RMSNormalization SimplifiedLayerNormalization GroupNormalization InstanceNormalization "
            "SkipLayerNormalization SkipSimplifiedLayerNormalization GroupNorm SkipGroupNorm".split()
        ),
        is_norm,
        ("-normalization",),
    ),
    Kind("rotary", frozenset({"RotaryEmbedding"}), is_rotary, ("rotary",)),
    Kind(
        "activations",
        frozenset("Gelu FastGelu BiasGelu Mish HardSwish HardSigmoid".split()),
        is_activation,
        ("gelu", "mish", "hard"),
    ),
    Kind("gates", frozenset({"Swish", "QuickGelu"}), is_gate, ("quick-gelu", "swish")),
)


def count(model: ir.Model, kind: Kind) -> tuple[int, int]:
    """How often a model has the kind as one operator, and how often spelled otherwise."""
    nodes = list(ir.nodes(model))
    return sum(node.op_type in kind.operators for node in nodes), sum(map(kind.is_spelled, nodes))


def rows(path: Path, target: str) -> Iterator[tuple[str, ...]]:
    """The kind, how many there are, were and are left, and the nearest misses; a row for each kind that is there."""
    with tempfile.TemporaryDirectory() as folder:
        result = optimize(path, Path(folder) / "result.onnx", Options(verify=False, target=target))
        original = ir.load(path)
        for kind in KINDS:
            before, spelled = count(original, kind)
            fused, left = count(result.model, kind)
            if not before + spelled + fused + left:
                continue
            missed = Counter(
                f"{each.rule}: requires {each.condition}: {shorten(each.because, 160)}"
                for each in result.missed
                if any(part in each.rule for part in kind.rules) and not each.condition.startswith("target ")
            )
            nearest = "; ".join(f"{text} ({times})" for text, times in missed.most_common(3))
            why = "" if not left else nearest or "no rule's pattern matches"
            yield kind.name, f"{before + spelled}", f"{before}", f"{fused}", f"{left}", why


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="models, or folders of them")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--target", default="ort-cpu")
    given = parser.parse_args()
    paths = [each for path in given.models for each in (sorted(path.glob("*.onnx")) if path.is_dir() else [path])]
    lines = [
        f"Coverage for `{given.target}`: what models have, as one operator before and after, and what is left.",
        "",
        "| model | kind | there | before | after | left | nearest miss |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for path in paths:
        try:
            found = list(rows(path, given.target))
        except (ir.OptimizeGraphError, OSError) as error:
            found = [("", "", "", "", "", str(error).splitlines()[0])]
        for row in found:
            lines.append("| " + " | ".join((path.stem, *(each.replace("|", "\\|") for each in row))) + " |")
            print(lines[-1], flush=True)
        given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
