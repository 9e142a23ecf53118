"""The outcome of a verification."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from .comparison import Element


@dataclass(frozen=True)
class Verification:
    """The outcome of comparing a result with the original.

    `inputs` describes each compared set; `floor` (the model's own noise) and `error` are relative to the largest
    magnitude in an output; `problem` is empty when `ok`; `failed_on` is the index of the set of inputs with the
    difference, if there is one; `weak`: the difference is within the noise of outputs that are weak tests; `notes`
    name what was not covered, and why.
    """

    ok: bool
    exact: bool
    inputs: tuple[str, ...] = ()
    floor: float = 0.0
    error: float = 0.0
    worst: Element | None = None
    problem: str = ""
    failed_on: int | None = None
    weak: bool = False
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def summary(self) -> str:
        """One line for a person."""
        count = f"{len(self.inputs)} input set{'' if len(self.inputs) == 1 else 's'}"
        if not self.ok:
            said = f"differs from the original: {self.problem}"
        elif not self.inputs:
            return "; ".join(self.notes)
        elif self.exact:
            said = f"equal bit for bit on {count}"
        else:
            said = f"agrees on {count}: error {self.error:.1e} of its scale, the model's own noise {self.floor:.1e}"
        return "; ".join([said, *self.notes])

    def to_json(self) -> dict[str, object]:
        """The fields by name, None for an error that is not finite."""
        worst = None if self.worst is None else self.worst.to_json()
        error = self.error if math.isfinite(self.error) else None
        rest = {"inputs": list(self.inputs), "notes": list(self.notes), "worst": worst, "error": error}
        return {**asdict(self), **rest}
