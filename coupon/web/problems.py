"""The errors that callers see: RFC 9457 problems, each with a stable ``code``."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any

import structlog
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from coupon.domain.errors import (
    BackendError,
    BackendLeftAlone,
    BackendUnavailable,
    CouponBusy,
    IdempotencyKeyReused,
    InvalidCursor,
    OutcomeExpired,
    Refused,
    TooManyCreations,
    TooManyGuesses,
    UnknownAddress,
    Unreadable,
)
from coupon.domain.model import Coupon, Kind, Reason
from coupon.web.refusals import RefusalRate, hold_back

ERRORS_MAX, NAME_MAX = 20, 100
"""The most wrong fields that a problem names, and characters of each name: the caller chose both."""
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S, RETRY_CREATION_AFTER_S = 1, 10
log = structlog.get_logger("coupon.web")
_refusals = RefusalRate()

TITLES: Mapping[str, tuple[int, str]] = {
    "INVALID_JSON": (400, "The body is not JSON, or not in UTF-8."),
    "BAD_REQUEST": (400, "The request cannot be understood."),
    "UNAUTHENTICATED": (401, "This address wants an API key, and the request has none that is valid."),
    "FORBIDDEN": (403, "The caller's role may not do this."),
    "NOT_FOUND": (404, "There is no such coupon, operation or address."),
    "OUTCOME_EXPIRED": (410, "The operation was settled so many commands ago that its coupon no longer remembers it."),
    "REQUEST_TIMEOUT": (408, "The request came too slowly, and nothing was done; send it again."),
    "METHOD_NOT_ALLOWED": (405, "This address does not take this method."),
    "ALREADY_USED": (409, "The coupon was used already."),
    "ALREADY_ISSUED": (409, "The coupon is held by a user already."),
    "ALREADY_EXPIRED": (409, "The coupon can no longer be issued or taken back: its last day is over."),
    "EXPIRED": (409, "The coupon can no longer be used, nor its use be undone: its last day is over."),
    "NOT_STARTED": (409, "The coupon's first day is yet to come."),
    "NOT_ISSUED": (409, "The coupon is held by nobody."),
    "NOT_HOLDER": (409, "The coupon is held by another user."),
    "NOT_USED": (409, "The coupon was not used."),
    "RIVAL_WON": (409, "After acceptance, another command for the coupon was applied first."),
    "PREDECESSOR_LOST": (409, "After acceptance, the command that this one was built on was not applied."),
    "BODY_TOO_LARGE": (413, "The body is too large."),
    "UNSUPPORTED_MEDIA_TYPE": (415, "The body has to be application/json."),
    "UNKNOWN_HOST": (421, "The service does not answer to the host that the request names."),
    "INVALID_FIELD": (422, "A field, header or parameter is wrong."),
    "INVALID_CURSOR": (422, "The cursor is not one that this list gave."),
    "IDEMPOTENCY_KEY_REUSED": (422, "The Idempotency-Key was used before, for another request."),
    "UNREADABLE": (500, "What is stored of the coupon cannot be read; an operator has to mend it."),
    "TOO_MANY_REQUESTS": (429, "More requests a second than the caller may make; try again later."),
    "TOO_MANY_GUESSES": (429, "The caller named too many codes that there are not, and is refused for a while."),
    "TOO_MANY_CREATIONS": (429, "Too many coupons wait to be created already; try again later."),
    "INTERNAL_ERROR": (500, "The service failed; the failure was logged."),
    "BUSY": (503, "The coupon cannot be changed just now; try again, with the same Idempotency-Key."),
    "UNAVAILABLE": (503, "The service cannot take this now; try again, with the same Idempotency-Key."),
}
"""Every code that callers may see, its status, and what it means."""

_OF_STATUS = {400: "BAD_REQUEST", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}


class Problem(Exception):
    """Ends the request with this problem. ``more`` are further members of the body, such as ``errors`` by field."""

    def __init__(
        self, code: str, detail: str | None = None, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(code)
        self.code, self.detail, self.headers, self.more = code, detail, dict(headers or {}), more
        self.status, self.title = TITLES[code]


class InvalidField(Problem):
    """A problem with the errors by field, header or parameter: the first ``ERRORS_MAX`` of them."""

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        errors = {_cut(name): sentences for name, sentences in islice(errors.items(), ERRORS_MAX)}
        super().__init__("INVALID_FIELD", f"wrong: {', '.join(errors)}", errors=errors)


def _cut(name: str) -> str:
    return name if len(name) <= NAME_MAX else f"{name[: NAME_MAX - 1]}…"


def response(problem: Problem) -> Response:
    """The HTTP response of the problem."""
    headers = problem.headers | _retry_after(problem)
    return Response(_body(problem), problem.status, headers, mimetype=MEDIA_TYPE)


def last_response(code: str) -> bytes:
    """The bytes of a response with the problem, for a connection that is closed before its request is complete."""
    problem = Problem(code)
    body = _body(problem).encode()
    headers = _retry_after(problem) | {
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}", *map(": ".join, headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def members(problem: Problem) -> dict[str, Any]:
    """The members of its body."""
    body = {"type": f"/docs/problems#{problem.code}", "title": problem.title, "status": problem.status}
    body |= {"detail": problem.detail} if problem.detail else {}
    return body | {"code": problem.code, **problem.more}


def _body(problem: Problem) -> str:
    # Escaped to ASCII: parts of the request are echoed, and a lone surrogate has no UTF-8.
    return json.dumps(members(problem)) + "\n"


def _retry_after(problem: Problem) -> dict[str, str]:
    return {"Retry-After": str(RETRY_AFTER_S)} if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else {}


def refusal(
    reason: Reason, coupon: Coupon | None = None, kind: Kind | None = None, user_id: str | None = None
) -> Problem:
    """The problem of a refused command. Its ``detail`` depends on which of the arguments are given."""
    return Problem(reason.value, _detail(reason, coupon, kind, user_id))


def _detail(reason: Reason, coupon: Coupon | None, kind: Kind | None, user_id: str | None) -> str | None:
    """The detail beyond the reason's title; None without one. It never shows the coupon's holder to another user."""
    if reason is Reason.ALREADY_USED and kind is Kind.CANCEL:
        return "Undo its use first, with PUT /v1/coupons/cancel-use."
    if coupon is None:
        return None
    if reason in (Reason.EXPIRED, Reason.ALREADY_EXPIRED):
        return f"Its last day was {coupon.expire_at}."
    if reason is Reason.NOT_STARTED:
        return f"Its first day is {coupon.valid_from}."
    if reason is Reason.ALREADY_ISSUED and coupon.issued and user_id is not None:
        who = "the very user" if coupon.user_id == user_id else "another user than the one"
        return f"It is held by {who} that was named."
    return None


def register(app: Flask) -> None:
    """Answer every exception with a problem, those of the router too."""
    app.register_error_handler(Problem, response)
    app.register_error_handler(Refused, lambda error: response(refusal(error.reason, error.coupon)))
    app.register_error_handler(IdempotencyKeyReused, lambda _: response(Problem("IDEMPOTENCY_KEY_REUSED")))
    app.register_error_handler(OutcomeExpired, lambda _: response(Problem("OUTCOME_EXPIRED")))
    app.register_error_handler(UnknownAddress, lambda _: response(Problem("NOT_FOUND")))
    app.register_error_handler(InvalidCursor, lambda _: response(Problem("INVALID_CURSOR")))
    app.register_error_handler(TooManyCreations, _too_many)
    app.register_error_handler(TooManyGuesses, _too_many_guesses)
    app.register_error_handler(CouponBusy, lambda _: response(Problem("BUSY")))
    app.register_error_handler(Unreadable, _unreadable)
    app.register_error_handler(BackendError, _unavailable)
    app.register_error_handler(HTTPException, _of_the_framework)
    app.register_error_handler(Exception, _unexpected)


def _unavailable(error: BackendError) -> Response:
    """The response is a 503 in either case. An unavailable backend is logged as a warning, and one that rejects (a
    missing topic) as an error, because an operator has to repair it."""
    request_line = {"method": request.method, "path": request.path}
    if isinstance(error, BackendLeftAlone):  # not logged: the failure that it follows was
        if _refusals.is_too_high():
            hold_back(request.environ)
    elif isinstance(error, BackendUnavailable):
        log.warning("not taken", **request_line, error=str(error))
    else:
        log.error("not taken", **request_line, error=str(error))
    return response(Problem("UNAVAILABLE"))


def _unreadable(error: Unreadable) -> Response:
    for code, reason in error.reasons.items():
        log.error("unreadable", method=request.method, path=request.path, code=code, error=reason)
    return response(Problem("UNREADABLE"))


def _too_many(error: TooManyCreations) -> Response:
    log.warning("creation refused", error=str(error))
    return response(Problem("TOO_MANY_CREATIONS", f"{error}.", {"Retry-After": str(RETRY_CREATION_AFTER_S)}))


def _too_many_guesses(error: TooManyGuesses) -> Response:
    return response(Problem("TOO_MANY_GUESSES", headers={"Retry-After": str(error.left_s)}))


def _of_the_framework(error: HTTPException) -> Response:
    if error.code is None or error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unexpected(error)
    code = _OF_STATUS.get(error.code, "BAD_REQUEST")
    allowed = error.valid_methods if isinstance(error, MethodNotAllowed) else None
    return response(Problem(code, headers={"Allow": ", ".join(sorted(allowed))} if allowed else None))


def _unexpected(error: Exception) -> Response:
    log.error("unexpected error", method=request.method, path=request.path, exc_info=error)
    return response(Problem("INTERNAL_ERROR"))
