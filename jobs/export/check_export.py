"""Compare an exported model with the module that it was made of, in float32 and float64, at two sizes of every dim."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ... import ir
from ...runtime import Datum, Outputs, Tolerance, compare, open_session
from ...runtime.arrays import as_numbers, eps_of, is_inexact
from .module_runner import Example, ModuleRunner, arrays
from .resized_inputs import ResizedInputs

_EPSILONS, _NOISES = 100, 32
"""Allowed error against float64: so many epsilons of the scale, for kernels that approximate exp, erf and tanh, and so
often the module's own error, since torch's kernels and ONNX Runtime's round differently."""


@dataclass(frozen=True)
class ExportCheck:
    """How an exported model was checked.

    `sizes`: of the dynamic dims in each comparison. `unvaried`: dims at which the module runs at no other size.
    `fixed`: how many dims that were asked to be dynamic torch fixed. `error`: the largest error against float64 over
    its output's scale, None where `why_not_float64` says that it was not compared.
    """

    sizes: tuple[Mapping[str, int], ...]
    unvaried: tuple[str, ...]
    fixed: int
    error: float | None
    why_not_float64: str

    def remarks(self) -> Iterator[ir.Diagnostic]:
        """How it was checked, and a warning for each thing that was not checked as asked for."""
        sizes = "; ".join(map(_spelled, self.sizes))
        at = f" at {sizes}" if sizes else ""
        wide = f"not compared in float64: {self.why_not_float64 or 'no output is a float'}"
        if self.error is not None:
            wide = f"at most {self.error:.1e} of an output's scale off its values in float64"
        message = f"the export computes what the module does{at}; {wide}"
        yield ir.Diagnostic("export-checked", message, severity=ir.Severity.REMARK)
        for sentence in self.warnings():
            yield ir.Diagnostic("export-unvaried", sentence, severity=ir.Severity.WARNING)

    def warnings(self) -> Iterator[str]:
        """A sentence for each thing that was not checked as asked for."""
        if self.fixed:
            yield f"{self.fixed} of the dims that were asked to be dynamic are not: torch fixed them"
        if self.unvaried:
            names = ", ".join(self.unvaried)
            yield f"the export was checked at one size only of {names}: the module ran at no other"


def check_export(
    runner: ModuleRunner, example: Example, path: Path, tolerance: Tolerance, wanted_dims: int
) -> ExportCheck:
    """Compare the file with the module on the example, and on others made of it at another size of every dynamic dim.

    `tolerance` holds against the module in its own precision. `wanted_dims`: how many dims were asked to be dynamic.
    Raises VerificationError where they differ.
    """
    check = _Check(runner, example, path, tolerance)
    check.compare(example, runner.outputs(example), {})
    left = dict.fromkeys(check.resizer.sizes)
    for sizes in check.resizer.others():
        if not sizes.keys() & left.keys():
            continue
        other = check.resizer.resized(sizes)
        if other is not None and (outputs := runner.outputs_if_any(other)) is not None:
            check.compare(other, outputs, sizes)
            left = {name: None for name in left if name not in sizes}
    fixed = max(0, wanted_dims - check.resizer.dynamic)
    return ExportCheck(tuple(check.sizes), tuple(left), fixed, check.error, runner.why_not_float64)


class _Check:
    def __init__(self, runner: ModuleRunner, example: Example, path: Path, tolerance: Tolerance) -> None:
        self.runner, self.tolerance = runner, tolerance
        self.session = open_session(path)
        inputs = {value.name or "": value for value in ir.load(path).graph.inputs}
        names = example.names(runner.torch, runner.module)
        tensors = len(example.tensors(runner.torch))
        if names is not None and set(inputs) <= set(names):
            self.ports: list[str | None] = [name if name in inputs else None for name in names]
        elif len(inputs) == tensors:
            self.ports = list(inputs)
        else:
            raise _differs(
                f"the module was given {tensors} tensors, the file takes {len(inputs)} ({', '.join(inputs)})"
            )
        ports = [inputs[name] if name is not None else ir.Value(name="unused") for name in self.ports]
        self.resizer = ResizedInputs(runner.torch, ports, example)
        self.sizes: list[Mapping[str, int]] = []
        self.error: float | None = None

    def compare(self, example: Example, outputs: list[np.ndarray], sizes: Mapping[str, int]) -> None:
        """Compare on one example, of which the module gives `outputs`. Raises VerificationError."""
        at = f" at {_spelled(sizes)}" if sizes else ""
        tensors = arrays(self.runner.torch, (example.args, dict(example.kwargs)))
        feeds = {name: array for name, array in zip(self.ports, tensors, strict=True) if name is not None}
        try:
            got = self.session.run(feeds)
        except ir.ModelError as error:
            raise _differs(f"{error.diagnostic.message}{at}") from error
        if len(outputs) != len(got):
            raise _differs(f"the module gives {len(outputs)} tensors, the file {len(got)}")
        want = dict(zip(got, outputs, strict=True))
        verdict = compare(dict[str, Datum](want), got, self.tolerance)
        if not verdict:
            raise _differs(f"{verdict.problem}{at}")
        self._compare_with_float64(want, got, self.runner.float64_outputs(example, want), at)
        self.sizes.append({**self.resizer.sizes, **sizes})

    def _compare_with_float64(
        self, narrow: Mapping[str, np.ndarray], got: Outputs, wide: Mapping[str, np.ndarray] | None, at: str
    ) -> None:
        for name, exact in (wide or {}).items():
            own, output = narrow[name], np.asarray(got[name])
            if not is_inexact(own):
                continue
            both = np.isfinite(exact) & np.isfinite(as_numbers(own)) & np.isfinite(as_numbers(output))
            scale = float(np.abs(exact[both]).max(initial=0.0))
            noise = float(np.abs(as_numbers(own) - exact)[both].max(initial=0.0))
            error = float(np.abs(as_numbers(output) - exact)[both].max(initial=0.0))
            allowed = _EPSILONS * eps_of(own.dtype) * scale + _NOISES * noise
            if error > allowed:
                raise _differs(
                    f"{name}: off by {error:.1e} of its value in float64, the module itself by {noise:.1e}"
                    f" (values up to {scale:.1e}, allowed {allowed:.1e}){at}"
                )
            self.error = max(self.error or 0.0, error / scale if scale else error)


def _spelled(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = {size}" for name, size in sizes.items())


def _differs(what: str) -> ir.VerificationError:
    return ir.VerificationError(
        ir.Diagnostic("export-differs", f"the exported model does not compute what the module computes: {what}")
    )
