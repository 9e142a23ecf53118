"""Phases: which pass runs a rule."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """When a rule is applied. By default `phase_of` derives it from the rule's folder and exactness."""

    CANONICALIZE = "canonicalize"
    SIMPLIFY = "simplify"
    RECOGNIZE = "recognize"
    ORT_SPECIALIZE = "ort-specialize"
    ORT_ALGORITHMS = "ort-algorithms"
    ATTENTION = "attention"
    CAUSAL_ATTENTION = "causal-attention"
    CONTRIB_ATTENTION = "contrib-attention"


_FOLDERS = {"recognize": Phase.RECOGNIZE, "ort": Phase.ORT_SPECIALIZE}


def phase_of(module: str, *, is_exact: bool) -> Phase:
    """The phase of a rule that names none: that of its folder; elsewhere, and in plugins, by its exactness."""
    package, _, path = module.partition(".passes.")
    folder = path.partition(".")[0] if package == __name__.partition(".")[0] else ""
    return _FOLDERS.get(folder, Phase.CANONICALIZE if is_exact else Phase.SIMPLIFY)
