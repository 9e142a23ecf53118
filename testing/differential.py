"""Differential checks: optimize a model, run both in ONNX Runtime, compare within what rounding explains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Protocol

import numpy as np
import onnx
import onnxruntime

from .. import ir
from ..ir.standard.custom_operators import has_meaning
from ..jobs.optimization.target_versions import installed_release
from ..passes import Pipeline, PipelineResult, Settings, Target, VerifyEach
from ..runtime import OrtEvaluator, SessionOptions, open_session
from ..runtime.verification.probes import perturb

Feeds = Mapping[str, np.ndarray]
RANDOM = ("RandomUniformLike", "RandomNormalLike", "Bernoulli")

parsed = cache(Pipeline.parse)


class Disagreement(AssertionError):
    """Two models give different numbers for the same inputs."""


class Session(Protocol):
    """A model that can be run."""

    def run(self, names: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """All outputs, in order."""


STAND_INS: list[Callable[[onnx.ModelProto], Session | None]] = []
"""What runs models that ONNX Runtime does not run here: asked first, None for those that it does."""


class _Interpreted:
    """A model with operators whose meaning is registered (`operator_function`, `operator_reference`)."""

    def __init__(self, model: bytes) -> None:
        self._session = open_session(model, SessionOptions(optimize=False, prepacking=False))

    def run(self, names: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:  # noqa: ARG002 - as ONNX Runtime's
        return [np.asarray(each) for each in self._session.run(feeds).values()]


def stand_in_for(model: onnx.ModelProto) -> Session | None:
    """What runs a model that ONNX Runtime does not run here; None for one that it does."""
    return next((session for stand_in in STAND_INS if (session := stand_in(model)) is not None), None)


def session_of(model: bytes) -> Session:
    """The model in ONNX Runtime without its optimizations, or in what stands in for it."""
    proto = onnx.load_from_string(model)
    if (other := stand_in_for(proto)) is not None:
        return other
    if has_meaning(proto):
        return _Interpreted(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_prepacking", "1")
    session: Session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session


def outputs_of(session: Session, feeds: Feeds) -> list[np.ndarray] | None:
    """What the original gives; None where these sizes do not fit it, and it promises nothing."""
    try:
        return list(session.run(None, dict(feeds)))
    except Exception:
        return None


def attends_to_nothing(produced: onnx.ModelProto, feeds: Feeds) -> bool:
    """Whether a result fails on empty inputs that its original took, as attention in ONNX Runtime does."""
    attends = any(node.op_type in ("Attention", "GroupQueryAttention") for node in produced.graph.node)
    return attends and not all(array.size for array in feeds.values())


def optimized(
    model: onnx.ModelProto, pipeline: str, *, target: str = "ort-cpu", check_each: bool = False
) -> tuple[PipelineResult, bytes]:
    """The result of a pipeline, and its bytes. Raises AssertionError where the pipeline had something to remark."""
    instruments = [VerifyEach()] if check_each else []
    wanted = Target(target, installed_release())
    wanted.file.register_bodies()
    settings = Settings(wanted, highest_opset=24)
    report = parsed(pipeline).run(ir.from_proto(model), instruments, evaluator=OrtEvaluator(), settings=settings)
    assert not report.remarks, report.remarks
    return report, ir.to_bytes(report.model)


def is_valid(model: onnx.ModelProto) -> bool:
    """Whether onnx's checker takes a model."""
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        return False
    return True


