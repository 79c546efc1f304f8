"""The table of all addresses: method, path, view, and the view's part of the OpenAPI document."""

from collections.abc import Callable
from functools import partial, wraps

from flask import Flask, Response, request
from marshmallow import Schema

from coupon.domain.api_keys import APPS, EVERYBODY, LISTERS, OPERATORS, READERS, USERS, Role
from coupon.web import descriptions, docs_pages
from coupon.web.commands import cancel_coupon, cancel_coupon_use, create_coupons, issue_coupon, use_coupon
from coupon.web.health import livez, readyz
from coupon.web.metrics_page import get_metrics
from coupon.web.openapi import Route, document
from coupon.web.operations import get_operation
from coupon.web.reads import get_coupon, list_coupons_expiring_today, list_coupons_of_user, list_my_coupons
from coupon.web.request_io import check_parameters
from coupon.web.services import Services


def routes(creation: Schema) -> list[Route]:
    """The addresses for programs. ``creation`` is the body of a creation."""
    return [
        Route("POST", "/v1/coupons", create_coupons, descriptions.creation(creation), OPERATORS),
        Route("PUT", "/v1/coupons/issue", issue_coupon, descriptions.ISSUE, APPS),
        Route("PUT", "/v1/coupons/use", use_coupon, descriptions.USE, USERS),
        Route("PUT", "/v1/coupons/cancel", cancel_coupon, descriptions.CANCEL, OPERATORS),
        Route("PUT", "/v1/coupons/cancel-use", cancel_coupon_use, descriptions.CANCEL_USE, APPS),
        Route("GET", "/v1/coupons/<code>", get_coupon, descriptions.COUPON, READERS),
        Route("GET", "/v1/coupons/expired/today", list_coupons_expiring_today, descriptions.EXPIRING, LISTERS),
        Route("GET", "/v1/users/<text:user_id>/coupons", list_coupons_of_user, descriptions.HELD, READERS),
        Route("GET", "/v1/me/coupons", list_my_coupons, descriptions.MINE, frozenset({Role.USER})),
        Route("GET", "/v1/operations/<address>", get_operation, descriptions.OPERATION, READERS | USERS),
        Route("GET", "/livez", livez, descriptions.LIVEZ, EVERYBODY),
        Route("GET", "/readyz", readyz, descriptions.READYZ, EVERYBODY),
        Route("GET", "/metrics", get_metrics, descriptions.METRICS, LISTERS),
    ]


PAGES: dict[str, Callable[..., Response]] = {
    "/": docs_pages.redirect_browsers_to_docs,
    "/docs/": docs_pages.redirect_to_docs,
    "/favicon.ico": docs_pages.get_favicon,
    "/docs": docs_pages.show_docs,
    "/docs/docs.js": docs_pages.get_docs_script,
    "/docs/assets/<path:filename>": docs_pages.get_asset,
    "/docs/problems": docs_pages.show_problems,
    "/openapi.json": docs_pages.get_openapi,
}
"""The addresses for people, and that of the OpenAPI document. They are not in the document."""


def register(app: Flask, services: Services) -> None:
    """Add all addresses to the application, with views on these services."""
    table = routes(services.creation)
    for route in table:
        app.add_url_rule(route.path, route.view.__name__, _bound(route, services), methods=[route.method])
    for path, view in PAGES.items():
        app.add_url_rule(path, view.__name__, view)
    app.extensions[docs_pages.DOCUMENT] = document(table, services.settings.caller_header)


def _bound(route: Route, services: Services) -> Callable[..., Response]:
    """The view with its services. A caller without one of its roles is refused first, then query parameters that its
    description does not name."""
    view, query = route.view, route.description.query
    if route.description.any_query and not route.roles:
        return partial(view, services)
    names = frozenset(str(field.data_key) for field in query().fields.values()) if query else frozenset[str]()

    @wraps(view)
    def checked(**path: str) -> Response:
        environ = request.environ
        if route.roles:
            services.throttle.count_address(environ)
            services.access.check(environ, route.roles)
            services.throttle.count_caller(environ)
        if environ["QUERY_STRING"] and not route.description.any_query:
            check_parameters(names)
        response: Response = view(services, **path)
        return response

    return checked
