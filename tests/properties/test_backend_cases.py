"""The ONNX backend cases through the whole optimizer: as they are, with frozen inputs, with open dims.

By default all of them as they are, and a share of the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.passes import Exactness
from optimize_graph.runtime import SessionOptions, open_session
from optimize_graph.runtime.verification.model_traits import computes_in_fp16, draws_random_numbers
from optimize_graph.testing.differential import assert_same_interface, is_valid
from support import backend_cases
from support.backend_cases import Case, Variant
from support.backend_tolerance import agree_as_backend_cases, count
from support.sampling import EVERYTHING, in_sample

pytestmark = pytest.mark.slow

SHARDS = 16  # each loads the cases once for its process; more of them balance the processes
SHARE = 0.05  # of the variants
SHARE_OF_SECOND_RUNS = 0.2  # a strict job checks that another run gives the same model

# ONNX Runtime 1.31 runs 1,582 cases and 12,743 variants; not the same number in each shard.
CASES_THAT_RUN = 1_400
VARIANTS_THAT_RUN = 10_000

RECOGNIZED = (  # what exporters spell out, unlike the other functions of the standard
    "Attention GroupNormalization Gelu HardSigmoid HardSwish LayerNormalization LeakyRelu Mish PRelu RMSNormalization "
    "RotaryEmbedding Softplus Swish"
).split()
EXPANDED_THAT_RUN = 120
STAY_EXPANDED = {
    # ONNX Runtime's kernel gives out the scores without the causal mask
    "test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal",
    "test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal",
    # and refuses a mask with fewer columns than there are keys
    "test_attention_4d_diff_heads_mask4d_padded_kv",
}

PLAIN = SessionOptions(optimize=False, prepacking=False)
DEPLOYED = SessionOptions()


def check(case: Case, *, is_plain: bool = False) -> str:
    """`ran`, or why there is nothing to compare with. Raises AssertionError where the result is not right."""
    raw = case.model.SerializeToString()
    try:
        wanted = open_session(raw, PLAIN).run(case.feeds)
    except ir.ModelError as error:
        return error.diagnostic.code
    original = ir.from_proto(raw)
    twice = in_sample(case.name, SHARE_OF_SECOND_RUNS)
    result = optimize(case.model, options=Options(verify=False, strict=twice))
    assert not result.isolated, result.isolated
    produced = ir.to_proto(result.model)
    if is_valid(case.model):
        onnx.checker.check_model(produced)
    assert_same_interface(case.model, produced)
    assert not (is_plain and case.is_plain and count(produced) > count(case.model)), "it gained a node"
    given = open_session(produced.SerializeToString(), PLAIN).run(case.feeds)
    if draws_random_numbers(original):
        return "random"
    # ONNX Runtime runs float16 in float32 or not, depending on what stands around it.
    bitwise = result.exactness is Exactness.EXACT and not computes_in_fp16(original)
    agree_as_backend_cases(wanted, given, bitwise=bitwise)
    if is_plain:  # what is deployed runs with ONNX Runtime's own optimizations
        wanted = open_session(raw, DEPLOYED).run(case.feeds)
        given = open_session(produced.SerializeToString(), DEPLOYED).run(case.feeds)
        agree_as_backend_cases(wanted, given, bitwise=False)
    return "ran"


def shard(index: int) -> Sequence[Case]:
    return backend_cases.cases()[index::SHARDS]


def chosen(case: Case) -> list[Variant]:
    """The variants of a case that run here."""
    random = np.random.default_rng(list(case.name.encode()))
    return [each for each in backend_cases.variants(case, random) if in_sample(f"{case.name} ({each})", SHARE)]


@pytest.mark.parametrize("index", range(SHARDS))
def test_backend_cases_give_what_they_gave(index: int) -> None:
    tally: Counter[str] = Counter()
    for case in shard(index):
        try:
            tally[check(case, is_plain=True)] += 1
        except AssertionError as error:
            raise AssertionError(f"{case.name}: {error}") from error
    assert tally["ran"] >= CASES_THAT_RUN // SHARDS, tally


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
    # Of a sample, a shard may have few.
    assert tally["ran"] >= VARIANTS_THAT_RUN * (1 if EVERYTHING else SHARE / 2) // SHARDS, tally


def expanded() -> Iterator[tuple[Case, Case]]:
    """The cases that are another one's operator, written out as its body, and that other one."""
    plain = {case.name: case for case in backend_cases.cases() if case.is_plain and len(case.model.graph.node) == 1}
    for case in backend_cases.cases():
        origin = plain.get(case.name.removesuffix("_ver18").removesuffix("_expanded"))
        if origin is not None and not case.is_plain and origin.model.graph.node[0].op_type in RECOGNIZED:
            yield case, origin


def loads(model: onnx.ModelProto) -> bool:
    try:
        open_session(model.SerializeToString(), PLAIN)
    except ir.ModelError:
        return False
    return True


def test_an_expanded_operator_becomes_one_operator_again() -> None:
    tally: Counter[bool] = Counter()
    for case, origin in expanded():
        if not loads(case.model) or not loads(origin.model):
            continue
        produced = ir.to_proto(optimize(case.model, options=Options(target="onnx", verify=False)).model)
        is_one = [node.op_type for node in produced.graph.node] == [origin.model.graph.node[0].op_type]
        assert is_one != (origin.name in STAY_EXPANDED), case.name
        tally[is_one] += 1
    assert tally[True] >= EXPANDED_THAT_RUN, tally
