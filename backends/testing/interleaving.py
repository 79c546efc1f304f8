"""A rival that comes in at every moment of a call: what is promised to be atomic is, or the rival gets in between.

Two threads that race meet in the middle of a call by luck. Here the call is stopped at each of its own steps in turn.
There the rival's whole call is made in another thread; when it has to wait for a lock, the first call goes on.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NamedTuple

DEPTH_MAX = 4
"""Calls that are deeper than that are the driver's, which has to be atomic by itself."""
MOMENTS_MAX = 40
BLOCKED_S = 0.01


class Met(NamedTuple):
    """What both calls returned."""

    first: Any
    second: Any


def moments(call: Callable[[], Any]) -> Iterator[int]:
    """Of such a call: numbers for ``meet``. All, or as many as are tried, evenly spread."""
    stops = _Stops(-1, lambda: None)
    stops.run(call)
    yield from range(0, stops.count, stops.count // MOMENTS_MAX + 1)


def meet(moment: int, first: Callable[[], Any], second: Callable[[], Any]) -> Met:
    """Both are called: the second one as a whole at that moment of the first, or as soon after it as it can."""
    found: list[Any] = []
    failed: list[BaseException] = []

    def act() -> None:
        try:
            found.append(second())
        except BaseException as error:
            failed.append(error)

    rival = threading.Thread(target=act)

    def come_in() -> None:
        rival.start()
        rival.join(BLOCKED_S)

    stops = _Stops(moment, come_in)
    result = stops.run(first)
    if not rival.ident:
        rival.start()
    rival.join(30)
    if failed:
        raise AssertionError(f"the rival's call failed with {failed[0]!r}") from failed[0]
    assert found, "the rival's call did not return"
    return Met(result, found[0])


class _Stops:
    """Does something at the moment of that number: when a step of the call has returned."""

    def __init__(self, moment: int, do: Callable[[], None]) -> None:
        self.count, self._moment, self._do, self._depth = 0, moment, do, 0

    def run(self, call: Callable[[], Any]) -> Any:
        before = sys.getprofile()
        sys.setprofile(self._look)
        try:
            return call()
        finally:
            sys.setprofile(before)

    def _look(self, _: FrameType, event: str, __: Any) -> None:
        if event == "call":
            self._depth += 1
        elif event == "return":
            self._depth -= 1
        if event in ("return", "c_return") and self._depth <= DEPTH_MAX:
            if self.count == self._moment:
                self._do()  # of which nothing is a step of the call: the interpreter does not look into this method
            self.count += 1
