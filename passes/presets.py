"""Presets: pipelines with names. Each line is a phase."""

from __future__ import annotations

from .registry import REGISTRY

DEFAULT = (
    # The standard's function bodies are matched before anything changes them.
    "inline-functions,lower-opset-for-cuda,normalize-dequantize-zero-points,dce,outline-functions",
    # Canonical form: exact rewrites to a fixpoint, control flow and shape arithmetic folded.
    "fixpoint(lift-constants,canonicalize,drop-zero-initial-state,constant-fold,fold-constant-if,resolve-sequences,"
    "drop-infeasible-branches,hoist-loop-invariants,simplify-loop-states,cse,dedup-initializers,dce)",
    # Composite operators are recognized before data movement takes their form apart, loops before they are unrolled.
    "recognize,recognize-rnn,hoist-loop-matmul,drop-zero-initial-state",
    # Algebra and fusion into weights; what these uncover is recognized, too.
    "fixpoint(lift-constants,simplify,canonicalize,constant-fold,fold-constant-if,unroll-loops,cse,dedup-initializers,"
    "dce)",
    "fuse-attention,recognize",
    # Layout.
    "fixpoint(lift-constants,simplify,canonicalize,dce,propagate-transposes{rounding=true},slices-to-split,"
    "constant-fold,fold-constant-if,cse,dedup-initializers,dce)",
    # What ONNX Runtime's kernels for the target run best.
    "merge-slice-matmuls,ort-specialize,split-conv,conv1d-to-conv2d,pad-conv-channels,merge-matmuls",
    "fixpoint(simplify,canonicalize,propagate-transposes{rounding=true},constant-fold,cse,dedup-initializers,dce)",
    # Less arithmetic in more operators, when no pass matches the plain operator any more.
    "ort-algorithms,fixpoint(canonicalize,constant-fold,dedup-initializers,cse,dce)",
    "sink-initializers,declare-attention-values",
)

EXACT = (
    "inline-functions,normalize-dequantize-zero-points",
    "fixpoint(lift-constants,canonicalize,drop-zero-initial-state,dce,propagate-transposes,slices-to-split,"
    "constant-fold,fold-constant-if,resolve-sequences,drop-infeasible-branches,unroll-loops,hoist-loop-invariants,"
    "simplify-loop-states,cse,dedup-initializers,dce)",
)

REGISTRY.add_preset("default", ",".join(DEFAULT), __name__)
REGISTRY.add_preset("exact", ",".join(EXACT), __name__)
