"""The pipelines that have names."""

from __future__ import annotations

from .pipeline.registry import REGISTRY

# The standard's own bodies are looked for before anything changes them; what exporters spell in many operators is
# recognized before movement takes its form apart.
REGISTRY.add_preset(
    "default",
    "inline-functions,lower-opset-for-cuda,normalize-dequantize-zero-points,dce,outline-functions,"
    "fixpoint(lift-constants,canonicalize,drop-zero-initial-state,constant-fold,fold-constant-if,resolve-sequences,drop-infeasible-branches,"
    "hoist-loop-invariants,simplify-loop-states,cse,dedup-initializers,dce),"
    "recognize,recognize-rnn,hoist-loop-matmul,drop-zero-initial-state,"
    "fixpoint(lift-constants,simplify,canonicalize,constant-fold,fold-constant-if,unroll-loops,cse,dedup-initializers,dce),fuse-attention,recognize,"
    "fixpoint(lift-constants,simplify,canonicalize,dce,propagate-transposes{rounding=true},slices-to-split,"
    "constant-fold,fold-constant-if,cse,dedup-initializers,dce),"
    "merge-slice-matmuls,ort-specialize,split-conv,conv1d-to-conv2d,pad-conv-channels,merge-matmuls,"
    "fixpoint(simplify,canonicalize,propagate-transposes{rounding=true},constant-fold,cse,dedup-initializers,dce),"
    "ort-algorithms,fixpoint(canonicalize,constant-fold,dedup-initializers,cse,dce),sink-initializers",
    __name__,
)
REGISTRY.add_preset(
    "exact",
    "inline-functions,normalize-dequantize-zero-points,fixpoint(lift-constants,canonicalize,drop-zero-initial-state,dce,propagate-transposes,slices-to-split,"
    "constant-fold,fold-constant-if,resolve-sequences,drop-infeasible-branches,unroll-loops,hoist-loop-invariants,"
    "simplify-loop-states,cse,dedup-initializers,dce)",
    __name__,
)
