"""Reads of a few coupons that wait at the same time go to DynamoDB together.

A request costs the same CPU for one coupon as for sixteen, and each thread of a web process asks for a coupon that the
cache does not know.
"""

import os
import time
from collections.abc import Callable, Sequence

from backends.group_commit import GroupCommit
from coupon.model import Coupon
from coupon.ports.backend import BackendError, BackendRejected, BackendUnavailable

Read = Callable[[list[str], float], list[Coupon]]
"""The coupons of these codes that are there, within so many seconds. Raises BackendUnavailable or BackendRejected."""


class _Question:
    """What one caller asks for."""

    __slots__ = ("codes", "failure", "found")

    def __init__(self, codes: list[str]) -> None:
        self.codes = codes
        self.found: list[Coupon] = []
        self.failure: BackendError | None = BackendUnavailable("the coupons were not read")


class SharedReads:
    """One of a store. Thread-safe, and safe to use on both sides of a fork."""

    def __init__(self, read: Read, timeout_s: float) -> None:
        self._read, self._timeout_s = read, timeout_s
        self._groups: dict[int, GroupCommit[_Question]] = {}

    def read(self, codes: list[str]) -> list[Coupon]:
        """Read after this call began, by this thread or by another one."""
        question = _Question(codes)
        group = self._groups.get(os.getpid()) or self._groups.setdefault(os.getpid(), GroupCommit(self._answer))
        try:
            group.do(question, time.monotonic() + self._timeout_s)
        except TimeoutError:
            raise BackendUnavailable(f"the store did not answer within {self._timeout_s:g} s") from None
        if question.failure is not None:
            raise type(question.failure)(str(question.failure)) from question.failure
        return question.found

    def _answer(self, questions: Sequence[_Question], deadline: float) -> None:
        codes = list(dict.fromkeys(code for question in questions for code in question.codes))
        try:
            found = {coupon.code: coupon for coupon in self._read(codes, deadline - time.monotonic())}
        except BackendRejected as error:
            if len(questions) == 1:
                questions[0].failure = error
                return
            for question in questions:  # the fault is of one of them
                self._answer([question], deadline)
        except BackendError as error:
            for question in questions:
                question.failure = error
        else:
            for question in questions:
                question.found = [found[code] for code in question.codes if code in found]
                question.failure = None
