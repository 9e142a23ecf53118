"""The package that `new-plugin` writes: it installs, passes its own tests, and they notice a wrong edit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import onnx.parser
import pytest
from optimize_graph import cli, ir
from optimize_graph.jobs.new_plugin import new_plugin

pytestmark = pytest.mark.slow

MODEL = """<ir_version: 10, opset_import: ["": 21]>
g (float[2,3] x) => (float[2,3] y) { n = Neg(x)  y = Abs(n) }"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit") / "acme-kernels"
    new_plugin(folder)
    return folder


def run_tests(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def edited(package: Path, folder: Path, file: str, old: str, new: str) -> Path:
    copied = Path(shutil.copytree(package, folder / "edited"))
    path = copied / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return copied


def test_its_own_tests_pass_at_once(package: Path) -> None:
    done = run_tests(package)
    assert done.returncode == 0, done.stdout
    assert "33 passed" in done.stdout


def test_a_wrong_edit_of_the_rule_turns_tests_red(package: Path, tmp_path: Path) -> None:
    done = run_tests(
        edited(package, tmp_path, "acme_kernels/rules.py", "    op.Abs(x),\n    when", "    op.Neg(x),\n    when"), "-x"
    )
    assert done.returncode == 1 and "acme-kernels-neg-before-abs.md" in done.stdout


def test_a_condition_that_is_dropped_turns_its_near_miss_red(package: Path, tmp_path: Path) -> None:
    wrong = edited(package, tmp_path, "acme_kernels/rules.py", '    when=[floating("x")],\n', "")
    done = run_tests(wrong, "-k", "Integers")
    assert done.returncode == 1 and "1 failed" in done.stdout


def test_a_condition_without_a_near_miss_is_named(package: Path, tmp_path: Path) -> None:
    file = "tests/rules/acme-kernels-neg-before-abs.md"
    text = (package / file).read_text()
    wrong = edited(package, tmp_path, file, text[text.index("## Integers") :], "")
    done = run_tests(wrong, "-k", "near")
    assert done.returncode == 1 and "no case misses x floating-point" in done.stdout


def test_a_wrong_edit_of_the_pass_turns_tests_red(package: Path, tmp_path: Path) -> None:
    wrong = edited(package, tmp_path, "acme_kernels/passes.py", "startswith(self.prefix)", "endswith(self.prefix)")
    done = run_tests(wrong, "-k", "test_passes or notes")
    assert done.returncode == 1


def test_it_takes_part_once_it_is_installed(package: Path, tmp_path: Path) -> None:
    source = shutil.copytree(package, tmp_path / "source")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*install, str(tmp_path / "site"), str(source)], check=True)
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "in.onnx")
    command = [sys.executable, "-m", "optimize_graph", "in.onnx", "out.onnx", "-v"]
    path = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "acme-kernels-neg-before-abs" in done.stdout


def test_its_target_is_emitted_for_and_verified_by_the_meaning(package: Path, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(MODEL.replace("n = Neg(x)  y = Abs(n)", "n = Mul(x, x)  y = Add(n, x)"))
    onnx.save(model, tmp_path / "in.onnx")
    target = package / "acme_kernels" / "npu.toml"
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from optimize_graph.cli import main; sys.exit(main())"
    words = [str(package), "in.onnx", "out.onnx", "--plugin", "acme_kernels", "--target", str(target), "--strict"]
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verified: " in done.stdout
    assert [node.op_type for node in onnx.load(tmp_path / "out.onnx").graph.node] == ["SquareAdd"]


PROGRAM = """
from pathlib import Path

import onnx
from optimize_graph import Options, Result, optimize


def build(model: onnx.ModelProto, out: Path) -> tuple[float | None, float]:
    result: Result = optimize(model, out, Options(measure=True, dims={"N": 4}))
    speed = result.speedup
    return result.error, 1.0 if speed is None else speed.median


def told(result: Result) -> dict[str, object]:
    return result.to_json()
"""


def test_code_of_users_is_checked_strictly(package: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(package, tmp_path / "copied"))
    (copied / "program.py").write_text(PROGRAM)
    (copied / "wrong.py").write_text(PROGRAM.replace("speed.median", "speed.medians"))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "types")]
    right = subprocess.run(
        [*command, "acme_kernels", "program.py"], cwd=copied, capture_output=True, text=True, check=False
    )
    assert right.returncode == 0, right.stdout
    wrong = subprocess.run([*command, "wrong.py"], cwd=copied, capture_output=True, text=True, check=False)
    assert 'has no attribute "medians"' in wrong.stdout


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert cli.main(["new-plugin", str(tmp_path), "--name", "acme"]) == 2
    assert "is there and not empty" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("name", ["3d", "class", "a b"])
def test_a_name_that_no_module_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ir.OptionsError, match="is not the name of a Python module"):
        new_plugin(tmp_path / "new", name)
