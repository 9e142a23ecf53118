"""Exporting a torch module to ONNX as it is: torch's exporter with its own optimizer off, the result checked.

The optimizer that torch runs after `torch.onnx.export(dynamo=True)` treats `x + 1e-9` as `x` and `x * 1.000005` as `x`
(its tolerance for pattern constants), so that `log(x + 1e-9)` becomes -inf at 0. What is exported here is left to this
package. torch is needed, and nothing else of this package needs it: `pip install 'optimize-graph[export]'`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import ir
from ..runtime.inputs.bind_dims import Binding, OpenInput, symbols
from .temporary_folder import workspace

if TYPE_CHECKING:
    import torch

    from ..runtime import Session

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
    """Export `module`, in evaluation mode, and check what was written against it at two sizes of every dynamic dim.

    `dynamic_shapes` is torch's own: for "dynamo" a structure like the inputs with `torch.export.Dim`s, for
    "torchscript" the `dynamic_axes` mapping. Weights above 2 GB go to external data. Nothing stays at `path` unless the
    outputs agree within `rtol` of their scale plus `atol`, on `example_inputs` and on such of other sizes made of them
    (cut, or repeated). Dims at which the module runs at no other size are told by a warning.

    Raises MachineError where torch is missing, ModelError when it cannot export, VerificationError when outputs differ.
    """
    torch = _torch()
    was_training = module.training
    module.eval()
    try:
        with workspace() as folder:
            draft = folder / "export.onnx"
            _export(
                torch, module, tuple(example_inputs), draft, dynamic_shapes, exporter, opset, input_names, output_names
            )
            _check(torch, module, tuple(example_inputs), draft, rtol, atol, _wanted_dims(dynamic_shapes))
            ir.save(ir.load(draft), path)
    finally:
        module.train(was_training)
    return Path(path)


def _torch() -> Any:
    try:
        import torch
        import torch.onnx
    except ImportError as error:
        raise ir.EnvironmentSetupError(
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
        raise ir.EnvironmentSetupError(
            ir.Diagnostic("extra-missing", f"{error}", hint="pip install 'optimize-graph[export]'")
        ) from error
    except Exception as error:  # whatever torch raises is about the module: it is handed on in one line
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ir.ModelError(
            ir.Diagnostic("export-failed", f"torch cannot export the module: {first}", hint="try the other exporter")
        ) from error


def _wanted_dims(dynamic_shapes: Any) -> int:
    """How many dims of inputs were asked to be dynamic, by name or as `Dim.DYNAMIC`; torch may fix what is `AUTO`."""
    if isinstance(dynamic_shapes, Mapping):
        return sum(map(_wanted_dims, dynamic_shapes.values()))
    if isinstance(dynamic_shapes, (list, tuple)):
        return sum(map(_wanted_dims, dynamic_shapes))
    return dynamic_shapes is not None and not any(hint in str(dynamic_shapes) for hint in ("AUTO", "STATIC"))


def _check(
    torch: Any, module: torch.nn.Module, inputs: tuple[Any, ...], path: Path, rtol: float, atol: float, wanted: int
) -> None:
    """Compare the file with the module on the example inputs, and at another size of every dynamic dim.

    `wanted`: how many dims were asked to be dynamic.
    """
    from ..runtime import open_session

    session = open_session(path)
    _compare(torch, module, inputs, session, rtol, atol, "")
    resizer = _Resizer(torch, ir.load(path), inputs)
    if resizer.dynamic < wanted:
        fixed = f"{wanted} dims were asked to be dynamic, and {resizer.dynamic} are: torch fixed the others"
        warnings.warn(fixed, stacklevel=3)
    left = set(resizer.symbols)
    for sizes in resizer.others():
        if not sizes.keys() & left:
            continue
        other = resizer.resized(sizes)
        if other is None or not _runs(torch, module, other):
            continue
        told = ", ".join(f"{name} = {size}" for name, size in sizes.items())
        _compare(torch, module, other, session, rtol, atol, f" at {told}")
        left -= sizes.keys()
    if left:
        names = ", ".join(sorted(left))
        warnings.warn(f"the export was checked at one size only of {names}: the module ran at no other", stacklevel=3)


class _Resizer:
    """Example inputs at other sizes of the dims that are dynamic in the exported model."""

    def __init__(self, torch: Any, model: ir.Model, inputs: tuple[Any, ...]) -> None:
        self.torch, self.inputs = torch, inputs
        leaves = [leaf for leaf in _leaves(torch, inputs) if isinstance(leaf, torch.Tensor)]
        self.opened = [OpenInput.of(value) for value in model.graph.inputs]
        self.dynamic = sum(isinstance(dim, str) for opened in self.opened for dim in opened.dims)
        self.symbols: dict[str, int] = {}
        for opened, leaf in zip(self.opened, leaves, strict=False):
            for dim, size in zip(opened.dims, leaf.shape, strict=False):
                if isinstance(dim, str) and symbols(dim) == (dim,):
                    self.symbols.setdefault(dim, int(size))

    def others(self) -> Iterator[dict[str, int]]:
        """Other sizes: of all dims at once and all different, then of each alone."""
        yield {name: size + 1 + nth for nth, (name, size) in enumerate(self.symbols.items())}
        yield {name: size + 1 for name, size in self.symbols.items()}
        yield {name: 2 * size for name, size in self.symbols.items()}
        for name, size in self.symbols.items():
            for other in (size + 1, size - 1, 2 * size, size // 2, size + 2, 4 * size, size + 8):
                if other > 0 and other != size:
                    yield {name: other}

    def resized(self, sizes: Mapping[str, int]) -> tuple[Any, ...] | None:
        """The inputs with other sizes; None where a dim is no number then."""
        binding = Binding({**self.symbols, **sizes})
        tensors = iter(self.opened)

        def resize(leaf: Any) -> Any:
            if not isinstance(leaf, self.torch.Tensor) or (opened := next(tensors, None)) is None:
                return leaf
            for axis, size in enumerate(binding.shape(opened.dims)):
                if size != leaf.shape[axis]:
                    places = self.torch.arange(size) % leaf.shape[axis]
                    leaf = leaf.index_select(axis, places.to(leaf.device))
            return leaf

        try:
            resized: tuple[Any, ...] = self.torch.utils._pytree.tree_map(resize, self.inputs)
        except (KeyError, IndexError, ZeroDivisionError, RuntimeError):  # a symbol of its own, an empty example
            return None
        return resized


def _runs(torch: Any, module: torch.nn.Module, inputs: tuple[Any, ...]) -> bool:
    try:
        with torch.no_grad():
            module(*inputs)
    except Exception:  # whatever a module raises at a size that it is not made for
        return False
    return True


def _compare(
    torch: Any, module: torch.nn.Module, inputs: tuple[Any, ...], session: Session, rtol: float, atol: float, at: str
) -> None:
    from ..runtime import Tolerance, compare

    with torch.no_grad():
        given = _arrays(torch, module(*inputs))
    feeds = dict(zip((port.name for port in session.inputs), _arrays(torch, list(inputs)).values(), strict=False))
    try:
        got = session.run(feeds)
    except ir.ModelError as error:
        if not at:
            raise
        raise _differs(f"{error.diagnostic.message}{at}") from error
    wanted = dict(zip(got, given.values(), strict=False))
    if len(given) != len(got):
        raise _differs(f"the module gives {len(given)} tensors, the file {len(got)}")
    verdict = compare(wanted, got, Tolerance(rtol=rtol, atol=atol))
    if not verdict:
        raise _differs(f"{verdict.problem}{at}")


def _leaves(torch: Any, structure: Any) -> list[Any]:
    leaves: list[Any] = torch.utils._pytree.tree_leaves(structure)
    return leaves


def _arrays(torch: Any, structure: Any) -> Mapping[str, Any]:
    """The tensors of a nested structure, in order, as arrays."""
    tensors = [leaf for leaf in _leaves(torch, structure) if isinstance(leaf, torch.Tensor)]
    return {str(index): leaf.detach().cpu().numpy() for index, leaf in enumerate(tensors)}


def _differs(what: str) -> ir.VerificationError:
    return ir.VerificationError(
        ir.Diagnostic("export-differs", f"the exported model does not compute what the module computes: {what}")
    )
