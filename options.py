"""What may be asked of `optimize`."""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple, NoReturn

TARGETS = ("ort-cpu", "ort-cuda", "onnx")
PROVIDERS = ("cpu", "cuda")
CPU_ISAS = ("portable", "avx2", "avx512", "host")


class Range(NamedTuple):
    """The numbers that an option may have, both ends included."""

    low: float
    high: float
    is_integer: bool

    def __str__(self) -> str:
        kind = "an integer" if self.is_integer else "a number"
        return f"{kind} from {self.low:g} to {self.high:.15g}"

    def has(self, number: float) -> bool:
        return self.low <= number <= self.high  # never so for NaN


_SECONDS: Final = Range(0.001, 1e6, False)
RANGES: Final[Mapping[str, Range]] = {
    "max_rewrites": Range(0, 1 << 31, True),
    "opset": Range(0, 1000, True),  # which there are depends on the model: see the converter
    "threads": Range(0, 1024, True),  # ONNX Runtime takes 160 KB for each before it runs anything
    "seed": Range(0, (1 << 31) - 1, True),
    "verify_timeout": _SECONDS,
    "measure_seconds": _SECONDS,
    "tune_budget": _SECONDS,
    "seconds": _SECONDS,
    "rtol": Range(0, 1e30, False),
    "atol": Range(0, 1e30, False),
}
"""What numeric options may be: asked when the command is parsed, and when `Options` are made."""


@dataclass(frozen=True)
class Options:
    """What may be asked for; the defaults do the right thing. Raises OptionsError for a value that a field cannot have.

    `passes`: the text of a pipeline (see docs/pipelines.md); by default the preset `default`.
    `disable`: names of rules and passes that are to be left out. `max_rewrites`: stop after that many rewrites.
    `input_shapes`: dims for inputs, `dims`: sizes for symbolic dims; both narrow the interface. `inputs`: `.npz` files
    of the user's own inputs.
    `freeze`: names of inputs with a default that become constants, out of the interface; `all` for all of them.
    `opset`: convert to this one. `min_ort`: the oldest ONNX Runtime that must load the result (the installed one).
    `rtol`, `atol`: a tolerance instead of the model's own noise floor. `verify_timeout`: time limit of verification.
    `upcast_fp16`: compute float16 models in float32 inside; for target `ort-cpu`.
    `fp16`: compute float32 models in float16 inside, for target `ort-cuda`; verified against what rounding the
    original's inputs and weights to float16 changes.
    `compress_constants`: write large constants that repeat one value as operators. `strip_metadata`: drop what the
    exporter noted on nodes. `threads`: how many ONNX Runtime is to have; by default it is measured with one, and chosen
    for one to four. With 0 it is measured with ONNX Runtime's own number, and chosen for one to four: results do not
    depend on the machine. `cpu_isa`: the vector instructions of the CPU that the result is for: ONNX Runtime lays 16
    channels of an image together with AVX-512, and 8 with AVX2. `portable` does what suits both, so that the result
    does not depend on the machine that builds it; `host` takes those of this machine.
    `measure_seconds`: the most time for latencies, of each point; `measure_at`: points by the sizes of symbolic dims.
    `keep_slower`: deliver a result that is measured to be slower; otherwise the original is delivered then.
    `model_profile`: look inside both models: where the time goes, and what lives while each node runs.
    `tune`: measure the choices of profit on this machine and these inputs, within `tune_budget` seconds, and keep what
    is faster; what was learned is remembered in `tune_cache` (a folder of the user's; "off" for nowhere).
    `save_session_options`: try ONNX Runtime's own fusions too, and write which ones to switch off to this file (JSON).
    `reproducer_dir`: the folder for what shows a rewrite that went wrong (by default beside the output).
    `strict`: a rewrite that goes wrong is an error; otherwise it is left out and reported.
    """

    target: str = "ort-cpu"
    passes: str = "default"
    compress_constants: bool = False
    strip_metadata: bool = False
    upcast_fp16: bool = False
    fp16: bool = False
    disable: tuple[str, ...] = ()
    max_rewrites: int | None = None
    opset: int | None = None
    min_ort: str | None = None
    input_shapes: Mapping[str, Sequence[int | str]] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    inputs: tuple[Path, ...] = ()
    verify: bool = True
    verify_timeout: float = 120.0
    rtol: float | None = None
    atol: float | None = None
    measure: bool = False
    keep_slower: bool = False
    measure_seconds: float = 6.0
    measure_at: tuple[Mapping[str, int], ...] = ()
    threads: int | None = None
    cpu_isa: Literal["portable", "avx2", "avx512", "host"] = "portable"
    provider: Literal["cpu", "cuda"] = "cpu"
    custom_ops: tuple[Path, ...] = ()
    follow_symlinks: bool = False
    plugins: tuple[str, ...] = ()
    model_profile: bool = False
    tune: bool = False
    tune_budget: float = 60.0
    tune_cache: Path | Literal["off"] | None = None
    save_session_options: Path | None = None
    reproducer_dir: Path | None = None
    strict: bool = False
    verify_each: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(name, getattr(self, name)))


