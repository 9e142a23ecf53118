"""What a kept result depends on: each ingredient changes the key, and nothing else does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph.jobs.building import cache_key as module
from optimize_graph.jobs.building.cache_key import WITHOUT_EFFECT, cache_key, source_digest
from optimize_graph.jobs.building.plan import BuildJob
from optimize_graph.options import Options

TEXT = '<ir_version: 10, opset_import: ["": 21]> g (float[N,4] x) => (float[N,4] y) { a = Identity(x)  y = Relu(a) }'
OTHER: dict[str, Any] = {
    "target": "onnx",
    "cpu_isa": "avx2",
    "min_ort": "1.24",
    "opset": 20,
    "passes": "dce",
    "disable": ("dce",),
    "max_rewrites": 3,
    "input_shapes": {"x": (2, 4)},
    "dims": {"N": 2},
    "freeze": ("all",),
    "rtol": 0.1,
    "atol": 0.1,
    "threads": 2,
    "provider": "cuda",
    "measure_at": ({"N": 2},),
    "require_speedup": 1.1,
    "max_size": "1MB",
    "max_peak_memory": "1GB",
    "max_error": 0.1,
    "max_nodes": 9,
    "require_fused": {"Gelu": 1},
}


@pytest.fixture
def job(tmp_path: Path) -> BuildJob:
    source = tmp_path / "models" / "m.onnx"
    source.parent.mkdir()
    onnx.save(onnx.parser.parse_model(TEXT), source)
    return BuildJob("m.onnx", source, tmp_path / "out", Options())


def key(job: BuildJob, **options: Any) -> str:
    found = cache_key(replace(job, options=replace(job.options, **options)))
    assert found is not None
    return found


def other_value(name: str) -> object:
    default = getattr(Options(), name)
    if name in OTHER:
        return OTHER[name]
    return not default if isinstance(default, bool) else default + 1


BY_FILE = {"inputs", "custom_ops", "baseline", "plugins", "tune_cache", "save_session_options"}


@pytest.mark.parametrize(
    "name",
    [each.name for each in dataclasses.fields(Options) if each.name not in WITHOUT_EFFECT | BY_FILE],
)
def test_every_option_is_an_ingredient(job: BuildJob, name: str) -> None:
    assert key(job, **{name: other_value(name)}) != key(job)


def test_reproducers_and_where_an_option_was_given_are_no_ingredients(job: BuildJob) -> None:
    assert key(job, reproducer_dir=Path("r"), sources={"seed": "command line"}) == key(job)


def test_the_order_of_dims_is_no_ingredient(job: BuildJob) -> None:
    assert key(job, dims={"N": 1, "M": 2}) == key(job, dims={"M": 2, "N": 1})


def test_places_of_the_model_and_the_result_are_no_ingredients(job: BuildJob, tmp_path: Path) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(job.source.read_bytes())
    assert key(replace(job, name="other.onnx", source=copy, folder=tmp_path / "elsewhere")) == key(job)


def test_the_model_is_an_ingredient(job: BuildJob) -> None:
    before = key(job)
    onnx.save(onnx.parser.parse_model(TEXT.replace("Relu", "Abs")), job.source)
    assert key(job) != before


def test_external_data_is_an_ingredient(job: BuildJob) -> None:
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.arange(4, dtype=np.float32), "w"))
    onnx.save(model, job.source, save_as_external_data=True, location="w.bin", size_threshold=0)
    before = key(job)
    data = job.source.with_name("w.bin")
    data.write_bytes(bytes(len(data.read_bytes())))
    assert key(job) != before


@pytest.mark.parametrize("name", ["inputs", "custom_ops", "baseline"])
def test_files_count_by_content_and_not_by_place(job: BuildJob, tmp_path: Path, name: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"1")
    given = (lambda path: path) if name == "baseline" else (lambda path: (path,))
    first = key(job, **{name: given(one)})
    assert first != key(job)
    assert first == key(job, **{name: given(two)})
    two.write_bytes(b"2")
    assert first != key(job, **{name: given(two)})


TARGET = """name = "npu"
extends = "ort-cpu"
forbidden = ["{forbidden}"]
"""


def test_a_target_counts_by_the_content_of_its_file_and_of_what_it_extends(job: BuildJob, tmp_path: Path) -> None:
    one, two, base = (tmp_path / name for name in ("one.toml", "two.toml", "base.toml"))
    one.write_text(TARGET.format(forbidden="Einsum"))
    two.write_text(TARGET.format(forbidden="Einsum"))
    first = key(job, target=one)
    assert first == key(job, target=two) != key(job)
    two.write_text(TARGET.format(forbidden="Gelu"))
    assert first != key(job, target=two)
    base.write_text(TARGET.format(forbidden="Einsum"))
    one.write_text('name = "npu"\nextends = "base.toml"\n')
    extending = key(job, target=one)
    base.write_text(TARGET.format(forbidden="LayerNormalization"))
    assert extending != key(job, target=one)


def test_the_cache_of_tuning_is_an_ingredient_where_it_is_read(job: BuildJob) -> None:
    assert key(job, tune_cache="off") == key(job)
    assert key(job, tune=True, tune_cache="off") != key(job, tune=True)


def test_a_plugin_counts_by_content_with_the_modules_that_it_imports(
    job: BuildJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optimize_graph.jobs.building import plugin_files

    def fresh() -> str:
        plugin_files._digest.cache_clear()
        return key(job, plugins=("keyed_rules",))

    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "keyed_rules.py").write_text("import keyed_helper\n")
    (tmp_path / "keyed_helper.py").write_text("A = 1\n")
    first = fresh()
    assert first != key(job)
    assert fresh() == first
    (tmp_path / "keyed_helper.py").write_text("A = 2\n")
    assert fresh() != first


@pytest.mark.parametrize("package", ["optimize-graph", "onnx", "onnx-ir", "onnxruntime", "numpy", "python"])
def test_versions_are_ingredients(job: BuildJob, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    before, versions = key(job), module.installed_versions()
    monkeypatch.setattr(module, "installed_versions", lambda: {**versions, package: "0.0.0"})
    assert key(job) != before


def test_the_distribution_of_onnx_runtime_is_an_ingredient(job: BuildJob, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(job)
    monkeypatch.setattr(module, "_libraries", lambda: {"onnxruntime-other 1.0": "1.0"})
    assert key(job) != before


def test_the_source_of_this_package_is_an_ingredient(tmp_path: Path) -> None:
    (tmp_path / "ir").mkdir()
    file = tmp_path / "ir" / "a.py"
    file.write_text("A = 1")
    first = source_digest(tmp_path)
    file.write_text("A = 2")
    source_digest.cache_clear()
    assert source_digest(tmp_path) != first


def test_the_processor_is_an_ingredient_and_the_machine_where_it_measures(
    job: BuildJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, measured = key(job), key(job, measure=True)
    monkeypatch.setattr(module.platform, "node", lambda: "another")
    assert key(job) == plain
    assert key(job, measure=True) != measured
    monkeypatch.setattr(module, "device_name", lambda provider="cpu": "another")
    assert key(job) != plain


@pytest.mark.parametrize("spoil", [lambda job: job.source.write_bytes(b"no model"), lambda job: job.source.unlink()])
def test_what_cannot_be_read_has_no_key(job: BuildJob, spoil: Callable[[BuildJob], object]) -> None:
    spoil(job)
    assert cache_key(job) is None


def test_what_writes_a_further_file_has_no_key(job: BuildJob) -> None:
    options = Options(tune=True, save_session_options=Path("s.json"))
    assert cache_key(replace(job, options=options)) is None
