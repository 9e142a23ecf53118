"""Modules and example inputs as a command line names them."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from ... import ir
from .module_runner import first_line, import_torch

_DTYPES = {"float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"}
_INPUT = re.compile(
    r"(?P<name>\w+)=(?P<dtype>\w+)\[(?P<dims>\s*|\s*\d+\s*(,\s*\d+\s*)*)\](:((?P<low>-?\d+)\.\.)?(?P<below>\d+))?"
)
_DYNAMIC = re.compile(r"(?P<name>\w+)=(?P<dims>-?\d+:[A-Za-z_]\w*(,-?\d+:[A-Za-z_]\w*)*)")


@dataclass(frozen=True)
class RandomInput:
    """An input to be drawn: normal floats; integers from `low` to `below` - 1."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    low: int
    below: int

    @classmethod
    def parse(cls, text: str) -> RandomInput:
        """`NAME=TYPE[DIMS]`, for integers with `:BELOW` or `:LOW..BELOW`. Raises ValueError."""
        found = _INPUT.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text!r} is not NAME=TYPE[DIMS], for integers with :BELOW or :LOW..BELOW, as in ids=int64[1,16]:1000"
            )
        if found["dtype"] not in _DTYPES:
            raise ValueError(f"{found['dtype']!r} is no type of an input; known are {', '.join(sorted(_DTYPES))}")
        dims = tuple(int(dim) for dim in found["dims"].split(",") if dim.strip())
        low, below = int(found["low"] or 0), int(found["below"] or 2)
        if low >= below:
            raise ValueError(f"{text!r}: there is no integer from {low} to {below - 1}")
        return cls(found["name"], found["dtype"], dims, low, below)

    def draw(self, torch: Any, generator: Any) -> Any:
        """The tensor."""
        dtype = getattr(torch, self.dtype)
        if dtype.is_floating_point:
            return torch.randn(self.dims, generator=generator).to(dtype)
        return torch.randint(self.low, self.below, self.dims, generator=generator).to(dtype)


def parse_dynamic(text: str) -> tuple[str, dict[int, str]]:
    """`NAME=AXIS:SYMBOL,…`. Raises ValueError."""
    found = _DYNAMIC.fullmatch(text.replace(" ", ""))
    if found is None:
        raise ValueError(f"{text!r} is not NAME=AXIS:SYMBOL,…, as in x=0:batch,2:length")
    pairs = (pair.split(":") for pair in found["dims"].split(","))
    return found["name"], {int(axis): symbol for axis, symbol in pairs}


def example_inputs(inputs: list[RandomInput], files: list[Path], seed: int) -> Mapping[str, Any]:
    """The inputs that are drawn, and those of .npz files, by name. Raises OptionsError for a file without any."""
    torch = import_torch()
    generator = torch.Generator().manual_seed(seed)
    found = {each.name: each.draw(torch, generator) for each in inputs}
    for path in files:
        try:
            with np.load(path) as arrays:
                found |= {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        except (OSError, ValueError, TypeError) as error:
            message = f"cannot read example inputs: {error}"
            raise ir.OptionsError(
                ir.Diagnostic("inputs-unreadable", message, ir.Location(str(path)), hint="expected an .npz of arrays")
            ) from error
    return found


def load_module(text: str) -> tuple[Any, Any]:
    """The module that `PACKAGE.MODULE:ATTRIBUTE`, or a file of torch.export.save (.pt2), names; its inputs, or None.

    The attribute is a torch module or ExportedProgram, or a function or class that gives one when it is called without
    operands; or a pair of it and its example inputs. Modules are looked for in the working directory, too.
    Raises OptionsError for what there is not, ModelError for what raises.
    """
    torch = import_torch()
    if text.endswith(".pt2"):
        if not Path(text).is_file():
            raise _no_module(text, "there is no such file")
        try:
            return torch.export.load(text), None
        except Exception as error:  # whatever torch raises for a broken file
            raise ir.ModelError(ir.Diagnostic("export-failed", first_line(error), ir.Location(text))) from error
    name, colon, attribute = text.partition(":")
    if not colon or not all(part.isidentifier() for part in (*name.split("."), *attribute.split("."))):
        raise _no_module(text, "expected PACKAGE.MODULE:ATTRIBUTE, or a .pt2 file")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = reduce(getattr, attribute.split("."), importlib.import_module(name))
    except (ImportError, AttributeError) as error:
        raise _no_module(text, str(error)) from error
    except Exception as error:  # whatever the user's module raises when it is imported
        raise _raises(text, error) from error
    kinds = (torch.nn.Module, torch.export.ExportedProgram)
    if callable(found) and not isinstance(found, kinds):
        try:
            found = found()
        except Exception as error:  # the same
            raise _raises(text, error) from error
    module, inputs = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if not isinstance(module, kinds):
        raise _no_module(text, f"it gives a {type(module).__name__}, expected a torch.nn.Module or ExportedProgram")
    return module, inputs


def _no_module(text: str, why: str) -> ir.OptionsError:
    return ir.OptionsError(ir.Diagnostic("no-module", f"{text}: {why}"))


def _raises(text: str, error: Exception) -> ir.ModelError:
    return ir.ModelError(ir.Diagnostic("module-fails", f"{text} raises {first_line(error)}"))
