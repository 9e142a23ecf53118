"""Results that are kept: restored as they were, remade where they are damaged, the least recently used removed."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.jobs.building.plan import BuildJob
from optimize_graph.jobs.building.result_cache import ResultCache
from optimize_graph.options import Options

TEXT = '<ir_version: 10, opset_import: ["": 21]> g (float[600] x) => (float[600] y) { y = Add(x, w) }'
KEY = "ab" * 32


def delivered(folder: Path, *, has_data: bool = False) -> BuildJob:
    """A job whose result and reports are in their places."""
    job = BuildJob("m.onnx", folder / "in.onnx", folder / "out", Options())
    job.report.parent.mkdir(parents=True)
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.arange(600, dtype=np.float32), "w"))
    if has_data:
        onnx.save(model, folder / "in.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
        ir.save(ir.load(folder / "in.onnx"), job.output)
    else:
        onnx.save(model, job.output)
    digest = hashlib.sha256(job.output.read_bytes()).hexdigest()
    job.report.write_text(json.dumps({"build": {"output": {"sha256": digest}}, "isolated": []}))
    job.page.write_text("<p>page")
    return job


def files(job: BuildJob) -> dict[str, bytes]:
    return {str(path.relative_to(job.folder)): path.read_bytes() for path in job.folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("has_data", [False, True])
def test_a_result_comes_back_with_its_data_and_reports(tmp_path: Path, has_data: bool) -> None:
    job, cache = delivered(tmp_path, has_data=has_data), ResultCache(tmp_path / "cache")
    cache.keep(KEY, job)
    other = replace(job, folder=tmp_path / "other")
    assert cache.restore(KEY, other)
    assert files(other) == files(job)
    assert not cache.restore("cd" * 32, other)


def test_the_name_of_the_result_matters_only_where_it_stands_in_external_data(tmp_path: Path) -> None:
    for has_data in (False, True):
        folder = tmp_path / str(has_data)
        folder.mkdir()
        job, cache = delivered(folder, has_data=has_data), ResultCache(folder / "cache")
        cache.keep(KEY, job)
        assert cache.restore(KEY, replace(job, name="renamed.onnx", folder=folder / "other")) is not has_data


def test_a_result_in_its_place_is_left_alone(tmp_path: Path) -> None:
    job, cache = delivered(tmp_path), ResultCache(tmp_path / "cache")
    cache.keep(KEY, job)
    before = job.output.stat().st_mtime_ns, job.output.stat().st_ino
    assert cache.restore(KEY, job)
    assert (job.output.stat().st_mtime_ns, job.output.stat().st_ino) == before


def test_editing_a_restored_result_changes_no_other(tmp_path: Path) -> None:
    job, cache = delivered(tmp_path), ResultCache(tmp_path / "cache")
    content = job.output.read_bytes()
    cache.keep(KEY, job)
    job.output.write_bytes(b"edited")
    assert cache.restore(KEY, job)
    assert job.output.read_bytes() == content


@pytest.mark.parametrize("name", ["files/.model.onnx", "report.json", "manifest.json"])
def test_a_damaged_entry_is_removed_and_made_anew(tmp_path: Path, name: str) -> None:
    job, cache = delivered(tmp_path), ResultCache(tmp_path / "cache")
    cache.keep(KEY, job)
    (tmp_path / "cache" / KEY[:2] / KEY / name).write_bytes(b"{}")
    assert not cache.restore(KEY, job)
    cache.keep(KEY, job)
    assert cache.restore(KEY, job)


def test_what_was_replaced_meanwhile_or_has_faults_is_not_kept(tmp_path: Path) -> None:
    job, cache = delivered(tmp_path), ResultCache(tmp_path / "cache")
    report = json.loads(job.report.read_text())
    for wrong in ({**report, "isolated": [{}]}, {**report, "build": {"output": {"sha256": "0"}}}):
        job.report.write_text(json.dumps(wrong))
        cache.keep(KEY, job)
        assert not cache.restore(KEY, job)


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    job = delivered(tmp_path)
    cache = ResultCache(tmp_path / "cache", limit=int(job.output.stat().st_size * 2.9))
    keys = ["aa" * 32, "bb" * 32, "cc" * 32]
    for age, key in enumerate(keys[:2]):
        cache.keep(key, job)
        os.utime(tmp_path / "cache" / key[:2] / key / "manifest.json", (age, age))
    assert cache.restore(keys[0], job)  # used
    cache.keep(keys[2], job)
    assert [cache.restore(key, job) for key in keys] == [True, False, True]


def test_concurrent_processes_see_all_of_an_entry_or_none(tmp_path: Path) -> None:
    job, caches = delivered(tmp_path), [ResultCache(tmp_path / "cache") for _ in range(4)]
    content = job.output.read_bytes()

    def use(index: int) -> bool:
        mine = replace(job, folder=tmp_path / f"out{index}")
        caches[index % 4].keep(KEY, job)
        return caches[index % 4].restore(KEY, mine) and mine.output.read_bytes() == content

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(use, range(16)))
    assert not list((tmp_path / "cache").glob("new-*"))


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    job = delivered(tmp_path)
    (tmp_path / "file").write_text("")
    cache = ResultCache(tmp_path / "file" / "cache")
    cache.keep(KEY, job)
    assert not cache.restore(KEY, job)
