"""Kinds of values that an option may have: how they are checked, and read from a command line."""

from __future__ import annotations

import dataclasses
import numbers
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

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


def _reject(name: str, given: object, allowed: str, hint: str = "") -> NoReturn:
    from .ir.diagnostics import Diagnostic, OptionsError  # late: it is heavy, and options rarely wrong

    message = f"option {name!r} is {given!r} ({type(given).__name__}), expected {allowed}"
    raise OptionsError(Diagnostic("invalid-option", message, hint=hint))


@dataclass(frozen=True)
class Kind:
    """Values of an option. `check` gives the value as the field holds it, or raises OptionsError.

    On the command line: one word each (`parse`: to the value), or none (a flag); `is_repeated`: any number of times.
    In a configuration file: what JSON Schema `schema` describes; `is_path`: a text that `parse` makes a path.
    """

    check: Check
    parse: Callable[[str], object] = str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    is_flag: bool = False
    is_repeated: bool = False
    schema: Mapping[str, Any] = field(default_factory=dict)
    is_path: bool = False


def _check_flag(name: str, given: object) -> object:
    if not isinstance(given, bool):
        _reject(name, given, "True or False")
    return given


FLAG: Final = Kind(_check_flag, is_flag=True, schema={"type": "boolean"})


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

    kind = "integer" if allowed.is_integer else "number"
    return Kind(check, parse, metavar, schema={"type": kind, "minimum": allowed.low, "maximum": allowed.high})


def _check_text(name: str, given: object) -> object:
    if not isinstance(given, str) or not given:
        _reject(name, given, "a text that is not empty")
    return given


def _check_path(name: str, given: object) -> object:
    if not isinstance(given, Path):
        _reject(name, given, "a pathlib.Path")
    return given


def _check_target(name: str, given: object) -> object:
    if not isinstance(given, (str, Path)) or not given:
        _reject(name, given, "a name, or a pathlib.Path of a file")
    if isinstance(given, Path) or given.endswith(".toml"):
        return Path(given)
    if not (Path(__file__).parent / "passes" / "targets" / "data" / f"{given}.toml").is_file():
        from .passes.targets.target_file import find  # late, as in `_reject`: for targets of other packages

        find(given)
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
    return Kind(_check_text, metavar=metavar, schema={"type": "string", "minLength": 1})


def path(metavar: str) -> Kind:
    """A path."""
    return Kind(_check_path, Path, metavar, schema={"type": "string"}, is_path=True)


def one_of(*choices: str) -> Kind:
    """One of a few words."""

    def check(name: str, given: object) -> object:
        if given not in choices:
            from .ir.diagnostics import did_you_mean  # late, as in `_reject`

            hint = did_you_mean(str(given), choices).removeprefix("; ")
            _reject(name, given, f"one of {', '.join(map(repr, choices))}", hint)
        return given

    return Kind(check, choices=choices, schema={"type": "string", "enum": list(choices)})


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

    schema = {"type": "array", "items": kind.schema}
    return dataclasses.replace(kind, check=check, is_repeated=True, schema=schema)


def _check_names(name: str, given: object) -> object:
    if not isinstance(given, Mapping) or not all(isinstance(each, str) for pair in given.items() for each in pair):
        _reject(name, given, "a mapping from names to texts")
    return dict(given)


def _is_size(given: object) -> bool:
    return isinstance(given, numbers.Integral) and not isinstance(given, bool) and int(given) >= 0


def _check_sizes(
    name: str, given: object, allowed: str = "a mapping from names of dims to sizes, {'batch': 8}"
) -> dict[str, int]:
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


def parse_size(word: str) -> tuple[float, bool]:
    """Bytes of `20MB`, `20MiB` or `20`; or the ratio of `x0.9`, and True. Raises ValueError."""
    found = re.fullmatch(r"(x?)(\d+(?:\.\d+)?) ?(?:([kmgt]?)(i?)b)?", word, re.IGNORECASE)
    if not found or (found[1] and found[3] is not None):
        raise ValueError(f"{word!r} is not a size like 20MB or 20MiB, nor a ratio like x0.9")
    unit = 1024 if found[4] else 1000
    return float(found[2]) * float(unit ** " kmgt".index((found[3] or " ").lower())), bool(found[1])


def _size(word: str) -> str:
    parse_size(word)
    return word


def _check_size(name: str, given: object) -> object:
    try:
        return _size(str(given) if _is_size(given) else given if isinstance(given, str) else "")
    except ValueError:
        _reject(name, given, "a size like '20MB', '20MiB' or 20000000, or a ratio like 'x0.9'")


def _bytes(word: str) -> int:
    count, is_ratio = parse_size(word)
    if is_ratio:
        raise ValueError(f"{word!r} is a ratio, not a size like 20MB or 20MiB")
    return int(count)


def _check_bytes(name: str, given: object) -> object:
    try:
        return _bytes(str(given) if _is_size(given) else given if isinstance(given, str) else "")
    except ValueError:
        _reject(name, given, "a size like '20MB', '20MiB' or 20000000")


def counts(families: Iterable[str]) -> Kind:
    """A mapping from operators, or from families of them, to counts. Names of operators begin with a capital letter."""
    known = tuple(families)

    def check(name: str, given: object) -> object:
        counted: Mapping[str, int] = _check_sizes(name, given, "a mapping from operators to counts, {'attention': 12}")
        for each in counted:
            if each not in known and not each.rpartition(".")[2][:1].isupper():
                from .ir.diagnostics import did_you_mean  # late, as in `_reject`

                hint = did_you_mean(each, known).removeprefix("; ")
                _reject(name, each, f"operators, or families of them: {', '.join(known)}", hint)
        return counted

    return Kind(check, parse_dim, "NAME=N", is_repeated=True, schema=_SIZES)


_SIZES: Final = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}
_DIMS: Final = {"type": "array", "items": {"type": ["integer", "string"]}}
DIMS: Final = Kind(_check_sizes, parse_dim, "NAME=8", is_repeated=True, schema=_SIZES)
SHAPES: Final = Kind(
    _check_shapes,
    parse_input_shape,
    "NAME:1,3,224,224",
    is_repeated=True,
    schema={"type": "object", "additionalProperties": _DIMS},
)
POINT: Final = Kind(_check_sizes, parse_point, "DIM=8,DIM=128", schema=_SIZES)
VERSION: Final = Kind(_check_version, metavar="VERSION", schema={"type": "string", "minLength": 1})
CACHE: Final = Kind(
    _check_cache,
    lambda word: word if word == "off" else Path(word),
    "DIR|off",
    schema={"type": "string"},
    is_path=True,
)
TARGET: Final = Kind(
    _check_target,
    lambda word: Path(word) if word.endswith(".toml") else word,
    "NAME|FILE.toml",
    schema={"type": "string", "minLength": 1},
    is_path=True,
)
NAMES: Final = Kind(_check_names)
SIZE: Final = Kind(_check_size, _size, "SIZE|x1.0", schema={"type": ["integer", "string"]})
BYTES: Final = Kind(_check_bytes, _bytes, "SIZE", schema={"type": ["integer", "string"]})
SECONDS: Final = number(Range(0.001, 1e6, False), "S")
