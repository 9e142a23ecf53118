"""Golden tests of rules: prose, before, after, and the condition of each miss, in files of ONNX text.

A file `RULE.md` holds cases under `## title` headings. A case is a block "```onnx before" in ONNX text with an
"```onnx after" block, or one block "```onnx unchanged: CONDITION", where CONDITION is the text of the refusal. It is
run for target ort-cpu, or for T in "```onnx before target=T" and "```onnx unchanged target=T: CONDITION". A value that
is declared after the outputs and gets no content is a constant with seeded data (positive when its name starts with
`var`, with an infinity in it when it starts with `inf`). Every hit is also run in ONNX Runtime, before and after.
What only its CUDA provider computes runs in onnx's reference evaluator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from .. import ir
from ..passes import REGISTRY, Exactness, Pipeline, Settings, Target, VerifyEach
from ..passes.rewriting import driver
from ..runtime import Datum, Feeds, SessionOptions, make_feeds, open_session
from ..runtime.arrays import eps_of
from .differential import stand_in_for

HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'


BLOCK = re.compile(r"^```onnx (?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Case:
    """One case of a golden file. `after` is None where the rule must refuse, for the condition `refusal`."""

    path: Path
    title: str
    before: str
    after: str | None
    miss: str
    target: str = "ort-cpu"

    @property
    def rule(self) -> str:
        """The name of the rule, and of its file."""
        return self.path.stem

    def __str__(self) -> str:
        return f"{self.rule}: {self.title}"


def cases_in(path: Path) -> list[Case]:
    """The cases of a golden file. Raises ValueError for blocks that are no case."""
    found = []
    for section in re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title = section.splitlines()[0].strip()
        blocks = [(each["kind"].strip(), each["text"]) for each in BLOCK.finditer(section)]
        kinds = [kind.partition(":")[0] for kind, _ in blocks]
        target = kinds[0].partition("target=")[2] or "ort-cpu"
        if [kind.split()[0] for kind in kinds] == ["before", "after"]:
            found.append(Case(path, title, blocks[0][1], blocks[1][1], "", target))
        elif len(kinds) == 1 and kinds[0].split()[0] == "unchanged":
            found.append(Case(path, title, blocks[0][1], None, blocks[0][0].partition(":")[2].strip(), target))
        else:
            raise ValueError(f"{path.name}, {title!r}: blocks {kinds}; wanted before and after, or unchanged")
    return found


def parse(text: str) -> onnx.ModelProto:
    """The model of a block, constants filled in."""
    proto = onnx.parser.parse_model(text if text.lstrip().startswith("<") else HEADER + text)
    random = np.random.default_rng(0)
    made = {name for node in proto.graph.node for name in node.output}
    for value in list(proto.graph.value_info):
        if value.name in made:
            continue
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        content = random.normal(size=dims) / np.sqrt(max(1, int(np.prod(dims[1:]))))
        if value.name.startswith("var"):
            content = np.abs(content) + 0.5
        if value.name.startswith("inf"):
            content.reshape(-1)[0] = np.inf
        proto.graph.initializer.append(numpy_helper.from_array(content.astype(dtype), value.name))
        proto.graph.value_info.remove(value)
    return proto


def body_of(model: ir.Model) -> str:
    """The canonical text without the line of versions."""
    return ir.text(model, canonical=True, digests=False).partition("\n")[2]


def write_after(case: Case, after: str) -> None:
    """Put `after` into the case's own block."""
    content = case.path.read_text(encoding="utf-8")
    start = content.index(f"## {case.title}\n")
    block = next(each for each in BLOCK.finditer(content, start) if each["kind"].strip() == "after")
    case.path.write_text(content[: block.start("text")] + after + content[block.end("text") :], encoding="utf-8")


def check_case(case: Case, *, update: bool = False) -> None:
    """Run the rule of a case and compare with its blocks; `update`: write what came out into its `after` block.

    Bodies are watched as a plugin's are: one that changes what it was given is named. Raises AssertionError.
    """
    proto = parse(case.before)
    onnx.checker.check_model(proto)
    model = ir.from_proto(proto)
    untouched = body_of(model)
    target = Target(case.target)
    target.file.register_bodies()
    pipeline = Pipeline.parse(f"rewrite{{rules={case.rule}}},dce")
    with patch.object(driver, "is_foreign", lambda module: True):
        report = pipeline.run(model, [VerifyEach()], settings=Settings(target))
    refused = {each.condition for each in report.missed if each.rule == case.rule}
    if case.after is None:
        assert body_of(model) == untouched
        assert case.miss in refused or (case.miss == "the pattern" and not refused), refused
        return
    assert case.rule in report.log.by_rule(), refused
    if update:
        write_after(case, body_of(model))
    else:
        assert body_of(model) == case.after
    assert_same_outputs(proto, ir.to_proto(model), exact=report.log.exactness is Exactness.EXACT)


def missing_near_misses(rule: str, cases: Sequence[Case]) -> set[str]:
    """The legality conditions of a rule that no case misses: they are not tested."""
    refused = {case.miss for case in cases if case.rule == rule}
    return {condition.text for condition in REGISTRY.rules[rule].requires if not condition.is_pattern} - refused


def assert_same_outputs(before: onnx.ModelProto, after: onnx.ModelProto, *, exact: bool) -> None:
    """Bit for bit where the rule says so, else within a few roundings of the output's scale. Raises AssertionError."""
    options = SessionOptions(optimize=False, prepacking=not exact)
    for seed in range(3):
        feeds = make_feeds(ir.from_proto(before), seed=seed)
        wanted, given = outputs_of(before, options, feeds), outputs_of(after, options, feeds)
        assert wanted.keys() == given.keys()
        for name in wanted:
            want, got = np.asarray(wanted[name]), np.asarray(given[name])
            assert (want.dtype, want.shape) == (got.dtype, got.shape)
            if exact or want.dtype.kind in "biu":
                assert want.tobytes() == got.tobytes(), name
            else:
                scale = np.abs(want.astype(np.float64)).max(initial=1e-6)
                allowed = 64 * eps_of(want.dtype) * scale
                assert np.abs(want.astype(np.float64) - got.astype(np.float64)).max(initial=0.0) <= allowed, name


def outputs_of(model: onnx.ModelProto, options: SessionOptions, feeds: Feeds) -> Mapping[str, Datum]:
    """In ONNX Runtime, or in what stands in for it."""
    if (session := stand_in_for(model)) is not None:
        arrays = {name: np.asarray(array) for name, array in feeds.items()}
        return dict(zip((value.name for value in model.graph.output), session.run(None, arrays), strict=True))
    return open_session(model.SerializeToString(), options).run(feeds)
