"""The commands over HTTP: create coupons; issue, use, cancel a coupon; cancel a use."""

import time

from flask import Response, request
from marshmallow import Schema

from coupon.acceptance.operations import ChangeRef, CreationRef, Outcome, Status
from coupon.domain.codes import show
from coupon.domain.errors import BackendError, IdempotencyKeyReused, Refused
from coupon.domain.model import Kind, Reason
from coupon.web import request_io, schemas
from coupon.web.problems import refusal
from coupon.web.services import Services

CODES_MAX = 1_000
"""The response to a creation of up to so many coupons has all codes. Codes of a larger one are at its operation."""
PAUSE_S, PAUSE_MAX_S, PAUSE_MAX_OF_MANY_S = 0.005, 0.1, 1.0
"""The pauses between two reads of an outcome grow up to a maximum. Many coupons take seconds in any case."""
READS_A_SECOND = 200
"""About the most reads of outcomes by a process: the more requests wait, the longer are the pauses."""
OPEN = Outcome(Status.ACCEPTED)
ISSUE, USE, CANCEL = schemas.Issue(), schemas.Use(), schemas.Cancel()


def create_coupons(services: Services) -> Response:
    """Create coupons"""
    environ, settings = request.environ, services.settings
    caller = request_io.caller(environ)
    fields = request_io.load_body(environ, services.creation, settings.max_body_bytes)
    creation = services.commands.create(fields["amount"], fields["valid_from"], fields["expire_at"], caller)
    body: dict[str, object] = {
        "operationId": services.commands.operations.address(creation),
        "amount": creation.amount,
    }
    if creation.amount <= CODES_MAX:
        body["couponCodes"] = [show(code) for code in services.commands.codes(creation, 0, CODES_MAX)]
    return _accepted(services, creation, body, request_io.wait_s(environ), Kind.CREATE)


def issue_coupon(services: Services) -> Response:
    """Issue a coupon to a user"""
    return _change_coupon(services, Kind.ISSUE, ISSUE)


def use_coupon(services: Services) -> Response:
    """Use a coupon"""
    return _change_coupon(services, Kind.USE, USE)


def cancel_coupon(services: Services) -> Response:
    """Take a coupon back"""
    return _change_coupon(services, Kind.CANCEL, CANCEL)


def cancel_coupon_use(services: Services) -> Response:
    """Undo the use of a coupon"""
    return _change_coupon(services, Kind.CANCEL_USE, CANCEL)


def _change_coupon(services: Services, kind: Kind, schema: Schema) -> Response:
    environ, settings = request.environ, services.settings
    caller = request_io.caller(environ)
    fields = request_io.load_body(environ, schema, settings.max_body_bytes)
    user_id, wait_s = request_io.user_id(environ, fields.get("user_id")), request_io.wait_s(environ)
    outcome = OPEN
    try:
        accepted = services.commands.accept(kind, fields["coupon_code"], user_id, caller)
    except IdempotencyKeyReused:  # raised for an unknown code, too
        services.throttle.guessed(environ)
        raise
    except Refused as refused:
        if refused.reason is Reason.NOT_FOUND:
            services.throttle.guessed(environ)
        elif request_io.is_others(environ, refused.coupon):
            raise refusal(Reason.NOT_HOLDER) from refused
        raise refusal(refused.reason, refused.coupon, kind, user_id) from refused
    body: dict[str, object] = {
        "operationId": services.commands.operations.address(accepted.ref),
        "couponCode": show(accepted.ref.code),
    }
    if wait_s is not None:
        with services.waiting.shortly():
            outcome = services.commands.apply_now(accepted)
    return _accepted(services, accepted.ref, body, wait_s, kind, user_id, outcome)


def _accepted(
    services: Services,
    operation: ChangeRef | CreationRef,
    body: dict[str, object],
    wait_s: int | None,
    kind: Kind,
    user_id: str | None = None,
    outcome: Outcome = OPEN,
) -> Response:
    """The response to an accepted command; with its outcome, if the caller prefers to wait."""
    headers = {"Location": f"/v1/operations/{body['operationId']}"}
    if wait_s is None:
        return request_io.json_response(body | {"status": Status.ACCEPTED}, 202, headers)
    if outcome.status is Status.ACCEPTED:
        with services.waiting.begin() as may_wait:  # one more is answered at once (RFC 7240)
            if not may_wait:
                return request_io.json_response(body | {"status": Status.ACCEPTED}, 202, headers)
            outcome = _wait_for_outcome(services, operation, wait_s)
    headers["Preference-Applied"] = f"wait={wait_s}"
    if outcome.reason is not None:
        problem = refusal(outcome.reason, outcome.coupon, kind, user_id)
        problem.headers |= headers
        raise problem
    if outcome.created is not None:
        body["created"] = outcome.created
    status = 200 if outcome.status is Status.APPLIED else 202
    return request_io.json_response(body | {"status": outcome.status}, status, headers)


def _wait_for_outcome(services: Services, operation: ChangeRef | CreationRef, wait_s: int) -> Outcome:
    """The outcome as soon as it is final; after ``wait_s``, the outcome until then."""
    deadline, pause = time.monotonic() + wait_s, PAUSE_S
    is_large = isinstance(operation, CreationRef) and operation.amount > CODES_MAX
    pause_max = PAUSE_MAX_OF_MANY_S if is_large else PAUSE_MAX_S
    while True:
        try:
            outcome = services.commands.operations.outcome(operation)
        except BackendError:  # the command is in the queue, so it stays accepted
            return Outcome(Status.ACCEPTED)
        left = deadline - time.monotonic()
        if outcome.status is not Status.ACCEPTED or left <= 0:
            return outcome
        time.sleep(min(max(pause, services.waiting.number / READS_A_SECOND), left))
        pause = min(pause * 2, pause_max)
