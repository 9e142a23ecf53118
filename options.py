"""Options of `optimize`, each declared once: default, check, help and command-line form.

The parsers of the commands, the synopsis in README.md and the commands of reproducers are generated from these fields.
"""

from __future__ import annotations

import dataclasses
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, NoReturn

TARGETS = ("ort-cpu", "ort-cuda", "onnx")
PROVIDERS = ("cpu", "cuda")
CPU_ISAS = ("portable", "avx2", "avx512", "host")

Check = Callable[[str, object], object]


class Range(NamedTuple):
    """The numbers that an option may have, both ends included."""

    low: float
    high: float
    is_integer: bool

    def __str__(self) -> str:
        kind = "an integer" if self.is_integer else "a number"
        return f"{kind} from {self.low:g} to {self.high:.15g}"

    def has(self, number: float) -> bool:
        """Whether `number` is inside; NaN never is."""
        return self.low <= number <= self.high


# --- kinds of values --------------------------------------------------------------------------------------------------


def _reject(name: str, given: object, allowed: str, hint: str = "") -> NoReturn:
    from .ir.diagnostics import Diagnostic, OptionsError  # late: it is heavy, and options rarely wrong

    message = f"option {name!r} is {given!r} ({type(given).__name__}), expected {allowed}"
    raise OptionsError(Diagnostic("invalid-option", message, hint=hint))


@dataclass(frozen=True)
class Kind:
    """Values of an option. `check` gives the value as the field holds it, or raises OptionsError.

    On the command line: one word each (`parse`: to the value), or none (a flag); `is_repeated`: any number of times.
    """

    check: Check
    parse: Callable[[str], object] = str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    is_flag: bool = False
    is_repeated: bool = False


def _check_flag(name: str, given: object) -> object:
    if not isinstance(given, bool):
        _reject(name, given, "True or False")
    return given


FLAG: Final = Kind(_check_flag, is_flag=True)


def number(allowed: Range, metavar: str = "N") -> Kind:
    """Numbers in a range; those of NumPy, too."""

    def check(name: str, given: object) -> object:
        kind = numbers.Integral if allowed.is_integer else numbers.Real
        if isinstance(given, bool) or not isinstance(given, kind) or not allowed.has(float(given)):
            _reject(name, given, str(allowed))
        return int(float(given)) if allowed.is_integer else float(given)  # below 2^53: exact

    def parse(text: str) -> object:
        """Raises ValueError for what is outside."""
        try:
            given = int(text) if allowed.is_integer else float(text)
        except ValueError:
            given = float("nan")
        if not allowed.has(given):
            raise ValueError(f"{text!r} is not {allowed}")
        return given

    return Kind(check, parse, metavar)


def _check_text(name: str, given: object) -> object:
    if not isinstance(given, str) or not given:
        _reject(name, given, "a text that is not empty")
    return given


def _check_path(name: str, given: object) -> object:
    if not isinstance(given, Path):
        _reject(name, given, "a pathlib.Path")
    return given


def _check_version(name: str, given: object) -> object:
    if not isinstance(given, str) or not re.fullmatch(r"\d+\.\d+(\.\d+)?([.+-].*)?", given):
        _reject(name, given, "a version like '1.22'")
    return given


def _check_cache(name: str, given: object) -> object:
    if given != "off" and not isinstance(given, Path):
        _reject(name, given, "a pathlib.Path, 'off' or None")
    return given


def text(metavar: str) -> Kind:
    """A text that is not empty."""
    return Kind(_check_text, metavar=metavar)


def path(metavar: str) -> Kind:
    """A path."""
    return Kind(_check_path, Path, metavar)


def one_of(*choices: str) -> Kind:
    """One of a few words."""

    def check(name: str, given: object) -> object:
        if given not in choices:
            from .ir.diagnostics import did_you_mean  # late, as in `_reject`

            hint = did_you_mean(str(given), choices).removeprefix("; ")
            _reject(name, given, f"one of {', '.join(map(repr, choices))}", hint)
        return given

    return Kind(check, choices=choices)


