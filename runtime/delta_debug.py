"""The smallest part of a model that still shows something: by cutting around a value, then delta debugging.

A part gets as inputs the very tensors that the whole model computes there, so that what it shows is what was seen.
After Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing Input (2002).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .. import ir
from ..ir.subgraph import extract, tapped
from .ort.session import open_session, seconds_until
from .ort.session_options import Array, Feeds, Outputs, SessionOptions

WHOLE_S = 5.0  # at least, for one run of the whole model
FARTHEST = 12  # how many nodes away from a value its surroundings go before the whole model is tried


@dataclass(frozen=True)
class Piece:
    """A part of a model that runs by itself on `feeds`."""

    model: bytes = field(repr=False)
    feeds: dict[str, Array] = field(repr=False)
    nodes: int


def reduce_model(
    model: ir.Model,
    feeds: Feeds,
    shows: Callable[[Piece], bool],
    *,
    around: str = "",
    options: SessionOptions | None = None,
    seconds: float = 60.0,
) -> Piece | None:
    """The smallest part of `model` found for which `shows` holds; None where not even all of its nodes show it.

    Only nodes of the main graph are left out; one with bodies goes or stays whole. `around`: a value near which it is
    looked for first. `seconds` bounds the search: what was found so far is given back then.
    Raises ModelError when the model does not run on `feeds`.
    """
    return _Reducer(model, feeds, shows, options or SessionOptions(), time.monotonic() + seconds).run(around)


class _Reducer:
    def __init__(
        self,
        model: ir.Model,
        feeds: Feeds,
        shows: Callable[[Piece], bool],
        options: SessionOptions,
        until: float,
    ) -> None:
        self.model, self.feeds, self.shows, self.until = model, feeds, shows, until
        self.options = SessionOptions(optimize=False, custom_ops=options.custom_ops, seed=options.seed)
        self.nodes = list(model.graph)
        self.place = {node: index for index, node in enumerate(self.nodes)}
        self.reads = [_reads(node) for node in self.nodes]
        self.arrays: dict[str, Array | None] = {}
        self.best: Piece | None = None

    def run(self, around: str) -> Piece | None:
        kept = self.surroundings(around) or list(range(len(self.nodes)))
        if self.best is None and not self.test(kept):
            return None
        self.compress_constants(kept)
        return self.best

    def surroundings(self, name: str) -> list[int] | None:
        """The nodes within a few steps of a value: as few steps as show it."""
        start = self.home(name)
        if start is None:
            return None
        kept, border = {start}, {start}
        for _ in range(FARTHEST):
            if self.test(sorted(kept)):
                return sorted(kept)
            border = {near for index in border for near in self.neighbours(index)} - kept
            if not border or self.is_late:
                return None
            kept |= border
        return None

    def home(self, name: str) -> int | None:
        """The node of the main graph that makes a value, in a body of it perhaps."""
        for index, node in enumerate(self.nodes):
            for each in (node, *ir.nodes_within(node)):
                if name and (each.name == name or any(value.name == name for value in each.outputs)):
                    return index
        return None

    def neighbours(self, index: int) -> Iterable[int]:
        for value in self.reads[index]:
            producer = value.producer()
            if producer in self.place:
                yield self.place[producer]
        for value in self.nodes[index].outputs:
            yield from (self.place[reader] for reader in value.consumers() if reader in self.place)

    def compress_constants(self, kept: list[int]) -> None:
        """Leave out runs of nodes, shorter and shorter, as long as what is left shows it."""
        length = max(len(kept) // 2, 1)
        while not self.is_late:
            start, shrunk = 0, False
            while start < len(kept) and not self.is_late:
                left = kept[:start] + kept[start + length :]
                if left and self.test(left):
                    kept, shrunk = left, True
                else:
                    start += length
            if length == 1 and not shrunk:
                return
            length = max(min(length // 2, len(kept) // 2), 1)

    @property
    def is_late(self) -> bool:
        return time.monotonic() > self.until

    def test(self, kept: Sequence[int]) -> bool:
        piece = self.piece(kept)
        if piece is None or not self.shows(piece):
            return False
        self.best = piece
        return True

    def piece(self, kept: Sequence[int]) -> Piece | None:
        """The nodes by themselves; None where an input is no tensor, or the interface has no name or type."""
        nodes = [self.nodes[index] for index in kept]
        made = {value for node in nodes for value in node.outputs if value.name}
        read = dict.fromkeys(value for index in kept for value in self.reads[index] if value not in made)
        constants = [value for value in read if ir.is_constant(value)]
        inputs = [value for value in read if not ir.is_constant(value)]
        inside = {value for index in kept for value in self.reads[index]}
        outputs = [value for value in made if value not in inside and (ir.is_read(value) or value.is_graph_output())]
        outputs.sort(key=lambda value: value.name or "")
        self.capture([*inputs, *outputs])
        arrays = {value: self.arrays[value.name or ""] for value in [*inputs, *outputs]}
        if not outputs or any(array is None for array in arrays.values()):
            return None
        types = {
            value: (ir.DataType.from_numpy(array.dtype), array.shape)
            for value, array in arrays.items()
            if array is not None
        }
        called = {node.op_identifier() for node in nodes} & self.model.functions.keys()
        functions = self.model.functions.values() if called else ()
        data = extract(nodes, inputs, outputs, self.model.opset_imports, types, constants, functions)
        feeds = {value.name or "": array for value in inputs if (array := arrays[value]) is not None}
        return Piece(data, feeds, len(nodes))

    def capture(self, values: Sequence[ir.Value]) -> None:
        """Remember the tensors that the whole model computes for `values`; None for what is no plain tensor."""
        missing = [value for value in values if value.name not in self.arrays]
        known = {value: self.given(value) for value in missing if value.is_graph_input()}
        computed = [value for value in missing if value not in known]
        found: dict[str, object] = {value.name or "": datum for value, datum in known.items()}
        if computed:
            found |= self.run_whole(computed)
        for value in missing:
            datum = found.get(value.name or "")
            is_plain = isinstance(datum, np.ndarray) and datum.dtype.kind not in "OUS"
            self.arrays[value.name or ""] = np.asarray(datum) if is_plain else None

    def run_whole(self, values: Sequence[ir.Value]) -> Outputs:
        """The values of the whole model: without them there is no piece, so they get some time in any case."""
        until = max(self.until, time.monotonic() + WHOLE_S)
        session = open_session(tapped(self.model, values), self.options, time_limit_s=seconds_until(until))
        return session.run(self.feeds, seconds_until(until))

    def given(self, value: ir.Value) -> object:
        """The feed of an input, or its initializer."""
        name = value.name or ""
        if name in self.feeds or value.const_value is None:
            return self.feeds.get(name)
        return np.asarray(value.const_value.numpy())


def _reads(node: ir.Node) -> list[ir.Value]:
    """The values of its own graph that a node uses, directly or as captured values of its bodies."""
    readers = [node, *ir.nodes_within(node)]
    bodies = [body for each in readers for body in ir.subgraphs_of(each)]
    own = {value for each in readers[1:] for value in each.outputs}
    own |= {value for body in bodies for value in (*body.inputs, *body.initializers.values())}
    read = [value for each in readers for value in each.inputs if value is not None]
    read += [value for body in bodies for value in body.outputs]
    return [value for value in dict.fromkeys(read) if value not in own]
