"""What came of comparing a result with the original."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from .comparison import Element


@dataclass(frozen=True)
class Verification:
    """What was compared and what came of it.

    `inputs` says how each compared set was made; `floor` (the model's own noise) and `error` are relative to the
    largest magnitude in an output; `problem` is empty when `ok`, and `failed_on` is the place of the set of inputs on
    which it was seen, if on any; `weak` says that it is within
    the noise of outputs that hardly tell right from wrong; `notes` say what was not covered, and why.
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
        worst = None if self.worst is None else self.worst.to_json()
        error = self.error if math.isfinite(self.error) else None
        rest = {"inputs": list(self.inputs), "notes": list(self.notes), "worst": worst, "error": error}
        return {**asdict(self), **rest}