def optional(kind: Kind) -> Kind:
    """The same, or None."""
    return dataclasses.replace(kind, check=lambda name, given: None if given is None else kind.check(name, given))


def several(kind: Kind, what: str) -> Kind:
    """A tuple or a list of values of one kind; kept as a tuple."""

    def check(name: str, given: object) -> object:
        if not isinstance(given, (tuple, list)):
            hint = f"write ({given!r},)" if isinstance(given, (str, Path)) else ""
            _reject(name, given, f"a tuple of {what}", hint)
        return tuple(kind.check(name, each) for each in given)

    return dataclasses.replace(kind, check=check, is_repeated=True)


def _is_size(given: object) -> bool:
    return isinstance(given, numbers.Integral) and not isinstance(given, bool) and int(given) >= 0


def _check_sizes(name: str, given: object) -> object:
    allowed = "a mapping from names of dims to sizes, {'batch': 8}"
    if not isinstance(given, Mapping):
        _reject(name, given, allowed)
    for symbol, size in given.items():
        if not isinstance(symbol, str) or not symbol or not _is_size(size):
            _reject(name, given, allowed)
    return {symbol: int(size) for symbol, size in given.items()}


def _check_shapes(name: str, given: object) -> object:
    allowed = "a mapping from names of inputs to dims, {'image': (1, 3, 224, 224)}"
    if not isinstance(given, Mapping):
        _reject(name, given, allowed)
    for each, dims in given.items():
        is_list = isinstance(dims, Sequence) and not isinstance(dims, str)
        if not isinstance(each, str) or not is_list or not all(isinstance(d, str) or _is_size(d) for d in dims):
            _reject(name, given, allowed)
    return {each: tuple(dim if isinstance(dim, str) else int(dim) for dim in dims) for each, dims in given.items()}


def parse_dim(word: str) -> tuple[str, int]:
    """`NAME=8`. Raises ValueError."""
    name, equals, size = word.rpartition("=")
    if not equals or not name or not size.isdigit():
        raise ValueError(f"{word!r} is not NAME=8")
    return name, int(size)


def parse_point(word: str) -> dict[str, int]:
    """`DIM=8,DIM=128`. Raises ValueError."""
    return dict(parse_dim(part.strip()) for part in word.split(","))


def parse_input_shape(word: str) -> tuple[str, tuple[int | str, ...]]:
    """`NAME:1,3,224,224`; a dim may be a name. Raises ValueError."""
    name, colon, dims = word.rpartition(":")
    if not colon or not name:
        raise ValueError(f"{word!r} is not NAME:1,3,224,224")
    parts = [part.strip() for part in dims.split(",")] if dims.strip() else []
    if not all(part.isdigit() or part.isidentifier() for part in parts):
        raise ValueError(f"{dims!r} is not a list of sizes or names")
    return name, tuple(int(part) if part.isdigit() else part for part in parts)


DIMS: Final = Kind(_check_sizes, parse_dim, "NAME=8", is_repeated=True)
SHAPES: Final = Kind(_check_shapes, parse_input_shape, "NAME:1,3,224,224", is_repeated=True)
POINT: Final = Kind(_check_sizes, parse_point, "DIM=8,DIM=128")
VERSION: Final = Kind(_check_version, metavar="VERSION")
CACHE: Final = Kind(_check_cache, lambda word: word if word == "off" else Path(word), "DIR|off")
SECONDS: Final = number(Range(0.001, 1e6, False), "S")


# --- declarations -----------------------------------------------------------------------------------------------------

Group = Literal["optimization", "verification", "execution", "measurement", "tuning", "output", ""]
"""Where an option is listed; "" for those that Python alone has."""


