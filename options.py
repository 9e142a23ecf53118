"""Options of `optimize`, each declared once: default, check, help and command-line form.

The parsers of the commands, the synopsis in README.md and the commands of reproducers are generated from these fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from .option_kinds import (
    CACHE,
    DIMS,
    FLAG,
    NAMES,
    POINT,
    SECONDS,
    SHAPES,
    SIZE,
    TARGET,
    VERSION,
    Kind,
    Range,
    counts,
    number,
    one_of,
    optional,
    path,
    several,
    text,
)

DEFAULT_TARGET = "ort-cpu"
PROVIDERS = ("cpu", "cuda", "openvino")
CPU_ISAS = ("portable", "avx2", "avx512", "host")

FAMILIES: Mapping[str, frozenset[str]] = {
    "attention": frozenset(
        "Attention MultiHeadAttention GroupQueryAttention DecoderMaskedMultiHeadAttention PackedAttention "
        "PackedMultiHeadAttention PagedAttention SparseAttention QAttention".split()
    ),
    "layer-norm": frozenset("LayerNormalization SkipLayerNormalization EmbedLayerNormalization".split()),
    "rms-norm": frozenset("RMSNormalization SimplifiedLayerNormalization SkipSimplifiedLayerNormalization".split()),
    "group-norm": frozenset("GroupNormalization GroupNorm SkipGroupNorm".split()),
    "rotary-embedding": frozenset({"RotaryEmbedding"}),
    "gelu": frozenset("Gelu BiasGelu FastGelu QuickGelu BiasSplitGelu".split()),
}
"""Operators, of the standard and of ONNX Runtime, that compute the same kind of thing: for --require-fused."""

Group = Literal["optimization", "verification", "execution", "measurement", "gates", "tuning", "output", ""]
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

    @property
    def opposite(self) -> str:
        """The flag that takes this one back: what a configuration file switches on is switched off by it."""
        return self.flag.replace("--no-", "--", 1) if self.is_negated else self.flag.replace("--", "--no-", 1)

    @property
    def key(self) -> str:
        """The name in a configuration file: the flag without its dashes, and without the `no` of a negated one."""
        return (self.opposite if self.is_negated else self.flag).removeprefix("--")

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

    target: str | Path = option(
        DEFAULT_TARGET, TARGET, "optimization", "runtime to optimize for: a name (optimize-graph targets), or a file"
    )
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
    provider: Literal["cpu", "cuda", "openvino"] | None = option(
        None, optional(one_of(*PROVIDERS)), "execution", "where models run (what the target says, else cpu)"
    )
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
    require_speedup: float | None = option(
        None,
        optional(number(Range(0, 1e6, False), "X")),
        "gates",
        "fail where the result is less than X times as fast, at any --at: where the whole interval is below X",
    )
    max_size: str | None = option(
        None,
        optional(SIZE),
        "gates",
        "fail where the file with its external data is larger: 20MB, or x0.9 of the original",
    )
    max_peak_memory: str | None = option(
        None, optional(SIZE), "gates", "fail where the peak memory of a run is larger: 1GiB, or x1.0 of the original's"
    )
    max_error: float | None = option(
        None,
        optional(number(Range(0, 1e30, False), "R")),
        "gates",
        "fail where verification saw a larger error, relative to the scale of an output",
    )
    max_nodes: int | None = option(
        None, optional(number(Range(0, 1 << 31, True))), "gates", "fail where the result has more nodes"
    )
    require_fused: Mapping[str, int] = option(
        {},
        counts(FAMILIES),
        "gates",
        f"fail where the result has fewer operators of a name, as Gelu=12, or family: {', '.join(FAMILIES)}",
    )
    baseline: Path | None = option(
        None,
        optional(path("FILE.json")),
        "gates",
        "fail where nodes, file, error or speed are worse than in an earlier --report, beyond noise and intervals",
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
    sources: Mapping[str, str] = option(
        {}, NAMES, "", "where each option was given, by field: recorded in reports, without effect"
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
