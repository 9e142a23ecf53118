"""Two models compared: what they compute, what they promise their callers, what they are made of."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .. import ir, runtime
from ..passes.analyses.model_stats import node_count, weight_bytes, weights
from .inspect import operators, port

Pair = tuple[int, int]


@dataclass(frozen=True)
class OutputGap:
    """How far one output is off, on the first set of inputs, with ONNX Runtime's optimizations off.

    `equal`: bit for bit. `problem`: why the two cannot be subtracted, or that something discrete differs.
    """

    name: str
    equal: bool
    worst: runtime.Element | None = None
    problem: str = ""

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values."""
        return {**asdict(self), "worst": None if self.worst is None else self.worst.to_json()}


@dataclass(frozen=True)
class Comparison:
    """What differs between two models. `interface`: in words. The rest: only what is not the same, first and second."""

    verification: runtime.Verification
    outputs: tuple[OutputGap, ...]
    interface: tuple[str, ...]
    operators: Mapping[str, Pair]
    opsets: Mapping[str, Pair]
    nodes: Pair
    weight_tensors: Pair
    weight_bytes: Pair

    @property
    def agrees(self) -> bool:
        """Whether callers get the same: interface and numbers."""
        return self.verification.ok and not self.interface

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values."""
        return {
            "agrees": self.agrees,
            "verification": self.verification.to_json(),
            "outputs": [each.to_json() for each in self.outputs],
            "interface": list(self.interface),
            "operators": {name: list(pair) for name, pair in self.operators.items()},
            "opsets": {name: list(pair) for name, pair in self.opsets.items()},
            "nodes": list(self.nodes),
            "weight_tensors": list(self.weight_tensors),
            "weight_bytes": list(self.weight_bytes),
        }


def compare(
    first: str | Path,
    second: str | Path,
    *,
    inputs: Sequence[Path] = (),
    options: runtime.SessionOptions | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    seconds: float = 120.0,
    follow_symlinks: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> Comparison:
    """Compare two models on inputs that the first one runs; the tolerance is its own noise, or `rtol` and `atol`.

    Raises ModelError when one of them does not load, or the first does not run.
    """
    options = options or runtime.SessionOptions()
    paths = Path(first), Path(second)
    progress("load")
    one, two = (ir.load(path, follow_symlinks=follow_symlinks) for path in paths)
    progress("inputs")
    until = time.monotonic() + seconds
    plain = replace(options, optimize=False, prepacking=False)
    session = runtime.open_session(paths[0], plain, time_limit_s=seconds)
    sets = runtime.usable_feeds(session, one, inputs, seed=options.seed, options=runtime.TrialOptions(until=until))
    progress("verify")
    left = until - time.monotonic()
    reference = runtime.Reference(paths[0], options, runtime.Criteria(rtol=rtol, atol=atol), model=one)
    verification = runtime.check_result(reference, paths[1], sets, left)
    counts = operators(one), operators(two)
    opsets = dict(one.opset_imports), dict(two.opset_imports)
    return Comparison(
        verification=verification,
        outputs=_gaps(*paths, sets[0].feeds, plain, seconds) if verification.inputs else (),
        interface=tuple(_interface(one, two)),
        operators=_different(*counts),
        opsets={name or "ai.onnx": pair for name, pair in _different(*opsets).items()},
        nodes=(node_count(one), node_count(two)),
        weight_tensors=(sum(1 for _ in weights(one)), sum(1 for _ in weights(two))),
        weight_bytes=(weight_bytes(one), weight_bytes(two)),
    )


def _gaps(
    first: Path, second: Path, feeds: runtime.Feeds, options: runtime.SessionOptions, seconds: float
) -> tuple[OutputGap, ...]:
    """How far each output is off. `seconds`: for each of the two runs, both of which ended within that before."""
    want = runtime.open_session(first, options).run(feeds, seconds)
    try:
        got = runtime.open_session(second, options).run(feeds, seconds)
    except ir.ModelError:  # the verification says so
        return ()
    return tuple(_gap(name, want[name], got[name]) for name in want if name in got)


def _gap(name: str, want: runtime.Datum, got: runtime.Datum) -> OutputGap:
    if runtime.compare({name: want}, {name: got}):
        return OutputGap(name, equal=True)
    verdict = runtime.compare({name: want}, {name: got}, runtime.Tolerance(atol=math.inf))
    return OutputGap(name, equal=False, worst=verdict.worst, problem=verdict.problem)


def _interface(one: ir.Model, two: ir.Model) -> Iterator[str]:
    """In which names, types, dims or order of inputs and outputs two models differ."""
    for kind, ours, theirs in (
        ("input", one.graph.inputs, two.graph.inputs),
        ("output", one.graph.outputs, two.graph.outputs),
    ):
        for place, (mine, other) in enumerate(itertools.zip_longest(map(port, ours), map(port, theirs))):
            if mine == other:
                continue
            if mine is None:
                yield f"{kind} {place}: only the second has {other.name!r} {other.type}"
            elif other is None:
                yield f"{kind} {place}: only the first has {mine.name!r} {mine.type}"
            else:
                told = [f"{each.name!r} {each.type}" for each in (mine, other)]
                yield f"{kind} {place}: {told[0]} in the first, {told[1]} in the second"


def _different(one: Mapping[str, int], two: Mapping[str, int]) -> dict[str, Pair]:
    names = dict.fromkeys([*one, *two])
    return {name: (one.get(name, 0), two.get(name, 0)) for name in names if one.get(name) != two.get(name)}
