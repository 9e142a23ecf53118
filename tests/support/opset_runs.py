"""Every case of a step between opsets, in a process of its own: ONNX Runtime ends the process on some of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing.connection import Connection

from support.backend_cases import Case
from support.opset_cases import Outcome, Step, made, outcome, run

SECONDS_PER_CASE = 20.0
ENDED = "not run: the runtime ended"
DIFFERS = "the process ends on the converted model, and not on the original"

Compare = Callable[[Case, Step], Outcome]
Models = Callable[[Step], Iterator[Case]]


def outcomes(step: Step, compare: Compare = outcome, models: Models = made) -> Iterator[tuple[str, Outcome]]:
    """The name and the outcome of every case of `step`, in order.

    A case on which the process ends, or gives no answer within `SECONDS_PER_CASE`, is skipped (`ENDED`) where the
    original alone does that, and differs (`DIFFERS`) where only the converted model does.
    """
    position: int | None = 0
    while position is not None:
        begun: str | None = None
        for name, found in _answers(step, position, None, compare, models):
            begun = name if found is None else None
            if found is not None:
                position += 1
                yield name, found
        if begun is None:
            return
        alone = [found for _, found in _answers(step, position, position + 1, _original, models)]
        yield begun, Outcome("skipped", ENDED) if alone[-1] is None else Outcome("differs", DIFFERS)
        position += 1


def _original(case: Case, step: Step) -> Outcome:
    run(case.model, case.feeds)
    return Outcome("same")


def _answers(
    step: Step, start: int, stop: int | None, compare: Compare, models: Models
) -> Iterator[tuple[str, Outcome | None]]:
    """For every case the name alone, before it is run, and then with the outcome; less where the process ends."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    arguments = (step, start, stop, compare, models, sender)
    process = multiprocessing.get_context("fork").Process(target=_run_all, args=arguments)
    process.start()
    sender.close()
    try:
        while receiver.poll(SECONDS_PER_CASE):
            yield receiver.recv()
    except EOFError:
        pass
    finally:
        process.kill()
        process.join()
        receiver.close()


def _run_all(step: Step, start: int, stop: int | None, compare: Compare, models: Models, sender: Connection) -> None:
    for case in islice(models(step), start, stop):
        sender.send((case.name, None))
        sender.send((case.name, compare(case, step)))
