"""Threads of a test. What goes wrong in one of them is an error of the test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any


@contextmanager
def beside(*works: Callable[[], Any], failing: Callable[[], None] = lambda: None) -> Iterator[None]:
    """A thread does each of the works beside the block, which ends when all have ended. AssertionError when one failed.

    ``failing`` is called when one fails."""
    errors: list[BaseException] = []

    def run(work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
            failing()

    threads = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
        if errors:
            text = f"{len(errors)} of {len(works)} threads failed, and the first one with {errors[0]!r}"
            raise AssertionError(text) from errors[0]


def together(number: int, work: Callable[[int, threading.Barrier], Any]) -> None:
    """So many threads do the work, each with its number, and with a barrier at which they meet.

    Who fails breaks the barrier, so that nobody waits for it."""
    barrier = threading.Barrier(number, timeout=30)
    with beside(*(partial(work, me, barrier) for me in range(number)), failing=barrier.abort):
        pass
