"""The registry: first use from several threads, plugins of one call, redefinition."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnx.parser
import pytest
from optimize_graph import Options, explain, ir, optimize
from optimize_graph.passes import REGISTRY, Builder, Match, Pipeline, op, rule, values

MODEL = """<ir_version: 10, opset_import: ["": 21]>
g (float[2,3] x) => (float[2,3] y) { e = Exp(x)  l = Log(e)  y = Neg(l) }"""
PLUGIN = '''
"""A plugin."""
from optimize_graph.passes import Exactness, op, rule, values
(x,) = values("x")

@rule(op.Log(op.Exp(x)), source="a test", exactness=Exactness.ROUNDING, keeps_type=True, name="NAME")
def fold_log_exp(m, op):
    """before: y = Log(Exp(x))
    after: x"""
    return m.x.value
'''


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with REGISTRY.scope():
        yield


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "one_call_plugin.py").write_text(PLUGIN.replace("NAME", "plugin-rule"))
    (tmp_path / "other_plugin.py").write_text(PLUGIN.replace("NAME", "plugin-rule"))
    (tmp_path / "taking_plugin.py").write_text(PLUGIN.replace("NAME", "eliminate-nop-identity"))
    (tmp_path / "failing_plugin.py").write_text(PLUGIN.replace("NAME", "failing") + "\nraise SystemExit(4)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "one_call_plugin"
    for name in ("one_call_plugin", "other_plugin", "taking_plugin", "failing_plugin"):
        sys.modules.pop(name, None)


def rules_of(**options: Any) -> list[str]:
    result = optimize(onnx.parser.parse_model(MODEL), options=Options(**options))
    return [each.rule for each in result.rewrites]


def test_the_first_calls_may_come_from_several_threads() -> None:
    code = f"""
import sys, threading
from concurrent.futures import ThreadPoolExecutor
import onnx.parser
from optimize_graph import optimize
sys.setswitchinterval(1e-5)
start = threading.Barrier(6)
def one(_):
    start.wait()
    return len(optimize(onnx.parser.parse_model('''{MODEL}''')).pipeline)
with ThreadPoolExecutor(6) as pool:
    print(len(set(pool.map(one, range(6)))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr


def test_the_first_look_at_rules_may_come_from_several_threads() -> None:
    code = """
import threading
from concurrent.futures import ThreadPoolExecutor
from optimize_graph.passes import REGISTRY
start = threading.Barrier(8)
def one(_):
    start.wait()
    return len(REGISTRY.rules), len(REGISTRY.passes), len(REGISTRY.presets)
with ThreadPoolExecutor(8) as pool:
    print(len(set(pool.map(one, range(8)))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr


def test_a_plugin_takes_part_in_its_own_call_alone_and_in_each_that_names_it(plugin: str) -> None:
    assert rules_of(plugins=(plugin,)) == ["plugin-rule"]
    assert rules_of() == []
    assert "plugin-rule" not in REGISTRY.rules
    assert rules_of(plugins=(plugin,)) == ["plugin-rule"]
    with pytest.raises(ir.PipelineError, match="no rule or pass is called 'plugin-rule'"):
        rules_of(disable=("plugin-rule",))
    assert rules_of(plugins=(plugin,), disable=("plugin-rule",)) == []


def test_explain_knows_the_plugins_of_its_own_call(plugin: str) -> None:
    found = explain("plugin-rule", onnx.parser.parse_model(MODEL), Options(plugins=(plugin,)))
    assert found.ran and len(found.rewrites) == 1
    with pytest.raises(ir.PipelineError, match="plugin-rule"):
        explain("plugin-rule", onnx.parser.parse_model(MODEL))


def test_calls_at_the_same_time_have_their_own_plugins(plugin: str) -> None:
    given = [(plugin,), (), (plugin,), ()]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda plugins: rules_of(plugins=plugins), given))
    assert found == [["plugin-rule"], [], ["plugin-rule"], []]


def test_two_plugins_may_use_one_name_in_two_calls_and_not_in_one(plugin: str) -> None:
    assert rules_of(plugins=(plugin,)) == rules_of(plugins=("other_plugin",)) == ["plugin-rule"]
    with pytest.raises(ir.PipelineError, match="registered by one_call_plugin and again by other_plugin"):
        rules_of(plugins=(plugin, "other_plugin"))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("taking_plugin", r"'eliminate-nop-identity' is registered by optimize_graph\.\S+ and again by taking_plugin"),
        ("failing_plugin", "cannot be imported"),
        ("no_such_plugin", "cannot be imported"),
    ],
)
def test_a_plugin_that_fails_leaves_nothing_and_fails_again(plugin: str, module: str, message: str) -> None:
    for _ in range(2):
        with pytest.raises(ir.PipelineError, match=message):
            rules_of(plugins=(module,))
        assert "failing" not in REGISTRY.rules
    assert rules_of(plugins=(plugin,)) == ["plugin-rule"]


def test_a_module_that_is_reloaded_replaces_its_rules(plugin: str, tmp_path: Path) -> None:
    module = importlib.import_module(plugin)
    (tmp_path / "one_call_plugin.py").write_text(PLUGIN.replace("NAME", "plugin-rule").replace("a test", "another"))
    importlib.invalidate_caches()
    importlib.reload(module)
    assert "plugin-rule" in REGISTRY.rules  # imported by hand: for good


def define(name: str, module: str, qualname: str, operator: str = "Exp") -> None:
    (x,) = values("x")

    def body(m: Match, op: Builder) -> ir.Value:
        return m.x.value

    body.__module__, body.__qualname__, body.__doc__ = module, qualname, "before: a\nafter: b"
    rule(getattr(op, operator)(x), source="a cell", name=name)(body)


def test_the_same_definition_again_replaces_what_it_was() -> None:
    define("mine", "somewhere", "mine", "Exp")
    define("mine", "somewhere", "mine", "Log")
    assert REGISTRY.rules["mine"].roots == (("", "Log"),)


def test_any_definition_of_a_notebook_replaces_an_earlier_one_of_it() -> None:
    define("mine", "__main__", "first", "Exp")
    define("mine", "__main__", "second", "Log")
    assert REGISTRY.rules["mine"].roots == (("", "Log"),)
    Pipeline.parse("rewrite{rules=mine}").run(ir.from_proto(onnx.parser.parse_model(MODEL)))


@pytest.mark.parametrize(
    ("module", "qualname"), [("elsewhere", "mine"), ("__main__", "mine"), ("somewhere", "another")]
)
def test_another_definition_of_the_name_is_refused_naming_both(module: str, qualname: str) -> None:
    define("mine", "somewhere", "mine")
    with pytest.raises(ir.PipelineError, match=f"'mine' is registered by somewhere and again by {module}"):
        define("mine", module, qualname, "Log")
    assert REGISTRY.rules["mine"].roots == (("", "Exp"),)


def test_a_notebook_cannot_take_a_name_of_the_package() -> None:
    with pytest.raises(ir.PipelineError, match="eliminate-nop-identity"):
        define("eliminate-nop-identity", "__main__", "drop_identity")


def test_rules_may_be_registered_while_others_are_read() -> None:
    stop, faults = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                for _ in REGISTRY.rules.values():
                    pass
            except RuntimeError as error:
                faults.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(50):
        define(f"mine-{number}", "somewhere", f"mine_{number}")
    stop.set()
    reader.join()
    assert not faults
