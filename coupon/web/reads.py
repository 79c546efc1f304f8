"""The questions: a coupon, lists of coupons, what became of an operation."""

from flask import Response
from werkzeug.routing import BaseConverter

from coupon.acceptance.operations import Operations
from coupon.acceptance.queries import Page, Queries
from coupon.domain.codes import show
from coupon.domain.serialization import document, instant
from coupon.web import request_io, schemas
from coupon.web.fields import USER_ID_MAX, fault_of_user_id
from coupon.web.openapi import CODE_PARAMETER, Routes
from coupon.web.problems import InvalidField, Problem

ANY_LIST = ("INVALID_FIELD", "INVALID_CURSOR", "UNAVAILABLE")
USER_PARAMETER = {
    "in": "path",
    "name": "user_id",
    "schema": {"type": "string", "minLength": 1, "maxLength": USER_ID_MAX},
}


class AnyText(BaseConverter):
    """A part of an address that may hold anything, slashes too: a user's id is whatever the caller says."""

    part_isolating = False
    regex = r"[\s\S]+"


def questions(queries: Queries, operations: Operations) -> Routes:
    """Coupons, and lists of them."""
    routes = Routes("questions", __name__, url_prefix="/v1", description="What coupons there are")

    @routes.serve(
        "GET",
        "/coupons/<code>",
        parameters=[CODE_PARAMETER],
        answers={200: (schemas.CouponWithHistory, "As the store has it.")},
        refusals=("NOT_FOUND", "INVALID_FIELD", "UNREADABLE", "UNAVAILABLE"),
    )
    def coupon(code: str) -> Response:
        """A coupon and its history"""
        found = queries.coupon(request_io.coupon_code(code))
        if found is None:
            raise Problem("NOT_FOUND")
        oldest = found.version - len(found.history) + 1
        history = [
            {
                "operationId": operations.of_entry(found, version),
                "command": entry.kind,
                "at": instant(entry.at),
                "userId": entry.user_id,
                "actor": entry.actor,
            }
            for version, entry in enumerate(found.history, oldest)
        ]
        return request_io.json_response(document(found) | {"couponCode": show(found.code), "history": history})

    @routes.serve(
        "GET",
        "/coupons/expired/today",
        query=schemas.PageQuery,
        answers={200: (schemas.Coupons, "A page.")},
        refusals=ANY_LIST,
    )
    def expiring_today() -> Response:
        """The coupons whose last day is today, and that are not used"""
        return _page(queries.expiring_today(*request_io.page()))

    @routes.serve(
        "GET",
        "/users/<text:user_id>/coupons",
        parameters=[USER_PARAMETER],
        query=schemas.PageQuery,
        answers={200: (schemas.Coupons, "A page.")},
        refusals=ANY_LIST,
    )
    def held_by(user_id: str) -> Response:
        """The coupons that a user holds"""
        if fault := fault_of_user_id(user_id):
            raise InvalidField({"userId": [fault]})
        return _page(queries.held_by(user_id, *request_io.page()))

    return routes


def _page(page: Page) -> Response:
    items = [item | {"couponCode": show(item["couponCode"])} for item in page.items]
    return request_io.json_response({"items": items, "next": page.next})