@dataclass(frozen=True)
class Option:
    """How a field is given: its kind, group, help, and its flag on the command line."""

    kind: Kind
    group: Group
    help: str
    flag: str
    metavar: str

    @property
    def is_negated(self) -> bool:
        """Whether the flag switches off what is on by default."""
        return self.flag.startswith("--no-")

    def words(self, value: object) -> list[str]:
        """The words of a command that give `value`."""
        if self.kind.is_flag:
            return [self.flag] if value is not self.is_negated else []
        if value is None:
            return []
        values = value if self.kind.is_repeated and isinstance(value, tuple) else (value,)
        return [word for each in values for word in (self.flag, str(each))]


def option(default: Any, kind: Kind, group: Group, help: str, *, flag: str = "", metavar: str = "") -> Any:  # noqa: A002
    """A field of `Options`. `flag`: by default the field's name with dashes."""
    declared = Option(kind, group, help, flag, metavar or kind.metavar)
    if isinstance(default, dict):
        return field(default_factory=dict, metadata={"option": declared})
    return field(default=default, metadata={"option": declared})


@dataclass(frozen=True)
class Options:
    """Options of `optimize`; the defaults do the right thing. Raises OptionsError for a value that a field cannot have.

    The help of each field says what it does: `Options.__dataclass_fields__`, `optimize-graph --help`, docs/options.md.
    """

    target: str = option("ort-cpu", one_of(*TARGETS), "optimization", "runtime to optimize for")
    cpu_isa: Literal["portable", "avx2", "avx512", "host"] = option(
        "portable",
        one_of(*CPU_ISAS),
        "optimization",
        "CPU instruction set to optimize for: ONNX Runtime blocks 16 channels with AVX-512 and 8 with AVX2; portable "
        "does what suits both, host takes this CPU's",
    )
    min_ort: str | None = option(
        None, optional(VERSION), "optimization", "oldest ONNX Runtime that must load the result (the installed one)"
    )
    opset: int | None = option(
        None, optional(number(Range(0, 1000, True))), "optimization", "convert the model to this opset first"
    )
    passes: str = option(
        "default", text("TEXT"), "optimization", "preset or pipeline, as 'fixpoint(constant-fold,cse),dce'"
    )
    disable: tuple[str, ...] = option(
        (), several(text("RULE"), "names of rules and passes"), "optimization", "leave out a rule or pass"
    )
    max_rewrites: int | None = option(
        None, optional(number(Range(0, 1 << 31, True))), "optimization", "stop after N rewrites"
    )
    input_shapes: Mapping[str, Sequence[int | str]] = option(
        {}, SHAPES, "optimization", "fix the dims of an input", flag="--input-shape"
    )
    dims: Mapping[str, int] = option({}, DIMS, "optimization", "fix a symbolic dim", flag="--dim")
    freeze: tuple[str, ...] = option(
        (),
        several(text("NAME|all"), "names of inputs"),
        "optimization",
        "make an input that has a default a constant, out of the interface",
    )
    upcast_fp16: bool = option(
        False, FLAG, "optimization", "compute float16 in float32 inside: faster on CPUs, for ort-cpu"
    )
    fp16: bool = option(
        False,
        FLAG,
        "optimization",
        "compute float32 in float16 inside, where that is safe, for ort-cuda; verified against what rounding the "
        "original's inputs and weights to float16 changes",
    )
    compress_constants: bool = option(
        False, FLAG, "optimization", "write large constants of one repeated value as operators"
    )
    strip_metadata: bool = option(
        False, FLAG, "optimization", "drop metadata that the exporter wrote on nodes: stack traces, docs"
    )
    plugins: tuple[str, ...] = option(
        (),
        several(text("MODULE"), "names of modules"),
        "optimization",
        "import a module of rules or passes",
        flag="--plugin",
    )
    verify: bool = option(True, FLAG, "verification", "write the result without comparing it", flag="--no-verify")
    verify_timeout: float = option(120.0, SECONDS, "verification", "time limit of verification")
    rtol: float | None = option(
        None,
        optional(number(Range(0, 1e30, False), "R")),
        "verification",
        "relative tolerance instead of the model's own noise floor",
    )
    atol: float | None = option(
        None,
        optional(number(Range(0, 1e30, False), "A")),
        "verification",
        "absolute tolerance instead of the model's own noise floor",
    )
    inputs: tuple[Path, ...] = option((), several(path("FILE.npz"), "pathlib.Path"), "execution", "inputs of yours")
    threads: int | None = option(
        None,  # ONNX Runtime takes 160 KB for each thread before it runs anything
        optional(number(Range(0, 1024, True))),
        "execution",
        "threads that ONNX Runtime will have, 0 for its own number (measured with 1, chosen for 1 to 4)",
    )
    provider: Literal["cpu", "cuda"] = option("cpu", one_of(*PROVIDERS), "execution", "where models run")
    custom_ops: tuple[Path, ...] = option(
        (), several(path("LIB"), "pathlib.Path"), "execution", "library of custom operators"
    )
    seed: int = option(0, number(Range(0, (1 << 31) - 1, True)), "execution", "seed of generated inputs")
    follow_symlinks: bool = option(False, FLAG, "execution", "follow symbolic links to the model and its data")
    measure: bool = option(False, FLAG, "measurement", "measure latency, load time and memory, before and after")
    measure_seconds: float = option(6.0, SECONDS, "measurement", "time limit of latencies, per --at")
    measure_at: tuple[Mapping[str, int], ...] = option(
        (),
        several(POINT, "mappings from names of dims to sizes"),
        "measurement",
        "measure at these sizes of symbolic dims",
        flag="--at",
    )
    keep_slower: bool = option(
        False, FLAG, "measurement", "deliver a result that is measured to be slower than the original"
    )
    tune: bool = option(
        False, FLAG, "tuning", "measure the heuristic choices on this machine and inputs, and keep what is faster"
    )
    tune_budget: float = option(60.0, SECONDS, "tuning", "time limit of tuning")
    tune_cache: Path | Literal["off"] | None = option(
        None, optional(CACHE), "tuning", "where what was learned is kept (the user's cache folder)"
    )
    save_session_options: Path | None = option(
        None,
        optional(path("FILE.json")),
        "tuning",
        "try ONNX Runtime's own fusions, too, and write which ones to switch off",
    )
    reproducer_dir: Path | None = option(
        None, optional(path("DIR")), "output", "folder of reproducers of faulty rewrites (OUT.onnx.reproducers)"
    )
    strict: bool = option(False, FLAG, "output", "fail on a faulty rewrite instead of excluding it")
    verify_each: bool = option(False, FLAG, "output", "check the model after each pass (slow)")
    model_profile: bool = option(
        False, FLAG, "", "profile both models: where the time goes, and what is live while each node runs"
    )

    def __post_init__(self) -> None:
        for name, declared in declarations():
            object.__setattr__(self, name, declared.kind.check(name, getattr(self, name)))

    def words(self, names: Sequence[str]) -> list[str]:
        """The words of a command that give these options, as far as they are not the defaults."""
        return [
            word
            for name, declared in declarations()
            if name in names and getattr(self, name) != getattr(defaults(), name)
            for word in declared.words(getattr(self, name))
        ]


@cache
def declarations() -> tuple[tuple[str, Option], ...]:
    """The fields of `Options` with their declarations, in order."""
    fields = [(each.name, each.metadata["option"]) for each in dataclasses.fields(Options)]
    flags = ((name, option.flag or f"--{name.replace('_', '-')}", option) for name, option in fields)
    return tuple((name, dataclasses.replace(option, flag=flag)) for name, flag, option in flags)


@cache
def defaults() -> Options:
    """The options without any that is given."""
    return Options()
