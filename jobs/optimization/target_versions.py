"""Which opset and IR version the result has: what `--opset` and `--min-ort` ask for, and what is refused."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ... import ir
from ...options import DEFAULT_TARGET, Options
from ...passes.pipeline.pass_ import Settings
from ...passes.rewriting.convert_for_target import Obstacle, convert_for_target
from ...passes.targets.ort_releases import RELEASES, Support, loads_in, release_number
from ...passes.targets.target import Target
from ...passes.targets.target_file import find, for_provider
from ...runtime.ort.session_options import Provider

_ML = "ai.onnx.ml"


@dataclass(frozen=True)
class ConvertedModel:
    """A model at the versions that were asked for; `is_converted` says whether operators were rewritten for that."""

    model: ir.Model
    is_converted: bool = False
    remarks: Sequence[ir.Diagnostic] = ()


def convert_versions(
    model: ir.Model,
    opset: int | None = None,
    min_ort: str | None = None,
    *,
    target: str | Path = DEFAULT_TARGET,
    verify_target: str = "",
) -> ConvertedModel:
    """The model at `opset`, or as high as ONNX Runtime `min_ort` loads.

    Operators are converted in a copy; versions that the model merely declares too high are lowered in place.
    Without `min_ort` the installed ONNX Runtime bounds what is introduced; what the model has already stays.
    An operator that would lose its kernel on `target` or on `verify_target`, where the result is verified, is refused,
    and so is quantization that ONNX Runtime breaks at that opset; for a target of another runtime that is a warning.
    Raises PipelineError when the two contradict each other, ModelError when the model cannot be converted.
    """
    if min_ort is not None:
        check_release(min_ort)
    release = min_ort or installed_release()
    support = loads_in(release)
    current = ir.standard_opset(model)
    if opset is not None and opset > support.opset:
        raise ir.PipelineError(
            ir.Diagnostic(
                "opset-above-runtime",
                f"opset {opset} was asked for, but ONNX Runtime {release} loads opsets up to {support.opset}",
                hint=f"--opset {support.opset}, or --min-ort with a newer ONNX Runtime",
            )
        )
    wanted = opset
    if opset is None and min_ort is not None and current is not None and current > support.opset:
        wanted = support.opset
    remarks = []
    converted = model
    if wanted is not None:
        runs_on = Target(target, release)
        runtime = runs_on if runs_on.is_onnxruntime else Target(for_provider(provider_of(target)).name, release)
        settings = Settings(runtime, verify_target=Target(verify_target) if verify_target else None)
        conversion = convert_for_target(model, wanted, settings, highest_ir=support.ir_version)
        converted = conversion.model
        problems = [_not_runnable(each, wanted, current, release) for each in conversion.obstacles]
        if problems and runs_on.is_onnxruntime:
            raise ir.ModelError(problems[0])
        remarks += [replace(each, severity=ir.Severity.WARNING) for each in problems]
    if converted is not model:
        remarks.append(_remark("opset-converted", f"converted from opset {current} to {wanted}"))
    if min_ort is not None:
        remarks += _lower(converted, release, support)
    return ConvertedModel(converted, converted is not model, remarks)


def check_release(version: str) -> None:
    """Raise PipelineError for a release of ONNX Runtime that is not known, unless it is the installed one."""
    newest = max(map(release_number, (RELEASES[-1].release, installed_release())))
    loads_in(version)
    if release_number(version) > newest:
        message = f"what ONNX Runtime {version!r} loads is not known: the newest known is {newest[0]}.{newest[1]}"
        raise ir.PipelineError(ir.Diagnostic("unknown-onnxruntime", message))


def verify_target(options: Options) -> str:
    """The target that runs results here, so that nothing is built for CUDA alone that could not be verified."""
    runs_here = options.verify or options.measure or options.model_profile or options.tune
    return for_provider(provider_of(options.target, options.provider)).name if runs_here else ""


def provider_of(target: str | Path, given: str | None = None) -> Provider:
    """The execution provider that runs models: the one that was asked for, else the target's, else the CPU's."""
    provider: Provider = given or find(target).verify_provider or "cpu"  # type: ignore[assignment]
    return provider


def installed_release() -> str:
    """The version of the installed ONNX Runtime, which is not imported; the newest known one when there is none."""
    from ...runtime.ort.session import DISTRIBUTIONS

    found = (version for name in DISTRIBUTIONS if (version := _version(name)) is not None)
    return next(found, RELEASES[-1].release)


def installed_versions() -> dict[str, str]:
    """Versions of what a result may depend on, as far as it is installed."""
    names = ("optimize-graph", "onnx", "onnx-ir", "numpy")
    found = {name: version for name in names if (version := _version(name)) is not None}
    return {**found, "onnxruntime": installed_release(), "python": platform.python_version()}


@cache
def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _not_runnable(obstacle: Obstacle, wanted: int, current: int | None, release: str) -> ir.Diagnostic:
    names = ", ".join(obstacle.operators)
    message = (
        f"{names} cannot be used at opset {wanted} with ONNX Runtime {release}: "
        f"expected {obstacle.condition}, got {obstacle.because}"
    )
    hint = f"keep opset {current}, or pass --target onnx for another runtime"
    return ir.Diagnostic("opset-not-runnable", message, hint=hint)


def _lower(model: ir.Model, release: str, support: Support) -> list[ir.Diagnostic]:
    """Lower what the model declares and does not need. Raises ModelError where it does need it."""
    remarks = []
    declared = model.ir_version
    lost = ir.not_representable(model)
    if lost and (declared > support.ir_version or model.opset_imports.get(_ML, 0) > support.ml_opset):
        raise _too_new(f"a model with {', '.join(lost)} cannot be rewritten for ONNX Runtime {release}")
    if declared > support.ir_version:
        needed, what = ir.required_ir_version(model)
        if needed > support.ir_version:
            message = f"ONNX Runtime {release} reads IR versions up to {support.ir_version}, but {what} needs {needed}"
            raise _too_new(message)
        model.ir_version = support.ir_version
        remarks.append(_remark("ir-version-lowered", f"IR version lowered from {declared} to {support.ir_version}"))
    declared = model.opset_imports.get(_ML, 0)
    if declared > support.ml_opset:
        for node in ir.nodes(model):
            if node.domain == _ML and not _is_the_same(node, support.ml_opset):
                message = (
                    f"ONNX Runtime {release} has {_ML} up to {support.ml_opset}, but {node.op_type} needs {declared}"
                )
                raise _too_new(message)
        model.opset_imports[_ML] = support.ml_opset
        ir.stamp_versions(model)
        remarks.append(_remark("opset-lowered", f"{_ML} lowered from {declared} to {support.ml_opset}"))
    return remarks


def _is_the_same(node: ir.Node, version: int) -> bool:
    """Whether the operator is defined at `version` as it is at the model's."""
    ours, theirs = ir.schema_of(node), ir.schema(node.op_type, version, node.domain)
    return ours is not None and theirs is not None and ours.since_version == theirs.since_version


def _too_new(message: str) -> ir.ModelError:
    return ir.ModelError(ir.Diagnostic("newer-than-runtime", message, hint="name a newer --min-ort"))


def _remark(code: str, message: str) -> ir.Diagnostic:
    return ir.Diagnostic(code, message, severity=ir.Severity.REMARK)
