"""Print a script that completes verbs, options and files in your shell.

bash: optimize-graph completion bash > ~/.local/share/bash-completion/completions/optimize-graph
zsh:  optimize-graph completion zsh > ~/.zfunc/_optimize-graph   (a folder of $fpath)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="which shell")


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    import shtab

    from .. import everything

    known = everything()
    for action in _actions(known):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # how shtab wants to be told
    script: str = shtab.complete(known, shell=given.shell)
    # The first word may be a verb, or the model of the main job.
    print(script.replace("complete -o bashdefault -F", "complete -o bashdefault -o default -F"))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _actions(each)
        else:
            yield action
