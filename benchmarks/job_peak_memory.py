"""Peak memory of the default job beside that of a process which opens two sessions of the original and runs each once.

    python benchmarks/job_peak_memory.py MODEL.onnx …
    python benchmarks/job_peak_memory.py --made FOLDER

The two sessions have ONNX Runtime's optimizations off and on, as verification compares them; they run on the largest of
the sets of inputs that verification makes. `--made` writes models of large weights, large activations and large
attributes into FOLDER and measures those. Fails where a job takes more than twice the memory of the sessions and
`CONSTANT` more, which is what Python, onnx, onnx-ir and NumPy take before any model is loaded.
"""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from optimize_graph import ir, runtime

MIB = 1 << 20
CONSTANT = 200 * MIB
UNIT = 1 if sys.platform == "darwin" else 1024
# The figure of `wait4` starts at what the process held that forked: a small process stands in between.
WATCHER = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
said = child.stderr.read()
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss, os.waitstatus_to_exitcode(status), said.decode(errors="replace")[-300:].replace(chr(10), " "))
"""
SESSIONS = """
import pickle, sys
import onnxruntime as ort
model, feeds = pickle.load(open(sys.argv[1], "rb"))
sessions = []
for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = ort.SessionOptions()
    options.graph_optimization_level, options.intra_op_num_threads = level, 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    sessions.append(ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]))
