"""What a caller wants of a coupon, and the command that it becomes."""

from typing import NamedTuple
from zoneinfo import ZoneInfo

from coupon.acceptance.operations import ChangeRef
from coupon.domain.clock import day_of
from coupon.domain.codes import CodeDeriver
from coupon.domain.errors import IdempotencyKeyReused
from coupon.domain.model import ChangeCoupon, Coupon, Kind


class Caller(NamedTuple):
    """Who asks, and the ``Idempotency-Key`` of the request when there is one."""

    name: str
    idempotency_key: str | None = None


class ChangeRequest(NamedTuple):
    """A change that a caller wants. The operation is derived from all of it."""

    kind: Kind
    code: str
    user_id: str | None
    caller: Caller
    operation: str
    traceparent: str


def change_request(
    kind: Kind, code: str, user_id: str | None, caller: Caller, code_deriver: CodeDeriver, traceparent: str = ""
) -> ChangeRequest:
    words = f"{kind}\0{code}\0{user_id or ''}"
    operation = code_deriver.operation(caller.name, caller.idempotency_key, words)
    return ChangeRequest(kind, code, user_id, caller, operation, traceparent)


def command_of(
    request: ChangeRequest, coupon: Coupon, at: int, zone: ZoneInfo, *, fresh: bool, reserved: bool
) -> ChangeCoupon:
    """The request, built on the coupon ``at`` that instant. ``fresh``: the coupon is as the store has it."""
    return ChangeCoupon(
        kind=request.kind,
        operation=request.operation,
        code=request.code,
        previous=coupon.last_operation,
        previous_version=coupon.version,
        accepted_at=at,
        day=day_of(at, zone),
        user_id=request.user_id,
        actor=request.caller.name,
        reserved=reserved,
        number=coupon.next_number(fresh=fresh),
        previous_number=coupon.number_at(coupon.version),
        traceparent=request.traceparent,
    )


def same_again(after: Coupon, zone: ZoneInfo) -> ChangeCoupon:
    """The command that made the coupon so in the cache, without the queue's acknowledgement: as it was sent."""
    made, before = after.history[-1], after.history[-2]
    return ChangeCoupon(
        kind=made.kind,
        operation=made.operation,
        code=after.code,
        previous=before.operation,
        previous_version=after.version - 1,
        accepted_at=made.at,
        day=day_of(made.at, zone),
        user_id=made.user_id,
        actor=made.actor,
        reserved=True,
        number=made.number,
        previous_number=after.number_at(after.version - 1),
    )


def accepted_before(request: ChangeRequest, coupon: Coupon) -> ChangeRef | None:
    """The address of the attempt that was accepted before with the same key; raises IdempotencyKeyReused when that was
    another request."""
    known = None if request.caller.idempotency_key is None else coupon.same_key(request.operation)
    if known is None:
        return None
    if (known.kind, known.user_id) != (request.kind, request.user_id):
        raise IdempotencyKeyReused
    version = coupon.version - len(coupon.history) + 1 + coupon.history.index(known)
    return ChangeRef(known.operation, coupon.number_at(version), coupon.code)
