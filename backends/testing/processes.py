"""Processes of a test. What goes wrong in one of them is an error of the test."""

import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

SPAWN = multiprocessing.get_context("spawn")


def in_processes(work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What the work gives in each of the processes, in their order. Each is given a barrier too, at which they meet."""
    answers, barrier = SPAWN.Queue(), SPAWN.Barrier(len(arguments), timeout=30)
    processes = [
        SPAWN.Process(target=answer, args=(answers, place, work, (*mine, barrier)))
        for place, mine in enumerate(arguments)
    ]
    for process in processes:
        process.start()
    by_place = dict(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(30)
    failed = [result.error for result in by_place.values() if isinstance(result, _Failed)]
    assert not failed, f"the work failed in {len(failed)} of the processes: {failed}"
    return [by_place[place] for place in range(len(processes))]


class _Failed(NamedTuple):
    """What a process raised, as text: an error of a driver may not be sent."""

    error: str


def answer(answers: Any, place: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Who fails breaks the barrier, so that nobody waits for it."""
    try:
        found = (place, work(*arguments))
        pickle.dumps(found)  # what cannot be sent gets lost in the queue without a word
        answers.put(found)
    except BaseException as error:
        answers.put((place, _Failed(repr(error))))
        arguments[-1].abort()
