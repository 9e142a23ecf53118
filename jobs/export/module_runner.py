"""Running a torch module as the reference of its export: in its own precision, and in float64."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from ... import ir
from ...runtime.arrays import is_inexact

if TYPE_CHECKING:
    import torch

MAX_FLOAT64_BYTES = 4 << 30


def import_torch() -> Any:
    """Import torch. Raises EnvironmentSetupError where it is missing."""
    try:
        import torch
        import torch.onnx
    except ImportError as error:
        raise extra_missing(error) from error
    return torch


def extra_missing(error: ImportError) -> ir.EnvironmentSetupError:
    """The error for a package of the extra `export` that is not installed."""
    hint = "pip install 'optimize-graph[export]'"
    return ir.EnvironmentSetupError(ir.Diagnostic("extra-missing", f"{error}", hint=hint))


@dataclass(frozen=True)
class Example:
    """The operands of one call of a module. Keyword operands are in the order of its signature."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Sequence[Any] | Mapping[str, Any], module: Any) -> Example:
        """Positional operands, or keyword operands by name. Raises OptionsError for a name that `module` lacks."""
        if not isinstance(given, Mapping):
            return cls(tuple(given))
        parameters = signature(module)
        takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
        if unknown := [name for name in given if name not in parameters and not takes_any]:
            message = f"the module takes no input {unknown[0]!r}"
            hint = f"its inputs: {', '.join(parameters)}"
            raise ir.OptionsError(ir.Diagnostic("invalid-option", message, hint=hint))
        order = [*(name for name in parameters if name in given), *(name for name in given if name not in parameters)]
        return cls((), {name: given[name] for name in order})

    def tensors(self, torch: Any) -> list[torch.Tensor]:
        """The tensors among the operands, nested ones too, in order."""
        return [each for each in leaves(torch, (self.args, dict(self.kwargs))) if isinstance(each, torch.Tensor)]

    def names(self, torch: Any, module: Any) -> list[str] | None:
        """The parameter of each tensor; None where one is nested in a structure, or has no name."""
        named = list(zip(signature(module), self.args, strict=False)) + list(self.kwargs.items())
        if len(named) < len(self.args) + len(self.kwargs) or len(named) > len({name for name, _ in named}):
            return None
        named = [(name, value) for name, value in named if leaves(torch, value)]
        return [name for name, _ in named] if all(isinstance(value, torch.Tensor) for _, value in named) else None

    def map(self, torch: Any, function: Any) -> Example:
        """The example with `function` of each leaf."""
        args, kwargs = torch.utils._pytree.tree_map(function, (self.args, dict(self.kwargs)))
        return Example(args, kwargs)


def signature(module: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters that a module is called with."""
    return inspect.signature(module.forward).parameters


def leaves(torch: Any, structure: Any) -> list[Any]:
    """The leaves of a nested structure, in order, without None."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(structure) if leaf is not None]


def arrays(torch: Any, structure: Any) -> Iterator[np.ndarray]:
    """The tensors of a nested structure, in order, as arrays."""
    for leaf in leaves(torch, structure):
        if isinstance(leaf, torch.Tensor):
            tensor = leaf.detach().cpu().contiguous()
            if tensor.dtype == torch.bfloat16:
                yield tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
            else:
                yield tensor.numpy()


class ModuleRunner:
    """A module as the reference of its export. `why_not_float64`: why it is not run in float64; "" where it is."""

    def __init__(self, torch: Any, module: Any) -> None:
        self.torch, self.module = torch, module
        self.why_not_float64 = ""
        self._wide: Any = None
        size = weight_bytes(module)
        if 2 * size > MAX_FLOAT64_BYTES:
            self.why_not_float64 = f"its weights would take {2 * size} bytes, at most {MAX_FLOAT64_BYTES} are"
            return
        try:
            self._wide = copy.deepcopy(module).double()
        except Exception as error:  # whatever a module raises that cannot be copied
            self.why_not_float64 = f"the module cannot be copied to float64: {first_line(error)}"

    def outputs(self, example: Example) -> list[np.ndarray]:
        """The tensors that the module gives."""
        with self.torch.no_grad():
            return list(arrays(self.torch, self.module(*example.args, **example.kwargs)))

    def outputs_if_any(self, example: Example) -> list[np.ndarray] | None:
        """The same; None where the module does not run on these operands."""
        try:
            return self.outputs(example)
        except Exception:  # whatever a module raises at a size that it is not made for
            return None

    def float64_outputs(self, example: Example, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """The same in float64, under the names of `outputs`; None where the module does not compute it in float64."""
        if self._wide is None:
            return None
        torch = self.torch

        def widen(leaf: Any) -> Any:
            return leaf.double() if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf

        wide = example.map(torch, widen)
        try:
            with torch.no_grad():
                found = list(arrays(torch, self._wide(*wide.args, **wide.kwargs)))
        except Exception as error:  # an operand of a fixed type inside, most often
            self._give_up(f"the module does not run in float64: {first_line(error)}")
            return None
        for (name, narrow), exact in zip(outputs.items(), found, strict=False):
            if exact.shape != narrow.shape:
                self._give_up(f"{name} has other dims in float64")
                return None
            if is_inexact(narrow) and exact.dtype not in (np.float64, np.complex128):
                self._give_up(f"{name} is {exact.dtype} though the module was made float64")
                return None
        return dict(zip(outputs, found, strict=False))

    def _give_up(self, why: str) -> None:
        self._wide, self.why_not_float64 = None, why


def weight_bytes(module: Any) -> int:
    """The bytes of the parameters and buffers of a module."""
    return sum(each.numel() * each.element_size() for each in (*module.parameters(), *module.buffers()))


def first_line(error: BaseException) -> str:
    """The type and the first line of the error that `error` was raised from in the end."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
