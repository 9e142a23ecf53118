"""The ONNX backend cases through the whole optimizer: as they are, with frozen inputs, with open dims.

`OPTIMIZE_GRAPH_EVERYTHING=1` runs every variant; by default a part of them, the same for each run.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import backend_cases
import numpy as np
import onnx
import pytest
from backend_cases import Case, Variant
from checking import PLAIN, agree, count, is_bitwise, same_interface
from optimize_graph import Options, ir, optimize
from optimize_graph.runtime import SessionOptions, open_session
from optimize_graph.runtime.tolerance import is_random

SHARDS = 16  # each loads the cases once for its process; more of them balance the processes
SHARE = 1.0 if os.environ.get("OPTIMIZE_GRAPH_EVERYTHING") else 0.3


def check(case: Case, *, as_it_is: bool = False) -> str:
    """`ran`, or why there is nothing to compare with. Raises AssertionError where the result is not right."""
    try:
        before = open_session(case.model.SerializeToString(), PLAIN)
        wanted = before.run(case.feeds)
    except ir.ModelError as error:
        return error.diagnostic.code
    original = ir.from_proto(case.model)
    result = optimize(case.model, options=Options(verify=False, strict=True))
    produced = ir.to_proto(result.model)
    onnx.checker.check_model(produced) if is_valid(case.model) else None
    same_interface(case.model, produced)
    after = open_session(produced.SerializeToString(), PLAIN)
    given = after.run(case.feeds)
    if as_it_is:
        assert not case.is_plain or count(produced) <= count(case.model), "it gained a node"
    if is_random(original):
        return "random"
    agree(wanted, given, bitwise=is_bitwise(result.exactness, original))
    if as_it_is:  # what is deployed runs with ONNX Runtime's own optimizations
        deployed = SessionOptions()
        wanted = open_session(case.model.SerializeToString(), deployed).run(case.feeds)
        agree(wanted, open_session(produced.SerializeToString(), deployed).run(case.feeds), bitwise=False)
    return "ran"


def is_valid(model: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        return False
    return True


def shard(index: int) -> Sequence[Case]:
    return backend_cases.cases()[index::SHARDS]


def chosen(case: Case) -> list[Variant]:
    """The variants of a case that run here."""
    random = np.random.default_rng(list(case.name.encode()))
    return [each for each in backend_cases.variants(case, random) if random.random() < SHARE]


@pytest.mark.parametrize("index", range(SHARDS))
def test_backend_cases_give_what_they_gave(index: int) -> None:
    tally: Counter[str] = Counter()
    for case in shard(index):
        try:
            tally[check(case, as_it_is=True)] += 1
        except AssertionError as error:
            raise AssertionError(f"{case.name}: {error}") from error
    assert tally["ran"] * SHARDS >= 1600, tally


@pytest.mark.parametrize("index", range(SHARDS))
def test_backend_cases_with_frozen_inputs_and_open_dims_give_what_they_gave(index: int) -> None:
    tally: Counter[str] = Counter()
    for case in shard(index):
        for variant in chosen(case):
            changed = variant.of(case)
            try:
                tally[check(changed)] += 1
            except AssertionError as error:
                raise AssertionError(f"{changed.name}: {error}") from error
    assert tally["ran"] * SHARDS >= 7000 * SHARE, tally
