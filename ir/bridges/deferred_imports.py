"""Import onnx_ir without sympy, which it needs for arithmetic with symbolic dims alone, and this package never.

sympy is 470 modules: 32 MiB, and half of the time of every import of onnx_ir.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_DEFERRED = ("sympy", "onnx_ir._symbolic_shapes")  # the second reads the functions of the first when it is executed


class _Finder(importlib.abc.MetaPathFinder):
    """Find the deferred modules as others, but execute them when their first attribute is read."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in _DEFERRED else None
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


_finder = _Finder()
sys.meta_path.insert(0, _finder)
try:
    import onnx_ir as onnx_ir
finally:
    sys.meta_path.remove(_finder)
