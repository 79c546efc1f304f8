"""Reads of a few coupons that wait at the same time go to DynamoDB in one request.

A request costs the same CPU for one coupon as for sixteen, and many threads of a web process read one coupon each. When
the common request fails, or leaves out a coupon, each thread reads alone. So no thread suffers for another's coupon
that is throttled, refused or unreadable, nor for a lost request (decision 10).
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from coupon.domain.model import Coupon
from coupon.ports.group_commit import ForkedGroupCommit

SHARE = 0.25
"""The share of the time for a read after which a caller reads alone."""


class Answer(NamedTuple):
    """The coupons that exist, and the codes that DynamoDB has not looked up yet."""

    found: list[Coupon]
    left: set[str]


Read = Callable[[list[str], float], list[Coupon]]
ReadOnce = Callable[[list[str], float], Answer]
"""The arguments of both are codes and the seconds that it may take. ``ReadOnce`` makes one request, ``Read`` as many as
needed."""


class _Question:
    """The codes of one caller, and the coupons; None when it has to read alone."""

    __slots__ = ("codes", "found")

    def __init__(self, codes: list[str]) -> None:
        self.codes = codes
        self.found: list[Coupon] | None = None


class CoalescedReads:
    """The combined reads of one store. Thread-safe, and safe to use on both sides of a fork."""

    def __init__(self, ask: ReadOnce, read: Read, timeout_s: float) -> None:
        self._ask, self._read, self._timeout_s = ask, read, timeout_s
        self._group = ForkedGroupCommit(self._answer)

    def read(self, codes: list[str]) -> list[Coupon]:
        """The coupons, read after this call began, by this thread or by another one. Raises the errors of ``Read``."""
        began, question = time.monotonic(), _Question(codes)
        try:
            self._group.do(question, began + self._timeout_s * SHARE)
            coupons = question.found
        except TimeoutError:  # the thread that asks for all waits itself
            coupons = None
        return self._read(codes, began + self._timeout_s - time.monotonic()) if coupons is None else coupons

    def _answer(self, questions: Sequence[_Question], deadline: float) -> None:
        codes = list(dict.fromkeys(code for question in questions for code in question.codes))
        try:
            answer = self._ask(codes, deadline - time.monotonic())
        except Exception:  # of one of the codes, or of DynamoDB: each caller gets its own when it reads alone
            return
        by_code = {coupon.code: coupon for coupon in answer.found}
        for question in questions:
            if answer.left.isdisjoint(question.codes):
                question.found = [by_code[code] for code in question.codes if code in by_code]
