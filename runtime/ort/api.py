"""ONNX Runtime's Python interface and its gaps; imported late, and by the memory child, so it knows no `ir`."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

# ONNX Runtime reports usage to Microsoft unless told not to, on Linux, too, from 1.31 on: importing it writes a session
# file into the temporary folder and may open connections (core/platform/posix/telemetry_1ds.cc). The variable is read
# when it is imported, and the function counts for the whole process.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from .session_options import Array, Datum, Feeds, SessionOptions

ort.disable_telemetry_events()

WARNING = 2
FATAL = 4  # the logger's severity that keeps ONNX Runtime's red lines off the terminal: errors come as exceptions
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}

# Element types that `InferenceSession.run` cannot take or give: (number in onnx.TensorProto, dtype, width in bits).
EXOTIC: Mapping[str, tuple[int, np.dtype[np.generic], int]] = {
    "bfloat16": (16, np.dtype(ml_dtypes.bfloat16), 16),
    "float8e4m3fn": (17, np.dtype(ml_dtypes.float8_e4m3fn), 8),
    "float8e4m3fnuz": (18, np.dtype(ml_dtypes.float8_e4m3fnuz), 8),
    "float8e5m2": (19, np.dtype(ml_dtypes.float8_e5m2), 8),
    "float8e5m2fnuz": (20, np.dtype(ml_dtypes.float8_e5m2fnuz), 8),
    "uint4": (21, np.dtype(ml_dtypes.uint4), 4),
    "int4": (22, np.dtype(ml_dtypes.int4), 4),
    "float4e2m1": (23, np.dtype(ml_dtypes.float4_e2m1fn), 4),
    "float8e8m0": (24, np.dtype(ml_dtypes.float8_e8m0fnu), 8),
    "uint2": (25, np.dtype(ml_dtypes.uint2), 2),
    "int2": (26, np.dtype(ml_dtypes.int2), 2),
}


def create(
    source: Path | bytes,
    options: SessionOptions,
    weights: Mapping[str, ort.OrtValue] | None = None,
    profile_to: Path | None = None,
    save_to: Path | None = None,
    time_limit_s: float | None = None,
) -> ort.InferenceSession:
    """A session; errors are ONNX Runtime's own, and a provider that cannot be had is left out silently.

    `weights` take the place of initializers and must outlive the session. `save_to`: write what is left after ONNX
    Runtime's own optimizations. `time_limit_s`: loading is cancelled then, where the installed release can (from 1.21
    on, between two graphs, passes or tensors).
    """
    settings = ort.SessionOptions()
    settings.log_severity_level = FATAL
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    # Threads that still spin after a run take the processors from the session that is measured beside this one.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    level = ort.GraphOptimizationLevel
    settings.graph_optimization_level = level.ORT_ENABLE_ALL if options.optimize else level.ORT_DISABLE_ALL
    settings.enable_cpu_mem_arena = options.arena
    settings.enable_mem_pattern = options.arena  # a pattern is one block for all activations, kept between runs
    if not options.prepacking:
        settings.add_session_config_entry("session.disable_prepacking", "1")
    for library in options.custom_ops:
        settings.register_custom_ops_library(str(library))
    for name, value in (weights or {}).items():
        settings.add_initializer(name, value)
    if profile_to is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(profile_to)
    if save_to is not None:
        settings.optimized_model_filepath = str(save_to)
    ort.set_seed(options.seed)
    providers: list[str | tuple[str, dict[str, str]]] = [PROVIDERS["cpu"]]
    if options.provider != "cpu":
        providers.insert(0, (PROVIDERS[options.provider], _provider_options(options)))
    model = source if isinstance(source, bytes) else str(source)
    cancel = getattr(settings, "set_load_cancellation_flag", None)
    with _quiet(options.provider), _after(time_limit_s, (lambda: cancel(True)) if cancel else None):
        return ort.InferenceSession(
            model, settings, providers=providers, disabled_optimizers=list(options.disabled_optimizers)
        )


def _provider_options(options: SessionOptions) -> dict[str, str]:
    if options.provider == "cuda":
        return {"use_tf32": str(int(options.tf32))}
    # By default OpenVINO computes in bfloat16 where the CPU can.
    threads = {"num_of_threads": str(options.threads)} if options.threads else {}
    return {"device_type": "CPU", "precision": "FP32", **threads}


@contextlib.contextmanager
def _quiet(provider: str) -> Iterator[None]:
    """Load CUDA's libraries from where pip puts them, without a word on the terminal when there are none."""
    if provider == "cpu":
        yield
        return
    ort.set_default_logger_severity(FATAL)
    try:
        if hasattr(ort, "preload_dlls"):  # from 1.21 on; it prints what it misses to standard output
            with contextlib.redirect_stdout(io.StringIO()):
                ort.preload_dlls()
        yield
    finally:
        ort.set_default_logger_severity(WARNING)


