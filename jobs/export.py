"""Exporting a torch module to ONNX as it is: torch's exporter with its own optimizer off, the result checked.

The optimizer that torch runs after `torch.onnx.export(dynamo=True)` treats `x + 1e-9` as `x` and `x * 1.000005` as `x`
(its tolerance for pattern constants), so that `log(x + 1e-9)` becomes -inf at 0. What is exported here is left to this
package. torch is needed, and nothing else of this package needs it: `pip install 'optimize-graph[export]'`.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import ir

if TYPE_CHECKING:
    import torch

_EXTERNAL_FROM = 1900 << 20
_RTOL, _ATOL = 1e-3, 1e-4  # torch's kernels and ONNX Runtime's round differently; a wrong export is off by far more


def export(
    module: torch.nn.Module,
    example_inputs: Sequence[Any],
    path: str | Path,
    *,
    dynamic_shapes: Any = None,
    exporter: Literal["dynamo", "torchscript"] = "dynamo",
    opset: int | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    rtol: float = _RTOL,
    atol: float = _ATOL,
) -> Path:
    """Export `module`, in evaluation mode, and check what was written against it on `example_inputs`.

    `dynamic_shapes` is torch's own: for "dynamo" a structure like the inputs with `torch.export.Dim`s, for
    "torchscript" the `dynamic_axes` mapping. Weights above 2 GB go to external data. Nothing stays at `path` unless the
    outputs agree within `rtol` of their scale plus `atol`.

    Raises MachineError where torch is missing, ModelError when it cannot export, VerificationError when outputs differ.
    """
    torch = _torch()
    was_training = module.training
    module.eval()
    try:
        with tempfile.TemporaryDirectory(prefix="optimize-graph-") as folder:
            draft = Path(folder) / "export.onnx"
            _export(
                torch, module, tuple(example_inputs), draft, dynamic_shapes, exporter, opset, input_names, output_names
            )
            _check(torch, module, example_inputs, draft, rtol, atol)
            ir.save(ir.load(draft), path)
    finally:
        module.train(was_training)
    return Path(path)


def _torch() -> Any:
    try:
        import torch
        import torch.onnx
    except ImportError as error:
        raise ir.MachineError(
            ir.Diagnostic("extra-missing", f"{error}", hint="pip install 'optimize-graph[export]'")
        ) from error
    return torch


def _export(
    torch: Any,
    module: torch.nn.Module,
    inputs: tuple[Any, ...],
    path: Path,
    dynamic_shapes: Any,
    exporter: str,
    opset: int | None,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
) -> None:
    size = sum(each.numel() * each.element_size() for each in (*module.parameters(), *module.buffers()))
    common: dict[str, Any] = {"opset_version": opset, "input_names": input_names, "output_names": output_names}
    if exporter == "dynamo":
        common |= {"dynamo": True, "optimize": False, "dynamic_shapes": dynamic_shapes, "verbose": False}
        common |= {"external_data": size > _EXTERNAL_FROM}
    else:
        common |= {"dynamo": False, "dynamic_axes": dynamic_shapes}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, inputs, str(path), **common)
    except ImportError as error:
        raise ir.MachineError(
            ir.Diagnostic("extra-missing", f"{error}", hint="pip install 'optimize-graph[export]'")
        ) from error
    except Exception as error:  # whatever torch raises is about the module: it is handed on in one line
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ir.ModelError(
            ir.Diagnostic("export-failed", f"torch cannot export the module: {first}", hint="try the other exporter")
        ) from error


def _check(torch: Any, module: torch.nn.Module, inputs: Sequence[Any], path: Path, rtol: float, atol: float) -> None:
    from ..runtime import Tolerance, compare, open_session

    with torch.no_grad():
        given = _arrays(torch, module(*inputs))
    session = open_session(path)
    feeds = dict(zip((port.name for port in session.inputs), _arrays(torch, list(inputs)).values(), strict=False))
    got = session.run(feeds)
    wanted = dict(zip(got, given.values(), strict=False))
    if len(given) != len(got):
        raise _differs(f"the module gives {len(given)} tensors, the file {len(got)}")
    verdict = compare(wanted, got, Tolerance(rtol=rtol, atol=atol))
    if not verdict:
        raise _differs(str(verdict))


def _arrays(torch: Any, structure: Any) -> Mapping[str, Any]:
    """The tensors of a nested structure, in order, as arrays."""
    leaves = torch.utils._pytree.tree_leaves(structure)
    return {
        str(index): leaf.detach().cpu().numpy()
        for index, leaf in enumerate(leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
    }


def _differs(what: str) -> ir.VerificationError:
    return ir.VerificationError(
        ir.Diagnostic("export-differs", f"the exported model does not compute what the module computes: {what}")
    )