def assert_same_interface(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Raise AssertionError unless inputs, outputs and defaults are the same."""
    defaults = {tensor.name for tensor in before.graph.initializer}
    # Before IR version 4 every initializer had to be an input, whether or not a caller was meant to give it.
    inputs = [value for value in before.graph.input if before.ir_version >= 4 or value.name not in defaults]
    assert inputs == list(after.graph.input)
    assert list(before.graph.output) == list(after.graph.output)
    names = {value.name for value in inputs}
    assert names & defaults == names & {tensor.name for tensor in after.graph.initializer}


# --- numbers ----------------------------------------------------------------------------------------------------------


def compare(
    model: onnx.ModelProto,
    feeds: Feeds,
    wanted: list[np.ndarray],
    after: Session,
    *,
    exact: bool,
) -> None:
    """Raise Disagreement when `after` does not give what is wanted of `model`: bit for bit, or within roundings."""
    by_chance = {name for node in model.graph.node if node.op_type in RANDOM for name in node.output}
    scale: float | None = None
    try:
        results = after.run(None, dict(feeds))
    except Exception as error:  # each kind of failure has a class of its own, with no other base
        raise Disagreement(f"the result does not run where the model does: {error}") from error
    for output, want, got in zip(model.graph.output, wanted, results, strict=True):
        assert (want.dtype, want.shape) == (got.dtype, got.shape), f"{output.name}: {want.shape} became {got.shape}"
        if output.name in by_chance or want.tobytes() == got.tobytes():
            continue
        # ONNX Runtime runs float16 in float32 or not, depending on what stands around it.
        if want.dtype.kind != "f" or (exact and want.dtype != np.float16):
            agree(want, got, output.name, scale=0.0)
        else:
            scale = largest_inside(model, feeds) if scale is None else scale
            agree(want, got, output.name, scale=min(scale, scale_of_noise(model, feeds, output.name, want)))


def agree(want: np.ndarray, got: np.ndarray, name: str, *, scale: float) -> None:
    """Bit for bit where `scale` is 0 (one NaN is as good as another), else within roundings of what lies inside."""
    if scale == 0.0 or want.dtype.kind != "f":
        if not np.array_equal(want, got, equal_nan=want.dtype.kind == "f"):
            raise Disagreement(f"{name}: {want} became {got}")
        if want.dtype.kind == "f" and not ((np.signbit(want) == np.signbit(got)) | np.isnan(want)).all():
            raise Disagreement(f"{name}: a zero changed its sign")
        return
    finite = np.isfinite(want)
    if not np.array_equal(finite, np.isfinite(got)):
        raise Disagreement(f"{name}: {want} became {got}")
    allowed = 256 * float(np.finfo(want.dtype).eps) * scale
    error = np.abs(want[finite].astype(np.float64) - got[finite].astype(np.float64)).max(initial=0.0)
    if not error <= allowed:
        raise Disagreement(f"{name}: off by {error}, {allowed} allowed")


def largest_inside(model: onnx.ModelProto, feeds: Feeds) -> float:
    """The largest number that the model meets on its way: roundings are relative to it."""
    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    del open_model.graph.output[:]
    names = dict.fromkeys(name for node in model.graph.node for name in node.output if name)
    open_model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    found = session_of(open_model.SerializeToString()).run(None, dict(feeds))
    arrays = [each for each in found if isinstance(each, np.ndarray) and each.dtype.kind == "f"]
    return float(max([1.0, *(float(np.abs(each[np.isfinite(each)]).max(initial=0.0)) for each in arrays)]))


def scale_of_noise(model: onnx.ModelProto, feeds: Feeds, name: str, want: np.ndarray) -> float:
    """The scale to which an output moves when the inputs do by an ulp, for roundings relative to its own numbers.

    A mask of -1e9 is the largest number inside of its model, and roundings of that would hide anything.
    """
    session, index = session_of(model.SerializeToString()), [output.name for output in model.graph.output].index(name)
    largest = float(np.abs(want[np.isfinite(want)]).max(initial=1.0))
    noise = 0.0
    for seed in range(3):
        moved = perturb(feeds, seed)
        arrays = None if moved is None else {name: np.asarray(array) for name, array in moved.items()}
        if arrays is not None and (outputs := outputs_of(session, arrays)) is not None:
            both = np.isfinite(want) & np.isfinite(outputs[index])
            noise = max(noise, float(np.abs(want[both] - outputs[index][both]).max(initial=0.0)))
    return largest + noise / float(np.finfo(want.dtype).eps)
