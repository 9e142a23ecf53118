"""Slices that together take a whole axis are one Split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .... import ir
from ...analyses import Shapes
from ...analyses.manager import Analysis
from ...pipeline.pass_ import Pass, PassContext, spell, where
from ...pipeline.registry import register
from .slice_ranges import window

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
"""Element types that ONNX Runtime splits in every release that we know; it slices more."""

Pieces = Mapping[tuple[int, int], Sequence[ir.Node]]


@register
@dataclass(frozen=True)
class SlicesToSplit(Pass):
    """Make one Split of Slices that tile an axis of known size.

    before:  a = Slice(x, 0:32, axis 3); b = Slice(x, 32:64, axis 3)      x: [n, 8, s, 64]
    after:   a, b = Split(x) along axis 3
    """

    name: ClassVar[str] = "slices-to-split"
    preserves: ClassVar[frozenset[type[Analysis]]] = frozenset({Shapes})

    def run(self, model: ir.Model, context: PassContext) -> None:
        shapes = context.analyses.get(Shapes)
        shapes.refresh(model)
        if ("", "Slice", "") in context.functions() or ("", "Split", "") in context.functions():
            return
        for graph in ir.graphs(model):
            for (source, axis, size), pieces in list(_sliced(graph, shapes).items()):
                tiles = _tiles(pieces, size)
                if len(tiles) >= 2 and shapes.dtype(source) in SPLITS:
                    _split(source, axis, pieces, tiles, context)


def _sliced(graph: ir.Graph, shapes: Shapes) -> Mapping[tuple[ir.Value, int, int], Pieces]:
    """Slices of one axis by what they read, and then by what they take of it, in the order of the graph."""
    found: dict[tuple[ir.Value, int, int], dict[tuple[int, int], list[ir.Node]]] = {}
    for node in graph:
        if node.op_type != "Slice" or node.domain != "" or (node.version or 0) < 2:
            continue
        taken = window(node, shapes)
        if taken is not None and (source := node.inputs[0]) is not None:
            axis, start, stop, size = taken
            found.setdefault((source, axis, size), {}).setdefault((start, stop), []).append(node)
    return found


def _tiles(pieces: Pieces, size: int) -> list[tuple[int, int]]:
    """The pieces that follow each other from 0 to `size`; none where they leave a gap or there is a choice."""
    following: dict[int, list[tuple[int, int]]] = {}
    for start, stop in pieces:
        if stop > start:
            following.setdefault(start, []).append((start, stop))
    found: list[tuple[int, int]] = []
    place = 0
    while place < size:
        choices = following.get(place, [])
        if len(choices) != 1:
            return []
        found.append(choices[0])
        place = choices[0][1]
    return found


def _split(source: ir.Value, axis: int, pieces: Pieces, tiles: Sequence[tuple[int, int]], context: PassContext) -> None:
    first = next(nodes[0] for tile, nodes in pieces.items() if tile in tiles)
    slices = [node for tile in tiles for node in pieces[tile]]
    if not context.log.try_rewrite(SlicesToSplit.name, where(first), spell(slices), "Split"):
        return
    sizes = [stop - start for start, stop in tiles]
    rewriter, shapes = context.rewriter, context.analyses.get(Shapes)
    split = rewriter.insert(new_split(source, axis, sizes, first.version or 0), before=first)
    shapes.learn(split)
    for tile, value in zip(tiles, split.outputs, strict=True):
        for node in pieces[tile]:
            shapes.adopt(node.outputs[0], value)
            rewriter.replace(node, [value])


def new_split(source: ir.Value, axis: int, sizes: Sequence[int], version: int) -> ir.Node:
    """A Split into parts of these sizes, as the opset writes it."""
    inputs: list[ir.Value | None] = [source]
    attributes: dict[str, ir.AttributeValue] = {"axis": axis}
    if len(set(sizes)) > 1:
        if version < 13:
            attributes["split"] = list(sizes)
        else:
            inputs.append(ir.pending_constant(np.array(sizes, dtype=np.int64), name=f"{source.name}_sizes"))
    elif version >= 18:
        attributes["num_outputs"] = len(sizes)
    return ir.new_node("Split", inputs, attributes, version=version, outputs=len(sizes), provenance=SlicesToSplit.name)
