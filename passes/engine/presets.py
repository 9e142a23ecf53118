"""The pipelines that have names."""

from __future__ import annotations

from .registry import REGISTRY

# The standard's own bodies are looked for before anything changes them; what exporters spell in many operators is
# recognized before movement takes its form apart.
REGISTRY.add_preset(
    "default",
    "inline,lower-opset-for-cuda,respell-dequantize,dce,outline,"
    "fixpoint(lift-constants,canonicalize,default-state,fold,resolve-if,resolve-sequences,drop-impossible-branches,"
    "hoist-loop-invariants,simplify-loop-states,cse,dedup,dce),"
    "recognize,recognize-recurrences,project-sequences,default-state,"
    "fixpoint(lift-constants,fuse,canonicalize,fold,resolve-if,unroll-loops,cse,dedup,dce),fuse-attention,recognize,"
    "fixpoint(lift-constants,fuse,canonicalize,dce,move-transposes{rounding=true},split-from-slices,"
    "fold,resolve-if,cse,dedup,dce),"
    "merge-piece-products,legalize,conv-for-each-piece,images-of-sounds,pad-channels,merge-projections,"
    "fixpoint(fuse,canonicalize,move-transposes{rounding=true},fold,cse,dedup,dce),"
    "fast-algorithms,fixpoint(canonicalize,fold,dedup,cse,dce),sink-initializers",
    __name__,
)
REGISTRY.add_preset(
    "exact",
    "inline,respell-dequantize,fixpoint(lift-constants,canonicalize,default-state,dce,move-transposes,split-from-slices,"
    "fold,resolve-if,resolve-sequences,drop-impossible-branches,unroll-loops,hoist-loop-invariants,"
    "simplify-loop-states,cse,dedup,dce)",
    __name__,
)
