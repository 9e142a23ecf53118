"""Other people's passes as they are: one line makes each a pass that the text of a pipeline names.

It works on a copy. What it makes of that is checked, restored where the way there and back loses something, and becomes
one rewrite in the log: so it is verified, bisected and excluded by name like every other.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeAlias

from .. import ir
from .pipeline.exactness import Exactness
from .pipeline.pass_ import Pass, PassContext, PassFailure
from .registry import REGISTRY, reject

Edit: TypeAlias = Callable[..., Any]

_WHERE = "model"
_KINDS = (bool, int, float, str)


def graphsurgeon(name: str, edit: Edit, *, exactness: Exactness = Exactness.APPROXIMATE) -> None:
    """Register a function that edits an `onnx_graphsurgeon.Graph`, or gives back another."""
    _register(name, edit, _through_form(edit, ir.to_surgeon, ir.from_surgeon), exactness)


def onnx_ir(name: str, edit: Edit, *, exactness: Exactness = Exactness.APPROXIMATE) -> None:
    """Register a pass of onnx-ir, a class of such passes (its arguments are options), or a function on its models."""

    def through(model: ir.Model, options: dict[str, Any]) -> ir.Model:
        if isinstance(edit, type):
            return _through_copy(model, edit(**options))
        return _through_copy(model, lambda copy: edit(copy, **options))

    _register(name, edit, through, exactness)


def rewrite_rules(name: str, rules: Any, *, exactness: Exactness = Exactness.APPROXIMATE) -> None:
    """Register a `RewriteRule` or a `RewriteRuleSet` of onnxscript."""

    def through(model: ir.Model, options: dict[str, Any]) -> ir.Model:
        return _through_copy(model, apply)

    def apply(copy: ir.Model) -> None:
        """Rewrite rules of onnxscript."""
        rules.apply_to_model(copy)

    _register(name, apply if hasattr(rules, "apply_to_model") else rules, through, exactness)


def model_proto(name: str, edit: Edit, *, exactness: Exactness = Exactness.APPROXIMATE) -> None:
    """Register a function that edits an `onnx.ModelProto`, or gives back another."""
    _register(name, edit, _through_form(edit, ir.self_contained_proto, ir.from_edited_proto), exactness)


def _through_form(edit: Edit, to_form: Callable[[ir.Model], Any], from_form: Callable[..., ir.Model]) -> Edit:
    """What `edit`, of another form of a model, makes of a model."""

    def through(model: ir.Model, options: dict[str, Any]) -> ir.Model:
        form = to_form(model)
        edited = edit(form, **options)
        return from_form(form if edited is None else edited, like=model)

    return through


def _through_copy(model: ir.Model, edit: Edit) -> ir.Model:
    copy = model.clone()
    with ir.read_only(ir.all_tensors(copy)):  # copies share their tensors
        edited = edit(copy)
    result = copy if edited is None else getattr(edited, "model", edited)
    if not isinstance(result, ir.Model):
        raise TypeError(f"expected a model or None, got {type(edited).__name__}")
    return ir.reconcile(result, like=model)


class ForeignPass(Pass):
    """Another library's pass. `through`: what it makes of a model, with options; the model stays as it is."""

    through: ClassVar[Callable[[ir.Model, dict[str, Any]], ir.Model]]

    def run(self, model: ir.Model, context: PassContext) -> None:
        before = _size(model)
        if not context.log.allows(self.name, _WHERE, before, self.exactness):
            return
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        try:
            result = type(self).through(model, options)
        except ir.OptimizeGraphError as error:
            raise PassFailure(self.name, str(error)) from error
        exactness = self.exactness
        if ir.fingerprint(result) == ir.fingerprint(model):
            if list(_notes(result)) == list(_notes(model)):
                return
            exactness = Exactness.EXACT
        if context.log.try_rewrite(self.name, _WHERE, before, _size(result), exactness):
            context.rewriter.exchange(result)


def _size(model: ir.Model) -> str:
    return f"{sum(1 for _ in ir.nodes(model))} nodes"


def _notes(model: ir.Model) -> Iterator[object]:
    """What the fingerprint does not cover: names, declarations, doc strings and metadata."""
    for graph in ir.graphs(model):
        values = [*graph.inputs, *graph.initializers.values(), *(each for node in graph for each in node.outputs)]
        yield from (
            (each.name, repr(each.type), str(each.shape), each.doc_string, each.metadata_props) for each in values
        )
        yield from ((node.name, node.doc_string, node.metadata_props) for node in graph)


def _register(name: str, edit: object, through: Edit, exactness: Exactness) -> None:
    reject(f"pass {name!r}", [] if callable(edit) else ["what it is to run is of another kind"])
    doc = (edit.__doc__ and inspect.getdoc(edit)) or f"{name}, of another library."
    namespace = {
        "name": name,
        "exactness": exactness,
        "through": staticmethod(through),
        "__doc__": doc,
        "__qualname__": name,
        "__module__": sys._getframe(2).f_globals["__name__"],  # the plugin's, wherever the code comes from
    }
    REGISTRY.add_pass(
        dataclasses.make_dataclass(name, list(_options(edit)), bases=(ForeignPass,), namespace=namespace, frozen=True)
    )


def _options(edit: Any) -> Iterator[tuple[str, object, Any]]:
    """The arguments of `edit` whose defaults the text of a pipeline can spell, with their types."""
    try:
        arguments = inspect.signature(edit).parameters.values()
    except ValueError:  # of a function in C
        return
    for each in arguments:
        default = each.default
        if each.kind is each.POSITIONAL_ONLY or hasattr(ForeignPass, each.name):
            continue
        if isinstance(default, _KINDS):
            yield each.name, type(default), default
        elif isinstance(default, tuple) and default and all(isinstance(part, str) for part in default):
            yield each.name, tuple[str, ...], default
