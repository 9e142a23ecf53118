"""What `optimize` remarks on a result, and the errors that it ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ... import ir
from ...passes.pipeline.exactness import Exactness
from ...passes.pipeline.pipeline import PipelineResult
from ...passes.rewriting.kernel_check import WHERE_VERIFIED
from .fault_isolation import FaultyRewrite

if TYPE_CHECKING:
    from ...runtime import Ratio, Verification
    from .tune import Tuning


def overridable_weights(model: ir.Model) -> Iterator[ir.Diagnostic]:
    """Weights that callers may override are no constants, for ONNX Runtime neither: that costs speed."""
    weights = [value for value in model.graph.inputs if ir.is_overridable(value)]
    if weights:
        nbytes = sum(value.const_value.nbytes for value in weights if value.const_value is not None)
        message = (
            f"{len(weights)} weights ({nbytes:,} bytes) are also inputs, which callers may override: their users "
            "are not folded, and ONNX Runtime neither folds nor prepacks them (a small network took x1.33 the time)"
        )
        hint = "--freeze all (or NAME) makes them constants and takes them out of the interface"
        yield ir.Diagnostic("overridable-weights", message, hint=hint, severity=ir.Severity.WARNING)


def not_verifiable(result: PipelineResult) -> Iterator[ir.Diagnostic]:
    """Rewrites that were missed because the provider that verifies the result lacks a kernel."""
    counts = Counter(missed.rule for missed in result.missed if missed.condition == WHERE_VERIFIED)
    if counts:
        rules = ", ".join(f"{rule} ({count})" for rule, count in sorted(counts.items()))
        message = f"left out, for want of a kernel that could verify the result here: {rules}"
        hint = "--provider cuda verifies it, --no-verify goes without"
        yield ir.Diagnostic("not-verifiable-here", message, hint=hint, severity=ir.Severity.WARNING)


def special_values(result: PipelineResult) -> Iterator[ir.Diagnostic]:
    """The rules that fired and may change infinities, NaN or the sign of zero."""
    rules = {each.rule for each in result.rewrites if each.exactness is Exactness.SPECIAL_VALUES}
    if rules:
        names = ", ".join(sorted(rules))
        message = f"infinities, NaN, the sign of zero and numbers near overflow may become other values: {names}"
        hint = "--disable leaves a rule out; for usual numbers these rules are as exact as any that round"
        yield ir.Diagnostic("special-values", message, hint=hint, severity=ir.Severity.REMARK)


def exact_rewrites_only(verification: Verification) -> ir.Diagnostic:
    """All rewrites that are not exact are excluded, since outputs are too weak to confirm them."""
    message = f"only exact rewrites are delivered, bit for bit: {verification.problem}"
    hint = "--rtol and --atol say what may differ"
    return ir.Diagnostic("only-exact", message, hint=hint, severity=ir.Severity.WARNING)


def slower(speed: Ratio) -> ir.Diagnostic:
    """The result is slower with confidence, and the original is delivered."""
    message = f"the result is slower here, x{speed.median:.2f} [{speed.low:.2f}, {speed.high:.2f}]"
    hint = "--tune looks for what is faster, --keep-slower delivers the result all the same"
    return ir.Diagnostic("slower", f"{message}: the original is delivered", hint=hint, severity=ir.Severity.WARNING)


def nothing_faster(tuning: Tuning) -> ir.Diagnostic:
    """Tuning found nothing that is faster than the original."""
    message = f"nothing that was tried is as fast as the original, which is delivered: {tuning.summary()}"
    return ir.Diagnostic("original-is-faster", message, severity=ir.Severity.WARNING)


def passed_through(lost: Sequence[str]) -> ir.Diagnostic:
    """The model has something that rewriting would lose."""
    message = f"the model has {', '.join(lost)}, which rewriting would lose: it is written unchanged"
    return ir.Diagnostic("passed-through", message, severity=ir.Severity.WARNING)


def rules_of(result: PipelineResult) -> str:
    """The rules that fired, each once, in order."""
    return ", ".join(dict.fromkeys(rewrite.rule for rewrite in result.rewrites)) or "none"


def rejected(
    verification: Verification, result: PipelineResult, faulty: FaultyRewrite | None, *, is_late: bool = False
) -> ir.VerificationError:
    """The error of a result that is wrong, with the faulty rewrite where it was found."""
    if faulty is None:
        cause = "; the time limit ended the search for the faulty rewrite" if is_late else ""
        hint = "--verify-timeout gives more time; " if is_late else ""
        hint += f"rules that fired: {rules_of(result)}; --disable leaves one out"
    else:
        cause, hint = f"; it is {faulty.rule} at {faulty.where}", f"--disable {faulty.rule} leaves it out"
        hint += f"; to reproduce: {faulty.reproducer}" if faulty.reproducer else ""
    message = f"{verification.summary()}{cause}"
    return ir.VerificationError(ir.Diagnostic("verification-failed", message, hint=f"nothing was written; {hint}"))


def not_deterministic(result: PipelineResult, other: PipelineResult) -> ir.VerificationError:
    """The error of two runs that give different models, with the first rewrite that differs."""
    pairs = zip(result.rewrites, other.rewrites, strict=False)
    first = next((one for one, two in pairs if one != two), None)
    longer = max(result.rewrites, other.rewrites, key=len)
    if first is None and len(result.rewrites) != len(other.rewrites):
        first = longer[min(len(result.rewrites), len(other.rewrites))]
    cause = f"rules that fired: {rules_of(result)}"
    if first is not None:
        cause = f"{first.rule} at {first.where} is the first to differ"
    message = f"another run gives another model; {cause}"
    return ir.VerificationError(ir.Diagnostic("not-repeatable", message, hint="nothing was written"))
