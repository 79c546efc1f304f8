"""The commands: create, issue, use, cancel, cancel-use."""

import threading
import time

from flask import Response, request
from marshmallow import Schema

from coupon.acceptance.operations import ChangeRef, CreationRef, Outcome, Status
from coupon.acceptance.service import CommandService
from coupon.domain.codes import show
from coupon.domain.model import Kind, Refused
from coupon.ports.backend import BackendError
from coupon.runtime.settings import Settings
from coupon.web import request_io, schemas
from coupon.web.openapi import LOCATION, Routes, header_parameters
from coupon.web.problems import of_refusal

CODES_IN_ANSWER = 1_000
"""Up to so many codes are in the answer to a creation; beyond that they are at the operation's address."""
PAUSE_S, PAUSE_MAX_S, PAUSE_MAX_OF_MANY_S = 0.005, 0.1, 1.0
"""Between two looks at an outcome: ever longer. A creation of many coupons takes seconds in any case."""
WAITING_MAX = 8
"""So many requests of a process wait for an outcome at a time; the next is answered at once, as RFC 7240 allows.
Waiting takes a thread, and with all threads waiting for a worker that is away no command could be taken."""
_waiting = threading.BoundedSemaphore(WAITING_MAX)
ANY_COMMAND = (
    "BAD_REQUEST",
    "INVALID_JSON",
    "BODY_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "INVALID_FIELD",
    "IDEMPOTENCY_KEY_REUSED",
    "UNREADABLE",
    "UNAVAILABLE",
)
ANY_CHANGE = (*ANY_COMMAND, "NOT_FOUND", "BUSY", "RIVAL_WON", "PREDECESSOR_LOST")
CHANGES: list[tuple[Kind, type[Schema], str, tuple[str, ...]]] = [
    (Kind.ISSUE, schemas.Issue, "Issue a coupon to a user", ("ALREADY_USED", "ALREADY_ISSUED", "ALREADY_EXPIRED")),
    (Kind.USE, schemas.Use, "Use a coupon", ("ALREADY_USED", "EXPIRED", "NOT_STARTED", "NOT_ISSUED", "NOT_HOLDER")),
    (Kind.CANCEL, schemas.Cancel, "Take a coupon back", ("ALREADY_USED", "NOT_ISSUED", "ALREADY_EXPIRED")),
    (Kind.CANCEL_USE, schemas.Cancel, "Undo the use of a coupon", ("NOT_USED", "EXPIRED")),
]


def commands(service: CommandService, settings: Settings) -> Routes:
    routes = Routes("commands", __name__, url_prefix="/v1/coupons", description="What changes coupons")
    parameters = header_parameters(settings.caller_header)
    creation = schemas.creation(settings.max_amount)

    @routes.serve(
        "POST",
        "",
        body=creation,
        parameters=parameters,
        answers={
            202: (schemas.CreationAccepted, "Accepted: the coupons will be there."),
            200: (schemas.CreationAccepted, "With `Prefer: wait`: the coupons are there."),
        },
        headers=LOCATION,
        refusals=(*ANY_COMMAND, "TOO_MANY_CREATIONS"),
    )
    def create() -> Response:
        """Create coupons"""
        environ = request.environ
        caller = request_io.caller(environ, settings.caller_header)
        wanted = request_io.body(environ, creation, settings.max_body_bytes)
        address = service.create(wanted["amount"], wanted["valid_from"], wanted["expire_at"], caller)
        told: dict[str, object] = {"operationId": service.operations.address(address), "amount": address.amount}
        if address.amount <= CODES_IN_ANSWER:
            told["couponCodes"] = [show(code) for code in service.codes(address, 0, CODES_IN_ANSWER)]
        return _told(service, address, told, request_io.wait_s(environ))

    def change(kind: Kind, schema: Schema) -> Response:
        environ = request.environ
        caller = request_io.caller(environ, settings.caller_header)
        wanted = request_io.body(environ, schema, settings.max_body_bytes)
        user_id = wanted.get("user_id")
        try:
            address = service.change(kind, wanted["coupon_code"], user_id, caller)
        except Refused as refused:
            raise of_refusal(refused.reason, refused.coupon, kind, user_id) from refused
        told: dict[str, object] = {
            "operationId": service.operations.address(address),
            "couponCode": show(address.code),
        }
        return _told(service, address, told, request_io.wait_s(environ), kind, user_id)

    for kind, schema_class, summary, refusals in CHANGES:
        schema = schema_class()

        def view(kind: Kind = kind, schema: Schema = schema) -> Response:
            return change(kind, schema)

        view.__doc__ = summary
        routes.serve(
            "PUT",
            f"/{kind}",
            endpoint=kind.value,
            body=schema,
            parameters=parameters,
            answers={
                202: (schemas.Accepted, "Accepted: it will be applied, unless a rival was faster."),
                200: (schemas.Accepted, "With `Prefer: wait`: applied."),
            },
            headers=LOCATION,
            refusals=(*refusals, *ANY_CHANGE),
        )(view)

    return routes


def _told(
    service: CommandService,
    address: ChangeRef | CreationRef,
    told: dict[str, object],
    wait_s: int | None,
    kind: Kind = Kind.CREATE,
    user_id: str | None = None,
) -> Response:
    """The answer to an accepted command; of its outcome, if the caller prefers to wait for it."""
    headers = {"Location": f"/v1/operations/{told['operationId']}"}
    if wait_s is None or not _waiting.acquire(blocking=False):
        return request_io.json_response(told | {"status": Status.ACCEPTED}, 202, headers)
    headers["Preference-Applied"] = f"wait={wait_s}"
    try:
        outcome = _outcome_within(service, address, wait_s)
    finally:
        _waiting.release()
    if outcome.reason is not None:
        problem = of_refusal(outcome.reason, outcome.coupon, kind, user_id)
        problem.headers |= headers
        raise problem
    if outcome.created is not None:
        told["created"] = outcome.created
    status = 200 if outcome.status is Status.APPLIED else 202
    return request_io.json_response(told | {"status": outcome.status}, status, headers)


def _outcome_within(service: CommandService, address: ChangeRef | CreationRef, wait_s: int) -> Outcome:
    """The outcome once it is known; what is known of it when the time has passed."""
    deadline, pause = time.monotonic() + wait_s, PAUSE_S
    is_large = isinstance(address, CreationRef) and address.amount > CODES_IN_ANSWER
    pause_max = PAUSE_MAX_OF_MANY_S if is_large else PAUSE_MAX_S
    while True:
        try:
            outcome = service.operations.outcome(address)
        except BackendError:  # it was accepted all the same
            return Outcome(Status.ACCEPTED)
        left = deadline - time.monotonic()
        if outcome.status is not Status.ACCEPTED or left <= 0:
            return outcome
        time.sleep(min(pause, left))
        pause = min(pause * 2, pause_max)
