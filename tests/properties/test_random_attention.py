"""Random spellings of attention give what they gave, and become the operators that they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import onnx
import pytest
from optimize_graph.passes.ort.attention import block, fuse_sdpa, recognize_block, rotary_embedding, rotary_tables
from optimize_graph.passes.recognize import normalization
from optimize_graph.testing.differential import Disagreement, agree, optimized, session_of
from support.random_attention import SYMBOLS, Drawn, draw
from support.sampling import EVERYTHING, SAMPLE

pytestmark = pytest.mark.slow

BATCHES = 2
AT_ONCE = 400 if EVERYTHING else 10
FIRST = 1000 * (1 + sum(SAMPLE.encode()))
OTHERS = {
    "MultiHeadAttention": "Attention",
    "GroupQueryAttention": "Attention",
    "SkipLayerNormalization": "LayerNormalization",
}


def check(seed: int, target: str = "ort-cpu", *, half: bool = False) -> tuple[Drawn, Counter[str]]:
    """The draw of a seed and the operators that it becomes; raise Disagreement when these give something else."""
    drawn = draw(seed, half=half)
    before = session_of(drawn.model.SerializeToString())
    _, result = optimized(drawn.model, "default", target=target)
    produced = onnx.load_from_string(result)
    onnx.checker.check_model(produced)
    names = [output.name for output in produced.graph.output]
    runs = [(feeds, before.run(None, feeds)) for feeds in (drawn.feeds(symbols, seed) for symbols in SYMBOLS)]
    try:
        after = session_of(result)
        found = [after.run(None, feeds) for feeds, _ in runs]
    except Exception as error:  # each kind of failure has a class of its own, with no other base
        raise Disagreement(f"{seed}: the result does not run where the model does: {error}") from error
    for (_, want), got in zip(runs, found, strict=True):
        for name, wanted, given in zip(names, want, got, strict=True):
            assert (wanted.dtype, wanted.shape) == (given.dtype, given.shape), f"{seed}: {given.shape} of {name}"
            largest = np.abs(wanted[np.isfinite(wanted)].astype(np.float64)).max(initial=1.0)
            agree(wanted, given, f"{name} of {seed}", scale=largest * (0.04 if half else 1.0))
    return drawn, Counter(OTHERS.get(node.op_type, node.op_type) for node in produced.graph.node)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_random_attention_becomes_what_it_is(batch: int) -> None:
    is_sure = 0
    for seed in range(FIRST + batch * AT_ONCE, FIRST + (batch + 1) * AT_ONCE):
        drawn, operators = check(seed)
        missed = drawn.expected - operators
        assert not missed, f"{seed}: {dict(missed)} of {sorted(drawn.features)}"
        is_sure += drawn.expected["Attention"]
    assert is_sure


@pytest.mark.parametrize(("target", "half"), [("onnx", False), ("ort-cuda", False), ("ort-cuda", True)])
def test_a_random_attention_of_another_target_gives_what_it_gave(target: str, half: bool) -> None:
    for seed in range(FIRST, FIRST + AT_ONCE // 4):
        check(seed, target, half=half)


# --- the check has teeth ----------------------------------------------------------------------------------------------

Patch = pytest.MonkeyPatch


def changed_block(change: Callable[[block.Attention], block.Attention]) -> Callable[[Patch], None]:
    """Recognize attention, but for a change."""
    original = recognize_block.AfterSoftmax.block

    def wrong(self: recognize_block.AfterSoftmax) -> block.Attention | str:
        found = original(self)
        return found if isinstance(found, str) else change(found)

    return lambda patch: patch.setattr(recognize_block.AfterSoftmax, "block", wrong)


def transposed_mask(patch: Patch) -> None:
    original = fuse_sdpa._apply_term
    patch.setattr(fuse_sdpa, "_apply_term", lambda op, *others: op.Transpose(original(op, *others), perm=[0, 1, 3, 2]))


def swapped_heads(patch: Patch) -> None:
    original = recognize_block.shared_heads

    def wrong(sources: list[block.Source], times: int) -> block.Heads:
        views = [(source, view.slice(1, 1, -1, 2)) for source, view in original(sources, times).sources]
        return block.Heads(tuple((source, view) for source, view in views if view is not None))

    patch.setattr(recognize_block, "shared_heads", wrong)


def rows_as_they_are(patch: Patch) -> None:
    patch.setattr(fuse_sdpa, "_adapt_to_kernel", lambda m, op, total, block: total)


def values_as_wide_as_keys(patch: Patch) -> None:
    original = fuse_sdpa._result_view
    patch.setattr(
        fuse_sdpa,
        "_result_view",
        lambda m, found, merged: original(m, replace(found, v=found.q), merged=merged),
    )


def sines_for_cosines(patch: Patch) -> None:
    original = rotary_embedding.find_table
    patch.setattr(rotary_embedding, "find_table", lambda _, turn, *more: original(turn.sin, turn, *more))


def reversed_tables(patch: Patch) -> None:
    original = rotary_tables._once_for_pairs
    patch.setattr(rotary_tables, "_once_for_pairs", lambda array, turn: original(array[..., ::-1], turn))


def larger_epsilon(patch: Patch) -> None:
    original = normalization._number
    patch.setattr(normalization, "_number", lambda value: (1e4 if 0 < original(value) < 1e-4 else 1) * original(value))


@pytest.mark.parametrize(
    ("plant", "feature"),
    [
        (changed_block(lambda found: replace(found, scale=found.scale * 1.01)), "layout"),
        (changed_block(lambda found: replace(found, terms=found.terms[:-1])), "terms: 1"),
        (changed_block(lambda found: replace(found, softcap=0.0)), "softcap"),
        (changed_block(lambda found: replace(found, k=found.v)), "size of values"),
        (transposed_mask, "term: added"),
        (swapped_heads, "kv heads: 2"),
        (rows_as_they_are, "low: -inf"),
        (values_as_wide_as_keys, "size of values: 6"),
        (sines_for_cosines, "rotated: parts"),
        (reversed_tables, "angles: gathered"),
        (larger_epsilon, "norm: LayerNormalization"),
    ],
)
def test_a_wrong_rule_is_caught(plant: Callable[[Patch], None], feature: str, monkeypatch: Patch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        for seed in drawn_with(feature):
            drawn, operators = check(seed)
            assert not drawn.expected - operators, f"{seed}: {drawn.expected - operators}"


def drawn_with(feature: str) -> Iterator[int]:
    """The first seeds whose models have such a feature."""
    seeds = (seed for seed in range(1000, 2000) if any(each.startswith(feature) for each in draw(seed).features))
    return islice(seeds, 12)
