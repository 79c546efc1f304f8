"""Reads of a few coupons that wait at the same time go to DynamoDB together.

A request costs the same CPU for one coupon as for sixteen, and each thread of a web process asks for a coupon that the
cache does not know. What is not to be had together, at once, each asks for alone: nobody suffers for another's coupon
that is throttled, refused or unreadable, nor for a request that got lost (decision 10).
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from backends.group_commit import ForkedGroupCommit
from coupon.domain.model import Coupon

SHARE = 0.25
"""Of the time for a read, what may go by before a caller asks alone."""


class Answer(NamedTuple):
    """The coupons that are there, and the codes that nobody has looked for yet."""

    found: list[Coupon]
    left: set[str]


Read = Callable[[list[str], float], list[Coupon]]
ReadOnce = Callable[[list[str], float], Answer]
"""Both within so many seconds; ``ReadOnce`` is one request, ``Read`` as many as it takes."""


class _Question:
    """What one caller asks for, and the coupons, unless he has to ask alone."""

    __slots__ = ("codes", "found")

    def __init__(self, codes: list[str]) -> None:
        self.codes = codes
        self.found: list[Coupon] | None = None


class CoalescedReads:
    """One of a store. Thread-safe, and safe to use on both sides of a fork."""

    def __init__(self, ask: ReadOnce, read: Read, timeout_s: float) -> None:
        self._ask, self._read, self._timeout_s = ask, read, timeout_s
        self._group = ForkedGroupCommit(self._answer)

    def read(self, codes: list[str]) -> list[Coupon]:
        """Read after this call began, by this thread or by another one. Raises what ``Read`` raises."""
        began, question = time.monotonic(), _Question(codes)
        try:
            self._group.do(question, began + self._timeout_s * SHARE)
            found = question.found
        except TimeoutError:  # whoever asks for all waits himself
            found = None
        return self._read(codes, began + self._timeout_s - time.monotonic()) if found is None else found

    def _answer(self, questions: Sequence[_Question], deadline: float) -> None:
        codes = list(dict.fromkeys(code for question in questions for code in question.codes))
        try:
            answer = self._ask(codes, deadline - time.monotonic())
        except Exception:  # it lies in one of them, or in DynamoDB: each will hear that himself
            return
        found = {coupon.code: coupon for coupon in answer.found}
        for question in questions:
            if answer.left.isdisjoint(question.codes):
                question.found = [found[code] for code in question.codes if code in found]