def is_built_in(provider: str) -> bool:
    """Whether the installed ONNX Runtime has an execution provider."""
    return PROVIDERS[provider] in ort.get_available_providers()


def try_custom_ops(library: Path) -> None:
    """Load a library of custom operators. Raises the errors of ONNX Runtime."""
    ort.SessionOptions().register_custom_ops_library(str(library))


def has_provider(session: ort.InferenceSession, provider: str) -> bool:
    """Whether a session uses an execution provider."""
    return PROVIDERS[provider] in session.get_providers()


def element_type(type_text: str) -> str:
    """`bfloat16` of `tensor(bfloat16)`; empty for what is no tensor."""
    return type_text[len("tensor(") : -1] if type_text.startswith("tensor(") else ""


def prepare(
    session: ort.InferenceSession, feeds: Feeds, run_options: ort.RunOptions | None = None
) -> Callable[[], list[Datum]]:
    """A run of `session` on `feeds` that can be called many times; what must be converted first is converted here."""
    inputs = {port.name: element_type(port.type) for port in session.get_inputs()}
    outputs = [element_type(port.type) for port in session.get_outputs()]
    if EXOTIC.keys().isdisjoint([*inputs.values(), *outputs]):
        return lambda: list(session.run(None, dict(feeds), run_options))
    if not all(isinstance(feeds[name], np.ndarray) for name in inputs if name in feeds) or not all(outputs):
        raise ValueError(
            "its Python interface carries no sequences, maps or optionals beside bfloat16, float8 and narrower types"
        )
    names = [port.name for port in session.get_outputs()]
    values = {name: to_ortvalue(np.asarray(datum), inputs.get(name, "")) for name, datum in feeds.items()}
    return lambda: [from_ortvalue(value) for value in session.run_with_ort_values(names, values, run_options)]


@contextlib.contextmanager
def stopped_after(seconds: float | None) -> Iterator[ort.RunOptions | None]:
    """Run options that end a run after so many seconds: ONNX Runtime looks at them between two kernels."""
    if seconds is None:
        yield None
        return
    run_options = ort.RunOptions()
    with _after(seconds, lambda: setattr(run_options, "terminate", True)):
        yield run_options


@contextlib.contextmanager
def _after(seconds: float | None, stop: Callable[[], object] | None) -> Iterator[None]:
    """Call `stop` in another thread where the context lasts longer than `seconds`."""
    if seconds is None or stop is None:
        yield
        return
    timer = threading.Timer(max(seconds, 0.0), stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def to_ortvalue(array: Array, element: str) -> ort.OrtValue:
    """An OrtValue on the CPU with the content of `array`, whose ONNX element type is `element`."""
    if element not in EXOTIC:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array).reshape(array.shape))
    number, dtype, bits = EXOTIC[element]
    value = ort.OrtValue.ortvalue_from_shape_and_type(list(array.shape), number, "cpu", 0)
    codes = np.ascontiguousarray(array.astype(dtype)).reshape(-1).view(np.uint8)
    if bits < 8:  # the first element in the lowest bits
        count = 8 // bits
        parts = np.pad(codes & (1 << bits) - 1, (0, -codes.size % count)).reshape(-1, count)
        shifted = np.left_shift(parts, np.arange(0, 8, bits, dtype=np.uint8), dtype=np.uint8)
        codes = np.bitwise_or.reduce(shifted, axis=1)
    if codes.size:
        ctypes.memmove(value.data_ptr(), codes.ctypes.data, codes.size)
    return value


def from_ortvalue(value: ort.OrtValue) -> Array:
    """The content of a tensor OrtValue, exotic element types included."""
    element = element_type(value.data_type())
    if element not in EXOTIC:
        return np.asarray(value.numpy())
    _, dtype, bits = EXOTIC[element]
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64))
    if not count:
        return np.empty(shape, dtype)
    raw = np.frombuffer(ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes()), np.uint8)
    if bits < 8:
        parts = raw[:, np.newaxis] >> np.arange(0, 8, bits, dtype=np.uint8) & (1 << bits) - 1
        codes = parts.reshape(-1)[:count].astype(np.uint8)
        if element.startswith("int"):
            sign = 1 << bits - 1
            return ((codes.astype(np.int8) ^ sign) - sign).astype(dtype).reshape(shape)
        return codes.view(dtype).reshape(shape)
    return raw.view(dtype).reshape(shape)
