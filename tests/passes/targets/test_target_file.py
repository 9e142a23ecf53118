"""Target files: what they say, what they extend, and what is wrong with them."""

from __future__ import annotations

import importlib.metadata
import textwrap
from pathlib import Path

import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import REGISTRY, Pipeline, Settings, Target
from optimize_graph.passes.targets import target_file
from optimize_graph.passes.targets.kernel_table import has_kernel
from optimize_graph.passes.targets.target_file import checked, find

F32, F16, I64 = (ir.DataType[name] for name in ("FLOAT", "FLOAT16", "INT64"))


def written(folder: Path, text: str, name: str = "acme.toml") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


LISTED = """
    name = "acme"

    [[kernels]]
    operators = ["Relu", "com.acme::FusedThing"]
    types = ["float", "float16"]

    [[kernels]]
    operators = ["Gather"]
    versions = "11-12"
    inputs = { 1 = ["int64"] }
    since = "1.20"
"""


@pytest.mark.parametrize(
    ("domain", "op_type", "opset", "types", "answer"),
    [
        ("", "Relu", 21, [F32], True),
        ("", "Relu", 21, [I64], False),
        ("", "Relu", 21, [None], None),
        ("", "Tanh", 21, [F32], False),
        ("com.acme", "FusedThing", 1, [F16], True),
        ("com.acme", "OtherThing", 1, [F16], False),
        ("com.other", "Thing", 1, [F16], False),
        ("com.microsoft", "Gelu", 1, [F32], False),
        ("", "Gather", 11, [F32, I64], True),
        ("", "Gather", 13, [F32, I64], False),
    ],
)
def test_a_target_runs_what_its_file_lists(
    domain: str, op_type: str, opset: int, types: list[ir.DataType | None], answer: bool | None, tmp_path: Path
) -> None:
    assert has_kernel(Target(written(tmp_path, LISTED)), domain, op_type, opset, types) is answer


def test_a_kernel_counts_from_the_release_that_its_file_names(tmp_path: Path) -> None:
    path = written(tmp_path, LISTED)
    answers = [has_kernel(Target(path, release), "", "Gather", 11, [F32, I64]) for release in ("1.19", "1.20")]
    assert answers == [False, True]


def test_domains_that_are_not_listed_are_unknown_where_the_file_says_so(tmp_path: Path) -> None:
    target = Target(written(tmp_path, 'unlisted-domains = "unknown"\n' + textwrap.dedent(LISTED)))
    assert has_kernel(target, "com.other", "Thing", 1, [F16]) is None
    assert has_kernel(target, "com.acme", "OtherThing", 1, [F16]) is False


def test_a_file_adds_to_what_it_extends_and_says_the_rest_anew(tmp_path: Path) -> None:
    written(tmp_path, LISTED)
    path = written(
        tmp_path,
        """
        name = "acme-next"
        extends = "acme.toml"
        forbidden = ["Relu"]
        [[kernels]]
        operators = ["Tanh"]
        [profit]
        softmax-inner = 64
        """,
        "next.toml",
    )
    target = Target(path)
    assert has_kernel(target, "", "Tanh", 21, [F32]) and has_kernel(target, "", "Relu", 21, [F32])
    assert target.file.lineage == ("acme-next", "acme") and target.file.forbidden == {("", "Relu")}
    assert target.threshold("softmax-inner") == 64
    assert target.threshold("winograd-pixels") == Target().threshold("winograd-pixels")


def test_a_file_that_extends_a_built_in_target_runs_its_rules(tmp_path: Path) -> None:
    target = Target(written(tmp_path, 'name = "mine"\nextends = "ort-cpu"\n'))
    assert target.is_cpu and target.file.rules == Target("ort-cpu").file.rules


def test_a_changed_file_is_another_target(tmp_path: Path) -> None:
    path = written(tmp_path, 'name = "acme"\n')
    before = Target(path)
    assert before == Target(path)
    written(tmp_path, 'name = "acme"\nsummary = "changed"\n')
    assert before != Target(path) and repr(before) != repr(Target(path))


