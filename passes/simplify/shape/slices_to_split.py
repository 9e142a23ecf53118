"""Slices that tile an axis as one Split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from .... import ir
from ...analyses import Shapes
from ...pipeline.pass_ import Pass, PassContext, spell, where
from ...registry import register
from ...views.slice_ranges import window

SPLITS = frozenset(
    {
        ir.DataType.FLOAT,
        ir.DataType.FLOAT16,
        ir.DataType.DOUBLE,
        ir.DataType.INT32,
        ir.DataType.INT64,
        ir.DataType.UINT8,
        ir.DataType.BOOL,
    }
)
"""Element types of ONNX Runtime's Split in every known release; its Slice has more."""

Pieces = Mapping[tuple[int, int], Sequence[ir.Node]]


@register
@dataclass(frozen=True)
class SlicesToSplit(Pass):
    """Replace Slices that tile an axis of known size by one Split.

    before:  a = Slice(x, %[0], %[32], %[3]); b = Slice(x, %[32], %[64], %[3])        x: [n, 8, s, 64]
    after:   a, b = Split<axis = 3>(x)
    """

    name: ClassVar[str] = "slices-to-split"

    def run(self, model: ir.Model, context: PassContext) -> None:
        shapes = context.analyses.get(Shapes)
        if ("", "Slice", "") in context.functions() or ("", "Split", "") in context.functions():
            return
        for graph in ir.graphs(model):
            for (source, axis, size), pieces in list(_sliced(graph, shapes).items()):
                tiles = _tiles(pieces, size)
                if len(tiles) >= 2 and shapes.dtype(source) in SPLITS:
                    _split(source, axis, pieces, tiles, context)


def _sliced(graph: ir.Graph, shapes: Shapes) -> Mapping[tuple[ir.Value, int, int], Pieces]:
    """Slices of one axis by their source, and then by their range, in the order of the graph."""
    groups: dict[tuple[ir.Value, int, int], dict[tuple[int, int], list[ir.Node]]] = {}
    for node in graph:
        if node.op_type != "Slice" or node.domain != "" or (node.version or 0) < 2:
            continue
        taken = window(node, shapes)
        if taken is not None and (source := node.inputs[0]) is not None:
            axis, start, stop, size = taken
            groups.setdefault((source, axis, size), {}).setdefault((start, stop), []).append(node)
    return groups


def _tiles(pieces: Pieces, size: int) -> list[tuple[int, int]]:
    """The ranges that follow each other from 0 to `size`; none where they leave a gap or are ambiguous."""
    following: dict[int, list[tuple[int, int]]] = {}
    for start, stop in pieces:
        if stop > start:
            following.setdefault(start, []).append((start, stop))
    tiles: list[tuple[int, int]] = []
    end = 0
    while end < size:
        candidates = following.get(end, [])
        if len(candidates) != 1:
            return []
        tiles.append(candidates[0])
        end = candidates[0][1]
    return tiles


def _split(source: ir.Value, axis: int, pieces: Pieces, tiles: Sequence[tuple[int, int]], context: PassContext) -> None:
    first = next(nodes[0] for tile, nodes in pieces.items() if tile in tiles)
    slices = [node for tile in tiles for node in pieces[tile]]
    if not context.log.try_rewrite(SlicesToSplit.name, where(first), spell(slices), "Split"):
        return
    sizes = [stop - start for start, stop in tiles]
    rewriter = context.rewriter
    split = rewriter.insert(new_split(source, axis, sizes, first.version or 0), before=first)
    for tile, value in zip(tiles, split.outputs, strict=True):
        for node in pieces[tile]:
            rewriter.replace(node, [value])


def new_split(source: ir.Value, axis: int, sizes: Sequence[int], version: int) -> ir.Node:
    """A Split into parts of these sizes: an attribute, an input, or a number of outputs, as the opset has it."""
    attributes: dict[str, ir.AttributeValue] = {"axis": axis}
    if len(set(sizes)) > 1:
        attributes["split"] = list(sizes)
    elif version >= 18:
        attributes["num_outputs"] = len(sizes)
    return ir.new_node(
        "Split", [source], attributes, version=version, outputs=len(sizes), provenance=SlicesToSplit.name
    )