# --- what a field may be ----------------------------------------------------------------------------------------------

_Check = Callable[[str, object], object]


def _refuse(name: str, given: object, allowed: str, hint: str = "") -> NoReturn:
    from .ir.diagnostics import Diagnostic, OptionsError  # late: it is heavy, and options rarely wrong

    message = f"option {name!r} is {given!r} ({type(given).__name__}), expected {allowed}"
    raise OptionsError(Diagnostic("invalid-option", message, hint=hint))


def _flag(name: str, given: object) -> object:
    if not isinstance(given, bool):
        _refuse(name, given, "True or False")
    return given


def _number(name: str, given: object) -> object:
    allowed = RANGES[name]
    kind = numbers.Integral if allowed.is_integer else numbers.Real
    if isinstance(given, bool) or not isinstance(given, kind) or not allowed.has(float(given)):
        _refuse(name, given, str(allowed))
    return int(float(given)) if allowed.is_integer else float(given)  # below 2^53: exact


def _text(name: str, given: object) -> object:
    if not isinstance(given, str) or not given:
        _refuse(name, given, "a text that is not empty")
    return given


def _path(name: str, given: object) -> object:
    if not isinstance(given, Path):
        _refuse(name, given, "a pathlib.Path")
    return given


def _version(name: str, given: object) -> object:
    if not isinstance(given, str) or not re.fullmatch(r"\d+\.\d+(\.\d+)?([.+-].*)?", given):
        _refuse(name, given, "a version like '1.22'")
    return given


def _one_of(*choices: str) -> _Check:
    def check(name: str, given: object) -> object:
        if given not in choices:
            from .ir.diagnostics import did_you_mean  # late, as in `_refuse`

            hint = did_you_mean(str(given), choices).removeprefix("; ")
            _refuse(name, given, f"one of {', '.join(map(repr, choices))}", hint)
        return given

    return check


def _optional(check: _Check) -> _Check:
    return lambda name, given: None if given is None else check(name, given)


def _several(check: _Check, what: str) -> _Check:
    """A tuple or a list, of which each element passes `check`; kept as a tuple."""

    def checked(name: str, given: object) -> object:
        if not isinstance(given, (tuple, list)):
            hint = f"write ({given!r},)" if isinstance(given, (str, Path)) else ""
            _refuse(name, given, f"a tuple of {what}", hint)
        return tuple(check(name, each) for each in given)

    return checked


def _is_size(given: object) -> bool:
    return isinstance(given, numbers.Integral) and not isinstance(given, bool) and int(given) >= 0


def _sizes(name: str, given: object) -> object:
    allowed = "a mapping from names of dims to sizes, {'batch': 8}"
    if not isinstance(given, Mapping):
        _refuse(name, given, allowed)
    for symbol, size in given.items():
        if not isinstance(symbol, str) or not symbol or not _is_size(size):
            _refuse(name, given, allowed)
    return {symbol: int(size) for symbol, size in given.items()}


def _shapes(name: str, given: object) -> object:
    allowed = "a mapping from names of inputs to dims, {'image': (1, 3, 224, 224)}"
    if not isinstance(given, Mapping):
        _refuse(name, given, allowed)
    for each, dims in given.items():
        is_list = isinstance(dims, Sequence) and not isinstance(dims, str)
        if not isinstance(each, str) or not is_list or not all(isinstance(d, str) or _is_size(d) for d in dims):
            _refuse(name, given, allowed)
    return {each: tuple(dim if isinstance(dim, str) else int(dim) for dim in dims) for each, dims in given.items()}


def _cache(name: str, given: object) -> object:
    if given != "off" and not isinstance(given, Path):
        _refuse(name, given, "a pathlib.Path, 'off' or None")
    return given


_CHECKS: Final[Mapping[str, _Check]] = {
    "target": _one_of(*TARGETS),
    "passes": _text,
    "disable": _several(_text, "names of rules and passes"),
    "max_rewrites": _optional(_number),
    "opset": _optional(_number),
    "min_ort": _optional(_version),
    "input_shapes": _shapes,
    "dims": _sizes,
    "freeze": _several(_text, "names of inputs"),
    "inputs": _several(_path, "pathlib.Path"),
    "verify_timeout": _number,
    "rtol": _optional(_number),
    "atol": _optional(_number),
    "measure_seconds": _number,
    "measure_at": _several(_sizes, "mappings from names of dims to sizes"),
    "threads": _optional(_number),
    "cpu_isa": _one_of(*CPU_ISAS),
    "provider": _one_of(*PROVIDERS),
    "custom_ops": _several(_path, "pathlib.Path"),
    "plugins": _several(_text, "names of modules"),
    "tune_budget": _number,
    "tune_cache": _optional(_cache),
    "save_session_options": _optional(_path),
    "reproducer_dir": _optional(_path),
    "seed": _number,
    **dict.fromkeys(
        (
            "compress_constants",
            "strip_metadata",
            "upcast_fp16",
            "fp16",
            "verify",
            "measure",
            "keep_slower",
            "follow_symlinks",
            "model_profile",
            "tune",
            "strict",
            "verify_each",
        ),
        _flag,
    ),
}
