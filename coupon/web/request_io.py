"""Reading and checking requests, and JSON responses.

This runs for every command, so it reads the WSGI environment: each use of Flask's ``request`` would be a look-up in the
context.
"""

import re
from collections.abc import Set
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from flask import Response, request
from marshmallow import Schema, ValidationError
from werkzeug.datastructures import Headers

from coupon.acceptance.requests import Caller
from coupon.domain.codes import parse
from coupon.domain.errors import InvalidCode, Malformed
from coupon.domain.model import Coupon
from coupon.domain.serialization import dump, load
from coupon.web.problems import ERRORS_MAX, InvalidField, Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

JSON = "application/json"
ANONYMOUS = "anonymous"
IDENTITY = "coupon.identity"
"""Where the WSGI environment has the caller's identity, once ``coupon/web/access.py`` has checked it."""
KEY_HEADER = "Idempotency-Key"
WAIT_MAX_S = 30
LIMIT, LIMIT_MAX = 100, 1_000
_CALLER = re.compile(r"[!-~]{1,128}")
_KEY = re.compile(r"[!-~]{1,255}")
_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?', re.IGNORECASE)


class JsonResponse(Response):
    """A response whose headers are complete and plain ASCII. Werkzeug's check of them costs a sixth of a request."""

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:  # noqa: ARG002
        return self.headers


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    data = dump(body) + b"\n"  # so that a shell's prompt has a line of its own
    complete = Headers([("Content-Type", JSON), ("Content-Length", str(len(data))), *(headers or {}).items()])
    return JsonResponse([data], status, complete)


def load_body(environ: "WSGIEnvironment", schema: Schema, max_bytes: int) -> dict[str, Any]:
    """The fields of the request's body, as the schema loads them. Raises Problem."""
    if environ.get("CONTENT_TYPE") != JSON and request.mimetype != JSON:
        raise Problem("UNSUPPORTED_MEDIA_TYPE", f"the Content-Type is {request.mimetype!r}")
    try:
        body = load(_read_body(environ, max_bytes))
        if isinstance(body, dict) and len(body) > ERRORS_MAX:
            raise InvalidField({name: ["Unknown field."] for name in _unknown_fields(body, schema)})
        fields: dict[str, Any] = schema.load(body)
    except Malformed as error:
        raise Problem("INVALID_JSON", str(error)) from error
    except ValidationError as error:
        raise InvalidField(_by_field(error)) from error
    return fields


def _unknown_fields(body: dict[str, Any], schema: Schema) -> list[str]:
    """Some unknown fields of a body that has more fields than its schema: marshmallow's check of all costs seconds."""
    names = {field.data_key or name for name, field in schema.fields.items()}
    return list(islice((name for name in body if name not in names), ERRORS_MAX))


def _read_body(environ: "WSGIEnvironment", max_bytes: int) -> bytes:
    """The bytes of the body. A body that is too long is not read: the server did not wait for it.

    Werkzeug's own reader costs a fifth of a request, and returns the beginning of a chunked body that is too long.
    """
    length = environ.get("CONTENT_LENGTH") or None
    if length is None and "wsgi.input_terminated" not in environ:
        return b""
    try:
        size = max_bytes + 1 if length is None else max(int(length), 0)
        body: bytes = environ["wsgi.input"].read(size) if length is None or size <= max_bytes else bytes(max_bytes + 1)
    except Exception as error:  # each server has its own for a body that is cut off or has invalid chunks
        raise Problem("BAD_REQUEST", "the body did not come whole") from error
    if len(body) > max_bytes:
        raise Problem("BODY_TOO_LARGE", f"the body has more than {max_bytes} bytes")
    return body


def caller(environ: "WSGIEnvironment") -> Caller:
    """The caller as it was identified, with the request's ``Idempotency-Key``."""
    key = environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidField({KEY_HEADER: ["Has to be 1 to 255 visible ASCII characters."]})
    identity = environ[IDENTITY]
    return Caller(identity.name, key if key is None or not identity.scope else f"{identity.scope}\0{key}")


def user_id(environ: "WSGIEnvironment", named: str | None) -> str | None:
    """The user that a command is for: the one that the body names. A user who calls by itself is named by nobody
    else."""
    own: str | None = environ[IDENTITY].user_id
    if own is not None and named not in (None, own):
        raise InvalidField({"userId": ["Has to be the user of the token, or absent."]})
    return own or named


def is_others(environ: "WSGIEnvironment", coupon: Coupon | None) -> bool:
    """Whether a user calls by itself who does not hold that coupon: it is told nothing else of it."""
    own = environ[IDENTITY].user_id
    return own is not None and coupon is not None and coupon.user_id != own


def caller_name(environ: "WSGIEnvironment", header: str) -> str:
    """The caller's name as a gateway writes it into that header."""
    name: str | None = environ.get(environ_name(header))
    if name is not None and not _CALLER.fullmatch(name):
        raise InvalidField({header: ["Has to be 1 to 128 visible ASCII characters."]})
    return ANONYMOUS if name is None else name


@lru_cache
def environ_name(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"


def wait_s(environ: "WSGIEnvironment") -> int | None:
    """The seconds that the caller would wait for the outcome (``Prefer: wait=N``, RFC 7240), or None.

    An invalid preference is ignored, as the RFC demands.
    """
    preferences = environ.get("HTTP_PREFER")
    if preferences is None:
        return None
    for preference in preferences.split(","):
        if wait := _WAIT.fullmatch(preference.partition(";")[0].strip()):
            return min(int(wait[1]), WAIT_MAX_S)
    return None


def check_parameters(names: Set[str]) -> None:
    """Raises InvalidField for a query parameter that is not among the names, or that is there twice.

    If an unknown filter were ignored, the response would have other rows than the caller asked for.
    """
    errors = {}
    for name, values in request.args.lists():
        if name not in names:
            errors[name] = ["Unknown parameter."]
        elif len(values) > 1:
            errors[name] = ["Given more than once."]
    if errors:
        raise InvalidField(errors)


def page() -> tuple[int, str | None]:
    """The query parameters ``limit`` and ``cursor``."""
    text = request.args.get("limit")
    if text is None:
        return LIMIT, request.args.get("cursor")
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= LIMIT_MAX):
        raise InvalidField({"limit": [f"Has to be a whole number from 1 to {LIMIT_MAX}."]})
    return int(text), request.args.get("cursor")


def coupon_code(text: str) -> str:
    """The stored form of a code in an address."""
    try:
        return parse(text)
    except InvalidCode as error:
        raise InvalidField({"couponCode": [str(error)]}) from error


def _by_field(error: ValidationError) -> dict[str, list[str]]:
    """Marshmallow's messages by field; those on the whole body are under ``body``."""
    messages: dict[str, list[str]] = error.normalized_messages()  # type: ignore[no-untyped-call]
    return {"body" if field == "_schema" else field: list(map(str, sentences)) for field, sentences in messages.items()}
