"""What `optimize` gives back."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from ... import ir
from ...passes.analyses.model_stats import node_count, weight_bytes
from ...passes.pipeline.exactness import Exactness
from ...passes.pipeline.rewrite_log import MissedRewrite, Rewrite, RuleUse
from .gates import missed
from .target_versions import installed_versions

if TYPE_CHECKING:
    from ...runtime import Ratio, Verification
    from ..measure import Measurement
    from ..model_profile import ModelProfile
    from ..partitions import Partitions
    from .fault_isolation import FaultyRewrite
    from .gates import Gate
    from .tune import Tuning


SCHEMA: Final = 1
"""Version of the JSON report: raised when a key changes its meaning or goes; new keys may come."""


@dataclass(frozen=True)
class PassUse:
    """How often a pass ran and changed the model, how often its rules fired, and the seconds that it took."""

    runs: int = 0
    changed: int = 0
    rewrites: int = 0
    seconds: float = 0.0

    def __add__(self, other: PassUse) -> PassUse:
        return PassUse(*(one + two for one, two in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Size:
    """How large a model is: nodes in all scopes (Constant nodes apart), and bytes of weights and of its files.

    `file_bytes`: external data included; None for an original of onnx-ir, which has no file.
    """

    nodes: int
    weight_bytes: int
    file_bytes: int | None


@dataclass
class Result:
    """What `optimize` gives back. `model` reads its weights from the delivered file, or from memory.

    `partitions`: before and after, on a target that takes part of a model. `isolated`: rewrites and rules that were
    faulty and are excluded. `passes`, `rules`: of the delivered run, by name. `build`: hashes of input and output,
    options, host and plugins, as the report has them.
    """

    model: ir.Model = field(repr=False)
    before: Size
    after: Size
    rewrites: Sequence[Rewrite] = field(default=(), repr=False)
    missed: Sequence[MissedRewrite] = field(default=(), repr=False)
    remarks: Sequence[ir.Diagnostic] = ()
    isolated: Sequence[FaultyRewrite] = ()
    exactness: Exactness = Exactness.EXACT
    pipeline: str = ""
    passes: Mapping[str, PassUse] = field(default_factory=dict, repr=False)
    rules: Mapping[str, RuleUse] = field(default_factory=dict, repr=False)
    verification: Verification | None = None
    measurement: Measurement | None = None
    tuning: Tuning | None = None
    model_profile: tuple[ModelProfile, ModelProfile] | None = None
    partitions: tuple[Partitions, Partitions] | None = None
    gates: Sequence[Gate] = ()
    build: Mapping[str, object] = field(default_factory=dict, repr=False)

    @property
    def speedup(self) -> Ratio | None:
        """How much faster the result runs, at the first of the sizes measured; None where it was not measured."""
        return None if self.measurement is None else self.measurement.points[0].standings[1].timing.speed

    @property
    def error(self) -> float | None:
        """The largest error that verification saw, relative to the scale of an output; None without verification."""
        return None if self.verification is None else self.verification.error

    def to_json(self) -> dict[str, object]:
        """The result as a document with stable keys: see docs/report.md. What is asked for most comes first."""
        problem, speedup = missed(self.gates), self.speedup
        misses = Counter(each.rule for each in self.missed)
        return {
            "schema": SCHEMA,
            "error": None if problem is None else problem.to_json(),
            "summary": {
                "verified": self.verification is not None and self.verification.ok,
                "error": self.error if self.error is not None and math.isfinite(self.error) else None,
                "speedup": None if speedup is None else asdict(speedup),
                "nodes": [self.before.nodes, self.after.nodes],
                "file_bytes": [self.before.file_bytes, self.after.file_bytes],
                "weight_bytes": [self.before.weight_bytes, self.after.weight_bytes],
                "rewrites": len(self.rewrites),
                "isolated": len(self.isolated),
            },
            "versions": installed_versions(),
            "build": self.build,
            "pipeline": self.pipeline,
            "exactness": self.exactness.name.lower(),
            "before": asdict(self.before),
            "after": asdict(self.after),
            "gates": [each.to_json() for each in self.gates],
            "rewrites_by_rule": dict(sorted(Counter(rewrite.rule for rewrite in self.rewrites).items())),
            "rewrites": [each.to_json() for each in self.rewrites],
            "missed_rewrites": [each.to_json() for each in self.missed],
            "isolated": [each.to_json() for each in self.isolated],
            "remarks": [each.to_json() for each in self.remarks],
            "passes": {name: asdict(use) for name, use in self.passes.items()},
            "rules": {name: {**asdict(use), "missed": misses[name]} for name, use in sorted(self.rules.items())},
            "verification": self.verification.to_json() if self.verification is not None else None,
            "model_profile": None if self.model_profile is None else [each.to_json() for each in self.model_profile],
            "partitions": None if self.partitions is None else [each.to_json() for each in self.partitions],
            "tuning": self.tuning.to_json() if self.tuning is not None else None,
            "measurement": self.measurement.pair_to_json() if self.measurement is not None else None,
        }

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self._rows()
        )
        return f"<table><tr><th></th><th>before</th><th>after</th></tr>{rows}</table>"

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        yield "nodes", f"{self.before.nodes:,}", f"{self.after.nodes:,}"
        yield "bytes of weights", f"{self.before.weight_bytes:,}", f"{self.after.weight_bytes:,}"
        if self.before.file_bytes is not None and self.after.file_bytes is not None:
            yield "bytes of the file", f"{self.before.file_bytes:,}", f"{self.after.file_bytes:,}"
        if (speed := self.speedup) is not None:
            yield "faster", "", f"x{speed.median:.2f} [{speed.low:.2f}, {speed.high:.2f}]"
        yield "verified", "", "no" if self.verification is None else self.verification.summary()
        for each in self.isolated:
            yield "excluded", each.rule, each.why


def size_of(model: ir.Model, file_bytes: int | None) -> Size:
    """The size of `model`, without looking into anything."""
    return Size(node_count(model), weight_bytes(model), file_bytes)