def test_a_phase_that_a_file_leaves_out_does_not_run(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[2,3] x) => (float[2,3] y) {
        i = Identity(x)  n = Neg(i)  y = Neg(n) }"""
    counts = []
    for phases in ('["canonicalize"]', '["simplify"]'):
        model = ir.from_proto(onnx.parser.parse_model(text))
        target = Target(written(tmp_path, f'name = "acme"\nphases = {phases}\n'))
        Pipeline.parse("canonicalize,dce").run(model, settings=Settings(target))
        counts.append(len(model.graph))
    assert counts[0] < counts[1] == 3


def test_a_package_brings_targets_by_an_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "acme_targets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    written(package, LISTED, "npu.toml")
    entry = importlib.metadata.EntryPoint("acme-npu", "acme_targets:npu.toml", target_file.ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
    target_file.locations.cache_clear()
    try:
        assert Target("acme-npu").file.origin == "package acme_targets"
        assert find("ort-cpu").origin == "built in"
    finally:
        target_file.locations.cache_clear()


WRONG = [
    ("summary = 'x'", 1, "name is absent"),
    ("name = 'a'\n\nnmae = 'b'", 3, "unknown key 'nmae'; did you mean 'name'?"),
    ("name = 'a'\nforbidden = 'Add'", 2, "forbidden is 'Add', expected an array"),
    ("name = 'a'\nforbidden = [\n 'Add',\n 'Ad',\n 'Addd']", 5, "ONNX has no operator 'Addd'; did you mean 'Add'?"),
    ("name = 'a'\nphases = ['simplfy']", 2, "no 'simplfy'; did you mean 'simplify'?"),
    ("name = 'a'\nextends = 'ort-cup'", 2, "no target is called 'ort-cup'; did you mean 'ort-cpu'?"),
    ("name = 'a'\nextends = 'acme.toml'", 2, "'acme.toml' is the file itself"),
    ("name = 'a'\nkernel-lists = ['none.tsv']", 2, "there is no file 'none.tsv'"),
    ("name = 'a'\n[[kernels]]\noperators = []\n[[kernels]]\ntype = []", 4, "kernels.1.operators is absent"),
    (
        "name = 'a'\n[[kernels]]\noperators = []\n[[kernels]]\noperators = []\ntypes = ['flot']",
        6,
        "type 'flot'",
    ),
    ("name = 'a'\n[[kernels]]\noperators = []\nversions = '7:8'", 4, "'7:8' is no range of versions"),
    ("name = 'a'\n[[kernels]]\noperators = []\nsince = 'new'", 4, "'new' is no release of ONNX Runtime"),
    ("name = 'a'\n[[kernels]]\noperators = []\ninputs = { x = ['float'] }", 4, "'x' is no index"),
    ("name = 'a'\n[profit]\nsoftmax-iner = 3", 3, "unknown key 'softmax-iner'; did you mean 'softmax-inner'?"),
    ("name = 'a'\n[profit]\nsoftmax-inner = -3", 3, "profit.softmax-inner is -3, expected at least 0"),
    ("name = 'a'\nname = 'b'", None, "Cannot overwrite a value"),
]


@pytest.mark.parametrize(("text", "line", "message"), WRONG, ids=[text for text, _, _ in WRONG])
def test_what_is_wrong_is_said_with_its_line(text: str, line: int | None, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    _, found = checked(path)
    said = [str(each) for each in found if message in each.message]
    assert said, [str(each) for each in found]
    assert line is None or said[0].startswith(f"{path}:{line}:")
    with pytest.raises(ir.OptionsError):
        find(path)


def test_a_file_that_is_absent_is_said_to_be() -> None:
    with pytest.raises(ir.OptionsError, match=r"none.toml: the target file cannot be read"):
        find("none.toml")


def test_the_file_of_the_documentation_is_right(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "targets.md").read_text(encoding="utf-8")
    path = tmp_path / "acme-npu.toml"
    path.write_text(page.split("<!-- file: acme-npu.toml -->\n```toml\n")[1].split("```")[0])
    assert not checked(path)[1]
    target = Target(path)
    assert has_kernel(target, "com.acme", "SquareAdd", 1, [F32, F32])
    assert len(target.file.bodies) == 1 and target.threshold("softmax-inner") == 256
    assert target.file.never <= {*REGISTRY.rules, *REGISTRY.passes}
