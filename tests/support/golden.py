"""Golden files: cases of rules as ONNX text, beside the tests of the rule's folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper
from optimize_graph import ir

ROOT = Path(__file__).parents[1]


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
        return self.path.stem

    def __str__(self) -> str:
        return f"{self.rule}: {self.title}"


def cases_in(path: Path) -> list[Case]:
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


CASES = [
    case for path in sorted((ROOT / "passes").rglob("*.md"), key=lambda path: path.name) for case in cases_in(path)
]


def parse(text: str) -> onnx.ModelProto:
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
