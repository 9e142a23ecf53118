"""Sessions with plain errors: what ONNX Runtime says, in one line, and never a silent change of provider."""

from __future__ import annotations

import importlib.metadata
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ... import ir
from ...ir.io.load import serialized
from ...ir.standard.custom_operators import interpreted
from .session_options import Array, Datum, Feeds, Outputs, SessionOptions

if TYPE_CHECKING:
    import onnxruntime

# Every one of these installs the same folder `onnxruntime`, over whichever came before.
DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-training",
)

BRINGS = {"cuda": "onnxruntime-gpu", "openvino": "onnxruntime-openvino"}
"""The distribution that brings an execution provider."""


TIME_LIMIT = "time-limit"
"""The code of errors that only say that time was up."""


@dataclass(frozen=True)
class Port:
    """An input or output as ONNX Runtime sees it: `type` as in `tensor(float)`, dims int, symbol or None (unknown)."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


class Session:
    """A model that is ready to run."""

    def __init__(
        self,
        raw: onnxruntime.InferenceSession,
        options: SessionOptions,
        file: str,
        weights: Mapping[str, onnxruntime.OrtValue],
    ) -> None:
        self._raw = raw
        self._weights = weights  # ONNX Runtime does not own them
        self._file = file
        self.options = options
        self.inputs = tuple(Port(port.name, port.type, tuple(port.shape)) for port in raw.get_inputs())
        self.outputs = tuple(Port(port.name, port.type, tuple(port.shape)) for port in raw.get_outputs())

    def run(self, feeds: Feeds, time_limit_s: float | None = None) -> Outputs:
        """The outputs by name, in the model's order.

        Raises ModelError: `run-failed`, or `time-limit` for a run that took longer than `time_limit_s`.
        """
        from . import api

        start = time.monotonic()
        with api.stopped_after(time_limit_s) as run_options:
            try:
                values = self._call(feeds, run_options)()
            except ir.ModelError:
                if time_limit_s is None or time.monotonic() - start < time_limit_s:
                    raise
                raise _too_slow("one run of the model", time_limit_s, self._where) from None
        return dict(zip((port.name for port in self.outputs), values, strict=True))

    def prepare(self, feeds: Feeds) -> Callable[[], list[Datum]]:
        """A run on `feeds` to be called again and again, as cheap as ONNX Runtime's own. Raises ModelError."""
        return self._call(feeds, None)

    def _call(self, feeds: Feeds, run_options: onnxruntime.RunOptions | None) -> Callable[[], list[Datum]]:
        from . import api

        self._check_names(feeds)
        try:
            call = api.prepare(self._raw, feeds, run_options)
        except Exception as error:
            self._refuse(error)

        def run() -> list[Datum]:
            try:
                return call()
            except Exception as error:  # pybind raises unrelated classes: Fail, RuntimeError, ValueError, TypeError
                self._refuse(error)

        return run

    def _check_names(self, feeds: Feeds) -> None:
        known = {port.name for port in self.inputs}
        missing = [port.name for port in self.inputs if port.name not in feeds]
        unknown = [name for name in feeds if name not in known]
        if missing or unknown:
            said = f"missing {missing}" if missing else f"unknown {unknown}"
            raise ir.ModelError(
                ir.Diagnostic("run-failed", f"the inputs given do not fit the model's: {said}", self._where)
            )

    def end_profiling(self) -> Path:
        """The file that ONNX Runtime's profiler wrote."""
        return Path(self._raw.end_profiling())

    @property
    def _where(self) -> ir.Location:
        return ir.Location(file=self._file)

    def _refuse(self, error: Exception) -> NoReturn:
        message = f"ONNX Runtime could not run the model: {short_message(error)}"
        raise ir.ModelError(ir.Diagnostic("run-failed", message, self._where)) from None


