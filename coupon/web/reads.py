"""Reads over HTTP: one coupon from the store, lists of coupons from search."""

from flask import Response, request
from werkzeug.routing import BaseConverter

from coupon.acceptance.queries import Page
from coupon.domain.codes import show
from coupon.domain.serialization import document, instant
from coupon.web import request_io
from coupon.web.fields import fault_of_user_id
from coupon.web.problems import InvalidField, Problem
from coupon.web.services import Services


class AnyText(BaseConverter):
    """A part of an address that may hold anything, slashes too: callers choose the ids of their users."""

    part_isolating = False
    regex = r"[\s\S]+"


def get_coupon(services: Services, code: str) -> Response:
    """A coupon and its history"""
    coupon = services.queries.coupon(request_io.coupon_code(code))
    if coupon is None:
        services.throttle.guessed(request.environ)
        raise Problem("NOT_FOUND")
    oldest = coupon.version - len(coupon.history) + 1
    history = [
        {
            "operationId": services.commands.operations.of_entry(coupon, version),
            "command": entry.kind,
            "at": instant(entry.at),
            "userId": entry.user_id,
            "actor": entry.actor,
        }
        for version, entry in enumerate(coupon.history, oldest)
    ]
    return request_io.json_response(document(coupon) | {"couponCode": show(coupon.code), "history": history})


def list_coupons_expiring_today(services: Services) -> Response:
    """The coupons whose last day is today, and that are not used"""
    return _page(services.queries.expiring_today(*request_io.page()))


def list_coupons_of_user(services: Services, user_id: str) -> Response:
    """The coupons that a user holds"""
    if fault := fault_of_user_id(user_id):
        raise InvalidField({"userId": [fault]})
    return _page(services.queries.held_by(user_id, *request_io.page()))


def list_my_coupons(services: Services) -> Response:
    """The coupons that the user of the token holds"""
    return _page(services.queries.held_by(request.environ[request_io.IDENTITY].user_id, *request_io.page()))


def _page(page: Page) -> Response:
    items = [item | {"couponCode": show(item["couponCode"])} for item in page.items]
    return request_io.json_response({"items": items, "next": page.next})
