"""Another package adds a rule and a pass without changing this one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.passes import REGISTRY, Exactness, Match, Pass, PassContext, Pipeline, op, register, rule, values

pytestmark = pytest.mark.slow

PACKAGE = Path(__file__).parents[1] / "plugin_package"
MODEL = """<ir_version: 10, opset_import: ["": 21]>
g (float[2,3] x) => (float[2,3] y) { e = Exp(x)  l = Log(e)  y = Mul(l, l) }"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A folder with the module alone, not installed: nothing announces it."""
    folder = tmp_path / "module"
    folder.mkdir()
    shutil.copy(PACKAGE / "acme_rules.py", folder)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed in it."""
    target = tmp_path_factory.mktemp("site")
    source = Path(shutil.copytree(PACKAGE, tmp_path_factory.mktemp("source") / "package"))  # building leaves traces
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True)
    return target


def run(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    onnx.save(onnx.parser.parse_model(MODEL), folder / "in.onnx")
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from optimize_graph.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, str(folder / "in.onnx"), str(folder / "out.onnx"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_installed_plugin_takes_part_by_itself(site: Path, tmp_path: Path) -> None:
    done = run(site, tmp_path, "-v")
    assert done.returncode == 0, done.stderr
    assert "drop-log-of-exp" in done.stdout
    assert [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node] == ["Mul"]


def test_a_plugin_pass_runs_where_the_pipeline_names_it_with_its_options(site: Path, tmp_path: Path) -> None:
    done = run(site, tmp_path, "--passes", "default,acme-spell-square{exponent=2}")
    assert done.returncode == 0, done.stderr
    assert [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node] == ["Pow"]


def test_a_wrong_option_of_a_plugin_pass_is_pointed_at(site: Path, tmp_path: Path) -> None:
    done = run(site, tmp_path, "--passes", "acme-spell-square{exponent=two}")
    assert done.returncode == 1
    assert "wants int" in done.stderr
    assert "^" in done.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_a_module_is_plugged_in_by_name(module: Path, tmp_path: Path) -> None:
    missing = run(module, tmp_path, "--disable", "drop-log-of-exp")
    assert missing.returncode == 1
    assert "no rule or pass is called 'drop-log-of-exp'" in missing.stderr
    named = run(module, tmp_path, "--plugin", "acme_rules", "--disable", "drop-log-of-exp")
    assert named.returncode == 0, named.stderr
    assert len(onnx.load(tmp_path / "out.onnx").graph.node) == 3


def test_a_plugin_that_cannot_be_imported_is_a_clear_error(module: Path, tmp_path: Path) -> None:
    done = run(module, tmp_path, "--plugin", "no_such_module")
    assert done.returncode == 1
    assert "no_such_module" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_is_taken_is_refused_naming_both_owners() -> None:
    (x,) = values("x")
    with REGISTRY.scope(), pytest.raises(ir.PipelineError, match=r"optimize_graph\.passes\.cleanup\.noops.*again by"):

        @rule(op.Identity(x), source="ours", name="eliminate-nop-identity")
        def mine(m: Match, op: object) -> ir.Value:
            """Ours.

            before: x
            after: y
            """
            return m.x.value


def test_what_a_test_registers_vanishes_with_its_scope() -> None:
    (x,) = values("x")
    with REGISTRY.scope():

        @rule(op.Exp(x), source="nowhere", name="only-here")
        def only_here(m: Match, op: object) -> ir.Value:
            """Only here.

            before: x
            after: y
            """
            return m.x.value

        assert "only-here" in REGISTRY.rules
    assert "only-here" not in REGISTRY.rules
    assert "only-here" not in str(Pipeline.parse("default"))


def test_nodes_that_another_library_put_in_without_a_version_get_one() -> None:
    """Passes of onnx-ir leave it out: rules would not look at such nodes, whose definition is not known then."""
    with REGISTRY.scope():

        @register
        @dataclass(frozen=True)
        class Unversioned(Pass):
            """Spell Exp with nodes that say no opset.

            before:  y = Exp(x)
            after:   i = Identity(x); y = Exp(i)
            """

            name: ClassVar[str] = "acme-unversioned"
            exactness: ClassVar[Exactness] = Exactness.EXACT

            def run(self, model: ir.Model, context: PassContext) -> None:
                (exp,) = [node for node in model.graph if node.op_type == "Exp"]
                if context.log.try_rewrite(self.name, "e", "Exp", "Identity Exp"):
                    copy = ir.new_node("Identity", list(exp.inputs), version=None)
                    context.rewriter.insert(copy, before=exp)
                    context.rewriter.set_input(exp, 0, copy.outputs[0])

        model = ir.from_proto(onnx.parser.parse_model(MODEL))
        Pipeline.parse("acme-unversioned").run(model)
        assert [node.op_type for node in model.graph] == ["Identity", "Exp", "Log", "Mul"]
        assert {node.version for node in model.graph} == {21}
        result = optimize(onnx.parser.parse_model(MODEL), options=Options(passes="acme-unversioned,default"))
    assert result.verification is not None and result.verification.ok and not result.isolated
    assert "Identity" not in {node.op_type for node in result.model.graph}