def open_session(
    source: Path | bytes,
    options: SessionOptions | None = None,
    weights: Mapping[str, Array] | None = None,
    *,
    profile_to: Path | None = None,
    time_limit_s: float | None = None,
) -> Session:
    """Load a model into ONNX Runtime; `weights` take the place of initializers of the same name, type and shape.

    `profile_to`: where its profiler writes, with a time and `.json` after it. Operators with a registered meaning are
    run by it, unless there is a library of custom operators (see `ir.operator_semantics`).

    Raises ModelError (`onnxruntime-refuses-model`, `time-limit`) or MachineError (`onnxruntime-missing`,
    `two-onnxruntimes`, `provider-unavailable`, `custom-ops-unavailable`).
    """
    check_installation()
    options = options or SessionOptions()
    try:
        from . import api
    except ImportError as error:
        raise ir.EnvironmentSetupError(
            ir.Diagnostic(
                "onnxruntime-missing",
                f"onnxruntime cannot be imported: {short_message(error)}",
                hint="pip install onnxruntime, or onnxruntime-gpu; one of them",
            )
        ) from None
    _check_custom_ops(options)
    if options.provider != "cpu" and not api.is_built_in(options.provider):
        hint = f"install {BRINGS[options.provider]}, or --provider cpu"
        raise _unavailable(options, "this build of ONNX Runtime does not have it", hint)
    file = "" if isinstance(source, bytes) else str(source)
    start = time.monotonic()
    meaning = interpreted(source) if options.interpret and not options.custom_ops else None
    if meaning is not None and meaning.references:
        from .python_operators import InterpretedSession

        return InterpretedSession(meaning, options, file, weights or {})
    if meaning is not None:
        source = serialized(meaning.proto)
    try:
        held = {name: api.to_ortvalue(array, "") for name, array in (weights or {}).items()}
        raw = api.create(source, options, held, profile_to, time_limit_s=time_limit_s)
    except Exception as error:
        if time_limit_s is not None and time.monotonic() - start >= time_limit_s:
            raise _too_slow("loading the model", time_limit_s, ir.Location(file=file)) from None
        message = f"ONNX Runtime refuses the model: {short_message(error)}"
        raise ir.ModelError(ir.Diagnostic("onnxruntime-refuses-model", message, ir.Location(file=file))) from None
    if not api.has_provider(raw, options.provider):
        hint = "check the driver and the CUDA and cuDNN libraries (pip install 'onnxruntime-gpu[cuda,cudnn]')"
        if options.provider != "cuda":
            hint = "--provider cpu does without"
        raise _unavailable(options, "its libraries or a device could not be loaded", hint)
    return Session(raw, options, file, held)


def seconds_until(until: float | None) -> float | None:
    """The time limit of what must end at `until`, by the monotonic clock; None where there is no end."""
    return None if until is None else until - time.monotonic()


def is_out_of_time(error: ir.ModelError) -> bool:
    """Whether it says that a time limit was reached, and nothing about the model."""
    return error.diagnostic.code == TIME_LIMIT


def _too_slow(what: str, seconds: float, where: ir.Location) -> ir.ModelError:
    message = f"{what} takes longer than the {seconds:.1f} s that are left for it"
    if seconds <= 0:
        message = f"{what}: no time is left for it"
    return ir.ModelError(ir.Diagnostic(TIME_LIMIT, message, where))


@cache
def check_installation() -> None:
    """Raise MachineError (`two-onnxruntimes`) when several distributions of ONNX Runtime overwrite each other."""
    installed = [name for name in DISTRIBUTIONS if _is_installed(name)]
    if len(installed) < 2:
        return
    keep = "onnxruntime-gpu" if "onnxruntime-gpu" in installed else installed[-1]
    hint = f"pip uninstall --yes {' '.join(installed)} && pip install {keep}"
    message = f"{' and '.join(installed)} are both installed and overwrite each other's files"
    raise ir.EnvironmentSetupError(ir.Diagnostic("two-onnxruntimes", message, hint=hint))


def _is_installed(name: str) -> bool:
    try:
        files = importlib.metadata.distribution(name).files
    except importlib.metadata.PackageNotFoundError:
        return False
    # A package that only depends on another (an alias) brings no module of its own.
    return files is None or any(file.parts[0] == "onnxruntime" for file in files)


def _check_custom_ops(options: SessionOptions) -> None:
    from . import api

    for library in options.custom_ops:
        try:
            api.try_custom_ops(library)
        except Exception as error:
            message = f"the custom operator library cannot be loaded: {short_message(error)}"
            where = ir.Location(file=str(library))
            raise ir.EnvironmentSetupError(ir.Diagnostic("custom-ops-unavailable", message, where)) from None


def _unavailable(options: SessionOptions, why: str, hint: str) -> ir.EnvironmentSetupError:
    message = f"the provider {options.provider!r} was asked for and cannot be had: {why}"
    return ir.EnvironmentSetupError(ir.Diagnostic("provider-unavailable", message, hint=hint))


def short_message(error: BaseException) -> str:
    """The first line of an error, without ONNX Runtime's codes and the source files it was built from."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : (\w+) : ", "", text)
    text = re.sub(r"/\S+?\.(?:cc|h|cpp|cu):\d+ (?:[^()]*\([^()]*\)[^()]*? )?(?=[A-Z(]|\S+ was)", "", text)
    return text if len(text) <= 300 else text[:297] + "..."


def save_optimized(source: Path, target: Path, options: SessionOptions) -> None:
    """Write what ONNX Runtime's own optimizations make of a model. Raises ModelError where it refuses the model."""
    from . import api

    try:
        api.create(source, options, save_to=target)
    except Exception as error:
        message = f"ONNX Runtime refuses the model: {short_message(error)}"
        where = ir.Location(file=str(source))
        raise ir.ModelError(ir.Diagnostic("onnxruntime-refuses-model", message, where)) from None
