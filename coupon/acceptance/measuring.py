"""Counting commands on the web side, each with its outcome for the caller, and timing those that are accepted."""

from contextlib import AbstractContextManager
from time import perf_counter
from types import TracebackType
from typing import Self

from coupon.domain.errors import (
    BackendError,
    CouponBusy,
    IdempotencyKeyReused,
    Refused,
    TooManyCreations,
    Unreadable,
)
from coupon.domain.model import ChangeCoupon, Kind
from coupon.runtime.metrics import ACCEPTED_S, APPLIED_S, COMMANDS, REFUSALS


class MeasuredCommand(AbstractContextManager["MeasuredCommand"]):
    """The context in which one command is accepted, or not."""

    __slots__ = ("_began", "_kind")

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def __enter__(self) -> Self:
        self._began = perf_counter()
        return self

    def __exit__(self, _type: type | None, error: BaseException | None, _traceback: TracebackType | None) -> None:
        if error is None:
            COMMANDS.add(self._kind, "accepted")
            ACCEPTED_S.observe(perf_counter() - self._began, self._kind)
        elif (reason := _reason(error)) is not None:
            COMMANDS.add(self._kind, "refused")
            REFUSALS.add(self._kind, reason)
        else:
            COMMANDS.add(self._kind, _failure(error))


def count_applied(command: ChangeCoupon, now: int) -> None:
    """The command of a caller who waits was applied by this process. To the worker it is a duplicate."""
    COMMANDS.add(command.kind, "applied")
    APPLIED_S.observe(max(0.0, (now - command.accepted_at) / 1000), command.kind)


def _reason(error: BaseException) -> str | None:
    """The code of a refusal, as its caller sees it; None for a failure."""
    match error:
        case Refused(reason=reason):
            return str(reason)
        case IdempotencyKeyReused():
            return "IDEMPOTENCY_KEY_REUSED"
        case TooManyCreations():
            return "TOO_MANY_CREATIONS"
    return None


def _failure(error: BaseException) -> str:
    if isinstance(error, CouponBusy):
        return "busy"
    return "unavailable" if isinstance(error, BackendError) and not isinstance(error, Unreadable) else "failed"
