"""What became of an operation, at the address that its acceptance gave."""

from typing import Any

from flask import Response

from coupon.acceptance.operations import CreationRef, Outcome, Status
from coupon.acceptance.queries import Cursors, InvalidCursor
from coupon.acceptance.service import CommandService
from coupon.domain.codes import show
from coupon.web import request_io, schemas
from coupon.web.openapi import Routes
from coupon.web.problems import of_refusal


def outcomes(service: CommandService) -> Routes:
    routes = Routes("outcomes", __name__, url_prefix="/v1/operations", description="What became of commands")
    cursors = Cursors(service.mint)

    @routes.serve(
        "GET",
        "/<address>",
        query=schemas.PageQuery,
        answers={200: (schemas.Operation, "What became of it; for a creation also a page of its codes.")},
        refusals=("NOT_FOUND", "OUTCOME_EXPIRED", "INVALID_FIELD", "INVALID_CURSOR", "UNREADABLE", "UNAVAILABLE"),
    )
    def operation(address: str) -> Response:
        """What became of an operation"""
        known = service.operations.parse(address)
        limit, cursor = request_io.page()
        if isinstance(known, CreationRef):
            return request_io.json_response(creation(address, known, limit, cursor))
        if cursor is not None:
            raise InvalidCursor(cursor)
        outcome = service.operations.outcome(known)
        return request_io.json_response(_of(address, outcome) | {"couponCode": show(known.code)})

    def creation(address: str, known: CreationRef, limit: int, cursor: str | None) -> dict[str, Any]:
        of = f"codes {address}"
        status, _, place = (cursors.take(of, cursor) if cursor else "accepted.0").partition(".")
        # Applied is for good: who walks on from there is not charged for counting it again.
        done = Outcome(Status.APPLIED, created=known.amount)
        outcome = done if status == Status.APPLIED else service.operations.outcome(known)
        codes = service.codes(known, int(place), limit)
        reached = int(place) + len(codes)
        return _of(address, outcome) | {
            "amount": known.amount,
            "created": outcome.created,
            "couponCodes": [show(code) for code in codes],
            "next": cursors.give(of, f"{outcome.status}.{reached}") if reached < known.amount else None,
        }

    return routes


def _of(operation: str, outcome: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = {"operationId": operation, "status": outcome.status}
    if outcome.reason is None:
        return told
    problem = of_refusal(outcome.reason, outcome.coupon)
    return told | {"code": problem.code, "detail": " ".join(filter(None, (problem.title, problem.detail)))}
