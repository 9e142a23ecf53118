"""Record what the optimizer does to several thousand models, to compare two states of the code.

    python tools/behavior_oracle.py models FOLDER            # the models, once, from the state to keep
    python tools/behavior_oracle.py record FOLDER BEFORE.json
    python tools/behavior_oracle.py record FOLDER AFTER.json --renames NAMES.json
    python tools/behavior_oracle.py compare BEFORE.json AFTER.json --renames NAMES.json

The models: every block of the golden files, the examples, ONNX's backend cases as they are and with their inputs frozen
or their dims opened, and random models. Each record holds the fingerprint of the result, the ordered rewrites (rule,
place) and the missed rewrites (rule, place). NAMES.json maps old names of rules and passes to new ones; only names may
differ between two states that behave the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

RANDOM_MODELS = 200
TARGETS = ("ort-cpu", "ort-cuda")


def write_models(folder: Path) -> int:
    """Write the models to `folder`; how many there are. A golden case is called `golden@RULE@TARGET@NUMBER.onnx`."""
    import numpy as np
    import onnx

    tests = Path(__file__).resolve().parent.parent / "tests"
    sys.path.insert(0, str(tests))
    from support import backend_cases, golden, random_models

    folder.mkdir(parents=True, exist_ok=True)
    made = 0

    def write(name: str, model: onnx.ModelProto) -> None:
        nonlocal made
        made += 1
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())

    for number, case in enumerate(golden.CASES):
        write(f"golden@{case.rule}@{case.target}@{number}", golden.parse(case.before))
    for path in sorted((tests.parent / "examples").glob("*.onnx")):
        write(f"example@{path.stem}", onnx.load(path))
    random = np.random.default_rng(0)
    for case in backend_cases.cases():
        write(f"backend@{case.name}", case.model)
        variants = list(backend_cases.variants(case, random))
        if variants:
            write(f"backend@{case.name}@variant", variants[len(case.name) % len(variants)].of(case).model)
    for seed in range(RANDOM_MODELS):
        write(f"random@{seed}", random_models.ModelGenerator(seed, smooth=seed % 2 == 0).make())
    return made


def jobs_of(path: Path, renames: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The pipelines and targets that a model is run with."""
    for target in TARGETS:
        yield "default", target
    kind, *rest = path.stem.split("@")
    if kind == "golden":
        rule, target, _ = rest
        yield f"rewrite{{rules={renames.get(rule, rule)}}},{renames.get('dce', 'dce')}", target
    else:
        yield "exact", "ort-cpu"


def outcome(path: Path, renames: Mapping[str, str]) -> dict[str, Any]:
    """What the optimizer does to one model, by pipeline and target."""
    from optimize_graph import Options, ir, optimize

    found: dict[str, Any] = {}
    for pipeline, target in jobs_of(path, renames):
        kind = pipeline if pipeline in ("default", "exact") else "rule"
        try:
            result = optimize(path, options=Options(verify=False, passes=pipeline, target=target))
        except Exception as error:  # a model that is refused: how, is behaviour too
            found[f"{kind} {target}"] = {"error": type(error).__name__}
            continue
        missed = getattr(result, "missed", None)
        missed = result.missed if missed is None else missed
        found[f"{kind} {target}"] = {
            "fingerprint": ir.fingerprint(result.model),
            "rewrites": [f"{each.rule} {each.where}" for each in result.rewrites],
            "missed": sorted({f"{each.rule} {each.where}" for each in missed}),
        }
    return found


def _outcome(arguments: tuple[Path, Mapping[str, str]]) -> tuple[str, dict[str, Any]]:
    return arguments[0].name, outcome(*arguments)


def record(folder: Path, renames: Mapping[str, str]) -> dict[str, Any]:
    """What the optimizer does to every model of `folder`."""
    paths = sorted(folder.glob("*.onnx"))
    with ProcessPoolExecutor(max(1, (os.cpu_count() or 2))) as pool:
        return dict(pool.map(_outcome, [(path, renames) for path in paths], chunksize=16))


def renamed(entry: str, renames: Mapping[str, str]) -> str:
    """`RULE PLACE` under the new names; names that the optimizer gave to values carry the rule's."""
    rule, _, place = entry.partition(" ")
    return f"{renames.get(rule, rule)} {place}"


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], renames: Mapping[str, str], *, missed: bool
) -> Iterator[str]:
    """Every model and pipeline whose outcome differs, with the first thing that does."""
    for model in sorted(before.keys() | after.keys()):
        old, new = before.get(model), after.get(model)
        if old is None or new is None:
            yield f"{model}: only {'after' if old is None else 'before'}"
            continue
        for run in sorted(old.keys() | new.keys()):
            one, other = old.get(run, {}), new.get(run, {})
            for kind in ("error", "fingerprint", "rewrites", *(("missed",) if missed else ())):
                was, now = one.get(kind), other.get(kind)
                if isinstance(was, list) and isinstance(now, list):
                    was = [renamed(each, renames) for each in was]
                    if kind == "missed":
                        was, now = sorted(was), sorted(now)
                if was != now:
                    yield f"{model}, {run}: {kind}: {_first(was, now)}"
                    break


def _first(was: object, now: object) -> str:
    if not isinstance(was, list) or not isinstance(now, list):
        return f"{was} -> {now}"
    place = next(
        (i for i, pair in enumerate(zip(was, now, strict=False)) if pair[0] != pair[1]), min(len(was), len(now))
    )
    return f"at {place}: {was[place : place + 1]} -> {now[place : place + 1]} ({len(was)} and {len(now)})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("models", "record", "compare"))
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--renames", type=Path, help="JSON: old names of rules and passes to new ones")
    parser.add_argument("--missed", action="store_true", help="compare missed rewrites, too")
    given = parser.parse_args()
    renames = json.loads(given.renames.read_text()) if given.renames else {}
    match given.what, given.paths:
        case "models", [folder]:
            print(f"{write_models(folder)} models")
        case "record", [folder, output]:
            outcomes = record(folder, renames)
            output.write_text(json.dumps(outcomes, indent=0, sort_keys=True))
            digest = hashlib.sha256(json.dumps(outcomes, sort_keys=True).encode()).hexdigest()
            print(f"{len(outcomes)} models, {sum(map(len, outcomes.values()))} runs, digest {digest[:16]}")
        case "compare", [one, other]:
            found = list(
                differences(json.loads(one.read_text()), json.loads(other.read_text()), renames, missed=given.missed)
            )
            print("\n".join(found[:40]))
            print(f"{len(found)} differences")
            return bool(found)
        case _:
            parser.error("models FOLDER; record FOLDER OUT.json; compare BEFORE.json AFTER.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
