"""The outcome of an operation, at the address that the response to its command gave."""

from typing import Any

from flask import Response, request

from coupon.acceptance.operations import CreationRef, Outcome, Status
from coupon.domain.api_keys import LISTERS
from coupon.domain.codes import show
from coupon.domain.errors import InvalidCursor
from coupon.web import request_io
from coupon.web.problems import refusal
from coupon.web.services import Services


def get_operation(services: Services, address: str) -> Response:
    """What became of an operation"""
    operation = services.commands.operations.parse(address)
    limit, cursor = request_io.page()
    if isinstance(operation, CreationRef):
        services.access.require(request.environ, LISTERS)  # it lists codes, and each coupon's history has its address
        return request_io.json_response(_creation(services, address, operation, limit, cursor))
    if cursor is not None:
        raise InvalidCursor(cursor)
    outcome = services.commands.operations.outcome(operation)
    return request_io.json_response(_operation(address, outcome) | {"couponCode": show(operation.code)})


def _creation(
    services: Services, address: str, creation: CreationRef, limit: int, cursor: str | None
) -> dict[str, Any]:
    """The body for a creation, with one page of its codes."""
    cursors, commands, of = services.cursors, services.commands, f"codes {address}"
    status, _, text = (cursors.take(of, cursor) if cursor else "accepted.0").partition(".")
    # A creation that was applied stays so: for its next pages the coupons are not counted again.
    applied = Outcome(Status.APPLIED, created=creation.amount)
    outcome = applied if status == Status.APPLIED else commands.operations.outcome(creation)
    first = int(text)
    codes = commands.codes(creation, first, limit)
    end = first + len(codes)
    return _operation(address, outcome) | {
        "amount": creation.amount,
        "created": outcome.created,
        "couponCodes": [show(code) for code in codes],
        "next": cursors.give(of, f"{outcome.status}.{end}") if end < creation.amount else None,
    }


def _operation(address: str, outcome: Outcome) -> dict[str, Any]:
    body: dict[str, Any] = {"operationId": address, "status": outcome.status}
    if outcome.reason is None:
        return body
    problem = refusal(outcome.reason, outcome.coupon)
    return body | {"code": problem.code, "detail": " ".join(filter(None, (problem.title, problem.detail)))}
