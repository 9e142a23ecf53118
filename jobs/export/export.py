"""Exporting a torch module to ONNX as it is: torch's exporter with its own optimizer off, checked, then optimized.

The optimizer that torch runs after `torch.onnx.export(dynamo=True)` treats `x + 1e-9` as `x` and `x * 1.000005` as `x`
(its tolerance for pattern constants), so that `log(x + 1e-9)` becomes -inf at 0. What is exported here is left to this
package. torch is needed, and nothing else of this package needs it: `pip install 'optimize-graph[export]'`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ... import ir
from ...runtime import Tolerance
from ..optimization.optimize import optimize as optimize_model
from ..temporary_folder import workspace
from .check_export import ExportCheck, check_export
from .module_runner import (
    Example,
    ModuleRunner,
    extra_missing,
    first_line,
    import_torch,
    signature,
    weight_bytes,
)

if TYPE_CHECKING:
    import torch

    from ...options import Options
    from ..optimization.result import Result

_EXTERNAL_FROM = 1900 << 20
_RTOL, _ATOL = 1e-3, 1e-4  # torch's kernels and ONNX Runtime's round differently; a wrong export is off by far more


@dataclass(frozen=True)
class Exported:
    """A written model: how it was checked against the module, and how it was optimized (None: it was not asked for)."""

    path: Path
    check: ExportCheck
    optimization: Result | None = None

    def __fspath__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class ExporterOptions:
    """How torch exports; None for its own default of the opset, and of the names of inputs and outputs."""

    exporter: Literal["dynamo", "torchscript"] = "dynamo"
    opset: int | None = None
    input_names: Sequence[str] | None = None
    output_names: Sequence[str] | None = None


def export(
    module: torch.nn.Module | torch.export.ExportedProgram,
    inputs: Sequence[Any] | Mapping[str, Any] | None,
    path: str | Path,
    *,
    dynamic_shapes: Any = None,
    exporter: ExporterOptions | Literal["dynamo", "torchscript"] = "dynamo",
    state: str | Path | None = None,
    optimize: Options | None = None,
    tolerance: Tolerance | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Exported:
    """Export `module`, in evaluation mode, check what was written against it, and optimize that with `optimize`.

    `inputs` is one example: positional operands, or a mapping of keyword operands; None for that of an ExportedProgram.
    `dynamic_shapes`: `{"x": {0: "batch"}}`, by operand, dim and name; or torch's own for the exporter at hand.
    `state`: a file of weights (.safetensors, or torch's own with tensors alone) to load into the module first.

    Nothing stays at `path` unless the outputs agree on the example, and on examples made of it (cut, or repeated) at
    another size of every dynamic dim: with the module in its own precision within `tolerance` (0.1 % of each element,
    and 1e-4), and with the module in float64 within what its own error there explains. Warns of dims that could not be
    varied. Weights above 2 GB go to external data.

    Raises EnvironmentSetupError where torch is missing, OptionsError for inputs that the module does not have,
    ModelError when torch cannot export it, VerificationError when outputs differ, and what `optimize` raises.
    """
    torch = import_torch()
    how = exporter if isinstance(exporter, ExporterOptions) else ExporterOptions(exporter)
    program = module if isinstance(module, torch.export.ExportedProgram) else None
    reference = module if program is None else program.module()
    if state is not None:
        _load_state(torch, module, Path(state))
    if inputs is None:
        if program is None or program.example_inputs is None:
            raise ir.OptionsError(ir.Diagnostic("invalid-option", "inputs is None, expected an example of the inputs"))
        args, kwargs = program.example_inputs
        example = Example(tuple(args), dict(kwargs))
    else:
        example = Example.of(inputs, reference)
    dims = _dims_by_operand(dynamic_shapes, example, reference, how)
    with _evaluating(None if program is not None else module), workspace() as folder:
        draft = folder / "export.onnx"
        progress("export")
        _export(torch, module, example, draft, dims, how)
        progress("check against the module")
        runner = ModuleRunner(torch, reference)
        check = check_export(
            runner, example, draft, tolerance or Tolerance(rtol=_RTOL, atol=_ATOL), _wanted_dims(dynamic_shapes)
        )
        for sentence in check.warnings():
            warnings.warn(sentence, stacklevel=2)
        if optimize is None:
            ir.save(ir.load(draft), path)
            return Exported(Path(path), check)
        del runner  # and its copy in float64
        result = optimize_model(draft, path, optimize, progress=progress)
        return Exported(Path(path), check, replace(result, remarks=(*check.remarks(), *result.remarks)))


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """The module in evaluation mode; None for one that has no other."""
    if module is None:
        yield
        return
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def _load_state(torch: Any, module: Any, path: Path) -> None:
    """Load weights into a module. Raises ModelError where they are not its own."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(weights)
    except ImportError as error:
        raise extra_missing(error) from error
    except Exception as error:  # a broken file, or weights that the module does not have: torch's own words say which
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        message = f"cannot load the weights: {' '.join(lines[:3])}"
        raise ir.ModelError(ir.Diagnostic("state-mismatch", message, ir.Location(str(path)))) from error


def _dims_by_operand(given: Any, example: Example, module: Any, how: ExporterOptions) -> Any:
    """`{"x": {0: "batch"}}` as the exporter takes it; anything else is torch's own already."""
    if how.exporter != "dynamo" or not isinstance(given, Mapping) or not given:
        return given
    if not all(
        isinstance(dims, Mapping) and all(isinstance(dim, str) for dim in dims.values()) for dims in given.values()
    ):
        return given
    names = [*(name for name, _ in zip(signature(module), example.args, strict=False)), *example.kwargs]
    if unknown := [name for name in given if name not in names]:
        message = f"dynamic dims of {unknown[0]!r}, which is no input of the example"
        raise ir.OptionsError(ir.Diagnostic("invalid-option", message, hint=f"its inputs: {', '.join(names)}"))
    return {name: given.get(name) for name in names}


def _export(torch: Any, module: Any, example: Example, path: Path, dynamic_shapes: Any, how: ExporterOptions) -> None:
    names = how.input_names
    if names is None and how.exporter == "torchscript":
        names = example.names(torch, module)  # its own are numbers
    common: dict[str, Any] = {"opset_version": how.opset, "input_names": names, "output_names": how.output_names}
    if how.exporter == "dynamo":
        common |= {"dynamo": True, "optimize": False, "dynamic_shapes": dynamic_shapes, "verbose": False}
        common |= {"external_data": weight_bytes(module) > _EXTERNAL_FROM}
    else:
        common |= {"dynamo": False, "dynamic_axes": dynamic_shapes}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, example.args, str(path), kwargs=dict(example.kwargs) or None, **common)
    except ImportError as error:
        raise extra_missing(error) from error
    except Exception as error:  # whatever torch raises is about the module: its root cause is handed on
        other = "torchscript" if how.exporter == "dynamo" else "dynamo"
        message = f"torch cannot export the module: {first_line(error)}"
        raise ir.ModelError(
            ir.Diagnostic(
                "export-failed", message, hint=f"try the other exporter ({other}); the cause has torch's trace"
            )
        ) from error


def _wanted_dims(dynamic_shapes: Any) -> int:
    """How many dims of inputs were asked to be dynamic, by name or as `Dim.DYNAMIC`; torch may fix what is `AUTO`."""
    if isinstance(dynamic_shapes, Mapping):
        return sum(map(_wanted_dims, dynamic_shapes.values()))
    if isinstance(dynamic_shapes, (list, tuple)):
        return sum(map(_wanted_dims, dynamic_shapes))
    return dynamic_shapes is not None and not any(hint in str(dynamic_shapes) for hint in ("AUTO", "STATIC"))
