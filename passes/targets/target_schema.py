"""The schema of a target file, and what is wrong with a document: where, and what to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ... import ir

PHASES: Final = (
    "canonicalize",
    "simplify",
    "recognize",
    "ort-specialize",
    "ort-algorithms",
    "attention",
    "causal-attention",
    "contrib-attention",
)


def _text(help_text: str, **more: object) -> dict[str, Any]:
    return {"type": "string", "description": help_text, **more}


def _texts(help_text: str, **item: object) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string", **item}, "description": help_text}


def _table(help_text: str, properties: Mapping[str, object], **more: object) -> dict[str, Any]:
    return {
        "type": "object",
        "description": help_text,
        "properties": properties,
        "additionalProperties": False,
        **more,
    }


def _threshold(default: float, help_text: str) -> dict[str, Any]:
    return {"type": "number", "minimum": 0, "default": default, "description": help_text}


PROFIT: Final[Mapping[str, dict[str, Any]]] = {
    "winograd-pixels": _threshold(100, "decompose-conv-winograd: pixels of a result from which on it pays"),
    "winograd-share": _threshold(0.85, "decompose-conv-winograd: expected share of the direct convolution's time"),
    "conv1d-products": _threshold(12_000, "conv1d-to-conv2d: multiplications in one convolution of a chain"),
    "outer-product-width": _threshold(32, "outer-product-to-matmul: widest last axis"),
    "scatter-elements": _threshold(1 << 14, "flatten-scatter-elements: indices from which on it pays"),
    "softmax-inner": _threshold(1 << 10, "decompose-softmax-outer-axis: elements after the axis"),
}
"""Thresholds of profit that rules ask the target for, with what holds where its file says nothing."""


def usual(name: str) -> int:
    """What a threshold of profit is where a target says nothing."""
    found: int = PROFIT[name]["default"]
    return found


_BY_INDEX = {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}}

KERNELS: Final = _table(
    "operators that the target runs, with one set of types and versions",
    {
        "operators": _texts("`Add` of the standard, `com.vendor::FusedThing` of another domain"),
        "types": _texts("element types of the first input, as `float16`; any where absent"),
        "inputs": {**_BY_INDEX, "description": "element types of other inputs by index: `{ 1 = ['int64'] }`"},
        "outputs": {**_BY_INDEX, "description": "element types of outputs by index"},
        "versions": _text("versions of the operators' definitions, `7-13`, `7-` or `13`; any where absent"),
        "since": _text("the first release of ONNX Runtime that has them, as `1.20`"),
        "until": _text("the last release that has them"),
    },
    required=["operators"],
)

SCHEMA: Final[Mapping[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "a target of optimize-graph",
    **_table(
        "what a runtime runs, what pays there, and how a result is verified",
        {
            "name": _text("how it is called in reports"),
            "summary": _text("one line on what it stands for"),
            "source": _text("where the lists of operators are from"),
            "extends": _text("another target, by name or as a file beside this one: what is not said here is its"),
            "runtime": _text("what loads the result", enum=["onnxruntime", "other"], default="other"),
            "provider": _text("the execution provider of ONNX Runtime that it is for: `cpu`, `cuda`, `coreml`, …"),
            "fallback": _text("the target that runs what this one has no kernel for, in the same session"),
            "rules": _texts("folders of the catalogue that are for this target alone: `ort/cpu`"),
            "phases": _texts("phases whose rules and passes run; all where absent", enum=list(PHASES)),
            "forbidden": _texts("operators that no rewrite may emit, whatever kernels there are"),
            "kernel-lists": _texts("files of kernels (TSV) beside this one, see passes/targets/kernel_table.py"),
            "kernels": {"type": "array", "items": KERNELS},
            "unlisted-domains": _text(
                "what holds of operators of a domain of which none is listed: no kernel, or not known, so that "
                "a library of custom operators may bring them",
                enum=["refused", "unknown"],
                default="refused",
            ),
            "verify": _table(
                "how a result is verified",
                {
                    "provider": _text("the execution provider that runs both models, `--provider` says otherwise"),
                    "libraries": _texts("libraries of custom operators beside this file, as for `--custom-ops`"),
                    "bodies": _texts(
                        "reference semantics: functions of a vendor's domain in ONNX text; where there is no library"
                    ),
                },
            ),
            "profit": _table(
                "which rewrites pay, where it is a matter of measurement",
                {
                    "always": _texts("rules and passes that are applied wherever they are legal"),
                    "never": _texts("rules and passes that are left out"),
                    **PROFIT,
                },
            ),
        },
        required=["name"],
    ),
}


@dataclass(frozen=True)
class Fault:
    """What is wrong: at `path` in the document (`literal`: the element of an array), and what to do."""

    path: tuple[str | int, ...]
    message: str
    hint: str = ""
    literal: str = ""


_TYPES: Final[Mapping[str, tuple[str, type | tuple[type, ...]]]] = {
    "string": ("a string", str),
    "number": ("a number", (int, float)),
    "array": ("an array", list),
    "object": ("a table", dict),
}


def faults(value: object, schema: Mapping[str, Any] = SCHEMA, path: tuple[str | int, ...] = ()) -> Iterator[Fault]:
    """Where a document does not follow the schema."""
    words, kind = _TYPES[schema["type"]]
    if not isinstance(value, kind) or isinstance(value, bool):
        yield Fault(path, f"{_spell(path)} is {value!r}, expected {words}")
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        for key in schema.get("required", ()):
            if key not in value:
                yield Fault(path, f"{_spell((*path, key))} is absent", "every target has it")
        for key, each in value.items():
            if key in known:
                yield from faults(each, known[key], (*path, key))
            elif schema["additionalProperties"] is False:
                hint = f"known are {', '.join(known)}"
                yield Fault((*path, key), f"unknown key {key!r}{ir.did_you_mean(key, known)}", hint)
            else:
                yield from faults(each, schema["additionalProperties"], (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            inner = (*path, index) if isinstance(each, dict) else path
            yield from (_element(fault, each) for fault in faults(each, schema["items"], inner))
    elif value not in schema.get("enum", (value,)):
        hint = f"expected one of {', '.join(schema['enum'])}"
        yield Fault(path, f"{_spell(path)}: no {value!r}{ir.did_you_mean(str(value), schema['enum'])}", hint)
    elif isinstance(value, (int, float)) and value < schema.get("minimum", value):
        yield Fault(path, f"{_spell(path)} is {value!r}, expected at least {schema['minimum']}")


def _element(fault: Fault, value: object) -> Fault:
    return fault if isinstance(value, dict) else Fault(fault.path, fault.message, fault.hint, str(value))


def _spell(path: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in path) or "the document"


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")
_KEY = re.compile(r"\s*([\w\"'.-]+)\s*=")


def line_of(text: str, fault: Fault) -> int:
    """The line of a document that a fault is about, from 1 on: the TOML library of Python keeps no positions."""
    table: list[str | int] = []
    seen: Counter[str] = Counter()
    nearest, deepest = 1, 0
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if header := _HEADER.match(line):
            table = [*_parts(header[2])]
            if header[1] == "[[":
                table.append(seen[header[2]])
                seen[header[2]] += 1
            here = table
        elif key := _KEY.match(line):
            here = [*table, *_parts(key[1])]
        else:
            continue
        depth = next((i for i, pair in enumerate(zip(here, fault.path, strict=False)) if pair[0] != pair[1]), len(here))
        if min(depth, len(fault.path)) > deepest:
            nearest, deepest = number, depth
    if fault.literal:
        return next((i for i, line in enumerate(lines[nearest - 1 :], nearest) if fault.literal in line), nearest)
    return nearest


def _parts(key: str) -> list[str]:
    return [part.strip(" \"'") for part in key.split(".")]
