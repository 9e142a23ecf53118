"""Example inputs of an exported model at other sizes of its dynamic dims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ... import ir
from ...runtime.inputs.bind_dims import Binding, OpenInput, symbols
from .module_runner import Example


class ResizedInputs:
    """Makes examples of other sizes by cutting and repeating one example. `dynamic`: how many dims are dynamic.

    `ports`: the model's inputs, in the order of the example's tensors.
    """

    def __init__(self, torch: Any, ports: list[ir.Value], example: Example) -> None:
        self._torch, self._example = torch, example
        self._opened = [OpenInput.of(value) for value in ports]
        self.dynamic = sum(isinstance(dim, str) for opened in self._opened for dim in opened.dims)
        self.sizes: dict[str, int] = {}
        for opened, leaf in zip(self._opened, example.tensors(torch), strict=False):
            for dim, size in zip(opened.dims, leaf.shape, strict=False):
                if isinstance(dim, str) and symbols(dim) == (dim,):
                    self.sizes.setdefault(dim, int(size))

    def others(self) -> Iterator[dict[str, int]]:
        """Other sizes: of all dims at once and all different, then of each alone."""
        yield {name: size + 1 + nth for nth, (name, size) in enumerate(self.sizes.items())}
        yield {name: size + 1 for name, size in self.sizes.items()}
        yield {name: 2 * size for name, size in self.sizes.items()}
        for name, size in self.sizes.items():
            for other in (size + 1, size - 1, 2 * size, size // 2, size + 2, 4 * size, size + 8):
                if other > 0 and other != size:
                    yield {name: other}

    def resized(self, sizes: Mapping[str, int]) -> Example | None:
        """The example with other sizes; None where a dim is no number then."""
        binding = Binding({**self.sizes, **sizes})
        opened = iter(self._opened)

        def resize(leaf: Any) -> Any:
            if not isinstance(leaf, self._torch.Tensor) or (port := next(opened, None)) is None:
                return leaf
            for axis, size in enumerate(binding.shape(port.dims)):
                if size != leaf.shape[axis]:
                    indices = self._torch.arange(size) % leaf.shape[axis]
                    leaf = leaf.index_select(axis, indices.to(leaf.device))
            return leaf

        try:
            return self._example.map(self._torch, resize)
        except (KeyError, IndexError, ZeroDivisionError, RuntimeError):  # a symbol of its own, an empty example
            return None
