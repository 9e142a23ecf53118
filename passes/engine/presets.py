"""The pipelines that have names."""

from __future__ import annotations

from .registry import REGISTRY

REGISTRY.add_preset(
    "default",
    "inline,fixpoint(lift-constants,canonicalize,fold,resolve-if,cse,dedup,dce),recognize,"
    "fixpoint(fuse,canonicalize,fold,resolve-if,cse,dedup,dce),"
    "fuse-attention,legalize,fixpoint(canonicalize,fold,cse,dedup,dce)",
    __name__,
)
REGISTRY.add_preset(
    "exact",
    "inline,fixpoint(lift-constants,canonicalize,fold,resolve-if,cse,dedup,dce)",
    __name__,
)