kept = [session.run(None, feeds) for session in sessions]
"""


def peak_of(command: list[str]) -> tuple[int, int, str]:
    """Peak resident bytes of a process, its exit code and the end of what it wrote on standard error."""
    watcher = [sys.executable, "-I", "-S", "-c", WATCHER, *command]
    said = subprocess.run(watcher, capture_output=True, text=True, check=True).stdout.split(maxsplit=2)
    return int(said[0]) * UNIT, int(said[1]), said[2].strip() if len(said) > 2 else ""


def sessions_peak(model: Path, folder: Path) -> int:
    """Peak of two sessions of the original that run on the largest set of inputs. Raises ModelError without inputs."""
    session = runtime.open_session(model, runtime.SessionOptions(optimize=False, arena=False))
    sets = runtime.usable_feeds(session, ir.load(model))
    largest = max(sets, key=lambda each: sum(np.asarray(datum).nbytes for datum in each.feeds.values()))
    request = folder / "request.pickle"
    request.write_bytes(pickle.dumps((str(model), dict(largest.feeds))))
    del session
    return peak_of([sys.executable, "-c", SESSIONS, str(request)])[0]


def made_models(folder: Path) -> Iterator[Path]:
    """Models in which weights, activations or attributes are what takes memory."""
    random = np.random.default_rng(0)
    layers = [random.standard_normal((1536, 1536)).astype(np.float32) / 40 for _ in range(16)]
    text = "\n".join(f"x{nth + 1} = Relu(m{nth})" for nth in range(16))
    body = "".join(f"m{nth} = MatMul(x{nth}, w{nth})\n{line}\n" for nth, line in enumerate(text.splitlines()))
    header = '<ir_version: 10, opset_import: ["" : 20]>\n'
    weights = onnx.parser.parse_model(f"{header}g (float[N,1536] x0) => (float[N,1536] x16) {{\n{body}}}")
    weights.graph.initializer.extend(onnx.numpy_helper.from_array(layer, f"w{nth}") for nth, layer in enumerate(layers))
    onnx.save(weights, folder / "weights.onnx")
    yield folder / "weights.onnx"
    onnx.save(
        weights, folder / "external.onnx", save_as_external_data=True, location="external.data", size_threshold=1024
    )
    yield folder / "external.onnx"
    convolutions = "".join(f"c{n} = Conv<pads=[1,1,1,1]>(r{n}, k{n})\nr{n + 1} = Relu(c{n})\n" for n in range(4))
    images = onnx.parser.parse_model(
        f"{header}g (float[1,8,1024,1024] r0) => (float[1,8,1024,1024] r4) {{\n{convolutions}}}"
    )
    kernels = [random.standard_normal((8, 8, 3, 3)).astype(np.float32) / 9 for _ in range(4)]
    images.graph.initializer.extend(onnx.numpy_helper.from_array(each, f"k{n}") for n, each in enumerate(kernels))
    onnx.save(images, folder / "activations.onnx")
    yield folder / "activations.onnx"
    onnx.save(forest(400, 12, classes=3), folder / "forest.onnx")
    yield folder / "forest.onnx"


def forest(trees: int, depth: int, *, classes: int, features: int = 20) -> onnx.ModelProto:
    """A random forest as skl2onnx writes it: complete trees, a leaf with one weight for each class, then ZipMap."""
    random = np.random.default_rng(0)
    size, inner = 2 ** (depth + 1) - 1, 2**depth - 1
    ids = np.arange(size)
    is_inner = ids < inner
    modes = np.where(is_inner, "BRANCH_LEQ", "LEAF").astype("S")
    leaves = np.repeat(ids[~is_inner], classes)
    node = onnx.NodeProto(op_type="TreeEnsembleClassifier", domain="ai.onnx.ml", input=["x"], output=["label", "p"])

    def ints(name: str, values: np.ndarray) -> None:
        attribute = node.attribute.add(name=name, type=onnx.AttributeProto.INTS)
        attribute.ints.extend(values.astype(np.int64))

    def floats(name: str, values: np.ndarray) -> None:
        attribute = node.attribute.add(name=name, type=onnx.AttributeProto.FLOATS)
        attribute.floats.extend(values.astype(np.float32))

    count = size * trees
    ints("nodes_treeids", np.repeat(np.arange(trees), size))
    ints("nodes_nodeids", np.tile(ids, trees))
    ints("nodes_featureids", random.integers(0, features, count))
    ints("nodes_truenodeids", np.tile(np.where(is_inner, 2 * ids + 1, 0), trees))
    ints("nodes_falsenodeids", np.tile(np.where(is_inner, 2 * ids + 2, 0), trees))
    ints("nodes_missing_value_tracks_true", np.zeros(count))
    floats("nodes_values", random.standard_normal(count))
    floats("nodes_hitrates", np.ones(count))
    node.attribute.add(name="nodes_modes", type=onnx.AttributeProto.STRINGS).strings.extend(np.tile(modes, trees))
    ints("class_treeids", np.repeat(np.arange(trees), len(leaves)))
    ints("class_nodeids", np.tile(leaves, trees))
    ints("class_ids", np.tile(np.arange(classes), trees * (size - inner)))
    floats("class_weights", random.random(trees * len(leaves)) / trees)
    ints("classlabels_int64s", np.arange(classes))
    node.attribute.add(name="post_transform", type=onnx.AttributeProto.STRING, s=b"NONE")
    text = (
        f'<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 1]> g (float[N,{features}] x) => (int64[N] label) {{}}'
    )
    model = onnx.parser.parse_model(text)
    model.graph.node.append(node)
    zip_map = model.graph.node.add(op_type="ZipMap", domain="ai.onnx.ml", input=["p"], output=["probabilities"])
    zip_map.attribute.add(name="classlabels_int64s", type=onnx.AttributeProto.INTS).ints.extend(range(classes))
    output = model.graph.output.add(name="probabilities").type.sequence_type.elem_type.map_type
    output.key_type = onnx.TensorProto.INT64
    output.value_type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return model


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("models", nargs="*", type=Path)
    arguments.add_argument("--made", type=Path, help="a folder to write models into")
    arguments.add_argument(
        "--option", action="append", default=[], help="an option of the job, as --option=--no-verify"
    )
    asked = arguments.parse_args()
    over = 0
    made = made_models(asked.made) if asked.made is not None else ()
    for model in (*asked.models, *made):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            try:
                sessions = sessions_peak(model, folder)
            except ir.ModelError as error:
                print(f"{model.stem:40} {error.diagnostic.code}")
                continue
            command = [sys.executable, "-m", "optimize_graph", str(model), str(folder / "out.onnx"), *asked.option]
            start = time.monotonic()
            job, code, said = peak_of(command)
            seconds = time.monotonic() - start
        size = model.stat().st_size + sum(each.stat().st_size for each in model.parent.glob(f"{model.stem}.data"))
        limit = 2 * sessions + CONSTANT
        over += job > limit
        print(
            f"{model.stem:40} file {size / MIB:7.1f}  sessions {sessions / MIB:7.0f}  job {job / MIB:7.0f} MiB  "
            f"x{job / sessions:.2f}  {seconds:6.1f} s  {'OVER' if job > limit else ''} {said if code else ''}",
            flush=True,
        )
    sys.exit(over > 0)


if __name__ == "__main__":
    main()
