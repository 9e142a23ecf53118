"""At least one hit for every rule of the catalogue."""

from __future__ import annotations

from optimize_graph.testing.golden import parse
from optimize_graph.testing.variations import Subject, alone
from support.attention_models import GUARDED, MASKED, PLAIN, rotary
from support.catalogue import CASES
from support.noop_cases import HITS, model_of


def subjects() -> list[Subject]:
    """At least one hit for every rule."""
    found = [
        Subject(each.rule, each.title, parse(each.before), alone(each.rule), bool(each.after), each.target)
        for each in CASES
    ]
    found += [Subject(name, call, model_of(call, *rest), alone(name)) for name, call, *rest in HITS]
    titles = {"plain": PLAIN, "masked": MASKED, "guarded": GUARDED}
    attention = "fuse-sdpa"
    found += [Subject(attention, title, model, "default") for title, model in titles.items()]
    return [*found, Subject("fuse-rotary-embedding", "rotate half", rotary(), "default")]
