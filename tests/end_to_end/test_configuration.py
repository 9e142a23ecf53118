"""Options from `pyproject.toml` or the file of `--config`: which one holds, where it stands, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import pytest
from optimize_graph.cli import configuration
from optimize_graph.options import declarations
from support.command import command

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "options.schema.json").read_text(encoding="utf-8"))
TEXT = '<ir_version: 10, opset_import: ["": 21]> g (float[N,4] x) => (float[N,4] y) { a = Identity(x)  y = Relu(a) }'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a model; the working directory is a folder in it."""
    for folder in ("models", "work"):
        (tmp_path / folder).mkdir()
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "models" / "bert-base.onnx")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def write(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(text, encoding="utf-8")


def options(project: Path, *words: object) -> dict[str, Any]:
    """The options that the report records."""
    done = command(project / "models" / "bert-base.onnx", "--dry-run", "--json", *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["build"]["options"]
    return found


def test_the_command_line_wins_over_the_section_of_the_model_and_that_over_the_rest(project: Path) -> None:
    write(
        project,
        """
        [tool.optimize-graph]
        seed = 1
        threads = 1
        verify-timeout = 50
        disable = ["eliminate-nop-identity"]
        [[tool.optimize-graph.model]]
        match = "models/bert*.onnx"
        threads = 2
        verify-timeout = 60.5
        [[tool.optimize-graph.model]]
        match = "models/resnet*.onnx"
        threads = 3
        """,
    )
    found = options(project, "--verify-timeout", "70", "--disable", "dce")
    assert (found["seed"], found["threads"], found["verify_timeout"], found["disable"]) == (1, 2, 70.0, ["dce"])
    file = str(project / "pyproject.toml")
    assert found["sources"] == {
        "seed": file,
        "threads": f"{file}, model models/bert*.onnx",
        "verify_timeout": "command line",
        "disable": "command line",
    }


def test_a_flag_that_is_on_in_the_file_is_switched_off_by_its_opposite(project: Path) -> None:
    write(project, "[tool.optimize-graph]\nverify = false\nstrict = true")
    found = options(project)
    assert (found["verify"], found["strict"]) == (False, True)
    found = options(project, "--verify", "--no-strict")
    assert (found["verify"], found["strict"]) == (True, False)


def test_every_kind_of_value_can_be_written(project: Path) -> None:
    write(
        project,
        """
        [tool.optimize-graph]
        target = "onnx"
        input-shape = { x = ["N", 4] }
        dim = { N = 3 }
        at = [{ N = 3 }]
        rtol = 1
        reproducer-dir = "faults"
        tune-cache = "off"
        max-size = 1000000
        max-nodes = 10
        require-fused = { Relu = 1 }
        min-ort = "1.24"
        """,
    )
    found = options(project)
    assert (found["input_shapes"], found["dims"], found["measure_at"]) == ({"x": ["N", 4]}, {"N": 3}, [{"N": 3}])
    assert found["reproducer_dir"] == str(project / "faults")
    assert (found["tune_cache"], found["max_size"], found["require_fused"]) == ("off", "1000000", {"Relu": 1})


def test_a_gate_in_the_file_fails_the_build(project: Path) -> None:
    write(project, "[tool.optimize-graph]\nmax-nodes = 0")
    done = command(project / "models" / "bert-base.onnx", "--dry-run")
    assert done.returncode == 4
    assert "--max-nodes: 1, at most 0" in done.stderr


def test_the_nearest_file_with_the_table_holds_and_others_are_passed_over(project: Path) -> None:
    write(project, "[tool.optimize-graph]\nseed = 1")
    (project / "work" / "pyproject.toml").write_text('[project]\nname = "optimize-graph-user"')
    assert options(project)["seed"] == 1
    (project / "work" / "pyproject.toml").write_text("[tool.optimize-graph]\nseed = 2")
    assert options(project)["seed"] == 2


def test_a_file_can_be_named_and_files_can_be_switched_off(project: Path) -> None:
    write(project, "[tool.optimize-graph]\nseed = 1")
    own = project / "own.toml"
    own.write_text('seed = 5\n[[model]]\nmatch = "*/bert-base.onnx"\nthreads = 2')
    assert (options(project, "--config", own)["seed"], options(project, "--config", own)["threads"]) == (5, 2)
    assert options(project, "--config", project / "pyproject.toml")["seed"] == 1
    assert options(project, "--config", "off")["sources"] == {}


WRONG = [
    ("threds = 2", "unknown key 'threds'; did you mean 'threads'?"),
    ("no-verify = true", "unknown key 'no-verify'; did you mean 'verify'?"),
    ("model_profile = true", "unknown key 'model_profile'"),
    ('threads = "2"', "'threads' is '2', expected an integer"),
    ("threads = true", "'threads' is True, expected an integer"),
    ("threads = -1", "option 'threads' is -1 (int), expected an integer from 0 to 1024"),
    ("verify = 1", "'verify' is 1, expected true or false"),
    ('target = "ort-cp"', "no target is called 'ort-cp'; did you mean 'ort-cpu'?"),
    ('disable = "dce"', "'disable' is 'dce', expected an array"),
    ("disable = [3]", "'disable' is [3], expected an array of which each value is a string"),
    ('dim = { N = "8" }', "'dim' is {'N': '8'}, expected a table of which each value is an integer"),
    ('max-size = "large"', "expected a size like '20MB'"),
    ("require-fused = { atention = 3 }", "did you mean 'attention'?"),
    ("reproducer-dir = 3", "'reproducer-dir' is 3, expected a string"),
    ('min-ort = "new"', "expected a version like '1.22'"),
    ("model = 3", "'model' is 3, expected sections [[model]]"),
    ("[[tool.optimize-graph.model]]\nseed = 3", "'match' is None, expected a string like 'models/bert*.onnx'"),
    ('[[tool.optimize-graph.model]]\nmatch = "x"\nsead = 3', ", model x: unknown key 'sead'; did you mean 'seed'?"),
    ("threads = \nseed = 1", "Invalid value (at line 2"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[text for text, _ in WRONG])
def test_what_is_wrong_is_refused_with_the_file_the_key_and_what_is_expected(
    project: Path, text: str, message: str
) -> None:
    write(project, f"[tool.optimize-graph]\n{text}")
    done = command(project / "models" / "bert-base.onnx", "--dry-run", "--json")
    assert done.returncode == 2
    assert done.stderr.startswith(f"optimize-graph: error: {project / 'pyproject.toml'}")
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert json.loads(done.stdout)["error"]["where"].startswith(str(project))


def test_a_file_that_is_named_must_exist(project: Path) -> None:
    done = command(project / "models" / "bert-base.onnx", "--dry-run", "--config", "none.toml")
    assert done.returncode == 2
    assert "none.toml: No such file or directory" in done.stderr


# --- the schema -------------------------------------------------------------------------------------------------------


def test_every_option_has_a_key_of_its_own_in_the_schema() -> None:
    keys = [declared.key for _, declared in declarations() if declared.group]
    assert len(keys) == len(set(keys))
    assert set(SCHEMA["properties"]) == {*keys, *configuration.BUILD, "model"}
    assert set(SCHEMA["properties"]["model"]["items"]["properties"]) == {*keys, "match"}


def test_a_value_may_have_one_of_several_types() -> None:
    assert configuration._expected({"type": ["integer", "string"]}, 2.5) == "an integer or a string"


def test_other_verbs_read_the_options_that_they_have(project: Path) -> None:
    write(project, '[tool.optimize-graph]\ndisable = ["eliminate-nop-identity"]\nmax-nodes = 1\nthreads = 2\n')
    model, off = project / "models" / "bert-base.onnx", ("--config", "off")
    for words in ((), off):
        done = command("explain", "eliminate-nop-identity", model, "--json", *words)
        assert bool(json.loads(done.stdout)["rewrites"]) is (words == off)
        done = command("measure", model, "--json", "--seconds", "0.1", *words)
        assert json.loads(done.stdout)["options"]["threads"] == (1 if words else 2)


def test_keys_of_a_build_are_no_options_of_a_job(project: Path) -> None:
    write(project, '[tool.optimize-graph]\nsources = ["models/*.onnx"]\noutput-dir = "out"\njobs = 2\nseed = 1\n')
    assert options(project)["seed"] == 1
    write(project, '[[tool.optimize-graph.model]]\nmatch = "*"\njobs = 2\n')
    assert command(project / "models" / "bert-base.onnx", "--dry-run").returncode == 2
